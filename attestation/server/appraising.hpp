// From evidence to a judgement: the policies of an endpoint's group tried one after the other. No database.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "attestation/server/database/records.hpp"
#include "attestation/verifier/policy.hpp"

namespace gatehouse::server {

struct LoadedPolicy {
    verifier::Policy policy;
    std::string address;
};
[[nodiscard]] std::string name_of(const LoadedPolicy& loaded);  // "name:version"

// One attestation as it came, or as it is kept.
struct EvidenceSet {
    std::string source;
    Buffer nonce, quote, signature, claims, event_log, pcr_values;
    // ServiceError (400) for another source than there is.
    [[nodiscard]] verifier::Evidence view() const;
};

// What the evidence is judged by, apart from policies.
struct Subject {
    std::string source;  // as enrolled: the attestation key was checked for it
    std::shared_ptr<const verifier::AttestationKey> key;
    verifier::TpmState known;
    std::string endorsement_fault;  // why nobody vouches for its TPM any more; empty: nothing is wrong
    CrlAge crls;                    // that its EK certificate depends on
    Seconds now = 0;                // that their age is of
};

// appraise(), and three findings more: evidence of another source than the enrolled one is refused, since the
// key was not checked for it; any, while the TPM that it comes from has lost what vouched for it; and any, by a
// policy that says how old the CRLs of that may be, while they are older, have ended, or lack.
[[nodiscard]] verifier::Verdict judge(const EvidenceSet& evidence, const Subject& subject, const LoadedPolicy* policy,
                                      bool with_views);

inline constexpr const char* kEndorsementRule = "endorsement";  // of the finding, and in front of the reason

// "rule: detail" of the first that does not hold; empty: all do.
[[nodiscard]] std::string first_failure(const std::vector<verifier::Finding>& findings);

// As protocol::verdict_json() has it, with "policy": "name:version", or "".
[[nodiscard]] std::string verdict_json(const verifier::Verdict& verdict);

struct Outcome {
    std::shared_ptr<const LoadedPolicy> policy;
    std::string refusal;  // the first finding that failed, "rule: detail"; empty: accepted
};

struct Judgement {
    verifier::Verdict verdict;
    std::shared_ptr<const LoadedPolicy> policy;  // that accepted, or came nearest; null: none is enforced
    State state = State::kUntrusted;             // kTrusted, kUnmeasured, kUntrusted
    std::string reason;
    std::vector<Outcome> tried;
    // `tried` in short, to tell whether anything changed: "name:version+ name:version-HASH ", with the first
    // half of the refusal's SHA-256.
    [[nodiscard]] std::string outcomes() const;
};
// Tries `enforced` in this order until one accepts, then all of `reported`.
[[nodiscard]] Judgement judge_all(const EvidenceSet& evidence, const Subject& subject,
                                  const std::vector<std::shared_ptr<const LoadedPolicy>>& enforced,
                                  const std::vector<std::shared_ptr<const LoadedPolicy>>& reported);

}  // namespace gatehouse::server

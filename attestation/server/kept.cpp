// The kept last evidence of an endpoint, appraised once more: for the page that shows it, and against other
// policies. What is shown is thus what the verifier says, and nothing of it needs to be stored.
#include <nlohmann/json.hpp>

#include "attestation/server/database/tpm_state.hpp"
#include "attestation/server/inside.hpp"

namespace gatehouse::server {
namespace {

struct Kept {
    Attestation attestation;
    EvidenceSet evidence;
    Subject subject;
    Buffer ak_public;
};

std::optional<Kept> find_kept(Session& session, const std::string& endpoint) {
    const auto found = find_evidence(session, endpoint);
    if (!found) {
        if (!has_endpoint(session, endpoint)) not_found(endpoint_name(clean_text(endpoint, 64)));
        return std::nullopt;
    }
    const EvidenceRow& row = found->evidence;
    Kept kept;
    kept.attestation = {.number = row.run,
                        .endpoint = endpoint,
                        .time = row.time,
                        .state = row.state,
                        .policy = row.policy,
                        .reason = row.reason,
                        .result = row.result,
                        .verdict_json = {},
                        .until = row.time,
                        .count = found->run_length};
    kept.evidence = {row.source, row.nonce, row.quote, row.signature, row.claims, found->event_log, row.pcr_values};
    kept.subject = {found->source, nullptr, decode_tpm(row.tpm_before), found->endorsement_fault,
                    found->crls,   row.time};
    kept.ak_public = found->ak_public;
    return kept;
}

// "rule: detail" for what does not hold; what the rules speak of in general, by PCR and event.
std::vector<std::string> differences(const verifier::Verdict& verdict) {
    std::vector<std::string> lines;
    for (const verifier::Finding& finding : verdict.findings) {
        if (!finding.ok) lines.push_back(clean_text(finding.rule + ": " + finding.detail, 1024));
    }
    for (const auto& pcr : verdict.pcrs) {
        if (!pcr.expected.empty() && pcr.expected.find(pcr.found) == std::string::npos)
            lines.push_back("PCR " + std::to_string(pcr.pcr) + ": expected " + pcr.expected + ", found " + pcr.found);
    }
    for (const auto& event : verdict.events) {
        if (!event.ok) {
            lines.push_back("event " + std::to_string(event.number) + " of PCR " + std::to_string(event.pcr) + " (" +
                            clean_text(event.name, 256) + "): digest " + event.digest + " does not belong");
        }
    }
    return lines;
}

}  // namespace

std::optional<Attestation> Service::last_attestation(const Principal& by, const std::string& endpoint) {
    demand_role(by, Role::kReadOnly);
    std::optional<Kept> kept = inside_->read([&](Session& session) { return find_kept(session, endpoint); });
    if (!kept) return std::nullopt;
    kept->subject.key = inside_->key(kept->ak_public);
    std::shared_ptr<const LoadedPolicy> policy;
    if (const std::size_t colon = kept->attestation.policy.rfind(':'); colon != std::string::npos) {
        policy = inside_->policy(kept->attestation.policy.substr(0, colon),
                                 std::stoull(kept->attestation.policy.substr(colon + 1)));
    }
    kept->attestation.verdict_json = verdict_json(judge(kept->evidence, kept->subject, policy.get(), true));
    return kept->attestation;
}

std::vector<std::string> Service::explain(const Principal& by, const std::string& endpoint, const std::string& policy,
                                          std::uint64_t version) {
    demand_role(by, Role::kReadOnly);
    const auto loaded = inside_->policy(policy, version);
    std::optional<Kept> kept = inside_->read([&](Session& session) { return find_kept(session, endpoint); });
    if (!kept) throw ServiceError(409, "no_evidence", endpoint_name(endpoint) + " has not shown any evidence yet");
    kept->subject.key = inside_->key(kept->ak_public);
    kept->subject.now = inside_->now();
    return differences(judge(kept->evidence, kept->subject, loaded.get(), true));
}

}  // namespace gatehouse::server

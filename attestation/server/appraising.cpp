#include "attestation/server/appraising.hpp"

#include <nlohmann/json.hpp>

#include "attestation/protocol/verdict_json.hpp"
#include "attestation/server/inside.hpp"

namespace gatehouse::server {
namespace {

std::ptrdiff_t holding(const verifier::Verdict& verdict) {
    return std::ranges::count(verdict.findings, true, &verifier::Finding::ok);
}

verifier::Finding judge_crl_age(const Subject& subject, std::uint32_t most_days) {
    constexpr Seconds kDay = 86'400;
    const auto finding = [](bool ok, std::string detail) {
        return verifier::Finding{"crl age", ok, std::move(detail)};
    };
    const CrlAge& crls = subject.crls;
    if (!crls.gap.empty()) return finding(false, "there is no CRL for " + crls.gap);
    if (crls.oldest == 0) return finding(false, "no vendor vouches for this TPM, whose CRL could speak of it");
    if (crls.end != 0 && crls.end < subject.now)
        return finding(false, "a CRL that it depends on has ended on " + date_text(crls.end));
    const std::string most = "; the policy allows " + std::to_string(most_days) + " days";
    return finding(subject.now - crls.oldest <= Seconds{most_days} * kDay,
                   "the oldest CRL that it depends on is of " + date_text(crls.oldest) + most);
}

std::string refusal_of(const verifier::Verdict& verdict) {
    if (verdict.accepted()) return "";
    const std::string failure = first_failure(verdict.findings);
    return failure.empty() ? "policy: judged nothing" : failure;
}

}  // namespace

std::string first_failure(const std::vector<verifier::Finding>& findings) {
    const auto failed = std::ranges::find(findings, false, &verifier::Finding::ok);
    return failed == findings.end() ? "" : clean_text(failed->rule + ": " + failed->detail, 1024);
}

std::string name_of(const LoadedPolicy& loaded) {
    return loaded.policy.name + ":" + std::to_string(loaded.policy.version);
}

verifier::Evidence EvidenceSet::view() const {
    const bool tpm = source == verifier::source_name(verifier::Source::kTpm);
    if (!tpm && source != verifier::source_name(verifier::Source::kHypervisor))
        throw ServiceError(400, "source", R"(source: must be "hypervisor" or "tpm")");
    return {.source = tpm ? verifier::Source::kTpm : verifier::Source::kHypervisor,
            .quote = quote,
            .signature = signature,
            .claims = claims,
            .event_log = event_log,
            .pcr_values = pcr_values};
}

verifier::Verdict judge(const EvidenceSet& evidence, const Subject& subject, const LoadedPolicy* policy,
                        bool with_views) {
    verifier::Verdict verdict = verifier::appraise(evidence.view(), *subject.key, subject.known, evidence.nonce,
                                                   policy == nullptr ? nullptr : &policy->policy, with_views);
    if (evidence.source != subject.source) {
        verdict.findings.insert(verdict.findings.begin(), {"source", false,
                                                           "the endpoint is enrolled with source \"" + subject.source +
                                                               "\", the evidence says \"" + evidence.source + "\""});
        verdict.tpm.reset();
    }
    if (policy != nullptr && policy->policy.max_crl_age_days != 0)
        verdict.findings.push_back(judge_crl_age(subject, policy->policy.max_crl_age_days));
    if (!subject.endorsement_fault.empty())
        verdict.findings.insert(verdict.findings.begin(), {kEndorsementRule, false, subject.endorsement_fault});
    return verdict;
}

std::string Judgement::outcomes() const {
    std::string text;
    for (const Outcome& one : tried) {
        text += name_of(*one.policy);
        if (one.refusal.empty()) {
            text += "+ ";
        } else {
            const Sha256Digest digest = sha256(host::text_bytes(one.refusal));
            text += "-" + host::hex(Bytes(digest).first(digest.size() / 2)) + " ";
        }
    }
    return text;
}

Judgement judge_all(const EvidenceSet& evidence, const Subject& subject,
                    const std::vector<std::shared_ptr<const LoadedPolicy>>& enforced,
                    const std::vector<std::shared_ptr<const LoadedPolicy>>& reported) {
    Judgement best;
    if (enforced.empty()) best.verdict = judge(evidence, subject, nullptr, false);
    for (const auto& policy : enforced) {
        verifier::Verdict verdict = judge(evidence, subject, policy.get(), false);
        const bool accepted = verdict.accepted();
        best.tried.push_back({policy, refusal_of(verdict)});
        if (accepted || best.policy == nullptr || holding(verdict) > holding(best.verdict)) {
            best.verdict = std::move(verdict);
            best.policy = policy;
        }
        if (accepted) break;
    }
    for (const auto& policy : reported) {
        best.tried.push_back({policy, refusal_of(judge(evidence, subject, policy.get(), false))});
    }
    if (best.verdict.accepted() && best.policy != nullptr) {
        best.state = best.policy->policy.source == verifier::Source::kTpm ? State::kUnmeasured : State::kTrusted;
    } else if (enforced.empty() && best.verdict.accepted()) {
        best.reason = "policy: none is enforced for the group";
    } else {
        best.reason = first_failure(best.verdict.findings);
    }
    return best;
}

std::string verdict_json(const verifier::Verdict& verdict) {
    nlohmann::json all = protocol::verdict_json(verdict);
    all["policy"] = verdict.policy.empty() ? "" : verdict.policy + ":" + std::to_string(verdict.policy_version);
    return all.dump();
}

}  // namespace gatehouse::server

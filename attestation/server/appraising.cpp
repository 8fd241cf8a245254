#include "attestation/server/appraising.hpp"

#include <nlohmann/json.hpp>

#include "attestation/protocol/claims_json.hpp"
#include "attestation/server/inside.hpp"

namespace gatehouse::server {
namespace {

std::ptrdiff_t holding(const verifier::Verdict& verdict) {
    return std::ranges::count(verdict.findings, true, &verifier::Finding::ok);
}

std::string refusal_of(const verifier::Verdict& verdict) {
    if (verdict.accepted()) return "";
    const std::string failure = first_failure(verdict.findings);
    return failure.empty() ? "policy: judged nothing" : failure;
}

}  // namespace

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
    nlohmann::json pcrs = nlohmann::json::array();
    for (const auto& one : verdict.pcrs)
        pcrs.push_back({{"pcr", one.pcr}, {"expected", one.expected}, {"found", one.found}});
    nlohmann::json events = nlohmann::json::array();
    for (const auto& one : verdict.events) {
        events.push_back({{"number", one.number},
                          {"offset", one.offset},
                          {"pcr", one.pcr},
                          {"type", one.type},
                          {"name", clean_text(one.name, 1024)},
                          {"digest", one.digest},
                          {"ok", one.ok}});
    }
    nlohmann::json tables = nlohmann::json::array();
    for (const auto& one : verdict.tables)
        tables.push_back({{"name", clean_text(one.name, 256)}, {"ok", one.ok}, {"logged", one.logged}});
    nlohmann::json quirks = nlohmann::json::array();
    for (const std::string& one : verdict.quirks) quirks.push_back(clean_text(one, 1024));
    const nlohmann::json all{
        {"findings", nlohmann::json::parse(findings_json(verdict.findings))},
        {"coverage",
         {{"events", verdict.coverage.events},
          {"events_judged", verdict.coverage.events_judged},
          {"pcrs", verdict.coverage.pcrs},
          {"pcrs_judged", verdict.coverage.pcrs_judged}}},
        {"quirks", quirks},
        {"policy", verdict.policy.empty() ? "" : verdict.policy + ":" + std::to_string(verdict.policy_version)},
        {"pcrs", pcrs},
        {"events", events},
        {"vault_pinned_by", verdict.vault_pinned_by},
        {"acpi_tables", tables},
        {"claims", verdict.claims ? nlohmann::json(protocol::claims_json(*verdict.claims)) : nlohmann::json(nullptr)}};
    return all.dump();
}

}  // namespace gatehouse::server

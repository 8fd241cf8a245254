// The kept last evidence of an endpoint, appraised once more: for the page that shows it, and against other
// policies. What is shown is thus what the verifier says, and nothing of it needs to be stored.
#include <nlohmann/json.hpp>

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
    const auto row = session.one(
        "SELECT v.number, v.time, v.state, v.policy, v.reason, v.result, v.source, v.nonce, v.quote, "
        "v.signature, "
        "v.claims, v.pcr_values, v.tpm_before, l.log, e.source, e.ak_public, e.run_length, h.time, "
        "e.endorsement_fault "
        "FROM evidence v JOIN endpoints e ON e.id = v.endpoint LEFT JOIN event_logs l ON l.endpoint = "
        "v.endpoint "
        "LEFT JOIN history h ON h.number = v.number WHERE v.endpoint = $1",
        {endpoint});
    if (!row) {
        if (!session.one("SELECT 1 FROM endpoints WHERE id = $1", {endpoint}))
            not_found(endpoint_name(clean_text(endpoint, 64)));
        return std::nullopt;
    }
    Kept kept;
    Attestation& one = kept.attestation;
    one.number = row->integer(0);
    one.endpoint = endpoint;
    one.time = one.until = row->integer(1);
    one.state = static_cast<State>(row->integer(2));
    one.policy = row->text(3);
    one.reason = row->text(4);
    one.result = row->text(5);
    one.count = row->integer(16);
    kept.evidence = {row->text(6),  row->blob(7),  row->blob(8), row->blob(9),
                     row->blob(10), row->blob(13), row->blob(11)};
    kept.subject = {row->text(14), nullptr, decode_tpm(row->blob(12)), row->text(18)};
    kept.ak_public = row->blob(15);
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
    return differences(judge(kept->evidence, kept->subject, loaded.get(), true));
}

}  // namespace gatehouse::server

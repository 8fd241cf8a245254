#include "attestation/server/http/records_json.hpp"

#include <nlohmann/json.hpp>

#include "attestation/protocol/claims_json.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::http {
namespace {

using nlohmann::json;

// Texts that are JSON themselves: made by this server, but kept by a database.
json embedded(const std::string& text) {
    json value = json::parse(text, nullptr, false);
    return value.is_discarded() ? json(nullptr) : value;
}

json time_or_null(server::Seconds time) { return time == 0 ? json(nullptr) : json(time); }

json identity_or_null(const verifier::TpmState& tpm) {
    if (!tpm.identity) return nullptr;
    return protocol::identity_json(tpm.identity->acpi, tpm.identity->vault_pin, tpm.identity->vault_id,
                                   tpm.identity->machine);
}

}  // namespace

json to_json(const server::Endpoint& endpoint) {
    return {{"id", endpoint.id},
            {"hostname", endpoint.hostname},
            {"group", endpoint.group},
            {"source", endpoint.source},
            {"state", name_of(endpoint.state)},
            {"ek_hash", endpoint.ek_hash},
            {"vendor", endpoint.vendor},
            {"endorsement_fault", endpoint.endorsement_fault},
            {"crls", {{"oldest", endpoint.crls.oldest}, {"end", endpoint.crls.end}, {"gap", endpoint.crls.gap}}},
            {"manufacturer", endpoint.manufacturer},
            {"model", endpoint.model},
            {"ak_public", verifier::base64(endpoint.ak_public)},
            {"enrolled", endpoint.enrolled},
            {"last_seen", time_or_null(endpoint.last_seen)},
            {"lease_until", time_or_null(endpoint.lease_until)},
            {"reason", endpoint.reason},
            {"identity", identity_or_null(endpoint.tpm)}};
}

json to_json(const server::Endorsement& endorsement) {
    return {{"ek_hash", endorsement.ek_hash},
            {"vendor", endorsement.vendor},
            {"accepted", time_or_null(endorsement.accepted)},
            {"fault", endorsement.fault},
            {"overruled", endorsement.overruled}};
}

json to_json(const server::Attestation& attestation, bool with_verdict) {
    json out = {{"number", attestation.number}, {"endpoint", attestation.endpoint},
                {"time", attestation.time},     {"until", attestation.until},
                {"count", attestation.count},   {"state", name_of(attestation.state)},
                {"policy", attestation.policy}, {"reason", attestation.reason}};
    if (with_verdict) {
        if (!attestation.result.empty()) out["result"] = attestation.result;
        out["verdict"] = embedded(attestation.verdict_json);
    }
    return out;
}

json to_json(const server::Enrollment& enrollment) {
    json findings = json::array();
    for (const auto& finding : enrollment.findings) {
        findings.push_back({{"rule", finding.rule}, {"ok", finding.ok}, {"detail", finding.detail}});
    }
    return {{"id", enrollment.id},
            {"hostname", enrollment.hostname},
            {"source", enrollment.source},
            {"ek_hash", enrollment.ek_hash},
            {"vendor", enrollment.vendor},
            {"manufacturer", enrollment.manufacturer},
            {"model", enrollment.model},
            {"state", enrollment.state},
            {"reason", enrollment.reason},
            {"time", enrollment.time},
            {"endorsed", enrollment.endorsed},
            {"findings", std::move(findings)},
            {"replaces", enrollment.replaces.empty() ? json(nullptr) : json(enrollment.replaces)}};
}

json to_json(const server::PolicyVersion& policy, bool whole) {
    json out = {
        {"name", policy.name}, {"version", policy.version}, {"address", policy.address}, {"added", policy.added}};
    if (whole) {
        out["policy"] = embedded(policy.json);
        out["jws"] = policy.jws;
    }
    return out;
}

json to_json(const server::Assignment& assignment) {
    return {{"group", assignment.group},
            {"policy", assignment.policy},
            {"version", assignment.version},
            {"stage", assignment.stage == server::Stage::kEnforce ? "enforce" : "report"},
            {"covered", assignment.covered},
            {"would_pass", assignment.would_pass},
            {"would_fail", assignment.would_fail}};
}

json to_json(const server::Refusal& refusal) {
    return {{"endpoint", refusal.endpoint},   {"hostname", refusal.hostname}, {"state", server::name_of(refusal.state)},
            {"last_seen", refusal.last_seen}, {"rule", refusal.rule},         {"detail", refusal.detail}};
}

json to_json(const server::AuditEntry& entry) {
    return {{"number", entry.number}, {"time", entry.time},       {"who", entry.who},
            {"action", entry.action}, {"subject", entry.subject}, {"detail", embedded(entry.detail)},
            {"hash", entry.hash}};
}

json to_json(const server::Counts& counts) {
    return {{"new", counts.fresh},
            {"trusted", counts.trusted},
            {"unmeasured", counts.unmeasured},
            {"untrusted", counts.untrusted},
            {"stale", counts.stale},
            {"retired", counts.retired},
            {"enrollments_waiting", counts.enrollments_waiting}};
}

json to_json(const server::Service::AuditCheck& check) {
    return {{"ok", check.ok}, {"entries", check.entries}, {"head", check.head}, {"fault", check.fault}};
}

json to_json(const server::Token& token) {
    return {{"name", token.name},
            {"role", name_of(token.role)},
            {"created", token.created},
            {"expires", time_or_null(token.expires)},
            {"last_used", time_or_null(token.last_used)}};
}

json to_json(const server::Service::Crls& crls) {
    json lists = json::array(), sources = json::array();
    for (const auto& one : crls.lists) {
        lists.push_back({{"issuer", one.issuer},
                         {"number", one.number},
                         {"this_update", time_or_null(one.this_update)},
                         {"next_update", time_or_null(one.next_update)},
                         {"fetched", time_or_null(one.fetched)},
                         {"url", one.url},
                         {"vendors", one.vendors},
                         {"fault", one.fault}});
    }
    for (const auto& one : crls.sources) {
        sources.push_back({{"url", one.url},
                           {"origin", server::name_of(one.origin)},
                           {"vendor", one.vendor},
                           {"due", one.due},
                           {"tried", time_or_null(one.tried)},
                           {"fetched", time_or_null(one.fetched)},
                           {"failures", one.failures},
                           {"fault", one.fault}});
    }
    return {{"fetching", crls.fetching},
            {"lists", std::move(lists)},
            {"sources", std::move(sources)},
            {"crowds", crls.crowds}};
}

}  // namespace gatehouse::http

#include "attestation/protocol/verdict_json.hpp"

#include <nlohmann/json.hpp>

#include "attestation/protocol/claims_json.hpp"
#include "attestation/protocol/text.hpp"

namespace gatehouse::protocol {

using nlohmann::json;

json findings_json(const std::vector<verifier::Finding>& findings) {
    json all = json::array();
    for (const verifier::Finding& one : findings)
        all.push_back({{"rule", one.rule}, {"ok", one.ok}, {"detail", clean_text(one.detail, 4096)}});
    return all;
}

json verdict_json(const verifier::Verdict& verdict) {
    json pcrs = json::array();
    for (const auto& one : verdict.pcrs)
        pcrs.push_back({{"pcr", one.pcr}, {"expected", one.expected}, {"found", one.found}});
    json events = json::array();
    for (const auto& one : verdict.events) {
        events.push_back({{"number", one.number},
                          {"offset", one.offset},
                          {"pcr", one.pcr},
                          {"type", one.type},
                          {"name", clean_text(one.name, 1024)},
                          {"digest", one.digest},
                          {"hashed", one.hashed},
                          {"ok", one.ok}});
    }
    json tables = json::array();
    for (const auto& one : verdict.tables)
        tables.push_back({{"name", clean_text(one.name, 256)}, {"ok", one.ok}, {"logged", one.logged}});
    json quirks = json::array();
    for (const std::string& one : verdict.quirks) quirks.push_back(clean_text(one, 1024));
    return {{"findings", findings_json(verdict.findings)},
            {"coverage",
             {{"events", verdict.coverage.events},
              {"events_judged", verdict.coverage.events_judged},
              {"pcrs", verdict.coverage.pcrs},
              {"pcrs_judged", verdict.coverage.pcrs_judged}}},
            {"quirks", quirks},
            {"pcrs", pcrs},
            {"events", events},
            {"acpi_tables", tables},
            {"vault_pinned_by", verdict.vault_pinned_by},
            {"claims", verdict.claims ? json(claims_json(*verdict.claims)) : json(nullptr)}};
}

}  // namespace gatehouse::protocol

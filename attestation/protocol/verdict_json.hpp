// A verdict as JSON: one form for the verifier's tool and the server. Text of the evidence is cleaned and cut
// (text.hpp).
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attestation/verifier/appraisal.hpp"

namespace gatehouse::protocol {

// [{"rule", "ok", "detail"}...]
[[nodiscard]] nlohmann::json findings_json(const std::vector<verifier::Finding>& findings);

// {"findings": findings_json(), "coverage": {"events", "events_judged", "pcrs", "pcrs_judged"}, "quirks": [TEXT...],
//  "pcrs": [{"pcr", "expected", "found"}...],
//  "events": [{"number", "offset", "pcr", "type": NUMBER, "name", "digest", "ok"}...],
//  "acpi_tables": [{"name", "ok", "logged"}...], "vault_pinned_by", "claims": claims_json() or null}
// Each user says by which policy, in its own way.
[[nodiscard]] nlohmann::json verdict_json(const verifier::Verdict& verdict);

}  // namespace gatehouse::protocol

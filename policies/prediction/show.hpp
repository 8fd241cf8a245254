// What the files around an appliance say, for people and as JSON: bundles, approvals, records, event logs, machine models.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::policies {

// The kind is told by the file's first bytes; ToolError naming the item and offset if the file is malformed.
//   bundle:           {"kind": "bundle", "sha256", "endpoints", "acpi": "minimal" | "machine", "allow_no_iommu",
//                      "counter_index", "authority_name", "policy_ref", and "enrollment" or "srk_name" and "vault_id"}
//   approval:         {"kind": "approval", "counter_limit", "pcr17", "pcr18", "policy_digest", "signature"}
//   machine approval: {"kind": "machine approval", "pcr19", "policy_digest", "signature"}
//   endpoint record:  {"kind": "endpoint record", "srk_name", "vault_id", "label", "signed_by"}, if it is signed by
//                     `enrollment` (a point as in a bundle); without that key nothing is said of it
//   event log:        {"kind": "event log", "events": [{"number", "offset", "pcr", "type", "name", "digests": {BANK:
//                      HEX}}], "pcrs": {BANK: {"17": HEX, "18": HEX, "19": HEX}}}
//   machine model:    as describe() of machine_model.hpp
[[nodiscard]] nlohmann::json describe_file(Bytes content, Bytes enrollment = {});

// Whether it begins as an event log does.
[[nodiscard]] bool is_event_log(Bytes content);

// The same as aligned lines.
[[nodiscard]] std::string as_text(const nlohmann::json& description);

// As it is if printable ASCII, else "0x" and hex.
[[nodiscard]] std::string printable_text(Bytes text);

}  // namespace gatehouse::policies

// What a policy bundle, an approval or an event log says, for people and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "keyvault/tool/support.hpp"

namespace gatehouse::policies {

// The kind is told by the file's first bytes; ToolError naming the item and offset if the file is malformed.
//   bundle:    {"kind": "bundle", "sha256", "flags": [NAME...], "counter_index", "srk_name",
//   "authority_name",
//               "policy_ref"}
//   approval:  {"kind": "approval", "counter_limit", "pcr17", "pcr18", "policy_digest", "signature"}
//   event log: {"kind": "event log", "events": [{"number", "offset", "pcr", "type", "name", "digests": {BANK:
//   HEX}}],
//               "pcrs": {BANK: {"17": HEX, "18": HEX}}}
[[nodiscard]] nlohmann::json describe_file(Bytes content);

// The same as aligned lines.
[[nodiscard]] std::string as_text(const nlohmann::json& description);

// Text of a policy reference: as it is if printable ASCII, else "0x" and hex.
[[nodiscard]] std::string policy_ref_text(Bytes policy_ref);

}  // namespace gatehouse::policies

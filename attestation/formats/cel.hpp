// Event logs in TCG's Canonical Event Log Format (CEL), version 1.1: section 5.2 (CBOR) and its JSON, content pcclient_std.
//
// A log is an array of records, in the order of the log:
//
//   JSON           CBOR
//   recnum           0   from 0, for each PCR by itself
//   pcr              1   at most 0x00ffffff
//   digests          3   [{hashAlg 0, digest 1}...]: as TPM algorithm (0x000b), in JSON by name ("sha256") and in hex
//   content_type     9   "pcclient_std", 5
//   content         10   {event_type 0, event_data 1}: in JSON "EV_SEPARATOR", a number if it has no name; data in hex
//
// A crypto-agile log's header (Spec ID Event03) says how the log is written, not what was measured, and has no record; nor has
// an event of PCR 0xffffffff (EV_NO_ACTION, of Windows), which is in no PCR.
#pragma once

#include <string>

#include "attestation/verifier/event_log.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::formats {

using host::Buffer;

// ToolError naming an event that has no digest, which no record can say.
[[nodiscard]] std::string cel_json(const verifier::EventLog& log);
[[nodiscard]] Buffer cel_cbor(const verifier::EventLog& log);

}  // namespace gatehouse::formats

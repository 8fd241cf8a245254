// `attest log`: an event log by itself, for people and as JSON. Nothing vouches for such a log: what it shows
// is what the log says, and where it contradicts itself.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attestation/verifier/event_log.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::verifier {

// Whether the log was read to its end, has an event, and no event's digests contradict its data. What a liar writes can be
// consistent: only a replay to quoted values shows what was measured.
struct LogReport {
    EventLog log;
    bool consistent = false;
};

// `bytes` must outlive the report.
[[nodiscard]] LogReport inspect_log(Bytes bytes);

// "crypto_agile", "banks", "events" (number, offset in bytes, pcr, type, text, data size in bytes, "digests"
// by bank, "hashed": "nothing", "elsewhere" (not in the log), "as logged", "value alone" (of a variable) or "differs",
// "note"), "recomputed" (events), "quirks",
// "stopped" (null, or why and at which offset), "pcrs" by bank: what the events replay to, hexadecimal,
// "consistent".
[[nodiscard]] nlohmann::json log_json(const LogReport& report);

// One line for each event, quirk and PCR.
[[nodiscard]] std::string log_text(const LogReport& report);

}  // namespace gatehouse::verifier

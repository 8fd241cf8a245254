// Whether an event's digests are those of its data: what firmware, boot loaders and kernels hash for each
// type, by the PC Client Platform Firmware Profile 1.06 (table 27) and as they are known to do otherwise.
#pragma once

#include "attestation/verifier/event_log.hpp"

namespace gatehouse::verifier {

enum class DataJudgement : std::uint8_t {
    kNothingHashed,  // EV_NO_ACTION
    kElsewhere,      // what was hashed is not in the log (code, tables, a file), or cannot be told
    kMatches,
    kDiffers,
};

struct DataFinding {
    DataJudgement judgement = DataJudgement::kElsewhere;
    // kMatches: how what was hashed departs from the profile, if it does. kDiffers: the bank's name.
    std::string detail;
};

// In every bank that the event has and that can be computed: kDiffers if one does not match.
[[nodiscard]] DataFinding judge_event_data(const LogEvent& event);

}  // namespace gatehouse::verifier

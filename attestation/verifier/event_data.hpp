// Whether an event's digests are those of its data: what firmware, boot loaders and kernels hash for each
// type, by the PC Client Platform Firmware Profile 1.06 (table 27) and as they are known to do otherwise.
// ../README.md, "What boot loaders log", has them by maker.
//
// A type is in no digest. Who changes an event's data can change its type as well, to one whose data say nothing of what
// was hashed: kElsewhere. So kDiffers shows an honest contradiction and never that there is no dishonest one, and what an
// event says is covered by its digest only if it is kMatches, but for the front of the data that DataFinding::front names.
// A variable of which the value alone was hashed (kValue) may be any: its GUID and its name are in no digest.
//
// GRUB hashes what comes after a word of its own. Such a word is stepped over only if it is one of those that GRUB writes,
// and in PCR 8, where it writes them: else any text could be put before what was measured.
#pragma once

#include "attestation/verifier/event_log.hpp"

namespace gatehouse::verifier {

enum class DataJudgement : std::uint8_t {
    kNothingHashed,  // EV_NO_ACTION
    kElsewhere,      // what was hashed is not in the log (code, tables, a file), or cannot be told
    kMatches,
    kValue,  // of a variable's event the value alone: what it calls the variable is not covered
    kDiffers,
};

struct DataFinding {
    DataJudgement judgement = DataJudgement::kElsewhere;
    // kMatches, kValue: how what was hashed departs from the profile, if it does. kDiffers: the banks' names.
    std::string detail;
    // kMatches: bytes at the front of the data that were not hashed: a word of GRUB's.
    std::size_t front = 0;
};

// In every bank that the event has and that can be computed: kDiffers if one does not match, and either another does, or
// the type's data are what is hashed.
[[nodiscard]] DataFinding judge_event_data(const LogEvent& event);
// Whether a log that is padded with zeros may have been cut within its last event: four or more of its last bytes are zeros,
// too, and its digest is not just that of its data. So is an event that says nothing. A log of whose last event up to three bytes
// are lost, or just what was zeros, cannot be told from a whole one. Events of a launch (PCRs 17 to 22) often say nothing.
[[nodiscard]] bool lost_its_end(const EventLog& log);
inline constexpr const char* kLostItsEnd = "the last event may have lost its end: it ends in the zeros that follow it";
// "nothing", "elsewhere", "as logged", "value alone", "differs".
[[nodiscard]] const char* judgement_name(DataJudgement judgement);

}  // namespace gatehouse::verifier

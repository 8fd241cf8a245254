// Event logs of any maker, read as hostile bytes: crypto-agile and SHA-1-only, launch and firmware, all PCRs.
//
// Formats, little-endian (TCG PC Client Platform Firmware Profile 1.06, section 10.2):
//
//   TCG_PCClientPCREvent   u32 pcr  u32 type  u8[20] SHA-1 digest  u32 size  u8[size] data
//   TCG_PCR_EVENT2         u32 pcr  u32 type  u32 count  count * { u16 algorithm, digest }  u32 size u8[size]
//
// A crypto-agile log is one event of the first kind, EV_NO_ACTION with a TCG_EfiSpecIDEvent ("Spec ID
// Event03") for its data, which lists the banks, and events of the second kind. Any other log is events of
// the first kind.
//
// What firmware gets wrong and a reader can get over is a quirk, named and passed over: what a log says is
// believed only after it was replayed to quoted PCRs. Event types are not covered by any digest: nothing here
// or above may accept because of a type.
//
// What is no log is not read as one. Reading stops, with the reason, at an event of a PCR that no PC has, at sizes that go
// past the end, at digests that the header does not announce, at a header that does not add up, at an event of a PCR below 17
// none of whose digests can be a hash's (zeros), and where there is not one event that extends a PCR. Without a Spec ID event
// one event at least must show that it is a log: by the digest of its data, or by a type and a digest of a launch by TXT. After the last event only what fixed-size areas (the ACPI table's, a flash block) are filled with may follow:
// zeros or 0xff to the end, and so many that they cannot be an event's first bytes (lost_its_end() of event_data.hpp looks
// whether they are what an event lacks). A log that was cut exactly between two
// events cannot be told from a shorter one; that a PCR of the firmware lacks its separator is a quirk, and a replay to
// quoted values says the rest.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "hypervisor/base/hash.hpp"

namespace gatehouse::verifier {

// Several times what firmware logs: some hundred events in 64 KiB to 256 KiB.
inline constexpr std::size_t kMaxLogEvents = 4096;
inline constexpr std::size_t kMaxQuirks = 64;  // of single events; those of the log as a whole come beside them

// The banks that can be known, and their places in LogEvent::digests.
inline constexpr std::array kLogBanks{HashAlgorithm::kSha1, HashAlgorithm::kSha256, HashAlgorithm::kSha384,
                                      HashAlgorithm::kSha512, HashAlgorithm::kSm3_256};
// Place of a bank in kLogBanks; kLogBanks.size() if it is unknown.
[[nodiscard]] std::size_t bank_index(HashAlgorithm bank);

// Event types (the profile's table 27). Any other number may come, too.
enum class LogEventType : std::uint32_t {
    kPrebootCertificate = 0x00,
    kPostCode = 0x01,
    kNoAction = 0x03,
    kSeparator = 0x04,
    kAction = 0x05,
    kEventTag = 0x06,
    kCrtmContents = 0x07,
    kCrtmVersion = 0x08,
    kMicrocode = 0x09,
    kPlatformConfigFlags = 0x0a,
    kTableOfDevices = 0x0b,
    kCompactHash = 0x0c,
    kIpl = 0x0d,
    kIplPartitionData = 0x0e,
    kNonhostCode = 0x0f,
    kNonhostConfig = 0x10,
    kNonhostInfo = 0x11,
    kOmitBootDeviceEvents = 0x12,
    kPostCode2 = 0x13,
    kEfiVariableDriverConfig = 0x80000001,
    kEfiVariableBoot = 0x80000002,
    kEfiBootServicesApplication = 0x80000003,
    kEfiBootServicesDriver = 0x80000004,
    kEfiRuntimeServicesDriver = 0x80000005,
    kEfiGptEvent = 0x80000006,
    kEfiAction = 0x80000007,
    kEfiPlatformFirmwareBlob = 0x80000008,
    kEfiHandoffTables = 0x80000009,
    kEfiPlatformFirmwareBlob2 = 0x8000000a,
    kEfiHandoffTables2 = 0x8000000b,
    kEfiVariableBoot2 = 0x8000000c,
    kEfiGptEvent2 = 0x8000000d,
    kEfiHcrtmEvent = 0x80000010,
    kEfiVariableAuthority = 0x800000e0,
    kEfiSpdmFirmwareBlob = 0x800000e1,
    kEfiSpdmFirmwareConfig = 0x800000e2,
    kEfiSpdmDevicePolicy = 0x800000e3,
    kEfiSpdmDeviceAuthority = 0x800000e4,
};
// "EV_SEPARATOR"; "event type 0x..." for others.
[[nodiscard]] std::string event_type_name(LogEventType type);

// One event; `data` and `digests` are views into the log.
struct LogEvent {
    std::size_t offset = 0;    // of the event in the log, in bytes
    std::uint32_t number = 0;  // from 1; a Spec ID header is number 0 and not among the events
    std::uint32_t pcr = 0;
    LogEventType type = LogEventType::kNoAction;
    std::array<Bytes, kLogBanks.size()> digests{};  // by kLogBanks; empty for a bank that the event lacks
    Bytes data{};
    [[nodiscard]] Bytes digest(HashAlgorithm bank) const;
};

struct EventLog {
    bool crypto_agile = false;
    std::vector<HashAlgorithm> banks;  // as the header lists them, known ones only
    std::vector<LogEvent> events;      // EV_NO_ACTION among them
    std::vector<std::string> quirks;
    // Of an EV_NO_ACTION event "StartupLocality".
    std::optional<std::uint8_t> startup_locality;
    // Zeros that the last event ends in, if padding of zeros follows it.
    std::size_t zeros_before_padding = 0;
    // Whether the first event that extends PCR 0 is EV_EFI_HCRTM_EVENT.
    bool hcrtm = false;
    // kNone if the log was read to its end; else why and, in detail, at which offset reading stopped; the
    // events before that place are there.
    Failure stopped;
};

// Reads as far as it can.
[[nodiscard]] EventLog read_event_log(Bytes log);

// Value of a PCR after all events of a log that have a digest of this bank, from `start`. `bank` must satisfy
// can_hash(). EV_NO_ACTION extends nothing.
[[nodiscard]] Digest replay(const EventLog& log, HashAlgorithm bank, std::uint32_t pcr, const Digest& start);
// What the last byte of PCR 0 can have started with, in every bank: first what the log says, then the others that exist.
// After a measurement before TPM2_Startup (_TPM_Hash_Start, an H-CRTM) it is 4, whatever locality TPM2_Startup came from;
// else that locality, which is 0 or 3 (TPM 2.0 Part 1, "H-CRTM"; the profile's 10.4.5.3). Both are said by types and
// by data that no digest covers: right is what replays to a quoted value.
[[nodiscard]] std::array<std::uint8_t, 3> start_localities(const EventLog& log);
// What a PCR holds before the first extend: zeros; PCRs 17 to 22 ones unless the log has events for them, for
// then there was a dynamic launch; PCR 0 `locality` in its last byte.
[[nodiscard]] Digest start_value(const EventLog& log, HashAlgorithm bank, std::uint32_t pcr, std::uint8_t locality);
// The same as the log says.
[[nodiscard]] Digest start_value(const EventLog& log, HashAlgorithm bank, std::uint32_t pcr);

// A short text for people: the event's name or its data's gist; printable ASCII, at most 120 characters.
[[nodiscard]] std::string event_text(const LogEvent& event);

}  // namespace gatehouse::verifier

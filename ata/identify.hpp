// The pages in which a drive describes itself: read by the mediator, edited for the guest. All are 512 bytes.
#pragma once

#include "ata/volume.hpp"

namespace gatehouse::ata {

inline constexpr std::size_t kPageSize = 512;
using Page = std::span<std::byte, kPageSize>;

// The sizes in IDENTIFY DEVICE data. kUnsupported: no LBA, DMA or 48-bit addressing; a logical sector of
// neither 512 nor 4,096 bytes; more than 2^48 sectors. kBadChecksum: integrity word present and wrong.
[[nodiscard]] Result<Geometry> parse_geometry(std::span<const std::byte, kPageSize> page);

// Edits IDENTIFY DEVICE data: every feature whose commands command_policy.hpp refuses becomes unsupported and
// disabled, and the integrity word is made right again.
void filter_identify(Page page);

// Log addresses, ACS-4 table A.3 (General Purpose Log Directory and SMART alike).
inline constexpr std::uint8_t kLogDirectory = 0x00;
inline constexpr std::uint8_t kQueuedErrorLog = 0x10;
// Whether a guest may read the log: the directory, error and self-test logs, statistics, NCQ error, Phy
// counters. Not IDENTIFY DEVICE data (30h), which would repeat unedited what filter_identify() took out, nor
// SCT (E0h, E1h), nor vendor logs.
[[nodiscard]] bool log_is_allowed(std::uint8_t address);
// Edits the log directory: logs that may not be read have no pages.
void filter_log_directory(Page page);

// Writes the NCQ Command Error log (ACS-4 section 9.13) that a drive holds after it aborted the queued
// command `tag`.
void write_queued_error(Page page, std::uint8_t tag);

}  // namespace gatehouse::ata

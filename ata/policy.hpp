// Which ATA commands a guest may send to its disk, or to a packet device, and what each of them moves.
//
// An allow-list: an opcode, subcommand or log that is not listed is refused, and the guest sees the abort of
// a drive that does not have it (ERR, ABRT). Refused are the unknown and everything that goes around
// encryption, changes the drive's firmware, passwords or capacity, or makes it forget: SECURITY, TRUSTED,
// SANITIZE, DOWNLOAD MICROCODE, WRITE LOG, WRITE BUFFER, WRITE UNCORRECTABLE, SCT, SET MAX, ZAC, SMART writes,
// vendor codes. NOP is refused too, for that is what NOP does (ACS-4 section 7.20). What the drive says of itself
// is edited to match. The one choice of the measured policy bundle is TRIM. The list for people, with the reasons, is
// policies/ata.toml, which policyctl holds against this code.
//
// A packet device (ATAPI) has the commands of its table row alone; in its PACKET go those of SPC and MMC that only read:
// what is written to a medium would leave the machine as it is.
#pragma once

#include "ata/volume.hpp"

namespace gatehouse::ata {

// --- Commands ---

// The Register - Host to Device FIS (Serial ATA 3.4, section 10.5.5) and the ATA registers that it carries.
//
//   offset  contents                      offset  contents
//        0  FIS type, 27h                      8  LBA 31:24
//        1  C (bit 7), PM port (bits 3:0)      9  LBA 39:32
//        2  COMMAND                           10  LBA 47:40
//        3  FEATURE 7:0                       11  FEATURE 15:8
//        4  LBA 7:0                           12  COUNT 7:0
//        5  LBA 15:8                          13  COUNT 15:8
//        6  LBA 23:16                         14  ICC
//        7  DEVICE                            15  CONTROL
inline constexpr std::size_t kTaskFileFisSize = 20;

enum class TaskBit : std::uint8_t {
    kFua = 1u << 7,                   // DEVICE, of FPDMA QUEUED only: force unit access
    kLba = 1u << 6,                   // DEVICE: 1, LBA; 0, cylinder, head, sector
    kConventional = 1u << 3,          // CONTROL: obsolete, conventionally one
    kReset = 1u << 2,                 // CONTROL: SRST
    kNoInterrupt = 1u << 1,           // CONTROL: nIEN
    kBusyOrData = 1u << 7 | 1u << 3,  // STATUS: BSY, DRQ
    kError = 1u << 0,                 // STATUS: ERR
};
constexpr std::uint8_t bits(TaskBit bit) { return static_cast<std::uint8_t>(bit); }

struct TaskFile {
    bool is_command = true;  // C: false for a control FIS, which carries a soft reset
    std::uint8_t command = 0;
    std::uint8_t device = 0;
    std::uint8_t control = 0;
    std::uint16_t features = 0;
    std::uint16_t count = 0;
    std::uint64_t lba = 0;                  // 48 bits; for 28-bit commands bits 27:24 are in `device`
    std::array<std::uint64_t, 2> packet{};  // of PACKET: 12 or 16 bytes, little-endian, the first the operation code
};

// kBadValue: not a Register - Host to Device FIS, or addressed to a port of a port multiplier.
[[nodiscard]] Result<TaskFile> parse_task_file(std::span<const std::byte, kTaskFileFisSize> fis);
void store_task_file(const TaskFile& task, std::span<std::byte, kTaskFileFisSize> fis);

enum class CommandKind : std::uint8_t {
    kRefused,     // to be answered with an abort
    kNoData,      // no data; sent as it is
    kReset,       // a control FIS: soft reset
    kDataIn,      // drive to host, not from the medium: `count` blocks of 512 bytes
    kMediaRead,   // `count` logical sectors from `lba`
    kMediaWrite,  // `count` logical sectors to `lba`
    kTrim,        // ranges of logical sectors that may be forgotten, in `count` blocks of 512 bytes
    kPacket,      // to a packet device, with `task.packet`; data, if any, drive to host, as many as it has
};

// What has to be edited in the data of a kDataIn command.
enum class Filter : std::uint8_t { kNone, kIdentify, kDirectory, kSmartData, kQueuedError };

struct Command {
    CommandKind kind = CommandKind::kRefused;
    Filter filter = Filter::kNone;
    bool queued = false;    // NCQ: the tag is bits 7:3 of COUNT
    bool extended = false;  // 48-bit
    std::uint64_t lba = 0;
    std::uint32_t count = 1;
    TaskFile task;  // with nothing in it that the command does not define

    // The same media command for a part of its range.
    [[nodiscard]] TaskFile part(std::uint64_t first, std::uint32_t sectors) const;
};

// `trim`: whether DATA SET MANAGEMENT is allowed, at most kMaximumTrimBlocks.
[[nodiscard]] Command classify(const TaskFile& task, bool trim, Device device = kDisk);
inline constexpr std::uint32_t kMaximumTrimBlocks = 128;

// CHECK POWER MODE (ACS-4 section 7.4): changes nothing, wakes nothing up, and ends with an interrupt.
inline constexpr TaskFile kCheckPowerMode{.command = 0xe5, .control = bits(TaskBit::kConventional)};
// Does as little on a packet device, which ends it with CHECK CONDITION, ILLEGAL REQUEST: 7Fh is for packets that are longer
// (SPC-4, VARIABLE LENGTH CDB), and no command of MMC-6.
inline constexpr TaskFile kNoPacketCommand{.command = 0xa0, .control = kCheckPowerMode.control, .packet = {0x7f}};

// The tag of a queued command.
[[nodiscard]] inline std::uint32_t tag_of(const TaskFile& task) { return (task.count >> 3) & 0x1f; }

// Commands that the mediator sends itself.
inline constexpr TaskFile kIdentifyDevice{.command = 0xec, .control = bits(TaskBit::kConventional)};
[[nodiscard]] TaskFile read_dma_ext(std::uint64_t lba, std::uint32_t sectors);

// --- The pages in which a drive describes itself: read by the mediator, edited for the guest ---

inline constexpr std::size_t kPageSize = 512;
using Page = std::span<std::byte, kPageSize>;

// The sizes in IDENTIFY DEVICE data. kUnsupported: no 48-bit addresses;
// a logical sector of neither 512 nor 4,096 bytes.
[[nodiscard]] Result<Geometry> parse_geometry(std::span<const std::byte, kPageSize> page);

// Edits what a drive says of itself, so that it tells of nothing that classify() refuses: IDENTIFY DEVICE data (every
// such feature is unsupported and disabled), SMART data, the log directory (no pages). Checksums hold again.
void filter_page(Page page, Filter filter, bool trim);

// Whether a guest may read the log at that address (ACS-4 table A.3, General Purpose and SMART logs alike): the directory, error and self-test logs, statistics, pending defects, NCQ error,
// Phy counters. Not IDENTIFY DEVICE data (30h), which would repeat unedited what filter_page() took out, nor SCT (E0h,
// E1h), nor vendor logs.
[[nodiscard]] bool log_is_allowed(std::uint8_t address);

// Writes the NCQ Command Error log (ACS-4 section 9.13) that a drive holds after it aborted the queued command `tag`.
void write_queued_error(Page page, std::uint8_t tag);

}  // namespace gatehouse::ata

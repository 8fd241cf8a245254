// Which ATA commands a guest may send to its disk, and what each of them moves.
//
// An allow-list: an opcode, subcommand or log that is not listed is refused, and the guest sees the abort of
// a drive that does not have it (ERR, ABRT). Refused are the unknown and everything that goes around
// encryption, changes the drive's firmware, passwords or capacity, or makes it forget: SECURITY, TRUSTED,
// SANITIZE, DOWNLOAD MICROCODE, WRITE LOG, WRITE BUFFER, WRITE UNCORRECTABLE, SCT, DATA SET MANAGEMENT, SET
// MAX, ZAC, SMART writes, vendor codes. NOP is refused too, for that is what NOP does (ACS-4 section 7.20).
// identify.hpp edits what the drive says of itself to match.
#pragma once

#include "ata/identify.hpp"
#include "ata/task_file.hpp"

namespace gatehouse::ata {

enum class CommandKind : std::uint8_t {
    kRefused,     // to be answered with an abort
    kNoData,      // no data; sent as it is
    kReset,       // a control FIS: soft reset
    kDataIn,      // drive to host, not from the medium: `count` blocks of 512 bytes
    kMediaRead,   // `count` logical sectors from `lba`
    kMediaWrite,  // `count` logical sectors to `lba`
};

// What has to be edited in the data of a kDataIn command.
enum class Filter : std::uint8_t { kNone, kIdentify, kDirectory, kQueuedError };

struct Command {
    CommandKind kind = CommandKind::kRefused;
    Filter filter = Filter::kNone;
    bool queued = false;    // NCQ: the tag is bits 7:3 of COUNT
    bool extended = false;  // 48-bit
    std::uint64_t lba = 0;
    std::uint32_t count = 0;
    TaskFile task;  // with nothing in it that the command does not define

    // The same media command for a part of its range.
    [[nodiscard]] TaskFile part(std::uint64_t first, std::uint32_t sectors) const;
};

[[nodiscard]] Command classify(const TaskFile& task);

// A command that every ATA disk aborts: IDENTIFY PACKET DEVICE (ACS-4 section 7.14: "for devices that
// implement the PACKET feature set"; all others return command aborted). NOP would say it better, but QEMU's
// disks complete it.
[[nodiscard]] TaskFile always_aborted();

// The tag of a queued command.
[[nodiscard]] inline std::uint32_t tag_of(const TaskFile& task) { return (task.count >> 3) & 0x1f; }

// Commands that the mediator sends itself.
[[nodiscard]] TaskFile identify_device();
[[nodiscard]] TaskFile read_dma_ext(std::uint64_t lba, std::uint32_t sectors);

}  // namespace gatehouse::ata

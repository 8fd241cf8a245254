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
#pragma once

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::ata {

inline constexpr std::size_t kTaskFileFisSize = 20;

enum class Device : std::uint8_t {  // DEVICE
    kFua = 1u << 7,                 // FPDMA QUEUED only: force unit access
    kLba = 1u << 6,                 // 1: LBA; 0: cylinder, head, sector
};
enum class Control : std::uint8_t {  // CONTROL
    kObsolete = 1u << 3,             // conventionally one
    kReset = 1u << 2,                // SRST
    kNoInterrupt = 1u << 1,          // nIEN
};
enum class DeviceStatus : std::uint8_t {  // STATUS, ACS-4 section 6.2
    kBusyOrData = 1u << 7 | 1u << 3,      // BSY, DRQ
    kError = 1u << 0,                     // ERR
};
constexpr std::uint8_t bits(auto bit) { return static_cast<std::uint8_t>(bit); }

struct TaskFile {
    bool is_command = true;  // C: false for a control FIS, which carries a soft reset
    std::uint8_t command = 0;
    std::uint8_t device = 0;
    std::uint8_t control = 0;
    std::uint16_t features = 0;
    std::uint16_t count = 0;
    std::uint64_t lba = 0;  // 48 bits; for 28-bit commands bits 27:24 are in `device`
};

// kBadValue: not a Register - Host to Device FIS, or addressed to a port of a port multiplier.
[[nodiscard]] inline Result<TaskFile> parse_task_file(std::span<const std::byte, kTaskFileFisSize> fis) {
    const auto at = [&](std::size_t i) { return std::to_integer<std::uint8_t>(fis[i]); };
    if (at(0) != 0x27 || (at(1) & 0x0f) != 0) return {Error::kBadValue, "FIS", at(0)};
    TaskFile task;
    task.is_command = (at(1) & 0x80) != 0;
    task.command = at(2);
    task.device = at(7);
    task.control = at(15);
    task.features = static_cast<std::uint16_t>(at(3) | at(11) << 8);
    task.count = static_cast<std::uint16_t>(at(12) | at(13) << 8);
    task.lba = std::uint64_t{at(4)} | std::uint64_t{at(5)} << 8 | std::uint64_t{at(6)} << 16 |
               std::uint64_t{at(8)} << 24 | std::uint64_t{at(9)} << 32 | std::uint64_t{at(10)} << 40;
    return task;
}

inline void store_task_file(const TaskFile& task, std::span<std::byte, kTaskFileFisSize> fis) {
    const auto put = [&](std::size_t i, std::uint64_t value) {
        fis[i] = static_cast<std::byte>(value & 0xff);
    };
    wipe(fis);
    put(0, 0x27);
    put(1, task.is_command ? 0x80 : 0);
    put(2, task.command);
    put(3, task.features);
    for (std::size_t i = 0; i < 3; ++i) {
        put(4 + i, task.lba >> (8 * i));
        put(8 + i, task.lba >> (24 + 8 * i));
    }
    put(7, task.device);
    put(11, task.features >> 8);
    put(12, task.count);
    put(13, task.count >> 8);
    put(15, task.control);
}

}  // namespace gatehouse::ata

#include "ata/command_policy.hpp"

#include <algorithm>

namespace gatehouse::ata {

namespace {

enum class Opcode : std::uint8_t {  // ACS-4, section 7 and table A.2
    kReadSectors = 0x20,
    kReadSectorsExt = 0x24,
    kReadDmaExt = 0x25,
    kReadMultipleExt = 0x29,
    kReadLogExt = 0x2f,
    kWriteSectors = 0x30,
    kWriteSectorsExt = 0x34,
    kWriteDmaExt = 0x35,
    kWriteMultipleExt = 0x39,
    kWriteDmaFuaExt = 0x3d,
    kReadVerify = 0x40,
    kReadVerifyExt = 0x42,
    kReadLogDmaExt = 0x47,
    kReadFpdmaQueued = 0x60,
    kWriteFpdmaQueued = 0x61,
    kIdentifyPacketDevice = 0xa1,
    kSmart = 0xb0,
    kReadMultiple = 0xc4,
    kWriteMultiple = 0xc5,
    kSetMultipleMode = 0xc6,
    kReadDma = 0xc8,
    kWriteDma = 0xca,
    kWriteMultipleFuaExt = 0xce,
    kStandbyImmediate = 0xe0,
    kIdleImmediate = 0xe1,
    kStandby = 0xe2,
    kIdle = 0xe3,
    kCheckPowerMode = 0xe5,
    kSleep = 0xe6,
    kFlushCache = 0xe7,
    kFlushCacheExt = 0xea,
    kIdentifyDevice = 0xec,
    kSetFeatures = 0xef,
};

enum class Rule : std::uint8_t { kAsIs, kMedia, kQueued, kIdentify, kLog, kSmart, kSetFeatures };

struct Row {
    Opcode opcode;
    CommandKind kind;
    bool extended;
    Rule rule;
};

using enum CommandKind;
constexpr Row kAllowed[] = {
    // opcode                        kind         48-bit  rule
    {Opcode::kReadSectors, kMediaRead, false, Rule::kMedia},
    {Opcode::kReadSectorsExt, kMediaRead, true, Rule::kMedia},
    {Opcode::kReadDmaExt, kMediaRead, true, Rule::kMedia},
    {Opcode::kReadMultipleExt, kMediaRead, true, Rule::kMedia},
    {Opcode::kReadLogExt, kDataIn, true, Rule::kLog},
    {Opcode::kWriteSectors, kMediaWrite, false, Rule::kMedia},
    {Opcode::kWriteSectorsExt, kMediaWrite, true, Rule::kMedia},
    {Opcode::kWriteDmaExt, kMediaWrite, true, Rule::kMedia},
    {Opcode::kWriteMultipleExt, kMediaWrite, true, Rule::kMedia},
    {Opcode::kWriteDmaFuaExt, kMediaWrite, true, Rule::kMedia},
    {Opcode::kReadVerify, kNoData, false, Rule::kAsIs},
    {Opcode::kReadVerifyExt, kNoData, true, Rule::kAsIs},
    {Opcode::kReadLogDmaExt, kDataIn, true, Rule::kLog},
    {Opcode::kReadFpdmaQueued, kMediaRead, true, Rule::kQueued},
    {Opcode::kWriteFpdmaQueued, kMediaWrite, true, Rule::kQueued},
    {Opcode::kSmart, kDataIn, false, Rule::kSmart},
    {Opcode::kReadMultiple, kMediaRead, false, Rule::kMedia},
    {Opcode::kWriteMultiple, kMediaWrite, false, Rule::kMedia},
    {Opcode::kSetMultipleMode, kNoData, false, Rule::kAsIs},
    {Opcode::kReadDma, kMediaRead, false, Rule::kMedia},
    {Opcode::kWriteDma, kMediaWrite, false, Rule::kMedia},
    {Opcode::kWriteMultipleFuaExt, kMediaWrite, true, Rule::kMedia},
    {Opcode::kStandbyImmediate, kNoData, false, Rule::kAsIs},
    {Opcode::kIdleImmediate, kNoData, false, Rule::kAsIs},
    {Opcode::kStandby, kNoData, false, Rule::kAsIs},
    {Opcode::kIdle, kNoData, false, Rule::kAsIs},
    {Opcode::kCheckPowerMode, kNoData, false, Rule::kAsIs},
    {Opcode::kSleep, kNoData, false, Rule::kAsIs},
    {Opcode::kFlushCache, kNoData, false, Rule::kAsIs},
    {Opcode::kFlushCacheExt, kNoData, true, Rule::kAsIs},
    {Opcode::kIdentifyDevice, kDataIn, false, Rule::kIdentify},
    {Opcode::kSetFeatures, kNoData, false, Rule::kSetFeatures},
};

constexpr std::uint32_t count_or(std::uint32_t count, std::uint32_t if_zero) {
    return count == 0 ? if_zero : count;
}

// READ LOG EXT: log address in LBA 7:0, pages in COUNT (ACS-4 section 7.22). SMART READ LOG is alike.
CommandKind log_rule(Command& command) {
    const auto address = static_cast<std::uint8_t>(command.task.lba);
    command.count = command.extended ? command.task.count : command.task.count & 0xffu;
    if (!log_is_allowed(address) || command.count == 0) return kRefused;
    if (address == kLogDirectory) command.filter = Filter::kDirectory;
    if (address == kQueuedErrorLog) command.filter = Filter::kQueuedError;
    return command.filter != Filter::kNone && command.count != 1 ? kRefused : kDataIn;
}

// Subcommand in FEATURE (ACS-4 section 7.48 and, for READ THRESHOLDS, ATA-3); the key C24Fh in LBA 23:8.
CommandKind smart_rule(Command& command) {
    if (((command.task.lba >> 8) & 0xffff) != 0xc24f) return kRefused;
    switch (command.task.features & 0xff) {
        case 0xd0:  // SMART READ DATA
        case 0xd1:  // SMART READ THRESHOLDS
            command.count = 1;
            return kDataIn;
        case 0xd5:  // SMART READ LOG
            return log_rule(command);
        case 0xd8:  // SMART ENABLE OPERATIONS
        case 0xda:  // SMART RETURN STATUS
            return kNoData;
        default:
            return kRefused;
    }
}

// Subcommand in FEATURE (ACS-4 section 7.45).
CommandKind set_features_rule(const Command& command) {
    switch (command.task.features & 0xff) {
        case 0x02:  // enable volatile write cache
        case 0x82:  // disable it
        case 0x03:  // set transfer mode
        case 0x05:  // enable APM
        case 0x85:  // disable it
        case 0x55:  // disable read look-ahead
        case 0xaa:  // enable it
        case 0x66:  // keep settings over a software reset
        case 0xcc:  // revert them
            return kNoData;
        case 0x10:  // enable a Serial ATA feature: DMA Setup offsets, auto-activate, DIPM, in-order delivery
        case 0x90:  // disable it
            return (command.task.count & 0xff) <= 4 ? kNoData : kRefused;
        default:
            return kRefused;
    }
}

// Sectors addressed by LBA only; a count of zero is the greatest (ACS-4 section 7.2).
CommandKind media_rule(Command& command, bool queued) {
    const TaskFile& task = command.task;
    if ((task.device & static_cast<std::uint8_t>(Device::kLba)) == 0) return kRefused;
    command.queued = queued;
    command.count = queued             ? count_or(task.features, 65536)
                    : command.extended ? count_or(task.count, 65536)
                                       : count_or(task.count & 0xffu, 256);
    command.lba =
        command.extended ? task.lba : (task.lba & 0xffffff) | std::uint64_t{task.device & 0x0fu} << 24;
    return command.kind;
}

CommandKind apply(Rule rule, Command& command) {
    switch (rule) {
        case Rule::kAsIs:
            return command.kind;
        case Rule::kMedia:
            return media_rule(command, false);
        case Rule::kQueued:
            return media_rule(command, true);
        case Rule::kIdentify:
            command.count = 1;
            command.filter = Filter::kIdentify;
            return command.kind;
        case Rule::kLog:
            return log_rule(command);
        case Rule::kSmart:
            return smart_rule(command);
        case Rule::kSetFeatures:
            return set_features_rule(command);
    }
    return kRefused;
}

constexpr std::uint8_t kConventionalControl = static_cast<std::uint8_t>(Control::kObsolete);

}  // namespace

Command classify(const TaskFile& task) {
    Command command;
    command.task = task;
    if (!task.is_command) {
        command.kind = kReset;
        command.task = {.is_command = false};
        command.task.control = task.control & static_cast<std::uint8_t>(Control::kReset);
        return command;
    }
    command.task.control =
        kConventionalControl | (task.control & static_cast<std::uint8_t>(Control::kNoInterrupt));
    const auto* row = std::ranges::find(kAllowed, static_cast<Opcode>(task.command), &Row::opcode);
    if (row == std::end(kAllowed)) return command;
    command.kind = row->kind;
    command.extended = row->extended;
    command.kind = apply(row->rule, command);
    return command;
}

TaskFile Command::part(std::uint64_t first, std::uint32_t sectors) const {
    TaskFile result = task;
    const std::uint64_t start = lba + first;
    result.device = static_cast<std::uint8_t>(Device::kLba);
    result.lba = start;
    result.features = 0;
    if (queued) {
        result.device |= task.device & static_cast<std::uint8_t>(Device::kFua);
        result.features = static_cast<std::uint16_t>(sectors);
    } else if (extended) {
        result.count = static_cast<std::uint16_t>(sectors);
    } else {
        result.count = static_cast<std::uint8_t>(sectors);
        result.lba = start & 0xffffff;
        result.device = static_cast<std::uint8_t>(result.device | ((start >> 24) & 0x0f));
    }
    return result;
}

TaskFile always_aborted() {
    return {.command = static_cast<std::uint8_t>(Opcode::kIdentifyPacketDevice),
            .control = kConventionalControl};
}

TaskFile identify_device() {
    return {.command = static_cast<std::uint8_t>(Opcode::kIdentifyDevice), .control = kConventionalControl};
}

TaskFile read_dma_ext(std::uint64_t lba, std::uint32_t sectors) {
    return {.command = static_cast<std::uint8_t>(Opcode::kReadDmaExt),
            .device = static_cast<std::uint8_t>(Device::kLba),
            .control = kConventionalControl,
            .count = static_cast<std::uint16_t>(sectors),
            .lba = lba};
}

}  // namespace gatehouse::ata

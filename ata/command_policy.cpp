#include "ata/command_policy.hpp"

#include <algorithm>

namespace gatehouse::ata {

namespace {

using enum CommandKind;

constexpr std::uint8_t kReadDmaExt = 0x25;
constexpr std::uint8_t kIdentifyPacketDevice = 0xa1;
constexpr std::uint8_t kIdentifyDevice = 0xec;
constexpr std::uint8_t kConventionalControl = bits(Control::kObsolete);

// The rules complete a command whose opcode is allowed, or refuse it.
CommandKind as_it_is(Command& command) { return command.kind; }

// Sectors addressed by LBA only; a count of zero is the greatest (ACS-4 section 7.2).
CommandKind media(Command& command) {
    const TaskFile& task = command.task;
    if ((task.device & bits(Device::kLba)) == 0) return kRefused;
    command.count = command.queued ? task.features : command.extended ? task.count : task.count & 0xffu;
    if (command.count == 0) command.count = command.extended ? 65536 : 256;
    command.lba =
        command.extended ? task.lba : (task.lba & 0xffffff) | std::uint64_t{task.device & 0x0fu} << 24;
    return command.kind;
}
CommandKind queued(Command& command) {
    command.queued = true;
    return media(command);
}

CommandKind identify(Command& command) {
    command.count = 1;
    command.filter = Filter::kIdentify;
    return command.kind;
}

// READ LOG EXT: log address in LBA 7:0, pages in COUNT (ACS-4 section 7.22). SMART READ LOG is alike.
CommandKind log(Command& command) {
    const auto address = static_cast<std::uint8_t>(command.task.lba);
    command.count = command.extended ? command.task.count : command.task.count & 0xffu;
    if (address == kLogDirectory) command.filter = Filter::kDirectory;
    if (address == kQueuedErrorLog) command.filter = Filter::kQueuedError;
    const bool filterable = command.filter == Filter::kNone || command.count == 1;
    return log_is_allowed(address) && command.count != 0 && filterable ? kDataIn : kRefused;
}

// Subcommand in FEATURE (ACS-4 section 7.48 and, for READ THRESHOLDS, ATA-3); the key C24Fh in LBA 23:8.
CommandKind smart(Command& command) {
    if (((command.task.lba >> 8) & 0xffff) != 0xc24f) return kRefused;
    command.count = 1;
    const unsigned subcommand = command.task.features & 0xff;
    if (subcommand == 0xd5) return log(command);                           // SMART READ LOG
    if (subcommand == 0xd0 || subcommand == 0xd1) return kDataIn;          // SMART READ DATA, READ THRESHOLDS
    return subcommand == 0xd8 || subcommand == 0xda ? kNoData : kRefused;  // ENABLE OPERATIONS, RETURN STATUS
}

// Subcommand in FEATURE (ACS-4 section 7.45): write cache (02h, 82h), transfer mode (03h), APM (05h, 85h),
// look-ahead (AAh, 55h), settings over a soft reset (66h, CCh), and four Serial ATA features (10h, 90h): DMA
// Setup offsets, auto-activate, DIPM, in-order delivery.
CommandKind set_features(Command& command) {
    constexpr std::uint8_t kSafe[] = {0x02, 0x03, 0x05, 0x10, 0x55, 0x66, 0x82, 0x85, 0x90, 0xaa, 0xcc};
    const auto subcommand = static_cast<std::uint8_t>(command.task.features);
    if (std::ranges::find(kSafe, subcommand) == std::end(kSafe)) return kRefused;
    return (subcommand & 0x7f) == 0x10 && (command.task.count & 0xff) > 4 ? kRefused : kNoData;
}

struct Row {
    std::uint8_t opcode;
    bool extended;
    CommandKind kind;
    CommandKind (*rule)(Command&);
};
constexpr Row kAllowed[] = {
    // ACS-4, section 7 and table A.2
    // 48-bit           kind         rule
    {0x20, false, kMediaRead, media},        // READ SECTORS
    {0x24, true, kMediaRead, media},         // READ SECTORS EXT
    {kReadDmaExt, true, kMediaRead, media},  // READ DMA EXT
    {0x29, true, kMediaRead, media},         // READ MULTIPLE EXT
    {0x2f, true, kDataIn, log},              // READ LOG EXT
    {0x30, false, kMediaWrite, media},       // WRITE SECTORS
    {0x34, true, kMediaWrite, media},        // WRITE SECTORS EXT
    {0x35, true, kMediaWrite, media},        // WRITE DMA EXT
    {0x39, true, kMediaWrite, media},        // WRITE MULTIPLE EXT
    {0x3d, true, kMediaWrite, media},        // WRITE DMA FUA EXT
    {0x40, false, kNoData, as_it_is},        // READ VERIFY SECTORS
    {0x42, true, kNoData, as_it_is},         // READ VERIFY SECTORS EXT
    {0x47, true, kDataIn, log},              // READ LOG DMA EXT
    {0x60, true, kMediaRead, queued},        // READ FPDMA QUEUED
    {0x61, true, kMediaWrite, queued},       // WRITE FPDMA QUEUED
    {0xb0, false, kDataIn, smart},           // SMART
    {0xc4, false, kMediaRead, media},        // READ MULTIPLE
    {0xc5, false, kMediaWrite, media},       // WRITE MULTIPLE
    {0xc6, false, kNoData, as_it_is},        // SET MULTIPLE MODE
    {0xc8, false, kMediaRead, media},        // READ DMA
    {0xca, false, kMediaWrite, media},       // WRITE DMA
    {0xce, true, kMediaWrite, media},        // WRITE MULTIPLE FUA EXT
    {0xe0, false, kNoData, as_it_is},        // STANDBY IMMEDIATE
    {0xe1, false, kNoData, as_it_is},        // IDLE IMMEDIATE
    {0xe2, false, kNoData, as_it_is},        // STANDBY
    {0xe3, false, kNoData, as_it_is},        // IDLE
    {0xe5, false, kNoData, as_it_is},        // CHECK POWER MODE
    {0xe6, false, kNoData, as_it_is},        // SLEEP
    {0xe7, false, kNoData, as_it_is},        // FLUSH CACHE
    {0xea, true, kNoData, as_it_is},         // FLUSH CACHE EXT
    {kIdentifyDevice, false, kDataIn, identify},
    {0xef, false, kNoData, set_features},  // SET FEATURES
};

}  // namespace

Command classify(const TaskFile& task) {
    Command command;
    command.task = task;
    if (!task.is_command) {
        command.kind = kReset;
        command.task = {.is_command = false};
        command.task.control = task.control & bits(Control::kReset);
        return command;
    }
    command.task.control = kConventionalControl | (task.control & bits(Control::kNoInterrupt));
    const auto* row = std::ranges::find(kAllowed, task.command, &Row::opcode);
    if (row == std::end(kAllowed)) return command;
    command.kind = row->kind;
    command.extended = row->extended;
    command.kind = row->rule(command);
    return command;
}

TaskFile Command::part(std::uint64_t first, std::uint32_t sectors) const {
    TaskFile result = task;
    const std::uint64_t start = lba + first;
    result.features = queued ? static_cast<std::uint16_t>(sectors) : 0;
    result.lba = extended ? start : start & 0xffffff;
    const std::uint64_t device = queued     ? task.device & bits(Device::kFua)
                                 : extended ? 0
                                            : start >> 24 & 0x0f;
    result.device = static_cast<std::uint8_t>(bits(Device::kLba) | device);
    if (!queued) result.count = static_cast<std::uint16_t>(extended ? sectors : sectors & 0xff);
    return result;
}

TaskFile always_aborted() { return {.command = kIdentifyPacketDevice, .control = kConventionalControl}; }
TaskFile identify_device() { return {.command = kIdentifyDevice, .control = kConventionalControl}; }
TaskFile read_dma_ext(std::uint64_t lba, std::uint32_t sectors) {
    return {.command = kReadDmaExt,
            .device = bits(Device::kLba),
            .control = kConventionalControl,
            .count = static_cast<std::uint16_t>(sectors),
            .lba = lba};
}

}  // namespace gatehouse::ata

#include "ata/policy.hpp"

#include <algorithm>

namespace gatehouse::ata {

namespace {

using enum CommandKind;
using enum Filter;

constexpr std::uint16_t kHostToDevice = 0x0027;  // FIS bytes 0 and 1, port 0
constexpr std::uint16_t kIsCommand = 0x8000;
constexpr std::uint8_t kReadDmaExt = 0x25;
constexpr std::uint8_t kReadFpdmaQueued = 0x60;
constexpr std::uint8_t kWriteFpdmaQueued = 0x61;

// The rules complete a command, which has kind and filter of its row already, or refuse it.
CommandKind as_it_is(Command& command) { return command.kind; }

// Sectors addressed by LBA only; a count of zero is the greatest (ACS-4 section 7.2).
CommandKind media(Command& command) {
    const TaskFile& task = command.task;
    if ((task.device & bits(TaskBit::kLba)) == 0) return kRefused;
    command.queued = task.command == kReadFpdmaQueued || task.command == kWriteFpdmaQueued;
    command.count = command.queued ? task.features : command.extended ? task.count : task.count & 0xffu;
    if (command.count == 0) command.count = command.extended ? 65536 : 256;
    const std::uint64_t high = std::uint64_t{task.device & 0x0fu} << 24;
    command.lba = command.extended ? task.lba : (task.lba & 0xffffff) | high;
    // What is done in parts may not go on at sector 0.
    constexpr std::uint64_t kEndOf28Bits = 1u << 28;
    return command.extended || command.lba + command.count <= kEndOf28Bits ? command.kind : kRefused;
}

// READ LOG EXT: log address in LBA 7:0, pages in COUNT (ACS-4 section 7.22). SMART READ LOG is alike.
CommandKind log(Command& command) {
    const auto address = static_cast<std::uint8_t>(command.task.lba);
    command.count = command.extended ? command.task.count : command.task.count & 0xffu;
    if (address == kLogDirectory) command.filter = kDirectory;
    if (address == kQueuedErrorLog) command.filter = kQueuedError;
    const bool filterable = command.filter == kNone || command.count == 1;
    return log_is_allowed(address) && command.count != 0 && filterable ? kDataIn : kRefused;
}

// Subcommand in FEATURE (ACS-4 section 7.48 and, for READ THRESHOLDS, ATA-3); the key C24Fh in LBA 23:8.
CommandKind smart(Command& command) {
    if (((command.task.lba >> 8) & 0xffff) != 0xc24f) return kRefused;
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
    Filter filter;  // of all data that the command moves; log() has more
    CommandKind (*rule)(Command&);
};
// ACS-4, section 7 and table A.2.
// clang-format off
constexpr Row kAllowed[] = {
    // opcode           48-bit kind         filter     rule
    {0x20,              false, kMediaRead,  kNone,     media},           // READ SECTORS
    {0x24,              true,  kMediaRead,  kNone,     media},           // READ SECTORS EXT
    {kReadDmaExt,       true,  kMediaRead,  kNone,     media},           // READ DMA EXT
    {0x2f,              true,  kDataIn,     kNone,     log},             // READ LOG EXT
    {0x30,              false, kMediaWrite, kNone,     media},           // WRITE SECTORS
    {0x34,              true,  kMediaWrite, kNone,     media},           // WRITE SECTORS EXT
    {0x35,              true,  kMediaWrite, kNone,     media},           // WRITE DMA EXT
    {0x3d,              true,  kMediaWrite, kNone,     media},           // WRITE DMA FUA EXT
    {0x40,              false, kNoData,     kNone,     as_it_is},        // READ VERIFY SECTORS
    {0x42,              true,  kNoData,     kNone,     as_it_is},        // READ VERIFY SECTORS EXT
    {0x47,              true,  kDataIn,     kNone,     log},             // READ LOG DMA EXT
    {kReadFpdmaQueued,  true,  kMediaRead,  kNone,     media},           // READ FPDMA QUEUED
    {kWriteFpdmaQueued, true,  kMediaWrite, kNone,     media},           // WRITE FPDMA QUEUED
    {0xb0,              false, kDataIn,     kNone,     smart},           // SMART
    {0xc8,              false, kMediaRead,  kNone,     media},           // READ DMA
    {0xca,              false, kMediaWrite, kNone,     media},           // WRITE DMA
    {0xe0,              false, kNoData,     kNone,     as_it_is},        // STANDBY IMMEDIATE
    {0xe1,              false, kNoData,     kNone,     as_it_is},        // IDLE IMMEDIATE
    {0xe2,              false, kNoData,     kNone,     as_it_is},        // STANDBY
    {0xe3,              false, kNoData,     kNone,     as_it_is},        // IDLE
    {0xe5,              false, kNoData,     kNone,     as_it_is},        // CHECK POWER MODE
    {0xe6,              false, kNoData,     kNone,     as_it_is},        // SLEEP
    {0xe7,              false, kNoData,     kNone,     as_it_is},        // FLUSH CACHE
    {0xea,              true,  kNoData,     kNone,     as_it_is},        // FLUSH CACHE EXT
    {0xec,              false, kDataIn,     kIdentify, as_it_is},        // IDENTIFY DEVICE
    {0xef,              false, kNoData,     kNone,     set_features},    // SET FEATURES
};
// clang-format on

std::uint16_t word(std::span<const std::byte, kPageSize> page, std::size_t index) {
    return load<std::uint16_t>(page.data() + 2 * index, Endian::kLittle);
}
void put_word(Page page, std::size_t index, std::uint16_t value) {
    store(page.data() + 2 * index, value, Endian::kLittle);
}

// Makes the bytes of the page add up to zero.
void close_page(Page page) {
    unsigned sum = 0;
    for (const std::byte b : page.first(kPageSize - 1)) sum += std::to_integer<unsigned>(b);
    page.back() = static_cast<std::byte>((0u - sum) & 0xff);
}

// IDENTIFY DEVICE, ACS-4 section 7.13.6: the bits that survive in words [first, last]. Out of words 69 and
// 119 go DRAT, RZAT, READ and WRITE BUFFER DMA, DOWNLOAD MICROCODE DMA, self-encryption, zones; WRITE
// UNCORRECTABLE EXT, extended power conditions, sense data and more.
struct Keep {
    std::uint8_t first, last;
    std::uint16_t mask;
};
constexpr Keep kKeep[] = {
    {47, 47, 0xff00},    // out: READ and WRITE MULTIPLE
    {48, 48, 0x4000},    // out: Trusted Computing
    {59, 59, 0x0000},    // out: sanitize, multiple
    {69, 69, 0x204c},    // in: sector alignment, 28-bit commands, extended capacity, non-volatile cache
    {77, 77, 0x000e},    // out: NCQ streaming, queue management, SEND and RECEIVE FPDMA QUEUED, DevSleep
    {78, 79, 0x005e},    // out: hardware feature control, autosense, DevSleep, hybrid, power disable
    {82, 82, 0x4069},    // in: SMART, power management, write cache, read look-ahead, NOP
    {83, 83, 0x7408},    // in: APM, 48-bit, FLUSH CACHE and EXT
    {84, 84, 0x6161},    // in: SMART error log, general purpose logging, WRITE DMA FUA EXT, WWN, unload
    {85, 85, 0x4069},    // as 82
    {86, 86, 0xb408},    // as 83; bit 15: words 119-120 are valid
    {87, 87, 0x6161},    // as 84
    {89, 90, 0x0000},    // security erase times
    {92, 99, 0x0000},    // master password, parallel ATA, acoustic management, streaming
    {104, 105, 0x0000},  // streaming, DATA SET MANAGEMENT
    {119, 120, 0x4008},  // in: READ LOG DMA EXT
    {127, 160, 0x0000},  // removable media, security, vendor, CompactFlash power
    {169, 169, 0x0000},  // TRIM
    {206, 206, 0x0000},  // SCT
    {210, 216, 0x0000},  // write-read-verify, non-volatile cache
    {219, 220, 0x0000},  // non-volatile cache, write-read-verify
    {234, 235, 0x0000},  // DOWNLOAD MICROCODE
};
constexpr std::byte kIntegritySignature{0xa5};  // in byte 510, if byte 511 makes the sum of the page zero

// Directory; SMART errors: summary, comprehensive, extended; device statistics; self-tests: SMART and
// extended; NCQ error; SATA Phy event counters.
constexpr std::uint8_t kReadableLogs[] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x06, 0x07, 0x10, 0x11};

}  // namespace

Command classify(const TaskFile& task) {
    Command command;
    command.task = task;
    const auto reset = static_cast<std::uint8_t>(task.control & bits(TaskBit::kReset));
    if (!task.is_command) return {.kind = kReset, .task = {.is_command = false, .control = reset}};
    command.task.control = bits(TaskBit::kConventional) | (task.control & bits(TaskBit::kNoInterrupt));
    const auto* row = std::ranges::find(kAllowed, task.command, &Row::opcode);
    if (row == std::end(kAllowed)) return command;
    command.kind = row->kind;
    command.filter = row->filter;
    command.extended = row->extended;
    command.kind = row->rule(command);
    return command;
}

TaskFile Command::part(std::uint64_t first, std::uint32_t sectors) const {
    TaskFile result = task;
    const std::uint64_t start = lba + first;
    result.features = queued ? static_cast<std::uint16_t>(sectors) : 0;
    result.lba = extended ? start : start & 0xffffff;
    const std::uint64_t high = extended ? 0 : start >> 24 & 0x0f;
    const std::uint64_t device = queued ? task.device & bits(TaskBit::kFua) : high;
    result.device = static_cast<std::uint8_t>(bits(TaskBit::kLba) | device);
    if (!queued) result.count = static_cast<std::uint16_t>(extended ? sectors : sectors & 0xff);
    return result;
}

TaskFile read_dma_ext(std::uint64_t lba, std::uint32_t sectors) {
    TaskFile task{.command = kReadDmaExt, .device = bits(TaskBit::kLba), .control = bits(TaskBit::kConventional)};
    task.count = static_cast<std::uint16_t>(sectors);
    task.lba = lba;
    return task;
}

Result<TaskFile> parse_task_file(std::span<const std::byte, kTaskFileFisSize> fis) {
    const auto low = load<std::uint64_t>(fis.data(), Endian::kLittle);
    const auto high = load<std::uint64_t>(fis.data() + 8, Endian::kLittle);
    if ((low & 0x0fff) != kHostToDevice) return {Error::kBadValue, "FIS", low};
    TaskFile task;
    task.is_command = (low & kIsCommand) != 0;
    task.command = static_cast<std::uint8_t>(low >> 16);
    task.device = static_cast<std::uint8_t>(low >> 56);
    task.control = static_cast<std::uint8_t>(high >> 56);
    task.features = static_cast<std::uint16_t>((low >> 24 & 0xff) | (high >> 16 & 0xff00));
    task.count = static_cast<std::uint16_t>(high >> 32);
    task.lba = (low >> 32 & 0xffffff) | (high & 0xffffff) << 24;
    return task;
}

void store_task_file(const TaskFile& task, std::span<std::byte, kTaskFileFisSize> fis) {
    const std::uint64_t features = task.features, first = kHostToDevice | (task.is_command ? kIsCommand : 0);
    const std::uint64_t low = first | std::uint64_t{task.command} << 16 | (features & 0xff) << 24 |
                              (task.lba & 0xffffff) << 32 | std::uint64_t{task.device} << 56;
    const std::uint64_t high = (task.lba >> 24 & 0xffffff) | features >> 8 << 24 | std::uint64_t{task.count} << 32 |
                               std::uint64_t{task.control} << 56;
    store(fis.data(), low, Endian::kLittle);
    store(fis.data() + 8, high, Endian::kLittle);
    store(fis.data() + 16, std::uint32_t{0}, Endian::kLittle);
}

// --- Pages ---

Result<Geometry> parse_geometry(std::span<const std::byte, kPageSize> page) {
    // Word 106: bits 15:14 are 01b if valid, bit 12: longer than 256 words, as words 117-118 say.
    const bool is_long = (word(page, 106) & 0xd000) == 0x5000;
    const std::uint64_t sector_size = is_long ? 2ull * load<std::uint32_t>(&page[2 * 117], Endian::kLittle) : 512;
    // Words 230-233 count what words 100-103 cannot; word 69 bit 3 says if they are there.
    const std::size_t capacity = (word(page, 69) & 0x8) != 0 ? 230 : 100;
    const auto sectors = load<std::uint64_t>(&page[2 * capacity], Endian::kLittle);
    const bool known = sector_size == 512 || sector_size == 4096;
    if (!known) return {Error::kUnsupported, "disk: sector size", sector_size};
    const bool addressable = sectors != 0 && sectors <= std::uint64_t{1} << 48;
    if (!addressable) return {Error::kUnsupported, "disk: no 48-bit capacity", sectors};
    return Geometry{static_cast<std::uint32_t>(sector_size), sectors};
}

void filter_identify(Page page) {
    for (const Keep& row : kKeep) {
        for (std::size_t i = row.first; i <= row.last; ++i) {
            put_word(page, i, static_cast<std::uint16_t>(word(page, i) & row.mask));
        }
    }
    if (page[510] == kIntegritySignature) close_page(page);
}

bool log_is_allowed(std::uint8_t address) {
    return std::ranges::find(kReadableLogs, address) != std::end(kReadableLogs);
}

void filter_log_directory(Page page) {
    // Word 0 is the version; word n is the number of pages of log n.
    for (std::size_t i = 1; i < kPageSize / 2; ++i) {
        if (!log_is_allowed(static_cast<std::uint8_t>(i))) put_word(page, i, 0);
    }
}

void write_queued_error(Page page, std::uint8_t tag) {
    wipe(page);
    page[0] = std::byte{tag};   // bit 7, NQ, clear: the tag is valid
    page[2] = std::byte{0x41};  // STATUS: DRDY, ERR
    page[3] = std::byte{0x04};  // ERROR: ABRT
    close_page(page);
}

}  // namespace gatehouse::ata

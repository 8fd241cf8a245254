#include "ata/policy.hpp"

#include <algorithm>

namespace gatehouse::ata {

namespace {

using enum CommandKind;
using enum Filter;

constexpr std::uint16_t kHostToDevice = 0x0027;  // FIS bytes 0 and 1, port 0
constexpr std::uint16_t kIsCommand = 0x8000;

// The rules complete a command, which has kind and filter of its row already, or refuse it.
CommandKind as_it_is(Command& command) { return command.kind; }

// Sectors addressed by LBA only; a count of zero is the greatest (ACS-4 section 7.2).
CommandKind media(Command& command) {
    const TaskFile& task = command.task;
    if ((task.device & bits(TaskBit::kLba)) == 0) return kRefused;
    command.queued = (task.command & 0xfe) == 0x60;  // READ and WRITE FPDMA QUEUED
    command.count = command.queued ? task.features : command.extended ? task.count : task.count & 0xffu;
    if (command.count == 0) command.count = command.extended ? 65536 : 256;
    command.lba = command.extended ? task.lba : (task.lba & 0xffffff) | std::uint64_t{task.device & 0x0fu} << 24;
    // What is done in parts may not go on at sector 0, after 28 bits.
    return command.extended || command.lba + command.count <= 1u << 28 ? command.kind : kRefused;
}

// READ LOG EXT: log address in LBA 7:0, pages in COUNT (ACS-4 section 7.22). SMART READ LOG is alike.
CommandKind log(Command& command) {
    const auto address = static_cast<std::uint8_t>(command.task.lba);
    command.count = command.extended ? command.task.count : command.task.count & 0xffu;
    if (address == 0x00) command.filter = kDirectory;
    if (address == 0x10) command.filter = kQueuedError;
    const bool filterable = command.filter == kNone || command.count == 1;
    return log_is_allowed(address) && command.count != 0 && filterable ? kDataIn : kRefused;
}

// TRIM is bit 0 of FEATURE, the others are reserved (ACS-4 section 7.6).
CommandKind data_set(Command& command) {
    command.count = command.task.count;
    return command.task.features == 1 && command.count != 0 && command.count <= kMaximumTrimBlocks ? kTrim : kRefused;
}

// DMA and its direction are bits 0 and 2 of FEATURE (ACS-3 section 7.18). What SPC-4 and MMC-6 have for reading a medium:
// TEST UNIT READY, REQUEST SENSE, INQUIRY, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL, READ FORMAT CAPACITIES, CAPACITY,
// (10), SUB-CHANNEL, TOC, GET CONFIGURATION, EVENT STATUS NOTIFICATION, READ DISC and TRACK INFORMATION, MODE SENSE (10),
// READ (12), GET PERFORMANCE, READ DISC STRUCTURE, CD MSF, SET CD SPEED, MECHANISM STATUS, READ CD.
CommandKind packet(Command& command) {
    constexpr std::uint8_t kReading[] = {0x00, 0x03, 0x12, 0x1b, 0x1e, 0x23, 0x25, 0x28, 0x42, 0x43, 0x46,
                                         0x4a, 0x51, 0x52, 0x5a, 0xa8, 0xac, 0xad, 0xb9, 0xbb, 0xbd, 0xbe};
    const auto operation = static_cast<std::uint8_t>(command.task.packet[0]);
    const bool reads = std::ranges::find(kReading, operation) != std::end(kReading);
    return reads && (command.task.features & ~5u) == 0 ? kPacket : kRefused;
}

// Subcommand in FEATURE (ACS-4 section 7.48 and, for READ THRESHOLDS, ATA-3); the key C24Fh in LBA 23:8. What runs off-line:
// data collection, short and extended self-test, which only read, and in the background; or their abort.
CommandKind smart(Command& command) {
    if (((command.task.lba >> 8) & 0xffff) != 0xc24f) return kRefused;
    const unsigned subcommand = command.task.features & 0xff, test = command.task.lba & 0xff;
    if (subcommand == 0xd5) return log(command);  // SMART READ LOG
    if (subcommand == 0xd0) command.filter = kSmartData;
    if (subcommand == 0xd0 || subcommand == 0xd1) return kDataIn;  // SMART READ DATA, READ THRESHOLDS
    if (subcommand == 0xd4) return test <= 0x02 || test == 0x7f ? kNoData : kRefused;  // EXECUTE OFF-LINE IMMEDIATE
    return subcommand == 0xd8 || subcommand == 0xda ? kNoData : kRefused;  // ENABLE OPERATIONS, RETURN STATUS
}

// Subcommand in FEATURE (ACS-4 section 7.45): write cache (02h, 82h), transfer mode (03h), APM (05h, 85h),
// look-ahead (AAh, 55h), settings over a soft reset (66h, CCh), and five Serial ATA features (10h, 90h): DMA
// Setup offsets, auto-activate, DIPM, in-order delivery, settings over a COMRESET.
CommandKind set_features(Command& command) {
    constexpr std::uint8_t kSafe[] = {0x02, 0x03, 0x05, 0x10, 0x55, 0x66, 0x82, 0x85, 0x90, 0xaa, 0xcc};
    const auto subcommand = static_cast<std::uint8_t>(command.task.features);
    if (std::ranges::find(kSafe, subcommand) == std::end(kSafe)) return kRefused;
    const unsigned feature = command.task.count & 0xff;
    return (subcommand & 0x7f) == 0x10 && feature > 4 && feature != 6 ? kRefused : kNoData;
}

struct Row {
    std::uint8_t first, last;  // opcodes
    unsigned devices;          // that have the commands
    bool extended;
    CommandKind kind;
    Filter filter;  // of all data that the command moves; log() and smart() have more
    CommandKind (*rule)(Command&);
};
// ACS-4, section 7 and table A.2.
// clang-format off
constexpr Row kAllowed[] = {
    // opcodes    devices                48-bit kind         filter     rule
    {0x06, 0x06,  kDisk,                 true,  kTrim,       kNone,     data_set},      // DATA SET MANAGEMENT
    {0x20, 0x20,  kDisk,                 false, kMediaRead,  kNone,     media},         // READ SECTORS
    {0x24, 0x25,  kDisk,                 true,  kMediaRead,  kNone,     media},         // READ SECTORS EXT, READ DMA EXT
    {0x2f, 0x2f,  kDisk,                 true,  kDataIn,     kNone,     log},           // READ LOG EXT
    {0x30, 0x30,  kDisk,                 false, kMediaWrite, kNone,     media},         // WRITE SECTORS
    {0x34, 0x35,  kDisk,                 true,  kMediaWrite, kNone,     media},         // WRITE SECTORS EXT, WRITE DMA EXT
    {0x3d, 0x3d,  kDisk,                 true,  kMediaWrite, kNone,     media},         // WRITE DMA FUA EXT
    {0x40, 0x40,  kDisk,                 false, kNoData,     kNone,     as_it_is},      // READ VERIFY SECTORS
    {0x42, 0x42,  kDisk,                 true,  kNoData,     kNone,     as_it_is},      // READ VERIFY SECTORS EXT
    {0x47, 0x47,  kDisk,                 true,  kDataIn,     kNone,     log},           // READ LOG DMA EXT
    {0x60, 0x60,  kDisk,                 true,  kMediaRead,  kNone,     media},         // READ FPDMA QUEUED
    {0x61, 0x61,  kDisk,                 true,  kMediaWrite, kNone,     media},         // WRITE FPDMA QUEUED
    {0xa0, 0xa0,  kPacketDevice,         false, kPacket,     kNone,     packet},        // PACKET
    {0xa1, 0xa1,  kPacketDevice,         false, kDataIn,     kIdentify, as_it_is},      // IDENTIFY PACKET DEVICE
    {0xb0, 0xb0,  kDisk,                 false, kDataIn,     kNone,     smart},         // SMART
    {0xc8, 0xc8,  kDisk,                 false, kMediaRead,  kNone,     media},         // READ DMA
    {0xca, 0xca,  kDisk,                 false, kMediaWrite, kNone,     media},         // WRITE DMA
    {0xe0, 0xe3,  kDisk | kPacketDevice, false, kNoData,     kNone,     as_it_is},      // STANDBY and IDLE IMMEDIATE, STANDBY, IDLE
    {0xe5, 0xe7,  kDisk | kPacketDevice, false, kNoData,     kNone,     as_it_is},      // CHECK POWER MODE, SLEEP, FLUSH CACHE
    {0xea, 0xea,  kDisk | kPacketDevice, true,  kNoData,     kNone,     as_it_is},      // FLUSH CACHE EXT
    {0xec, 0xec,  kDisk,                 false, kDataIn,     kIdentify, as_it_is},      // IDENTIFY DEVICE
    {0xef, 0xef,  kDisk | kPacketDevice, false, kNoData,     kNone,     set_features},  // SET FEATURES
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

// The bits that survive in words [first, last], and those that do as well with TRIM. IDENTIFY DEVICE, ACS-4 section
// 7.13.6: out of words 69 and 119 go RZAT (what was trimmed decrypts to noise), READ and WRITE BUFFER DMA, DOWNLOAD
// MICROCODE DMA, self-encryption, misalignment reports, zones; WRITE UNCORRECTABLE EXT, extended power conditions, sense
// data and more. SMART data, section 7.48: bytes 367, off-line data collection, and 368.
struct Keep {
    Filter page;
    std::uint8_t first, last;
    std::uint16_t mask;
    std::uint16_t with_trim = 0;
};
constexpr Keep kKeep[] = {
    {kIdentify, 47, 47, 0xff00},          // out: READ and WRITE MULTIPLE
    {kIdentify, 48, 48, 0x4000},          // out: Trusted Computing
    {kIdentify, 59, 59, 0x0000},          // out: sanitize, multiple
    {kIdentify, 69, 69, 0x004c, 0x4000},  // in: 28-bit commands, extended capacity, non-volatile cache; DRAT
    {kIdentify, 77, 77, 0x000e},          // out: NCQ streaming, queue management, SEND and RECEIVE FPDMA, DevSleep
    {kIdentify, 78, 79, 0x005e},          // out: hardware feature control, autosense, DevSleep, hybrid, power disable
    {kIdentify, 82, 82, 0x4079},          // in: SMART, power management, PACKET, write cache, read look-ahead, NOP
    {kIdentify, 83, 83, 0x7408},          // in: APM, 48-bit, FLUSH CACHE and EXT
    {kIdentify, 84, 84, 0x6163},          // in: SMART errors, self-test, logging, WRITE DMA FUA EXT, WWN, unload
    {kIdentify, 85, 85, 0x4079},          // as 82
    {kIdentify, 86, 86, 0xb408},          // as 83; bit 15: words 119-120 are valid
    {kIdentify, 87, 87, 0x6163},          // as 84
    {kIdentify, 89, 90, 0x0000},          // security erase times
    {kIdentify, 92, 99, 0x0000},          // master password, parallel ATA, acoustic management, streaming
    {kIdentify, 104, 104, 0x0000},        // streaming
    {kIdentify, 105, 105, 0x0000, 0x7f},  // DATA SET MANAGEMENT: blocks
    {kIdentify, 119, 120, 0x4008},        // in: READ LOG DMA EXT
    {kIdentify, 127, 160, 0x0000},        // removable media, security, vendor, CompactFlash power
    {kIdentify, 169, 169, 0x0000, 0x1},   // DATA SET MANAGEMENT: TRIM
    {kIdentify, 206, 206, 0x0000},        // SCT
    {kIdentify, 210, 216, 0x0000},        // write-read-verify, non-volatile cache
    {kIdentify, 219, 220, 0x0000},        // non-volatile cache, write-read-verify
    {kIdentify, 234, 235, 0x0000},        // DOWNLOAD MICROCODE
    {kSmartData, 183, 183, 0x1dff},       // out: off-line collection by itself, conveyance and selective self-tests
    {kSmartData, 184, 184, 0xfffd},       // out: autosave by command
};
constexpr std::byte kIntegritySignature{0xa5};  // in byte 510, if byte 511 makes the sum of the page zero

// Directory; SMART errors: summary, comprehensive, extended; device statistics; self-tests: SMART and
// extended; pending defects; NCQ error; SATA Phy event counters.
constexpr std::uint8_t kReadableLogs[] = {0x00, 0x01, 0x02, 0x03, 0x04, 0x06, 0x07, 0x0c, 0x10, 0x11};

}  // namespace

Command classify(const TaskFile& task, bool trim, Device device) {
    Command command;
    command.task = task;
    const auto reset = static_cast<std::uint8_t>(task.control & bits(TaskBit::kReset));
    if (!task.is_command) return {.kind = kReset, .task = {.is_command = false, .control = reset}};
    command.task.control = bits(TaskBit::kConventional) | (task.control & bits(TaskBit::kNoInterrupt));
    const auto* row = std::ranges::lower_bound(kAllowed, task.command, {}, &Row::last);
    if (row == std::end(kAllowed) || task.command < row->first || (row->devices & device) == 0) return command;
    command.kind = row->kind;
    command.filter = row->filter;
    command.extended = row->extended;
    command.kind = row->rule(command);
    if (command.kind == kTrim && !trim) command.kind = kRefused;
    return command;
}

TaskFile Command::part(std::uint64_t first, std::uint32_t sectors) const {
    TaskFile result = task;
    const std::uint64_t start = lba + first;
    result.features = queued ? static_cast<std::uint16_t>(sectors) : 0;
    result.lba = extended ? start : start & 0xffffff;
    const std::uint64_t device = queued ? task.device & bits(TaskBit::kFua) : extended ? 0 : start >> 24 & 0x0f;
    result.device = static_cast<std::uint8_t>(bits(TaskBit::kLba) | device);
    if (!queued) result.count = static_cast<std::uint16_t>(extended ? sectors : sectors & 0xff);
    return result;
}

TaskFile read_dma_ext(std::uint64_t lba, std::uint32_t sectors) {
    const auto count = static_cast<std::uint16_t>(sectors);
    return {
        .command = 0x25, .device = bits(TaskBit::kLba), .control = kIdentifyDevice.control, .count = count, .lba = lba};
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
    if (sector_size != 512 && sector_size != 4096) return {Error::kUnsupported, "disk: sector size", sector_size};
    if (sectors == 0 || sectors > 1ull << 48) return {Error::kUnsupported, "disk: no 48-bit capacity", sectors};
    return Geometry{static_cast<std::uint32_t>(sector_size), sectors};
}

void filter_page(Page page, Filter filter, bool trim) {
    for (const Keep& row : kKeep) {
        const unsigned keep = row.page != filter ? ~0u : trim ? row.mask | row.with_trim : row.mask;
        for (std::size_t i = row.first; i <= row.last; ++i) {
            put_word(page, i, static_cast<std::uint16_t>(word(page, i) & keep));
        }
    }
    // Word 0 of the directory is its version; word n is the number of pages of log n.
    for (std::size_t i = 1; filter == kDirectory && i < kPageSize / 2; ++i) {
        if (!log_is_allowed(static_cast<std::uint8_t>(i))) put_word(page, i, 0);
    }
    if (filter == kSmartData || (filter == kIdentify && page[510] == kIntegritySignature)) close_page(page);
}

bool log_is_allowed(std::uint8_t address) {
    return std::ranges::find(kReadableLogs, address) != std::end(kReadableLogs);
}

void write_queued_error(Page page, std::uint8_t tag) {
    wipe(page);
    // Byte 0: the tag, valid as bit 7, NQ, is clear. Byte 2, STATUS: DRDY, ERR. Byte 3, ERROR: ABRT.
    store(page.data(), std::uint32_t{0x04410000} | tag, Endian::kLittle);
    close_page(page);
}

}  // namespace gatehouse::ata

#include "ata/identify.hpp"

#include <algorithm>

namespace gatehouse::ata {

namespace {

std::uint16_t word(std::span<const std::byte, kPageSize> page, std::size_t index) {
    return load<std::uint16_t>(page.data() + 2 * index, Endian::kLittle);
}
std::uint64_t words(std::span<const std::byte, kPageSize> page, std::size_t index, std::size_t count) {
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i) value |= std::uint64_t{word(page, index + i)} << (16 * i);
    return value;
}
void put_word(Page page, std::size_t index, std::uint16_t value) {
    store(page.data() + 2 * index, value, Endian::kLittle);
}

std::byte sum(std::span<const std::byte, kPageSize> page, std::size_t count) {
    unsigned total = 0;
    for (std::size_t i = 0; i < count; ++i) total += std::to_integer<unsigned>(page[i]);
    return static_cast<std::byte>(total & 0xff);
}
// Makes the bytes of the page add up to zero.
void close_page(Page page) {
    page[kPageSize - 1] = static_cast<std::byte>(0u - std::to_integer<unsigned>(sum(page, kPageSize - 1)));
}

// IDENTIFY DEVICE, ACS-4 section 7.13.6: the bits that survive in words [first, last]. Out of words 69 and
// 119 go DRAT, RZAT, READ and WRITE BUFFER DMA, DOWNLOAD MICROCODE DMA, self-encryption, zones; WRITE
// UNCORRECTABLE EXT, extended power conditions, sense data and more.
struct Keep {
    std::uint8_t first, last;
    std::uint16_t mask;
};
constexpr Keep kKeep[] = {
    {48, 48, 0x4000},  // out: Trusted Computing
    {59, 59, 0x01ff},  // out: sanitize
    {69, 69,
     0x204c},  // in: physical sector alignment, 28-bit commands, extended capacity, non-volatile cache
    {77, 77, 0x000e},    // out: NCQ streaming, queue management, SEND and RECEIVE FPDMA QUEUED, DevSleep
    {78, 79, 0x005e},    // out: hardware feature control, autosense, DevSleep, hybrid, power disable
    {82, 82, 0x4069},    // in: SMART, power management, write cache, read look-ahead, NOP
    {83, 83, 0x7408},    // in: APM, 48-bit, FLUSH CACHE and EXT
    {84, 84, 0x6161},    // in: SMART error log, general purpose logging, WRITE DMA FUA EXT, WWN, unload
    {85, 85, 0x4069},    // as 82
    {86, 86, 0xb408},    // as 83; bit 15: words 119-120 are valid
    {87, 87, 0x6161},    // as 84
    {89, 90, 0x0000},    // security erase times
    {92, 92, 0x0000},    // master password
    {94, 99, 0x0000},    // acoustic management, streaming
    {104, 105, 0x0000},  // streaming, DATA SET MANAGEMENT
    {119, 120, 0x4008},  // in: READ LOG DMA EXT
    {127, 160, 0x0000},  // removable media, security, vendor, CompactFlash power
    {169, 169, 0x0000},  // TRIM
    {206, 206, 0x0000},  // SCT
    {210, 216, 0x0000},  // write-read-verify, non-volatile cache
    {219, 220, 0x0000},  // non-volatile cache, write-read-verify
    {234, 235, 0x0000},  // DOWNLOAD MICROCODE
};
constexpr std::size_t kIntegrityWord = 255;
constexpr std::byte kIntegritySignature{0xa5};

// Directory; SMART errors: summary, comprehensive, extended; device statistics; self-tests: SMART and
// extended; NCQ error; SATA Phy event counters.
constexpr std::uint8_t kReadableLogs[] = {kLogDirectory,   0x01, 0x02, 0x03, 0x04, 0x06, 0x07,
                                          kQueuedErrorLog, 0x11};

}  // namespace

Result<Geometry> parse_geometry(std::span<const std::byte, kPageSize> page) {
    if (page[2 * kIntegrityWord] == kIntegritySignature && sum(page, kPageSize) != std::byte{0}) {
        return {Error::kBadChecksum, "disk: IDENTIFY data"};
    }
    constexpr std::uint16_t kLbaAndDma = 0x0300;
    constexpr std::uint16_t kExtended = 0x0400;
    if ((word(page, 49) & kLbaAndDma) != kLbaAndDma || (word(page, 83) & kExtended) == 0) {
        return {Error::kUnsupported, "disk: without DMA or 48-bit addresses"};
    }
    // Word 106: bits 15:14 are 01b if valid, bit 12: longer than 256 words, as words 117-118 say.
    const bool is_long = (word(page, 106) & 0xd000) == 0x5000;
    const std::uint64_t sector_size = is_long ? 2 * words(page, 117, 2) : 512;
    // Words 230-233 count what words 100-103 cannot; word 69 bit 3 says if they are there.
    const std::uint64_t sectors = (word(page, 69) & 0x8) != 0 ? words(page, 230, 4) : words(page, 100, 4);
    if (sector_size != 512 && sector_size != 4096)
        return {Error::kUnsupported, "disk: sector size", sector_size};
    if (sectors == 0 || sectors > std::uint64_t{1} << 48)
        return {Error::kUnsupported, "disk: capacity", sectors};
    return Geometry{static_cast<std::uint32_t>(sector_size), sectors};
}

void filter_identify(Page page) {
    for (const Keep& row : kKeep) {
        for (std::size_t i = row.first; i <= row.last; ++i) {
            put_word(page, i, static_cast<std::uint16_t>(word(page, i) & row.mask));
        }
    }
    if (page[2 * kIntegrityWord] == kIntegritySignature) close_page(page);
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

// Every ATA opcode in every protocol (SG_IO, ATA PASS-THROUGH of 12, 16 and 32 bytes), with and without data:
//
//   guest-opcodes DISK PARTITION STEP
//
// Of the opcodes that may not be executed, each STEPth is tried. What is executed must be on the list here, what is written
// must be what is read, and no byte beside a buffer may change. The beginning of the partition is overwritten. Exit status 0: all held.
#include <fcntl.h>
#include <scsi/sg.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <random>
#include <set>
#include <span>
#include <vector>

#include "tests/guests/hostile.hpp"

namespace gatehouse::guest {
namespace {

// What a guest may have executed (ACS-4, table A.2), whatever the rest of the command is.
constexpr unsigned kMayBeExecuted[] = {0x20, 0x24, 0x25, 0x2f, 0x30, 0x34, 0x35, 0x3d, 0x40, 0x42, 0x47, 0x60, 0x61,
                                       0xb0, 0xc8, 0xca, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0xe7, 0xea, 0xec, 0xef};
constexpr unsigned kWrites[] = {0x30, 0x34, 0x35, 0x3d, 0x61, 0xca};

bool is_in(std::span<const unsigned> list, unsigned opcode) { return std::ranges::find(list, opcode) != list.end(); }

// SAT-4, section 12.2.2: PROTOCOL, and the direction of data.
constexpr unsigned kNcq = 12;
struct Protocol {
    const char* name;
    unsigned number;
    int direction;
};
constexpr Protocol kProtocols[] = {
    {"non-data", 3, SG_DXFER_NONE},         {"PIO in", 4, SG_DXFER_FROM_DEV},
    {"PIO out", 5, SG_DXFER_TO_DEV},        {"DMA in", 6, SG_DXFER_FROM_DEV},
    {"DMA out", 6, SG_DXFER_TO_DEV},        {"NCQ in", kNcq, SG_DXFER_FROM_DEV},
    {"NCQ out", kNcq, SG_DXFER_TO_DEV},     {"NCQ non-data", kNcq, SG_DXFER_NONE},
    {"PIO without data", 4, SG_DXFER_NONE}, {"DMA without data", 6, SG_DXFER_NONE},
};

enum class Outcome { kNotSent, kExecuted, kAborted, kLost };

class Opcodes {
  public:
    Opcodes(const char* disk, const char* partition)
        : disk_(open(disk, O_RDWR | O_CLOEXEC)), partition_(open(partition, O_RDWR | O_DIRECT | O_CLOEXEC)) {
        if (disk_ < 0 || partition_ < 0) fail("cannot open the disk");
        const std::string name = partition;
        std::ifstream file("/sys/class/block/" + name.substr(name.rfind('/') + 1) + "/start");
        if (!(file >> start_)) fail("cannot find the partition's start");
        buffer_ = static_cast<std::uint8_t*>(std::aligned_alloc(kPage, 2 * kPage));
    }

    int run(unsigned step) {
        std::vector<std::uint8_t> before(kSectors * kSector);
        for (std::size_t at = 0; at < before.size(); ++at)
            before[at] = static_cast<std::uint8_t>(at / kSector * 7 + at % 251);
        transfer(before, true);
        std::array<unsigned, 4> counts{};
        for (unsigned opcode = 0; opcode < 256; ++opcode) {
            if (opcode % step != 0 && !is_in(kMayBeExecuted, opcode)) continue;
            for (unsigned i = 0; i < std::size(kProtocols); ++i) {
                // A drive ends them without clearing PxSACT, for which the kernel would wait.
                const bool queued = opcode == 0x60 || opcode == 0x61 || !is_in(kMayBeExecuted, opcode);
                if (kProtocols[i].number == kNcq && !queued) continue;
                const Outcome outcome = send(opcode, kProtocols[i], (opcode + i) % 3);
                ++counts[static_cast<std::size_t>(outcome)];
                if (outcome == Outcome::kLost) say("without an answer", opcode, kProtocols[i]);
                if (outcome == Outcome::kExecuted) executed_.insert(opcode);
                if (outcome != Outcome::kExecuted || is_in(kMayBeExecuted, opcode)) continue;
                std::array<char, 96> text{};
                (void)std::snprintf(text.data(), text.size(), "opcode %02x (%s) was executed", opcode,
                                    kProtocols[i].name);
                fail(text.data());
            }
        }
        std::printf("opcodes: %u executed, %u aborted, %u not sent by the kernel, %u without an answer; executed:",
                    counts[1], counts[2], counts[0], counts[3]);
        for (const unsigned opcode : executed_) std::printf(" %02x", opcode);
        std::printf("\n");
        if (counts[static_cast<std::size_t>(Outcome::kLost)] != 0) fail("commands were not answered");
        if (counts[static_cast<std::size_t>(Outcome::kAborted)] < 256 / step)
            fail("the control: nearly nothing was aborted");
        for (const unsigned opcode : {0x20u, 0x25u, 0x35u, 0x60u, 0x61u, 0xc8u, 0xcau, 0xe7u, 0xecu}) {
            if (!executed_.contains(opcode)) fail("the control: commands that every disk has were not executed");
        }
        check(before);
        return 0;
    }

  private:
    static void say(const char* what, unsigned opcode, const Protocol& protocol) {
        std::printf("opcode %02x (%s): %s\n", opcode, protocol.name, what);
        std::fflush(stdout);
    }

    static constexpr std::size_t kSectors = 256 * 8;  // eight for each opcode

    void transfer(std::vector<std::uint8_t>& data, bool write) {
        auto* aligned = static_cast<std::uint8_t*>(std::aligned_alloc(kPage, data.size()));
        if (write) std::memcpy(aligned, data.data(), data.size());
        const auto size = static_cast<ssize_t>(data.size());
        if ((write ? pwrite(partition_, aligned, data.size(), 0) : pread(partition_, aligned, data.size(), 0)) !=
            size) {
            fail("the partition cannot be read or written");
        }
        if (!write) std::memcpy(data.data(), aligned, data.size());
        std::free(aligned);
    }

    // Each sector is as it was, or, where a command may write, as that wrote it.
    void check(const std::vector<std::uint8_t>& before) {
        std::vector<std::uint8_t> after(before.size());
        transfer(after, false);
        std::array<std::uint8_t, kSector> marked{};
        mark(marked.data(), marked.size());
        for (std::size_t sector = 0; sector < kSectors; ++sector) {
            const std::uint8_t* const now = &after[sector * kSector];
            if (std::memcmp(now, &before[sector * kSector], kSector) == 0) continue;
            const bool may = sector % 8 == 0 && is_in(kWrites, static_cast<unsigned>(sector / 8));
            if (!may || std::memcmp(now, marked.data(), kSector) != 0)
                fail("sector " + std::to_string(sector) + " has changed");
            ++written_;
        }
        std::printf("opcodes: %u sectors written, by those that may\n", written_);
        if (written_ < std::size(kWrites) - 1)
            fail("the control: a command that writes has not written");  // FUA is optional
    }

    // `form`: ATA PASS-THROUGH of 16, 12 or 32 bytes.
    Outcome send(unsigned opcode, const Protocol& protocol, unsigned form) {
        const bool out = protocol.direction == SG_DXFER_TO_DEV;
        const bool data = protocol.direction != SG_DXFER_NONE;
        const bool queued = protocol.number == kNcq;
        mark(buffer_, kPage);
        std::memset(buffer_ + kSector, kGuard, 2 * kPage - kSector);
        const std::uint64_t lba = opcode == 0xb0 ? 0xc24f00 | (random_() & 0x11) : start_ + opcode * std::uint64_t{8};
        // A sector: in COUNT, or, of queued commands, in FEATURE.
        unsigned features = opcode == 0xef || opcode == 0xb0 ? kFeatures[random_() % std::size(kFeatures)] : 1;
        const unsigned count = queued ? 0 : 1;
        if (queued) features = 1;
        if (form == 1 && (opcode == 0x24 || opcode == 0x25 || opcode == 0x34 || opcode == 0x35 || queued)) form = 0;
        std::array<std::uint8_t, 32> cdb{};
        const auto byte = [](std::uint64_t value, unsigned shift = 0) {
            return static_cast<std::uint8_t>(value >> shift);
        };
        const std::uint8_t kind = byte(protocol.number << 1u | (form != 1 ? 1u : 0u));
        // CK_COND; BYT_BLOK and T_LENGTH: blocks, in FEATURE or COUNT.
        const std::uint8_t flags = byte(0x20u | (out ? 0u : 8u) | (data ? 4u | (queued ? 1u : 2u) : 0u));
        const std::uint8_t device = 0x40;
        std::size_t length = 16;
        if (form == 0) {
            cdb = {0x85,          kind,          flags,       byte(features, 8), byte(features), byte(count, 8),
                   byte(count),   byte(lba, 24), byte(lba),   byte(lba, 32),     byte(lba, 8),   byte(lba, 40),
                   byte(lba, 16), device,        byte(opcode)};
        } else if (form == 1) {
            length = 12;
            cdb = {0xa1,      kind,         flags,         byte(features), byte(count),
                   byte(lba), byte(lba, 8), byte(lba, 16), device,         byte(opcode)};
        } else {
            length = 32;
            cdb = {0x7f,
                   0,
                   0,
                   0,
                   0,
                   0,
                   0,
                   24,
                   0x1f,
                   0xf0,
                   kind,
                   flags,
                   0,
                   0,
                   byte(lba, 40),
                   byte(lba, 32),
                   byte(lba, 24),
                   byte(lba, 16),
                   byte(lba, 8),
                   byte(lba),
                   byte(features, 8),
                   byte(features),
                   byte(count, 8),
                   byte(count),
                   device,
                   byte(opcode),
                   0,
                   0,
                   byte(random_()),
                   byte(random_()),
                   0,
                   0};
        }
        std::array<std::uint8_t, 64> sense{};
        sg_io_hdr io{};
        io.interface_id = 'S';
        io.cmdp = cdb.data();
        io.cmd_len = static_cast<unsigned char>(length);
        io.dxfer_direction = protocol.direction;
        io.dxferp = data ? buffer_ : nullptr;
        io.dxfer_len = data ? kSector : 0;
        io.sbp = sense.data();
        io.mx_sb_len = sense.size();
        io.timeout = kTimeout;
        if (ioctl(disk_, SG_IO, &io) != 0) return Outcome::kNotSent;
        for (std::size_t at = kSector; at < 2 * kPage; ++at) {
            if (buffer_[at] != kGuard) fail("bytes behind the buffer have changed");
        }
        if (io.host_status == kTimedOut) return Outcome::kLost;
        if (io.status == 0) return io.host_status == 0 ? Outcome::kExecuted : Outcome::kNotSent;
        // By the sense key, in descriptor or fixed format; where ERROR and STATUS are is not the same in all kernels.
        const unsigned key = ((sense[0] & 0x7e) == 0x72 ? sense[1] : sense[2]) & 0xfu;
        if (key == kIllegalRequest) return Outcome::kNotSent;
        return key == kRecovered ? Outcome::kExecuted : Outcome::kAborted;  // CK_COND: a good end is told, too
    }

    static constexpr unsigned kFeatures[] = {0x02, 0x03, 0x10, 0x55, 0x82, 0x90, 0xaa, 0xd0, 0xd1, 0xd2, 0xd4,
                                             0xd5, 0xd6, 0xd8, 0xd9, 0xda, 0xdb, 0x40, 0x43, 0x5d, 0x86, 0xc3};
    static constexpr unsigned kTimedOut = 3;  // host_status: DID_TIME_OUT
    static constexpr unsigned kRecovered = 1;
    static constexpr unsigned kIllegalRequest = 5;  // sense key
    static constexpr unsigned kTimeout = 60'000;    // milliseconds
    static constexpr std::uint8_t kGuard = 0x5a;

    int disk_, partition_;
    std::uint64_t start_ = 0;
    std::uint8_t* buffer_ = nullptr;
    std::mt19937 random_{1};  // NOLINT(cert-msc51-cpp): repeatable
    std::set<unsigned> executed_;
    unsigned written_ = 0;
};

}  // namespace
}  // namespace gatehouse::guest

int main(int count, char** words) {
    const unsigned long step = count == 4 ? std::strtoul(words[3], nullptr, 0) : 0;
    if (step == 0) return gatehouse::guest::kUsage;
    return gatehouse::guest::Opcodes(words[1], words[2]).run(static_cast<unsigned>(step));
}

// The IDE mediator: a guest whose driver accesses registers in the order of Linux's libata, and one that does not.
#include <gtest/gtest.h>

#include <memory>

#include "tests/unit/ata/ide_model.hpp"
#include "tests/unit/ata/machine.hpp"

namespace gatehouse::ata::testing {
namespace {

constexpr std::uint64_t kHole = 0x400000, kHoleSize = 0x600000, kArena = 0x100000;
constexpr std::uint64_t kTable = 0x20000, kBuffer = 0x100000;
constexpr std::uint64_t kVault = 128,
                        kData = 192;  // as Machine's: overlay [0, 34), read-only [64, 128), hidden [128, 192)

struct Transfer {
    std::uint8_t opcode = 0x25;
    std::uint64_t lba = 0;
    std::uint32_t count = 1;
    std::uint8_t features = 0;
    std::vector<std::pair<std::uint32_t, std::uint32_t>>
        regions{};  // address, size; none: one piece a 64 KiB at kBuffer
    bool extended = true;
    std::uint8_t device = 0x40;
    bool start_first = false;
};

class Ide : public ::testing::Test {
  protected:
    explicit Ide(std::uint32_t sector_size = 512) : size(sector_size), disk(sector_size, 65536) {
        for (auto& b : key) b = static_cast<std::byte>(random());
        for (auto& b : secret) b = static_cast<std::byte>(random());
        EXPECT_TRUE(xts.set(key).ok());
        overlay.resize(34 * size);
        for (auto& b : overlay) b = static_cast<std::byte>(random());
        for (std::uint64_t at = kVault * size; at < kData * size; at += 16)
            copy_bytes(disk.sector(0, kData).subspan(at), secret);
        memory.never_in_guest.assign(secret.begin(), secret.end());
        regions = {{0, 34, RegionClass::kOverlay, overlay.data()},
                   {64, 64, RegionClass::kReadOnly, nullptr},
                   {kVault, kData - kVault, RegionClass::kHidden, nullptr}};
    }
    ~Ide() override {
        EXPECT_EQ(memory.guest_dma_writes, 0u) << "DMA into guest RAM";
        EXPECT_EQ(memory.stray_accesses, 0u);
        EXPECT_FALSE(memory.guest_contains(secret)) << "vault bytes in guest RAM";
        EXPECT_TRUE(memory.hypervisor_untouched());
        EXPECT_EQ(model.violations, 0u);
        EXPECT_EQ(model.foreign_tables, 0u);
        EXPECT_EQ(model.refused_executed, 0u);
        EXPECT_EQ(model.vectors, 0);
        EXPECT_EQ(model.vault_moved, 0u) << "sectors of the vault in memory";
        EXPECT_EQ(model.forbidden_writes, 0u) << "DMA to descriptors, or to what is to be written";
    }
    Status open(unsigned number = 0) { return channel().open(model, number, IdeModel::kMasters, memory.arena()); }
    void launch() {
        model.plug(0, 0, disk);
        ASSERT_TRUE(open().ok());
        ASSERT_TRUE(channel().identify().ok());
        channel().attach(regions, xts);
        model.vault = {kVault, kData - kVault};
        (void)model.take_interrupt(0);
        model.paused = true;
        commands_before = model.commands;
    }
    ide::Channel& channel() { return *channel_; }
    std::uint32_t in(std::uint16_t port, unsigned bytes = 1) {
        ++exits;
        return channel().read(port, bytes);
    }
    void out(std::uint16_t port, std::uint32_t value, unsigned bytes = 1) {
        ++exits;
        channel().write(port, bytes, value);
    }
    static constexpr std::uint16_t kMaster = IdeModel::kMasters;

    void write_registers(const Transfer& t) {
        out(0x1f6, t.device | (t.extended ? 0 : t.lba >> 24 & 0xf));
        if (t.extended) {
            out(0x1f1, 0);
            out(0x1f2, t.count >> 8 & 0xff);
            for (unsigned i = 0; i < 3; ++i) out(static_cast<std::uint16_t>(0x1f3 + i), t.lba >> (24 + 8 * i) & 0xff);
        }
        out(0x1f1, t.features);
        out(0x1f2, t.count & 0xff);
        for (unsigned i = 0; i < 3; ++i) out(static_cast<std::uint16_t>(0x1f3 + i), t.lba >> 8 * i & 0xff);
    }
    void write_table(const Transfer& t, std::uint64_t bytes) {
        auto pieces = t.regions;
        for (std::uint64_t at = 0; pieces.empty() || (t.regions.empty() && at < bytes); at += 0x10000) {
            pieces.emplace_back(kBuffer + at, std::min<std::uint64_t>(0x10000, bytes - at));
        }
        for (std::size_t i = 0; i < pieces.size(); ++i) {
            store<std::uint32_t>(memory.guest(kTable + 8 * i, 8), pieces[i].first, Endian::kLittle);
            store<std::uint32_t>(memory.guest(kTable + 8 * i + 4, 4),
                                 (pieces[i].second & 0xffff) | (i + 1 == pieces.size() ? 1u << 31 : 0),
                                 Endian::kLittle);
        }
    }
    // As ata_bmdma_setup() and ata_bmdma_start() do.
    void begin_dma(const Transfer& t) {
        const bool to_memory = t.opcode != 0x35 && t.opcode != 0x3d && t.opcode != 0xca;
        write_table(t, std::uint64_t{t.count} * (t.opcode == 0x47 ? 512 : size));
        write_registers(t);
        out(kMaster + 4, kTable, 4);
        out(kMaster, (in(kMaster) & ~8u) | (to_memory ? 8 : 0));
        if (t.start_first) out(kMaster, in(kMaster) | 1);
        out(0x1f7, t.opcode);
        (void)in(0x3f6);
        if (!t.start_first) out(kMaster, in(kMaster) | 1);
    }
    // As ata_bmdma_port_intr() does. STATUS at the end; nullopt: not our interrupt.
    std::optional<std::uint8_t> handle_interrupt() {
        const std::uint32_t master = in(kMaster + 2);
        if ((master & 4) == 0) return std::nullopt;
        out(kMaster, in(kMaster) & ~1u);
        (void)in(0x3f6);
        const auto status = static_cast<std::uint8_t>(in(0x1f7));
        if ((status & 0x80) != 0) return std::nullopt;
        out(kMaster + 2, (in(kMaster + 2) & 0x60) | 6);
        return status;
    }
    // Until the command has ended for the guest.
    std::uint8_t wait() {
        for (int i = 0; i < 1000; ++i) {
            model.run();
            if (!model.take_interrupt(0)) continue;
            if (const auto status = handle_interrupt()) return *status;
            ++unanswered;
        }
        ADD_FAILURE() << "no interrupt";
        return 0x80;
    }
    std::uint8_t dma(const Transfer& t) {
        begin_dma(t);
        return wait();
    }
    std::uint8_t no_data(std::uint8_t opcode, const Transfer& t = {}) {
        write_registers(t);
        out(0x1f7, opcode);
        model.run();
        EXPECT_TRUE(model.take_interrupt(0)) << std::hex << unsigned{opcode};
        return static_cast<std::uint8_t>(in(0x1f7));
    }
    // Polling, as Linux's IDENTIFY DEVICE.
    std::vector<std::byte> pio_in(const Transfer& t, unsigned width = 2) {
        write_registers(t);
        out(0x1f7, t.opcode);
        std::vector<std::byte> data;
        const std::size_t block = t.opcode == 0xec || t.opcode == 0x2f || t.opcode == 0xb0 ? 512 : size;
        for (std::uint32_t i = 0; i < t.count; ++i) {
            model.run();
            if ((in(0x1f7) & 0x89) != 8) return data;
            for (std::size_t at = 0; at < block; at += width) {
                const std::uint32_t value = in(0x1f0, width);
                for (unsigned b = 0; b < width; ++b) data.push_back(static_cast<std::byte>(value >> 8 * b));
                EXPECT_TRUE(at + width == block || (in(0x3f6) & 0x88) == 8) << "DRQ until the last word";
            }
        }
        model.run();
        EXPECT_EQ(in(0x1f7) & 0x89, 0u);
        return data;
    }
    MutableBytes ram(std::uint64_t at, std::uint64_t bytes) { return {memory.guest(at, bytes), bytes}; }
    std::vector<std::byte> bytes(std::size_t count) {
        std::vector<std::byte> all(count);
        for (auto& b : all) b = static_cast<std::byte>(random());
        return all;
    }
    std::vector<std::byte> decrypted(std::uint64_t lba, std::uint32_t count) {
        return openssl_xts(false, key, disk.sector(lba, count), size, lba);
    }
    void fill(std::uint64_t lba, Bytes plain) {
        copy_bytes(disk.sector(lba, plain.size() / size), openssl_xts(true, key, plain, size, lba));
    }

    const std::uint32_t size;
    PhysicalMemory memory{0x1000000, kHole, kHoleSize, kArena};
    DiskModel disk;
    IdeModel model{memory};
    std::array<std::byte, 64> key{};
    std::array<std::byte, 16> secret{};
    XtsKey xts;
    std::vector<std::byte> overlay;
    std::vector<Region> regions;
    std::mt19937 engine{1};
    std::uint32_t random() { return static_cast<std::uint32_t>(engine()); }
    std::unique_ptr<ide::Channel> channel_ = std::make_unique<ide::Channel>();
    std::uint64_t commands_before = 0, exits = 0, unanswered = 0;
};
class Ide4096 : public Ide {
  protected:
    Ide4096() : Ide(4096) {}
};
constexpr std::uint8_t kGood = 0x50, kAborted = 0x51;

// --- Before the guest ---

TEST_F(Ide, FindsDisksAndNothingElse) {
    DiskModel packet(512, 16);
    model.plug(0, 0, packet, true);
    model.plug(0, 1, disk);
    ASSERT_TRUE(open().ok());
    EXPECT_FALSE(channel().identify().ok());
    EXPECT_TRUE(disk.opcodes_seen.empty()) << "the second device stays absent";
    ASSERT_TRUE(open(1).ok());
    EXPECT_EQ(channel().number(), 1u);
    EXPECT_FALSE(channel().identify().ok()) << "nobody drives the second channel's bus";
}

TEST_F(Ide, ReadsSectorsBeforeTheGuest) {
    model.plug(0, 0, disk);
    ASSERT_TRUE(open().ok());
    std::vector<std::byte> out(300 * 512);
    EXPECT_EQ(channel().read_sectors(0, out).error(), Error::kState);
    ASSERT_TRUE(channel().identify().ok());
    EXPECT_EQ(channel().geometry().sectors, 65536u);
    ASSERT_TRUE(channel().read_sectors(10, out).ok());
    EXPECT_TRUE(equal_bytes(out, disk.sector(10, 300)));
    disk.unreadable_lba = 50;
    EXPECT_EQ(channel().read_sectors(50, MutableBytes(out).first(512)).error(), Error::kDeviceError);
    EXPECT_TRUE(channel().read_sectors(51, MutableBytes(out).first(512)).ok());
    model.short_transfer = true;
    EXPECT_FALSE(channel().read_sectors(60, MutableBytes(out).first(1024)).ok()) << "the bus master is not through";
    model.short_transfer = false;
    EXPECT_TRUE(channel().read_sectors(51, MutableBytes(out).first(512)).ok());
    model.stuck_busy = true;
    EXPECT_EQ(channel().read_sectors(51, MutableBytes(out).first(512)).error(), Error::kTimeout);
    EXPECT_EQ(model.read(kMaster | 1 << 16) & 1, 0u) << "and its bus master is stopped";
}

TEST_F(Ide, BusMasterThatDoesNotStopIsRefused) {
    model.master_stuck = true;
    EXPECT_EQ(open().error(), Error::kTimeout);
}

TEST_F(Ide, BusThatNobodyDrivesHoldsNobodyUp) {
    for (const unsigned number : {0u, 1u}) {
        ASSERT_TRUE(open(number).ok());
        const std::uint64_t before = model.microseconds();
        EXPECT_EQ(channel().identify().error(), Error::kDeviceError);
        EXPECT_LT(model.microseconds() - before, 10'000u) << "microseconds";
    }
}

TEST_F(Ide, ChannelsHaveDifferentParts) {
    DiskModel second(512, 4096);
    model.plug(0, 0, disk);
    model.plug(1, 0, second);
    ide::Channel other;
    ASSERT_TRUE(open().ok());
    ASSERT_TRUE(other.open(model, 1, kMaster, memory.arena()).ok());
    EXPECT_EQ(channel().command_tables().base, memory.arena().physical.value() + ide::Channel::kBounce);
    EXPECT_EQ(other.command_tables().base, channel().command_tables().base + ide::Channel::kArena);
    EXPECT_EQ(other.command_tables().length, ide::Channel::kPage + ide::Channel::kBounce);
    ASSERT_TRUE(other.identify().ok());
    std::vector<std::byte> out(70 * 512);
    EXPECT_TRUE(other.read_sectors(10, out).ok());
    EXPECT_TRUE(equal_bytes(out, second.sector(10, 70)));
}

TEST(IdeChannel, OneThatWasNotOpenedReadsZero) {
    const auto channel =
        std::make_unique<ide::Channel>();  // as of a controller that is left out, its bus masters at 1000h
    for (const int port : {0x1f0, 0x1f1, 0x1f7, 0x3f6, 0x1000, 0x1002, 0xc042}) {
        for (const unsigned size : {1u, 2u, 4u}) {
            channel->write(static_cast<std::uint16_t>(port), size, 0xffffffff);
            EXPECT_EQ(channel->read(static_cast<std::uint16_t>(port), size), 0u) << std::hex << port;
        }
    }
}

// --- DMA ---

TEST_F(Ide, DmaReadsAreDecrypted) {
    launch();
    const auto plain = bytes(256 * 512);
    fill(1000, plain);
    EXPECT_EQ(dma({.opcode = 0x25, .lba = 1000, .count = 256}), kGood);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, plain.size()), plain));
    EXPECT_EQ(dma({.opcode = 0xc8, .lba = 1000, .count = 8, .extended = false, .device = 0xe0}), kGood);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 8 * 512), Bytes(plain).first(8 * 512)));
    EXPECT_EQ(unanswered, 2u) << "256 sectors by 96; the parts' interrupts show nothing";
}

TEST_F(Ide, DmaWritesAreEncrypted) {
    launch();
    const auto plain = bytes(256 * 512);
    for (const std::uint8_t opcode : std::initializer_list<std::uint8_t>{0x35, 0x3d, 0xca}) {
        const bool extended = opcode != 0xca;
        copy_bytes(ram(kBuffer, plain.size()), plain);
        EXPECT_EQ(dma({.opcode = opcode, .lba = 2000u + opcode, .count = 200, .extended = extended}), kGood);
        EXPECT_TRUE(equal_bytes(decrypted(2000u + opcode, 200), Bytes(plain).first(200 * 512)))
            << std::hex << unsigned{opcode};
    }
    EXPECT_TRUE(equal_bytes(ram(kBuffer, plain.size()), plain)) << "the guest's own bytes stay";
}

TEST_F(Ide4096, LongSectors) {
    launch();
    const auto plain = bytes(4 * 4096);
    copy_bytes(ram(kBuffer, plain.size()), plain);
    EXPECT_EQ(dma({.opcode = 0x35, .lba = 300, .count = 4}), kGood);
    EXPECT_TRUE(equal_bytes(decrypted(300, 4), plain));
    wipe(ram(kBuffer, plain.size()));
    EXPECT_EQ(dma({.opcode = 0x25, .lba = 300, .count = 4}), kGood);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, plain.size()), plain));
}

TEST_F(Ide, StartBeforeTheCommandIsAsGood) {
    launch();
    const auto plain = bytes(512);
    fill(700, plain);
    EXPECT_EQ(dma({.lba = 700, .start_first = true}), kGood);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 512), plain));
}

TEST_F(Ide, LargeCommandsGoInPartsAndEndOnce) {
    launch();
    const std::uint32_t count = 4096;  // 2 MiB by 48 KiB
    const auto plain = bytes(count * 512);
    copy_bytes(ram(kBuffer, plain.size()), plain);
    EXPECT_EQ(dma({.opcode = 0x35, .lba = 5000, .count = count}), kGood);
    EXPECT_TRUE(equal_bytes(decrypted(5000, count), plain));
    EXPECT_EQ(unanswered, 42u) << "the parts' interrupts show nothing";
    wipe(ram(kBuffer, plain.size()));
    EXPECT_EQ(dma({.opcode = 0x25, .lba = 5000, .count = count}), kGood);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, plain.size()), plain));
}

TEST_F(Ide, InterruptIsShownOnceAllDataAreThere) {
    launch();
    const std::uint32_t count = 4096;
    const auto plain = bytes(count * 512);
    fill(5000, plain);
    begin_dma({.lba = 5000, .count = count});
    model.ends_on_look = true;
    unsigned looks = 0;
    while ((in(kMaster + 2) & 4) == 0 && looks < 100) ++looks;
    EXPECT_TRUE(equal_bytes(ram(kBuffer, plain.size()), plain));
    EXPECT_EQ(in(kMaster + 2) & 1, 0u);
    EXPECT_EQ(looks, 42u) << "none for a part but the last";
    model.ends_on_look = false;
    EXPECT_EQ(handle_interrupt(), kGood);
}

TEST_F(Ide, DescriptorsOfAnyLegalShapeWork) {
    launch();
    const auto plain = bytes(2 * 512);
    fill(900, plain);
    std::vector<std::pair<std::uint32_t, std::uint32_t>> shape;
    for (std::uint32_t at = 0; at < plain.size(); at += 2) shape.emplace_back(kBuffer + 4 * at, 2);
    EXPECT_EQ(dma({.lba = 900, .count = 2, .regions = shape}), kGood);
    for (std::uint32_t at = 0; at < plain.size(); at += 2) {
        ASSERT_TRUE(equal_bytes(ram(kBuffer + 4 * at, 2), Bytes(plain).subspan(at, 2))) << at;
    }
    copy_bytes(ram(kBuffer, 0x20000), bytes(0x20000));
    EXPECT_EQ(dma({.opcode = 0x35, .lba = 900, .count = 128, .regions = {{kBuffer + 0x10000, 0}}}), kGood)
        << "64 KiB is 0";
    EXPECT_TRUE(equal_bytes(decrypted(900, 128), ram(kBuffer + 0x10000, 0x10000)));
}

TEST_F(Ide, DescriptorsThatMislead) {
    launch();
    const auto before = std::vector<std::byte>(disk.sector(800, 4).begin(), disk.sector(800, 4).end());
    const std::vector<std::pair<std::uint32_t, std::uint32_t>> shapes[] = {
        {{kHole + kArena, 2048}},             // hypervisor memory
        {{kHole, 2048}},                      // the arena
        {{kHole - 512, 2048}},                // into it
        {{0xfffffe00, 512}, {kBuffer, 512}},  // the end of 32 bits
        {{kBuffer, 1024}},                    // too short
        {{kBuffer + 1, 2048}},                // odd
        {{kBuffer, 2047}, {kBuffer, 1}},      //
    };
    for (const auto& shape : shapes) {
        for (const std::uint8_t opcode : std::initializer_list<std::uint8_t>{0x35, 0x25}) {
            const std::uint8_t status = dma({.opcode = opcode, .lba = 800, .count = 4, .regions = shape});
            EXPECT_EQ(status, kAborted) << std::hex << shape[0].first;
            EXPECT_EQ(in(0x1f1), 4u) << "as by a drive that does not have the command";
        }
    }
    EXPECT_TRUE(equal_bytes(disk.sector(800, 4), before));
    out(kMaster + 4, kHole, 4);
    for (const std::uint64_t table : {kHole, kHole - 4, kHole - 8}) {
        store<std::uint64_t>(memory.guest(kHole - 8, 8), kBuffer | std::uint64_t{256} << 32, Endian::kLittle);
        write_registers({.opcode = 0x35, .lba = 800});
        out(kMaster + 4, static_cast<std::uint32_t>(table), 4);
        out(0x1f7, 0x35);
        out(kMaster, 1);
        EXPECT_EQ(wait(), kAborted) << "a table in hypervisor memory";
    }
    EXPECT_TRUE(equal_bytes(disk.sector(800, 4), before));
    EXPECT_EQ(dma({.lba = 800}), kGood) << "and the disk goes on";
}

TEST_F(Ide, TableIsLookedAtToTheEndOfItsPage) {
    launch();
    const auto plain = bytes(512);
    fill(800, plain);
    store<std::uint64_t>(memory.guest(kHole - 8, 8), kBuffer | std::uint64_t{0x8000'0200} << 32, Endian::kLittle);
    write_registers({.lba = 800});
    out(kMaster + 4, static_cast<std::uint32_t>(kHole - 8), 4);
    out(0x1f7, 0x25);
    out(kMaster, 9);
    EXPECT_EQ(wait(), kGood) << "what lies behind it is no RAM";
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 512), plain));
}

TEST_F(Ide, TableThatChangesWhileTheDriveIsAtWork) {
    launch();
    begin_dma({.lba = 800, .count = 4});
    store<std::uint32_t>(memory.guest(kTable, 4), kHole + kArena, Endian::kLittle);
    EXPECT_EQ(wait(), kGood) << "it was copied";
}

TEST_F(Ide, NoDmaBeforeTheGuestStartsItsMaster) {
    launch();
    write_registers({.opcode = 0x25, .lba = 800});
    out(0x1f7, 0x25);
    model.run();
    EXPECT_EQ(model.commands, commands_before);
    EXPECT_EQ(in(0x1f7), 0x80u);
    EXPECT_EQ(in(kMaster + 2) & 5, 0u);
    out(0x3f6, 4);
    out(0x3f6, 0);
    out(kMaster, 1);
    model.run();
    EXPECT_EQ(model.commands, commands_before) << "a reset has ended it";
}

TEST_F(Ide, StartWithoutACommandStartsNothing) {
    launch();
    const std::uint64_t before = model.commands;
    out(kMaster + 4, kTable, 4);
    out(kMaster, 9);
    EXPECT_EQ(no_data(0xe7), kGood);
    EXPECT_EQ(model.read(kMaster | 1 << 16) & 1, 0u);
    EXPECT_EQ(model.commands, before + 1);
}

// --- What the guest may see and do ---

TEST_F(Ide, RegionsAreKept) {
    launch();
    copy_bytes(ram(kBuffer, 256 * 512), bytes(256 * 512));
    EXPECT_EQ(dma({.lba = 0, .count = 256}), kGood);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, overlay.size()), overlay));
    EXPECT_TRUE(equal_bytes(ram(kBuffer + 64 * 512, 64 * 512), disk.sector(64, 64)));
    const std::vector<std::byte> zeros((kData - kVault) * 512);
    EXPECT_TRUE(equal_bytes(ram(kBuffer + kVault * 512, zeros.size()), zeros));
    EXPECT_TRUE(equal_bytes(ram(kBuffer + kData * 512, 64 * 512), decrypted(kData, 64)));
    for (const std::uint64_t lba : {0u, 33u, 64u, 127u, 128u, 191u, 190u}) {
        for (const std::uint8_t opcode : std::initializer_list<std::uint8_t>{0x35, 0xca}) {
            begin_dma({.opcode = opcode, .lba = lba, .count = 4, .extended = opcode == 0x35});
            EXPECT_EQ(wait(), kAborted) << lba;
            EXPECT_EQ(in(0x1f1), 0x44u) << "ABRT, WP";
        }
    }
    EXPECT_EQ(disk.sectors_written, 0u);
}

TEST_F(Ide, OverlayAndVaultAreNotReadButVerified) {
    launch();
    EXPECT_EQ(dma({.lba = 10, .count = 4}), kGood);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 4 * 512), Bytes(overlay).subspan(10 * 512, 4 * 512)));
    EXPECT_EQ(disk.opcode_count[0x42], 1u);
    copy_bytes(ram(kBuffer, 12 * 512), bytes(12 * 512));
    EXPECT_EQ(dma({.opcode = 0xc8, .lba = kVault + 1, .count = 12, .extended = false, .device = 0xe0}), kGood);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 12 * 512), std::vector<std::byte>(12 * 512)));
    EXPECT_EQ(disk.opcode_count[0x40], 1u);
    EXPECT_EQ(disk.opcode_count[0x25] + disk.opcode_count[0xc8], 0u);
    // From the boot partition into the vault, and out of it: each part is what it is.
    copy_bytes(ram(kBuffer, 80 * 512), bytes(80 * 512));
    EXPECT_EQ(dma({.lba = kVault - 4, .count = 4 + (kData - kVault) + 4}), kGood);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 4 * 512), disk.sector(kVault - 4, 4)));
    EXPECT_TRUE(equal_bytes(ram(kBuffer + 4 * 512, 64 * 512), std::vector<std::byte>(64 * 512)));
    EXPECT_TRUE(equal_bytes(ram(kBuffer + 68 * 512, 4 * 512), decrypted(kData, 4)));
}

TEST_F(Ide, TransferModeStaysAsFirmwareHasSetIt) {
    launch();
    EXPECT_EQ(no_data(0xef, {.count = 0x45, .features = 0x03}), kGood) << "Linux gives up a disk that does not take it";
    EXPECT_EQ(disk.opcode_count[0xef], 0u);
    EXPECT_EQ(disk.opcode_count[0xe5], 1u);
    EXPECT_EQ(no_data(0xef, {.features = 0x02}), kGood);
    EXPECT_EQ(disk.opcode_count[0xef], 1u) << "write cache";
}

TEST_F(Ide, StartThatIsWrittenTwiceStartsOnce) {
    launch();
    const auto plain = bytes(512);
    fill(800, plain);
    begin_dma({.lba = 800});
    const std::uint64_t commands = model.commands;
    out(kMaster, 9);
    out(kMaster, 9);
    EXPECT_EQ(model.commands, commands);
    EXPECT_EQ(wait(), kGood);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 512), plain));
    EXPECT_EQ(model.commands, commands);
    out(kMaster, 8);
    out(kMaster, 9);
    EXPECT_EQ(model.commands, commands) << "the command has ended";
}

TEST_F(Ide, ErrorOfTheBusMasterIsNotTheGuestsToTakeAway) {
    launch();
    const auto before = bytes(512);
    copy_bytes(ram(kBuffer, 512), before);
    model.stuck_busy = true;
    begin_dma({.lba = 800});
    model.fail_master(0);
    out(kMaster + 2, 6);
    model.stuck_busy = false;
    model.run();
    EXPECT_TRUE(handle_interrupt().has_value());
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 512), before));
}

TEST_F(Ide, CommandsThatArePutOffTheListAreAborted) {
    launch();
    for (int opcode = 0; opcode < 256; ++opcode) {
        const Command command =
            classify({.command = static_cast<std::uint8_t>(opcode), .device = 0x40, .count = 1, .lba = 800}, true);
        const bool by_pio = opcode == 0x20 || opcode == 0x24 || opcode == 0x30 || opcode == 0x34;
        const bool no_ide = command.kind == CommandKind::kTrim || command.queued || by_pio || opcode == 0x47;
        if (command.kind != CommandKind::kRefused && !no_ide) continue;
        EXPECT_EQ(no_data(static_cast<std::uint8_t>(opcode), {.lba = 800}), kAborted) << std::hex << opcode;
        EXPECT_EQ(in(0x1f1), 4u);
    }
    EXPECT_EQ(no_data(0x25, {.lba = 65536}), kAborted) << "beyond the end";
    EXPECT_EQ(no_data(0x25, {.lba = 800, .device = 0}), kAborted) << "cylinder, head, sector";
    EXPECT_EQ(no_data(0x06, {.features = 1}), kAborted) << "TRIM";
    EXPECT_EQ(no_data(0xe5), kGood);
    EXPECT_EQ(in(0x1f2), 0xffu) << "the power mode";
}

TEST_F(Ide, IdentifyIsEdited) {
    launch();
    const auto page = pio_in({.opcode = 0xec});
    ASSERT_EQ(page.size(), 512u);
    auto expected = disk.identify();
    expected[2 * 119] &= std::byte{0xf7};  // READ LOG DMA EXT
    expected[2 * 120] &= std::byte{0xf7};
    filter_page(Page(expected.data(), kPageSize), Filter::kIdentify, false);
    EXPECT_TRUE(equal_bytes(page, expected));
    EXPECT_EQ(load<std::uint16_t>(page.data() + 2 * 128, Endian::kLittle), 0u) << "security";
    EXPECT_EQ(pio_in({.opcode = 0xec}, 4), page) << "by 32 bits";
}

TEST_F(Ide, LogsComePageByPage) {
    launch();
    const auto pages = pio_in({.opcode = 0x2f, .lba = 0x04, .count = 3});
    EXPECT_EQ(pages, std::vector<std::byte>(3 * 512, std::byte{0x11}));
    const auto smart = pio_in({.opcode = 0xb0, .lba = 0xc24f00, .features = 0xd1, .extended = false});
    EXPECT_EQ(smart.size(), 512u);
    EXPECT_EQ(in(0x1f0, 2), ~0u) << "no more";
}

TEST_F(Ide, RegistersReadWhatWasWritten) {
    launch();
    out(0x1f2, 0x55);
    out(0x1f3, 0xaa);
    EXPECT_EQ(in(0x1f2), 0x55u);
    EXPECT_EQ(in(0x1f3), 0xaau);
    EXPECT_EQ(in(0x1f2, 2), 0u) << "a width that it does not have";
    out(0x1f2, 0x1111, 2);
    EXPECT_EQ(in(0x1f2), 0x55u);
    EXPECT_EQ(in(0x1f0, 2), ~0u) << "no data";
    out(0x1f0, 0x1234, 2);
    out(kMaster, 8);
    EXPECT_EQ(in(kMaster), 8u);
    EXPECT_EQ(in(kMaster, 2), 0u);
    out(0x3f6, 0x7b);  // its reserved bits do not get through
}

TEST_F(Ide, DeviceThatIsNotAttachedIsNotThere) {
    DiskModel other(512, 4096);
    model.plug(0, 1, other);
    launch();
    const std::uint64_t before = model.commands;
    out(0x1f6, 0x50);
    for (std::uint16_t port = 0x1f1; port < 0x1f8; ++port) EXPECT_EQ(in(port), 0u) << std::hex << port;
    out(0x1f2, 0x55);
    EXPECT_EQ(in(0x1f2), 0u);
    for (const std::uint8_t opcode : std::initializer_list<std::uint8_t>{0xec, 0x24, 0x34, 0x90, 0x08})
        out(0x1f7, opcode);
    model.run();
    EXPECT_EQ(model.commands, before);
    EXPECT_EQ(dma({.lba = 800}), kGood) << "the other one works";
}

TEST_F(Ide, DiskThatIsNotAttachedIsNotThere) {
    model.plug(0, 0, disk);
    ASSERT_TRUE(open().ok());
    ASSERT_TRUE(channel().identify().ok());
    const std::uint64_t before = model.commands;
    for (const std::uint8_t device : std::initializer_list<std::uint8_t>{0x40, 0x50}) {
        out(0x1f6, device);
        for (std::uint16_t port = 0x1f1; port < 0x1f8; ++port) EXPECT_EQ(in(port), 0u) << std::hex << port;
        EXPECT_EQ(in(0x3f6), 0u);
        out(0x1f7, 0xec);
        EXPECT_EQ(in(0x1f0, 2), 0u);
    }
    EXPECT_EQ(model.commands, before);
}

TEST_F(Ide, SmallCommandExits) {
    launch();
    exits = 0;
    EXPECT_EQ(dma({.opcode = 0xc8, .lba = 800, .count = 8, .extended = false, .device = 0xe0}), kGood);
    EXPECT_EQ(exits, 20u) << "each is an access of the driver's";
}

// --- Devices and guests that misbehave ---

TEST_F(Ide, ErrorsAreTheDrives) {
    launch();
    disk.unreadable_lba = 802;
    copy_bytes(ram(kBuffer, 4 * 512), bytes(4 * 512));
    EXPECT_EQ(dma({.lba = 800, .count = 4}), kAborted);
    EXPECT_EQ(in(0x1f1), 0x40u) << "UNC";
    EXPECT_EQ(dma({.lba = 804, .count = 4}), kGood);
}

TEST_F(Ide, ResetEndsWhatIsUnderWay) {
    launch();
    copy_bytes(ram(kBuffer, 512), bytes(512));
    const std::vector<std::byte> before(ram(kBuffer, 512).begin(), ram(kBuffer, 512).end());
    begin_dma({.lba = 800});
    out(0x3f6, 6);
    EXPECT_EQ(model.read(kMaster | 1 << 16) & 1, 0u) << "the bus master is stopped";
    out(0x1f7, 0xe7);
    out(0x3f6, 0);
    model.run();
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 512), before));
    EXPECT_EQ(disk.opcode_count[0xe7], 0u) << "in reset";
    EXPECT_EQ(in(0x1f7), kGood);
    EXPECT_EQ(in(0x1f4) | in(0x1f5), 0u) << "the signature";
    EXPECT_EQ(dma({.lba = 800}), kGood);
}

TEST_F(Ide, StoppedMasterDeliversNothing) {
    launch();
    copy_bytes(ram(kBuffer, 512), bytes(512));
    const std::vector<std::byte> before(ram(kBuffer, 512).begin(), ram(kBuffer, 512).end());
    begin_dma({.lba = 800});
    out(kMaster, 8);
    out(kMaster, 9);
    model.run();
    EXPECT_EQ(in(0x1f7) & 0x80, 0x80u) << "the drive waits for ever, as hardware's would";
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 512), before));
    out(0x3f6, 4);
    out(0x3f6, 0);
    EXPECT_EQ(dma({.lba = 800}), kGood);
}

TEST_F(Ide, LateTransfersNeverShowPlaintextToTheDisk) {
    launch();
    model.late_transfers = true;
    const auto plain = bytes(64 * 512);
    for (int i = 0; i < 4; ++i) {
        copy_bytes(ram(kBuffer, plain.size()), plain);
        begin_dma({.opcode = 0x35, .lba = 1000, .count = 64});
        out(0x3f6, 4);
        out(0x3f6, 0);
        begin_dma({.opcode = 0x35, .lba = 3000, .count = 64});
        model.land_late();
        EXPECT_EQ(wait(), kGood);
        EXPECT_FALSE(equal_bytes(disk.sector(1000), Bytes(plain).first(512)));
        EXPECT_TRUE(equal_bytes(decrypted(3000, 64), plain));
    }
    EXPECT_EQ(memory.guest_dma_writes, 0u);
}

TEST_F(Ide, LateReadOfTheVaultIsNotShown) {
    launch();
    model.late_transfers = true;
    begin_dma({.lba = kVault, .count = 8});
    out(0x3f6, 4);
    out(0x3f6, 0);
    begin_dma({.lba = 64, .count = 8});
    model.run();
    model.land_late();
    EXPECT_EQ(handle_interrupt(), kGood);
    EXPECT_FALSE(memory.guest_contains(secret)) << "the vault, read by the guest";
}

TEST_F(Ide, LateReadDoesNotReachTheMedium) {
    launch();
    copy_bytes(disk.sector(64, 8), bytes(8 * 512));  // the boot partition
    model.late_transfers = true;
    begin_dma({.lba = 64, .count = 8});
    out(0x3f6, 4);
    out(0x3f6, 0);
    copy_bytes(ram(kBuffer, 8 * 512), bytes(8 * 512));
    begin_dma({.opcode = 0x35, .lba = 1000, .count = 8});
    model.land_late();
    EXPECT_EQ(wait(), kGood);
    EXPECT_FALSE(equal_bytes(disk.sector(1000, 8), disk.sector(64, 8))) << "raw sectors in the encrypted region";
}

TEST_F(Ide, ResetClearsWriteProtected) {
    launch();
    EXPECT_EQ(dma({.opcode = 0x35, .lba = 64}), kAborted);
    EXPECT_EQ(in(0x1f1), 0x44u);
    out(0x3f6, 4);
    out(0x3f6, 0);
    model.run();
    EXPECT_EQ(in(0x1f7), kGood);
    EXPECT_EQ(in(0x1f1), 0x01u) << "diagnostic code: passed";
}

TEST_F(Ide, DiskThatIsNotAttachedIsNotReset) {
    model.plug(0, 0, disk);
    ASSERT_TRUE(open().ok());
    ASSERT_TRUE(channel().identify().ok());
    model.write(0x1'01f2, 0x5a);
    out(0x3f6, 4);
    EXPECT_EQ(model.read(0x1'01f2), 0x5au) << "SRST reached a disk that is nobody's";
    out(0x3f6, 0);
}

TEST_F(Ide, FaultOfTheBusMasterEndsTheCommand) {
    launch();
    const auto before = bytes(512);
    copy_bytes(ram(kBuffer, 512), before);
    begin_dma({.lba = 800});
    model.write((IdeModel::kMasters + 4u) | 4u << 16, 0);  // its table vanishes
    model.run();
    EXPECT_NE(in(kMaster + 2) & 2, 0u) << "error";
    EXPECT_TRUE(handle_interrupt().has_value());
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 512), before)) << "what did not come is not shown";
    EXPECT_EQ(std::exchange(model.foreign_tables, 0), 1u);
    EXPECT_EQ(dma({.lba = 804}), kGood);
}

TEST_F(Ide, TransferEndsBeforeItsMemoryHasAnotherUse) {
    launch();
    model.late_transfers = true;
    for (const bool by_reset : {true, false}) {
        begin_dma({.lba = 800, .count = 4});
        model.paused = false;  // the drive ends it in time
        if (by_reset) out(0x3f6, 4), out(0x3f6, 0);
        if (!by_reset) out(kMaster, 8);
        model.paused = true;
        EXPECT_EQ(model.late(), 0u);
        model.run();
        EXPECT_EQ(in(0x1f7), by_reset ? kGood : kAborted) << "a bus master that is stopped ends its command";
        (void)model.take_interrupt(0);
        out(kMaster + 2, 6);
        EXPECT_EQ(dma({.lba = 800}), kGood);
    }
}

TEST_F(Ide, ResetSelectsTheFirstDevice) {
    launch();
    out(0x1f6, 0x50);
    EXPECT_EQ(in(0x1f7), 0u);
    out(0x3f6, 4);
    out(0x3f6, 0);
    EXPECT_EQ(in(0x1f7), kGood);
    EXPECT_EQ(in(0x1f2), 1u) << "the signature";
}

TEST_F(Ide, BusyDriveGetsNoCommand) {
    launch();
    model.stuck_busy = true;
    const std::uint64_t before = model.commands;
    begin_dma({.lba = 800});
    for (int i = 0; i < 10; ++i) {
        write_registers({.lba = 900});
        out(0x1f7, 0x35);
        out(0x1f7, 0xe7);
        EXPECT_EQ(in(0x1f7) & 0x80, 0x80u);
    }
    EXPECT_EQ(model.commands, before + 1);
}

TEST_F(Ide, SpuriousDataMovesNothing) {
    launch();
    model.spurious_data = true;
    const std::uint64_t before = model.commands;
    out(0x1f7, 0xe7);
    for (int i = 0; i < 600; ++i) {
        EXPECT_EQ(in(0x1f0, 2), ~0u);
        out(0x1f0, 0x1234, 2);
    }
    EXPECT_EQ(model.commands, before);
}

TEST_F(Ide, DriveThatEndsEarlyIsNotBelieved) {
    launch();
    model.short_transfer = true;
    copy_bytes(ram(kBuffer, 4 * 512), bytes(4 * 512));
    const std::vector<std::byte> before(ram(kBuffer, 4 * 512).begin(), ram(kBuffer, 4 * 512).end());
    begin_dma({.lba = 800, .count = 4});
    model.run();
    for (int i = 0; i < 10; ++i) EXPECT_EQ(in(0x1f7) & 0x80, 0x80u);
    EXPECT_TRUE(equal_bytes(ram(kBuffer, 4 * 512), before));
}

TEST_F(Ide, VanishedBusReadsOnesAndHoldsNobodyUp) {
    launch();
    begin_dma({.lba = 800});
    model.vanished = true;
    for (int i = 0; i < 10; ++i) EXPECT_EQ(in(0x1f7) & 0x80, 0x80u);
    out(0x3f6, 4);
    out(0x3f6, 0);
    EXPECT_EQ(in(0x1f7), 0xffu);
    out(0x1f7, 0xec);
    EXPECT_EQ(in(0x1f0, 2), ~0u);
}

TEST_F(Ide, RandomAccessesKeepThePromises) {
    launch();
    const std::vector<std::byte> before(disk.sector(0, kData).begin(), disk.sector(0, kData).end());
    std::array<std::byte, 16> plaintext{};
    for (auto& b : plaintext) b = static_cast<std::byte>(random());
    for (std::uint64_t at = kBuffer; at < kBuffer + 0x40000; at += 16) copy_bytes(ram(at, 16), plaintext);
    model.late_transfers = true;
    int writes = 0;
    for (int i = 0; i < 200'000; ++i) {
        if (i % 50 == 0)  // what reads have left there is nobody's plaintext
            for (std::uint64_t at = kBuffer; at < kBuffer + 0x6000; at += 16) copy_bytes(ram(at, 16), plaintext);
        const std::uint64_t written = disk.sectors_written;
        const std::uint32_t what = random();
        const Transfer t{
            .opcode = std::array<std::uint8_t, 8>{0x25, 0x35, 0xc8, 0xca, 0x24, 0x34, 0x47, 0x2f}[what >> 8 & 7],
            .lba = random() % 400,
            .count = 1 + random() % 40};
        switch (what % 16) {
            case 0:
                write_table(t, t.count * 512);
                write_registers(t);
                break;
            case 1: out(0x1f7, t.opcode); break;
            case 2: out(kMaster, what >> 8 & 9); break;
            case 3: out(0x3f6, what >> 8 & 0x86); break;
            case 4: out(kMaster + 4, what % 8 == 0 ? random() : kTable, 4); break;
            case 5: begin_dma(t); break;
            case 6: (void)model.step(); break;
            case 7: (void)handle_interrupt(); break;
            case 8: model.land_late(); break;
            case 9:
                for (unsigned n = what >> 8 & 0x1ff; n != 0; --n) (void)in(0x1f0, 2 + 2 * (n & 1));
                break;
            case 10:
                for (unsigned n = what >> 8 & 0x1ff; n != 0; --n) out(0x1f0, 0xdead, 2);
                break;
            case 11:
                store<std::uint32_t>(memory.guest(kTable + 4 * (what >> 8 & 31), 4), random(), Endian::kLittle);
                break;
            case 12: out(static_cast<std::uint16_t>(0x1f0 + (what >> 8 & 7)), random(), 1u << (what >> 12 & 1)); break;
            case 13: (void)in(static_cast<std::uint16_t>(0x1f0 + (what >> 8 & 7))); break;
            case 14: (void)in(static_cast<std::uint16_t>(kMaster + (what >> 8 & 7)), 1u << (what >> 12 & 1)); break;
            default: model.run(); break;
        }
        writes += disk.sectors_written != written ? 1 : 0;
    }
    EXPECT_GT(writes, 100);
    EXPECT_TRUE(equal_bytes(disk.sector(0, 34), Bytes(before).first(34 * 512))) << "overlay";
    EXPECT_TRUE(equal_bytes(disk.sector(64, kData - 64), Bytes(before).subspan(64 * 512)))
        << "read-only, and the vault";
    const Bytes rest = disk.sector(34, 1000);
    EXPECT_EQ(std::search(rest.begin(), rest.end(), plaintext.begin(), plaintext.end()), rest.end())
        << "plaintext on the disk";
}

}  // namespace
}  // namespace gatehouse::ata::testing

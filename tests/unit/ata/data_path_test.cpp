// What an honest guest gets: its data, its interrupts, its errors.
#include <gtest/gtest.h>

#include "tests/unit/ata/machine.hpp"

namespace gatehouse::ata::testing {
namespace {

using ahci::PortRegister;

class DataPath : public ::testing::Test {
  protected:
    void start(const Options& options = {}) {
        machine_ = std::make_unique<Machine>(options);
        machine_->launch();
        machine_->boot_guest();
    }
    void TearDown() override {
        if (machine_) machine_->expect_untouched();
    }
    Machine& m() { return *machine_; }

  private:
    std::unique_ptr<Machine> machine_;
};

TEST_F(DataPath, WritesCiphertextThatOpenSslDecrypts) {
    start();
    const auto data = m().random_bytes(8 * 512);
    ASSERT_TRUE(m().write(1000, data));
    EXPECT_EQ(m().decrypted(1000, 8), data);
    EXPECT_FALSE(equal_bytes(m().disk.sector(1000, 8), data));
}

TEST_F(DataPath, ReadsWhatOpenSslEncrypted) {
    start();
    const auto data = m().random_bytes(100 * 512);
    m().fill_encrypted(2000, data);
    std::vector<std::byte> out(data.size());
    ASSERT_TRUE(m().read(2000, 100, out));
    EXPECT_EQ(out, data);
}

TEST_F(DataPath, EveryMediaOpcodeEncryptsAndDecrypts) {
    start();
    for (const std::uint8_t write : std::initializer_list<std::uint8_t>{0x30, 0x34, 0x35, 0x3d, 0xca, 0x61}) {
        for (const std::uint8_t read : std::initializer_list<std::uint8_t>{0x20, 0x24, 0x25, 0xc8, 0x60}) {
            const std::uint64_t lba = 300 + m().random() % 1000;
            const auto data = m().random_bytes(5 * 512);
            copy_bytes(m().ram(Machine::kBuffers, data.size()), data);
            ASSERT_TRUE(m().command(
                {.opcode = write, .lba = lba, .count = 5, .buffer = Machine::kBuffers, .bytes = data.size()}));
            EXPECT_EQ(m().decrypted(lba, 5), data) << std::hex << int{write};
            const std::uint64_t to = Machine::kBuffers + 0x10000;
            ASSERT_TRUE(m().command({.opcode = read, .lba = lba, .count = 5, .buffer = to, .bytes = data.size()}));
            EXPECT_TRUE(equal_bytes(m().ram(to, data.size()), data)) << std::hex << int{read};
        }
    }
}

TEST_F(DataPath, CountOfZeroIsTheGreatest) {
    start({.sectors = 70000});
    const auto data = m().random_bytes(256 * 512);
    copy_bytes(m().ram(Machine::kBuffers, data.size()), data);
    ASSERT_TRUE(
        m().command({.opcode = 0xca, .lba = 300, .count = 0, .buffer = Machine::kBuffers, .bytes = data.size()}));
    EXPECT_EQ(m().decrypted(300, 256), data);
}

TEST_F(DataPath, WritesAndReads65536Sectors) {
    start({.sectors = 70000, .memory = 0x3200000});
    const std::size_t size = 65536 * 512;
    const auto data = m().random_bytes(size);
    copy_bytes(m().ram(Machine::kBuffers, size), data);
    const std::uint64_t commands = m().hba.commands;
    ASSERT_TRUE(m().command({.opcode = 0x61, .lba = 1000, .count = 0, .buffer = Machine::kBuffers, .bytes = size}, 7));
    EXPECT_EQ(m().hba.commands - commands, 26u) << "1.25 MiB of bounce memory at a time";
    EXPECT_EQ(m().decrypted(1000, 65536), data);
    wipe(m().ram(Machine::kBuffers, size));
    ASSERT_TRUE(m().command({.opcode = 0x25, .lba = 1000, .count = 0, .buffer = Machine::kBuffers, .bytes = size}));
    EXPECT_TRUE(equal_bytes(m().ram(Machine::kBuffers, size), data));
    EXPECT_EQ(load<std::uint32_t>(m().memory.guest(Machine::kCommandList + 4, 4), Endian::kLittle), size) << "PRDBC";
}

TEST_F(DataPath, SplitCommandIsBusyUntilItsLastPartAndHidesTheOtherInterrupts) {
    start({.sectors = 70000});
    const std::size_t size = 4 * 1024 * 1024;
    m().submit(3, {.opcode = 0x35, .lba = 1000, .count = 8192, .buffer = Machine::kBuffers, .bytes = size});
    for (int part = 0; part < 3; ++part) {
        m().hba.run();
        ASSERT_TRUE(m().hba.take_interrupt());
        EXPECT_EQ(m().reg(PortRegister::kInterruptStatus), 0u) << "part " << part;
        EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 1u << 3);
        m().mediator->write(8, 4, 1u << Machine::kPort);
    }
    m().hba.run();
    EXPECT_EQ(m().reg(PortRegister::kInterruptStatus), 1u);
    EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 0u);
}

TEST_F(DataPath, Sectors4096UseTweaksOf512ByteUnits) {
    start({.sector_size = 4096, .sectors = 8192});
    const auto data = m().random_bytes(7 * 4096);
    ASSERT_TRUE(m().write(1000, data));
    EXPECT_EQ(m().decrypted(1000, 7), data);
    std::vector<std::byte> out(data.size());
    ASSERT_TRUE(m().read(1000, 7, out));
    EXPECT_EQ(out, data);
}

TEST_F(DataPath, SectorsInPiecesOfAnyEvenSize) {
    for (const std::uint32_t sector_size : {512u, 4096u}) {
        start({.sector_size = sector_size, .sectors = 4096});
        const std::uint32_t count = 9;
        const std::size_t size = count * sector_size;
        for (const std::uint32_t piece : {sector_size / 32, sector_size / 2 - 2, sector_size + 6, 3 * sector_size}) {
            Request request{.opcode = 0x61, .lba = 500, .count = count};
            std::vector<std::byte> data = m().random_bytes(size);
            std::uint64_t at = Machine::kBuffers + 2;
            for (std::size_t done = 0; done < size;) {
                const auto part = static_cast<std::uint32_t>(std::min<std::size_t>(piece, size - done));
                copy_bytes(m().ram(at, part), Bytes(data).subspan(done, part));
                request.regions.emplace_back(at, part);
                at += part + 6;
                done += part;
            }
            ASSERT_TRUE(m().command(request, 5)) << piece;
            EXPECT_EQ(m().decrypted(500, count), data) << piece;
            for (const auto& [address, bytes] : request.regions) wipe(m().ram(address, bytes));
            request.opcode = 0x60;
            ASSERT_TRUE(m().command(request, 6)) << piece;
            std::vector<std::byte> back;
            for (const auto& [address, bytes] : request.regions) {
                const Bytes part = m().ram(address, bytes);
                back.insert(back.end(), part.begin(), part.end());
            }
            EXPECT_EQ(back, data) << piece;
        }
        m().expect_untouched();
    }
}

TEST_F(DataPath, ReadOnlyRegionIsReadAsItIs) {
    start();
    std::vector<std::byte> out(4 * 512);
    ASSERT_TRUE(m().read(Machine::kBoot + 3, 4, out));
    EXPECT_TRUE(equal_bytes(out, m().disk.sector(Machine::kBoot + 3, 4)));
}

TEST_F(DataPath, OverlayIsReadInsteadOfTheDisk) {
    start();
    std::vector<std::byte> out(3 * 512);
    ASSERT_TRUE(m().read(1, 3, out));
    EXPECT_TRUE(equal_bytes(out, Bytes(m().overlay).subspan(512, out.size())));
    EXPECT_FALSE(m().memory.guest_contains(m().disk.sector(1).first(64))) << "what is below the overlay stays there";
}

TEST_F(DataPath, VaultReadsZerosAndNothingOfItLandsInGuestMemory) {
    start();
    std::vector<std::byte> out((Machine::kData - Machine::kVault) * 512, std::byte{0xee});
    copy_bytes(m().ram(Machine::kBuffers, out.size()), out);
    for (const std::uint8_t opcode : std::initializer_list<std::uint8_t>{0x25, 0x60, 0x20}) {
        ASSERT_TRUE(m().command(
            {.opcode = opcode, .lba = Machine::kVault, .count = 64, .buffer = Machine::kBuffers, .bytes = out.size()}));
        for (const std::byte b : m().ram(Machine::kBuffers, out.size())) ASSERT_EQ(b, std::byte{0});
    }
}

TEST_F(DataPath, OneCommandMaySpanEveryRegion) {
    for (const std::uint32_t sector_size : {512u, 4096u}) {
        start({.sector_size = sector_size, .sectors = 4096});
        const auto gap = m().random_bytes((Machine::kBoot - Machine::kGptEnd) * sector_size);
        const auto tail = m().random_bytes(64 * sector_size);
        m().fill_encrypted(Machine::kGptEnd, gap);
        m().fill_encrypted(Machine::kData, tail);
        std::vector<std::byte> expected = m().overlay;
        const auto append = [&](Bytes bytes) { expected.insert(expected.end(), bytes.begin(), bytes.end()); };
        append(gap);
        append(m().disk.sector(Machine::kBoot, Machine::kVault - Machine::kBoot));
        append(std::vector<std::byte>((Machine::kData - Machine::kVault) * sector_size));
        append(tail);
        Request request{.opcode = 0x60, .lba = 0, .count = static_cast<std::uint32_t>(Machine::kData + 64)};
        for (std::size_t done = 0; done < expected.size();) {
            const auto part = static_cast<std::uint32_t>(
                std::min<std::size_t>(2 + 2 * (m().random() % (2 * sector_size)), expected.size() - done));
            request.regions.emplace_back(Machine::kBuffers + 2 * done, part);
            done += part;
        }
        ASSERT_TRUE(m().command(request, 31));
        std::vector<std::byte> found;
        for (const auto& [address, bytes] : request.regions) {
            const Bytes part = m().ram(address, bytes);
            found.insert(found.end(), part.begin(), part.end());
        }
        EXPECT_EQ(found, expected);
        m().expect_untouched();
    }
}

TEST_F(DataPath, IdentifyIsEditedAndItsIntegrityWordHolds) {
    start();
    for (int round = 0; round < 2; ++round) {
        ASSERT_TRUE(m().command({.opcode = 0xec, .buffer = Machine::kBuffers, .bytes = 512}));
        const Bytes page = m().ram(Machine::kBuffers, 512);
        auto expected = m().disk.identify();
        filter_page(expected, Filter::kIdentify, false);
        EXPECT_TRUE(equal_bytes(page, expected));
        unsigned sum = 0;
        for (const std::byte b : page) sum += std::to_integer<unsigned>(b);
        EXPECT_EQ(sum & 0xff, 0u);
    }
}

// What a drive forgot it reads as zeros, as here, or as it likes: the guest gets what that decrypts to.
TEST_F(DataPath, WhatWasTrimmedReadsAsNoise) {
    for (const std::uint32_t sector_size : {512u, 4096u}) {
        start({.sector_size = sector_size, .sectors = 4096});
        m().mediator->disks()[0].allow_trim(true);
        const auto data = m().random_bytes(8 * sector_size);
        m().fill_encrypted(1000, data);
        wipe(m().ram(Machine::kBuffers, 512));
        store(m().ram(Machine::kBuffers, 512).data() + 16, std::uint64_t{3} << 48 | 1002, Endian::kLittle);
        ASSERT_TRUE(m().command({.opcode = 0x06,
                                 .count = 1,
                                 .features = 1,
                                 .regions = {{Machine::kBuffers, 18}, {Machine::kBuffers + 18, 494}},
                                 .header_flags = 5 | 1u << 6}));
        std::vector<std::byte> out(data.size());
        ASSERT_TRUE(m().read(1000, 8, out));
        auto expected = data;
        const auto noise = openssl_xts(false, m().key, std::vector<std::byte>(3 * sector_size), sector_size, 1002);
        std::ranges::copy(noise, expected.begin() + 2 * sector_size);
        EXPECT_EQ(out, expected);
        EXPECT_FALSE(equal_bytes(Bytes(noise).first(sector_size), Bytes(noise).subspan(sector_size, sector_size)));
        m().expect_untouched();
    }
}

TEST_F(DataPath, SmartTellsOfTheSelfTestsThatRun) {
    start();
    Request smart{
        .opcode = 0xb0, .lba = 0xc24f00, .count = 1, .features = 0xd0, .buffer = Machine::kBuffers, .bytes = 512};
    ASSERT_TRUE(m().command(smart));
    const Bytes page = m().ram(Machine::kBuffers, 512);
    EXPECT_EQ(page[366], std::byte{0xd0}) << "the vendor's";
    EXPECT_EQ(page[367], std::byte{0x1d}) << "no conveyance, no selective self-test";
    EXPECT_EQ(page[368], std::byte{0xfd}) << "no autosave by command";
    unsigned sum = 0;
    for (const std::byte b : page) sum += std::to_integer<unsigned>(b);
    EXPECT_EQ(sum & 0xff, 0u);
    smart.features = 0xd4, smart.bytes = 0;
    std::uint64_t runs = 0;
    for (unsigned test = 0; test < 256; ++test) {
        smart.lba = 0xc24f00 | test;
        const bool allowed = test <= 2 || test == 0x7f;
        EXPECT_EQ(m().command(smart), allowed) << test;
        if (!allowed) m().recover(false);
        runs += allowed ? 1 : 0;
    }
    EXPECT_EQ(m().disk.self_tests, runs);
}

// As a disk without a vault is shown, if the policy wants that.
TEST_F(DataPath, ADiskThatIsReadOnlyIsReadAsItIs) {
    start();
    const std::array<Region, 1> all{{{0, m().options.sectors, RegionClass::kReadOnly, nullptr}}};
    const XtsKey none;
    m().mediator->disks()[0].attach(all, none);
    std::vector<std::byte> out(m().options.sector_size * Machine::kVault);
    ASSERT_TRUE(m().read(0, Machine::kVault, out));
    EXPECT_TRUE(equal_bytes(out, m().disk.sector(0, Machine::kVault)));
    const std::uint64_t end = m().options.sectors - 1;
    for (const std::uint64_t lba : {std::uint64_t{0}, std::uint64_t{1000}, end}) {
        EXPECT_FALSE(m().write(lba, m().random_bytes(512)));
        m().recover(false);
    }
    EXPECT_EQ(m().disk.sectors_written, 0u);
}

TEST_F(DataPath, LogDirectoryShowsOnlyWhatMayBeRead) {
    start();
    ASSERT_TRUE(m().command({.opcode = 0x2f, .lba = 0, .count = 1, .buffer = Machine::kBuffers, .bytes = 512}));
    const Bytes page = m().ram(Machine::kBuffers, 512);
    for (std::size_t log = 1; log < 256; ++log) {
        const auto pages = load<std::uint16_t>(page.data() + 2 * log, Endian::kLittle);
        EXPECT_EQ(pages != 0, log_is_allowed(static_cast<std::uint8_t>(log))) << log;
    }
}

TEST_F(DataPath, CommandsWithoutDataReturnTheDevicesRegisters) {
    start();
    ASSERT_TRUE(m().command({.opcode = 0xe5}));  // CHECK POWER MODE
    EXPECT_EQ(m().ram(Machine::kFisArea + 0x40, 20)[12], std::byte{0xff});
    EXPECT_EQ(m().reg(PortRegister::kTaskFile) & 0xff, 0x50u);
    for (const std::uint8_t opcode :
         std::initializer_list<std::uint8_t>{0xe7, 0xea, 0xe0, 0xe1, 0xe2, 0xe3, 0xe6, 0x40, 0x42}) {
        EXPECT_TRUE(m().command({.opcode = opcode, .count = 1})) << std::hex << int{opcode};
    }
}

TEST_F(DataPath, SlotsAreReusedAtOnce) {
    start();
    for (int round = 0; round < 300; ++round) {
        const std::uint64_t lba = 300 + m().random() % 200;
        const auto data = m().random_bytes(2 * 512);
        ASSERT_TRUE(m().write(lba, data));
        std::vector<std::byte> out(data.size());
        ASSERT_TRUE(m().read(lba, 2, out));
        ASSERT_EQ(out, data);
    }
}

TEST_F(DataPath, DeviceErrorReachesTheGuestAndRecoveryWorks) {
    start();
    m().disk.unreadable_lba = 700;
    EXPECT_FALSE(m().command({.opcode = 0x25, .lba = 700, .count = 1, .buffer = Machine::kBuffers, .bytes = 512}));
    EXPECT_NE(m().error, 0u);
    EXPECT_EQ(m().reg(PortRegister::kTaskFile) & 0xffff, 0x4051u) << "UNC, as the device said";
    EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 1u);
    EXPECT_EQ(m().ram(Machine::kFisArea + 0x40, 20)[3], std::byte{0x40});
    m().recover(false);
    EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 0u);
    std::vector<std::byte> out(512);
    EXPECT_TRUE(m().read(701, 1, out));
}

TEST_F(DataPath, QueuedErrorNamesTheTagAndTheOthersCanBeRetried) {
    start();
    m().disk.unreadable_lba = 700;
    for (std::uint32_t slot = 0; slot < 8; ++slot) {
        m().submit(
            slot,
            {.opcode = 0x60, .lba = 696 + slot, .count = 1, .buffer = Machine::kBuffers + slot * 512, .bytes = 512});
    }
    m().wait(0xff);
    ASSERT_NE(m().error, 0u);
    EXPECT_NE(m().reg(PortRegister::kSataActive) & 1u << 4, 0u) << "the failed tag stays active";
    EXPECT_EQ(m().recover(true), 4u);
    EXPECT_TRUE(m().command({.opcode = 0x60, .lba = 701, .count = 1, .buffer = Machine::kBuffers, .bytes = 512}, 4));
}

TEST_F(DataPath, RefusedQueuedCommandFailsAloneAndTheOthersComplete) {
    start();
    const auto data = m().random_bytes(8 * 512);
    m().fill_encrypted(1000, data);
    for (std::uint32_t slot = 0; slot < 8; ++slot) {
        m().build(
            slot,
            {.opcode = 0x60, .lba = 1000 + slot, .count = 1, .buffer = Machine::kBuffers + slot * 512, .bytes = 512});
    }
    m().build(8, {.opcode = 0x61, .lba = Machine::kBoot, .count = 1, .buffer = Machine::kBuffers, .bytes = 512});
    m().issue(0x1ff, 0x1ff);
    const std::uint32_t completed = m().wait(0x1ff);
    ASSERT_NE(m().error, 0u);
    EXPECT_EQ(m().reg(PortRegister::kSataActive), 1u << 8);
    EXPECT_EQ(m().reg(PortRegister::kTaskFile) & 0xffff, 0x0451u) << "ABRT";
    EXPECT_EQ(completed & 1u << 8, 0u);
    EXPECT_TRUE(equal_bytes(m().ram(Machine::kBuffers, data.size()), data)) << "what came before is done";
    EXPECT_EQ(m().recover(true), 8u);
    EXPECT_EQ(m().recover(true), std::nullopt) << "the log tells it once";
}

TEST_F(DataPath, ExhaustedBounceMemoryMakesWritesWait) {
    start({.sectors = 70000, .arena = ahci::Port::kMinimumArena});
    std::vector<std::vector<std::byte>> data;
    std::uint32_t all = 0;
    for (std::uint32_t slot = 0; slot < 32; ++slot) {
        data.push_back(m().random_bytes(96 * 1024));
        const std::uint64_t buffer = Machine::kBuffers + slot * 0x20000;
        copy_bytes(m().ram(buffer, data.back().size()), data.back());
        m().submit(
            slot,
            {.opcode = 0x61, .lba = 1000 + slot * 192, .count = 192, .buffer = buffer, .bytes = data.back().size()});
        all |= 1u << slot;
    }
    EXPECT_LE(m().hba.deepest_queue, 32u);
    EXPECT_EQ(m().wait(all), all);
    for (std::uint32_t slot = 0; slot < 32; ++slot) EXPECT_EQ(m().decrypted(1000 + slot * 192, 192), data[slot]);
}

TEST_F(DataPath, CommandsThatMayNotBeMixedWaitForEachOther) {
    start();
    const auto data = m().random_bytes(512);
    m().fill_encrypted(1000, data);
    for (std::uint32_t slot = 0; slot < 16; ++slot) {
        const bool queued = slot % 3 != 0;
        m().build(slot, {.opcode = static_cast<std::uint8_t>(queued ? 0x60 : 0x25),
                         .lba = 1000,
                         .count = 1,
                         .buffer = Machine::kBuffers + slot * 512,
                         .bytes = 512});
    }
    m().issue(0xffff, 0xffff & ~0x9249u);
    for (int i = 0; i < 10000 && (m().reg(PortRegister::kCommandIssue) | m().reg(PortRegister::kSataActive)) != 0;
         ++i) {
        m().hba.step();
    }
    for (std::uint32_t slot = 0; slot < 16; ++slot) {
        EXPECT_TRUE(equal_bytes(m().ram(Machine::kBuffers + slot * 512, 512), data)) << slot;
    }
}

TEST_F(DataPath, VectorUnitIsEnteredOncePerAccessAndOnlyForData) {
    start();
    const std::uint64_t before = m().hba.vector_sections;
    ASSERT_TRUE(m().command({.opcode = 0xe7}));
    EXPECT_EQ(m().hba.vector_sections, before);
    for (std::uint32_t slot = 0; slot < 8; ++slot) {
        m().build(slot, {.opcode = 0x61, .lba = 1000 + slot, .count = 1, .buffer = Machine::kBuffers, .bytes = 512});
    }
    m().issue(0xff, 0xff);
    EXPECT_EQ(m().hba.vector_sections, before + 1);
    EXPECT_EQ(m().wait(0xff), 0xffu);
}

TEST_F(DataPath, SoftResetPasses) {
    start();
    const auto control = [](std::uint8_t value) {
        return [value](MutableBytes fis) {
            wipe(fis);
            fis[0] = std::byte{0x27};
            fis[15] = std::byte{value};
        };
    };
    m().submit(0, {.header_flags = 5 | 1u << 8 | 1u << 10, .edit_fis = control(4)});
    m().hba.run();
    EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 0u);
    m().submit(0, {.edit_fis = control(0)});
    m().hba.run();
    EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 0u);
    EXPECT_EQ(m().reg(PortRegister::kTaskFile), 0x150u);
    EXPECT_EQ(m().ram(Machine::kFisArea + 0x40, 20)[3], std::byte{1}) << "signature FIS";
}

}  // namespace
}  // namespace gatehouse::ata::testing

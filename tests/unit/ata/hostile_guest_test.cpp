// What a hostile guest gets: what hardware would give it, and nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/unit/ata/machine.hpp"

namespace gatehouse::ata::testing {
namespace {

using ahci::bits;
using ahci::PortCommand;
using ahci::PortInterrupt;
using ahci::PortRegister;

constexpr std::uint64_t kBuffer = Machine::kBuffers;
constexpr std::uint64_t kArena = Machine::kHole;
constexpr std::uint64_t kHypervisor = Machine::kHole + 0x240000;  // kept, not arena

class HostileGuest : public ::testing::Test {
  protected:
    void SetUp() override { start(); }
    void start(const Options& options = {}) {
        machine_ = std::make_unique<Machine>(options);
        machine_->launch();
        machine_->boot_guest();
        seen_ = machine_->hba.commands;
    }
    void TearDown() override {
        m().expect_untouched();
        // Whatever happened, the disk still works.
        m().recover(false);
        std::vector<std::byte> out(512);
        EXPECT_TRUE(m().read(Machine::kBoot, 1, out));
    }
    Machine& m() { return *machine_; }

    // The command is answered as a drive without it would: ABRT, and the drive saw nothing but the stand-in.
    void expect_refused(const Request& request, std::uint32_t slot = 0) {
        const auto before = m().disk.opcode_count;
        EXPECT_FALSE(m().command(request, slot));
        EXPECT_NE(m().error & 1u << 30, 0u) << "TFES";
        EXPECT_EQ(m().reg(PortRegister::kTaskFile) & 0xffff, 0x0451u) << "DRDY, ERR; ABRT";
        EXPECT_NE(m().reg(PortRegister::kCommandIssue) & 1u << slot, 0u) << "PxCI stays set until ST is cleared";
        const MutableBytes fis = m().ram(Machine::kFisArea + 0x40, 20);
        EXPECT_EQ(fis[0], std::byte{0x34});
        EXPECT_EQ(fis[3], std::byte{0x04});
        auto after = m().disk.opcode_count;
        EXPECT_EQ(--after[0xe5], before.contains(0xe5) ? before.at(0xe5) : 0u);
        if (after[0xe5] == 0) after.erase(0xe5);
        EXPECT_EQ(after, before);
        m().recover(false);
    }

  private:
    std::unique_ptr<Machine> machine_;
    std::uint64_t seen_ = 0;
};

Request read_request(std::uint64_t buffer = kBuffer, std::uint32_t sectors = 8) {
    return {.opcode = 0x25, .lba = 1000, .count = sectors, .buffer = buffer, .bytes = sectors * 512};
}
Request write_request(std::uint64_t lba, std::uint32_t sectors = 8) {
    return {.opcode = 0x35, .lba = lba, .count = sectors, .buffer = kBuffer, .bytes = sectors * 512};
}

TEST_F(HostileGuest, RefusesPrdtIntoHypervisorMemory) {
    for (const std::uint64_t address :
         {kArena, kHypervisor, Machine::kHole - 256, Machine::kHole + Machine::kHoleSize - 2, m().memory.size(),
          m().memory.size() - 2, ~std::uint64_t{0} - 0xfff, std::uint64_t{0xfee00000}}) {
        SCOPED_TRACE(address);
        expect_refused(read_request(address));
        Request write = write_request(1000);
        write.buffer = address;
        expect_refused(write);
        Request late = read_request();  // the last of many
        late.regions = {{kBuffer, 2048}, {kBuffer + 2048, 1024}, {address, 1024}};
        expect_refused(late);
        Request identify{.opcode = 0xec, .buffer = address, .bytes = 512};
        expect_refused(identify);
        Request hidden = read_request(address);
        hidden.lba = Machine::kVault;
        expect_refused(hidden);
    }
}

TEST_F(HostileGuest, RefusesCommandTableInHypervisorMemory) {
    for (const std::uint64_t table : {kArena, kArena + 0x2000, kHypervisor, Machine::kHole - 0x80, m().memory.size()}) {
        Request request = read_request();
        request.table = table;
        expect_refused(request);
    }
}

TEST_F(HostileGuest, RefusesTableWhoseDescriptorsRunIntoHypervisorMemory) {
    Request request = read_request();
    request.table = Machine::kHole - 0x1000;
    request.prdtl = 0xffff;
    expect_refused(request);
}

TEST_F(HostileGuest, RefusesCommandListInHypervisorMemory) {
    for (const std::uint64_t list : {kArena, kHypervisor, m().memory.size()}) {
        m().build(0, read_request());
        m().set(PortRegister::kCommandList, static_cast<std::uint32_t>(list));
        m().issue(1);
        m().wait(1);
        EXPECT_NE(m().error, 0u);
        m().recover(false);
    }
}

TEST_F(HostileGuest, FisAreaInHypervisorMemoryIsNeverWritten) {
    std::vector<std::byte> before(256);
    for (const std::uint64_t area : {kHypervisor, kArena + 0x22000, m().memory.size(), Machine::kHole - 128}) {
        m().set(PortRegister::kFis, static_cast<std::uint32_t>(area));
        EXPECT_TRUE(m().command({.opcode = 0xe7})) << "the command itself is fine";
    }
    EXPECT_TRUE(m().memory.hypervisor_untouched());
}

TEST_F(HostileGuest, AddressRegistersHoldWhatTheGuestWroteAndNeverReachTheController) {
    m().stop_port();
    m().set(PortRegister::kCommandList, static_cast<std::uint32_t>(kHypervisor) | 0x3ff);
    m().set(PortRegister::kFis, static_cast<std::uint32_t>(kHypervisor) | 0xff);
    EXPECT_EQ(m().reg(PortRegister::kCommandList), kHypervisor);
    EXPECT_EQ(m().reg(PortRegister::kFis), kHypervisor);
    const std::uint32_t real = 0x100 + Machine::kPort * 0x80;
    EXPECT_EQ(m().hba.read(real + 0x00), kArena);
    EXPECT_EQ(m().hba.read(real + 0x08), kArena + 1024);
}

TEST_F(HostileGuest, DescriptorsChangedAfterIssueHaveNoEffect) {
    const auto data = m().random_bytes(8 * 512);
    m().fill_encrypted(1000, data);
    std::byte* table = m().memory.guest(Machine::kTables, 0x1000);
    m().submit(0, read_request());
    store<std::uint64_t>(table + 0x80, kHypervisor, Endian::kLittle);
    std::fill_n(table, 64, std::byte{0xf4});
    wipe(m().ram(Machine::kCommandList, 32));
    m().wait(1);
    EXPECT_EQ(m().error, 0u);
    EXPECT_TRUE(equal_bytes(m().ram(kBuffer, data.size()), data));
}

TEST_F(HostileGuest, DataChangedAfterIssueOfAWriteHaveNoEffect) {
    const auto data = m().random_bytes(8 * 512);
    copy_bytes(m().ram(kBuffer, data.size()), data);
    m().submit(0, write_request(1000));
    wipe(m().ram(kBuffer, data.size()));
    m().wait(1);
    EXPECT_EQ(m().decrypted(1000, 8), data);
}

TEST_F(HostileGuest, DescriptorsOfLaterPartsAreCheckedAsTheyAreFetched) {
    // A write of two parts. The second part's descriptor turns bad after the first was accepted.
    Request request = write_request(1000, 4096);
    request.regions = {{kBuffer, 0x140000}, {kBuffer + 0x140000, 0xc0000}};
    m().submit(0, request);
    std::byte* table = m().memory.guest(Machine::kTables, 0x1000);
    store<std::uint64_t>(table + 0x90, kHypervisor, Endian::kLittle);
    m().wait(1);
    EXPECT_NE(m().error, 0u);
    EXPECT_EQ(m().reg(PortRegister::kTaskFile) & 0xffff, 0x0451u);
}

TEST_F(HostileGuest, DataCommandWithoutDescriptorsIsClassified) {
    Request read = read_request();
    read.prdtl = 0;
    expect_refused(read);
    Request write = write_request(Machine::kBoot);
    write.prdtl = 0;
    expect_refused(write);
    for (const int opcode : {0xf4, 0xf1, 0xb1, 0x92, 0xe8, 0x3f, 0x45, 0x06, 0x5e}) {
        expect_refused({.opcode = static_cast<std::uint8_t>(opcode)});
    }
}

TEST_F(HostileGuest, RefusesDescriptorsShorterThanTheTransfer) {
    Request read = read_request();
    read.bytes = 8 * 512 - 2;
    expect_refused(read);
    Request write = write_request(1000);
    write.bytes = 512;
    const std::vector<std::byte> before(m().disk.sector(1000, 8).begin(), m().disk.sector(1000, 8).end());
    expect_refused(write);
    EXPECT_TRUE(equal_bytes(m().disk.sector(1000, 8), before));
}

TEST_F(HostileGuest, RefusesOddAddressesAndSizes) {
    expect_refused(read_request(kBuffer + 1));
    Request request = read_request();
    request.regions = {{kBuffer, 511}, {kBuffer + 511, 4096}};
    expect_refused(request);
}

TEST_F(HostileGuest, RefusesSectorsBeyondTheCapacity) {
    const std::uint64_t end = m().options.sectors;
    for (const std::uint64_t lba : {end, end - 1, std::uint64_t{0xffffffffffff}, std::uint64_t{0xfffffffffff8}}) {
        Request read = read_request();
        read.lba = lba;
        expect_refused(read);
        expect_refused(write_request(lba));
    }
    // 28 bits: a range that leaves them must not wrap to sector 0.
    Request wrap = write_request(0xffffff, 256);
    wrap.opcode = 0xca;
    wrap.device = 0x4f;
    expect_refused(wrap);
}

TEST_F(HostileGuest, RefusesCylinderHeadSectorAddresses) {
    Request request = write_request(1000);
    request.device = 0;
    expect_refused(request);
    request.opcode = 0xca;
    expect_refused(request);
}

TEST_F(HostileGuest, AbortsWritesToProtectedRegions) {
    const std::vector<std::byte> before(m().disk.sector(0, 256).begin(), m().disk.sector(0, 256).end());
    for (const std::uint64_t lba :
         {std::uint64_t{0}, Machine::kGptEnd - 1, Machine::kBoot, Machine::kVault - 1, Machine::kVault,
          Machine::kData - 1, Machine::kBoot - 7, Machine::kGptEnd - 8 + 7}) {
        for (const int opcode : {0x30, 0x34, 0x35, 0x3d, 0xca, 0x61}) {
            Request request = write_request(lba);
            request.opcode = static_cast<std::uint8_t>(opcode);
            expect_refused(request, 3);
        }
    }
    EXPECT_TRUE(equal_bytes(m().disk.sector(0, 256), before));
}

TEST_F(HostileGuest, UnlistedOpcodesNeverReachTheDrive) {
    const std::set<int> allowed{0x20, 0x24, 0x25, 0x2f, 0x30, 0x34, 0x35, 0x3d, 0x40, 0x42, 0x47, 0x60, 0x61,
                                0xb0, 0xc8, 0xca, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0xe7, 0xea, 0xec, 0xef};
    for (int opcode = 0; opcode < 256; ++opcode) {
        if (allowed.contains(opcode)) continue;
        SCOPED_TRACE(opcode);
        expect_refused(
            {.opcode = static_cast<std::uint8_t>(opcode), .lba = 1000, .count = 1, .buffer = kBuffer, .bytes = 512});
    }
    for (const std::uint8_t seen : m().disk.opcodes_seen) {
        EXPECT_TRUE(allowed.contains(seen)) << std::hex << int{seen};
    }
}

// Whatever the policy says: a range that is not all the guest's is not half forgotten.
TEST_F(HostileGuest, TrimNeverReachesWhatTheGuestMayNotWrite) {
    m().mediator->disks()[0].allow_trim(true);
    const auto before = [&] {
        return std::vector<std::byte>(m().disk.sector(0, 256).begin(), m().disk.sector(0, 256).end());
    };
    const auto as_it_was = before();
    const std::uint64_t one = std::uint64_t{1} << 48;
    Request trim{
        .opcode = 0x06, .count = 1, .features = 1, .buffer = kBuffer, .bytes = 512, .header_flags = 5 | 1u << 6};
    for (const std::uint64_t bad :
         {one | 0, one | (Machine::kGptEnd - 1), one | Machine::kBoot, one | Machine::kVault,
          one | (Machine::kData - 1), 0xffff * one | Machine::kGptEnd, one * 2 | (Machine::kBoot - 1),
          one | m().options.sectors, one * 2 | (m().options.sectors - 1), one | 0xffffffffffff, ~std::uint64_t{0}}) {
        SCOPED_TRACE(bad);
        for (const std::size_t place : {0u, 8u, 504u}) {
            wipe(m().ram(kBuffer, 512));
            store(m().ram(kBuffer, 512).data(), one | Machine::kData, Endian::kLittle);  // one that would be good
            store(m().ram(kBuffer, 512).data() + place, bad, Endian::kLittle);
            expect_refused(trim);
        }
    }
    EXPECT_EQ(before(), as_it_was);
    wipe(m().ram(kBuffer, 512));
    for (const auto& [count, features] : std::initializer_list<std::pair<std::uint32_t, std::uint16_t>>{
             {0, 1}, {129, 1}, {1, 0}, {1, 3}, {1, 0x0101}, {0xffff, 1}}) {
        Request other = trim;
        other.count = count, other.features = features, other.bytes = 512u * 129;
        expect_refused(other);
    }
    trim.buffer = kHypervisor;
    expect_refused(trim);
    trim.buffer = kBuffer, trim.bytes = 510;
    expect_refused(trim);
}

TEST_F(HostileGuest, RangesOfATrimThatChangeAfterIssueHaveNoEffect) {
    m().mediator->disks()[0].allow_trim(true);
    wipe(m().ram(kBuffer, 512));
    m().hba.paused = true;
    m().submit(
        0, {.opcode = 0x06, .count = 1, .features = 1, .buffer = kBuffer, .bytes = 512, .header_flags = 5 | 1u << 6});
    store(m().ram(kBuffer, 512).data(), std::uint64_t{1} << 48 | Machine::kVault, Endian::kLittle);
    m().hba.paused = false;
    EXPECT_EQ(m().wait(1), 1u);
    EXPECT_TRUE(equal_bytes(m().disk.sector(Machine::kVault).first(16), m().secret));
}

TEST_F(HostileGuest, RefusesForeignFisTypesAndHeaders) {
    for (const int type : {0x00, 0x34, 0x41, 0x46, 0x58, 0xa1}) {
        Request request = read_request();
        request.edit_fis = [type](MutableBytes fis) { fis[0] = static_cast<std::byte>(type); };
        expect_refused(request);
    }
    for (const std::uint32_t flags : {5u | 1u << 5, 5u | 1u << 9, 5u | 1u << 12, 5u | 0xf000}) {
        Request request = read_request();
        request.header_flags = flags;
        expect_refused(request);
    }
    Request multiplier = read_request();
    multiplier.edit_fis = [](MutableBytes fis) { fis[1] = std::byte{0x81}; };
    expect_refused(multiplier);
}

TEST_F(HostileGuest, RefusesQueuedCommandsWithAForeignTagOrWithoutPxSact) {
    Request request{.opcode = 0x61, .lba = 1000, .count = 1, .buffer = kBuffer, .bytes = 512};
    request.edit_fis = [](MutableBytes fis) { fis[12] = std::byte{5 << 3}; };
    m().submit(4, request);
    m().wait(1 << 4);
    EXPECT_NE(m().error, 0u);
    m().recover(false);
    request.edit_fis = nullptr;
    m().build(4, request);
    m().issue(1 << 4);  // no PxSACT
    m().wait(1 << 4);
    EXPECT_NE(m().error, 0u);
    EXPECT_EQ(m().disk.sectors_written, 0u);
}

TEST_F(HostileGuest, ResetAndInterruptBitsInACommandFisAreNotPassedOn) {
    Request request = read_request();
    request.edit_fis = [](MutableBytes fis) { fis[15] = std::byte{0xfd}; };  // everything but nIEN
    EXPECT_TRUE(m().command(request));
}

TEST_F(HostileGuest, IssuingABusySlotAgainChangesNothing) {
    m().hba.paused = true;
    m().submit(0, {.opcode = 0x60, .lba = 1000, .count = 1, .buffer = kBuffer, .bytes = 512});
    m().build(0, {.opcode = 0x61, .lba = 2000, .count = 1, .buffer = kBuffer, .bytes = 512});
    m().set(PortRegister::kCommandIssue, 1);
    m().hba.paused = false;
    m().hba.run();
    m().set(PortRegister::kCommandIssue, 1);
    EXPECT_EQ(m().reg(PortRegister::kSataActive), 0u);
    m().hba.run();
    EXPECT_EQ(m().disk.sectors_written, 0u);
}

TEST_F(HostileGuest, NothingIsIssuedWhileThePortIsStopped) {
    m().stop_port();
    m().build(0, write_request(1000));
    m().set(PortRegister::kSataActive, 1);
    m().set(PortRegister::kCommandIssue, 1);
    EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 0u);
    EXPECT_EQ(m().reg(PortRegister::kSataActive), 0u);
    m().start_port();
    m().hba.run();
    EXPECT_EQ(m().disk.sectors_written, 0u);
}

// --- Stopping with commands in flight ---

class InFlight : public HostileGuest {
  protected:
    void fill_queue() {
        for (std::uint32_t slot = 0; slot < 32; ++slot) {
            const bool write = slot % 2 == 0;
            m().build(slot, {.opcode = static_cast<std::uint8_t>(write ? 0x61 : 0x60),
                             .lba = 1000 + slot * 64,
                             .count = 64,
                             .buffer = kBuffer + slot * 0x10000,
                             .bytes = 64 * 512});
        }
        m().hba.paused = true;
        m().issue(~0u, ~0u);
        m().hba.paused = false;
        for (int i = 0; i < 20; ++i) m().hba.step();
    }
    // The disk's own view afterwards: everything that was written is a whole, correctly encrypted write.
    void expect_disk_consistent(const std::vector<std::byte>& pattern) {
        for (std::uint32_t slot = 0; slot < 32; slot += 2) {
            for (std::uint64_t i = 0; i < 64; ++i) {
                const std::uint64_t lba = 1000 + slot * 64 + i;
                const bool untouched =
                    std::ranges::all_of(m().disk.sector(lba), [](std::byte b) { return b == std::byte{0}; });
                EXPECT_TRUE(untouched || equal_bytes(m().decrypted(lba), pattern)) << lba;
            }
        }
    }
    std::vector<std::byte> prepare() {
        const auto pattern = m().random_bytes(512);
        for (std::uint64_t at = 0; at < 32 * 0x10000; at += 512) copy_bytes(m().ram(kBuffer + at, 512), pattern);
        return pattern;
    }
};

TEST_F(InFlight, StopDropsSlotsAndTheirMemoryIsNotReusedBeforeTheEngineStops) {
    for (std::uint32_t round = 0; round < 20; ++round) {
        start({.seed = round});
        const auto pattern = prepare();
        fill_queue();
        m().hba.paused = true;
        m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) & ~1u);
        EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 0u);
        EXPECT_EQ(m().reg(PortRegister::kSataActive), 0u);
        // A driver that does not wait for PxCMD.CR: its start is ignored, as is what it issues.
        m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) | 1u);
        EXPECT_EQ(m().reg(PortRegister::kCommand) & 1, 0u);
        wipe(m().ram(kBuffer, 0x10000));
        m().build(0, write_request(5000, 64));
        m().set(PortRegister::kCommandIssue, 1);
        m().hba.paused = false;
        m().stop_port();
        expect_disk_consistent(pattern);
        m().start_port();
        EXPECT_TRUE(m().write(6000, pattern));
        EXPECT_EQ(m().decrypted(6000), pattern);
        expect_disk_consistent(pattern);
    }
}

TEST_F(InFlight, EngineThatNeverStopsKeepsThePortStopped) {
    const auto pattern = prepare();
    fill_queue();
    m().hba.never_stops = true;
    m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) & ~1u);
    m().hba.run();
    for (int i = 0; i < 10; ++i) {
        m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) | 1u);
        m().set(PortRegister::kCommandIssue, ~0u);
        EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 0u);
    }
    m().hba.never_stops = false;
    m().hba.run();
    m().start_port();
    expect_disk_consistent(pattern);
}

TEST_F(InFlight, NothingLandsOnceTheGuestReadsThatTheEngineHasStopped) {
    for (std::uint32_t round = 0; round < 20; ++round) {
        start({.seed = round});
        const auto pattern = prepare();
        m().hba.late_transfers = true;
        fill_queue();
        m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) & ~1u);
        while ((m().reg(PortRegister::kCommand) & bits(PortCommand::kListRunning)) != 0) m().hba.step();
        m().start_port();
        // The same tags at once, and the buffers for something else.
        for (std::uint32_t slot = 0; slot < 32; ++slot) {
            m().build(slot,
                      {.opcode = 0x60, .lba = 6000 + slot, .count = 1, .buffer = kBuffer + slot * 512, .bytes = 512});
        }
        const MutableBytes other = m().ram(kBuffer + 0x10000, 31 * 0x10000);
        std::ranges::fill(other, std::byte{0xc3});
        m().issue(~0u, ~0u);
        EXPECT_EQ(m().wait(~0u), ~0u) << "a retry is lost";
        m().hba.run();
        EXPECT_TRUE(std::ranges::all_of(other, [](std::byte b) { return b == std::byte{0xc3}; }));
        expect_disk_consistent(pattern);
    }
}

TEST_F(InFlight, NorOfCommandsThatAreNotQueued) {
    for (std::uint32_t round = 0; round < 20; ++round) {
        start({.seed = round});
        const auto pattern = prepare();
        m().hba.late_transfers = true;
        const std::uint64_t before = m().hba.commands;
        m().submit(0, round % 2 == 0 ? write_request(1000, 64) : read_request(kBuffer, 64));
        while (m().hba.commands == before) m().hba.step();
        m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) & ~1u);
        while ((m().reg(PortRegister::kCommand) & bits(PortCommand::kListRunning)) != 0) m().hba.step();
        m().start_port();
        const MutableBytes other = m().ram(kBuffer, 64 * 512);
        std::ranges::fill(other, std::byte{0xc3});
        EXPECT_TRUE(m().command(write_request(6000, 64)));
        for (int i = 0; i < 200; ++i) m().hba.step();
        EXPECT_TRUE(std::ranges::all_of(other, [](std::byte b) { return b == std::byte{0xc3}; }));
        expect_disk_consistent(pattern);
    }
}

TEST_F(InFlight, NothingIsStartedOnTheWayToAStop) {
    start({.sectors = 70000, .arena = ahci::Port::kMinimumArena});
    fill_queue();  // more writes than there are bounce units: some wait
    m().hba.run();
    const std::uint64_t before = m().hba.commands;
    m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) & ~1u);
    m().hba.run();
    EXPECT_EQ(m().hba.commands, before);
}

TEST_F(InFlight, DriveThatNeverEndsItsCommandsIsStoppedByAPortReset) {
    const auto pattern = prepare();
    fill_queue();
    m().hba.never_answers = true;
    m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) & ~1u);
    m().hba.run();
    EXPECT_NE(m().reg(PortRegister::kCommand) & bits(PortCommand::kListRunning), 0u);
    m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) | 1u);
    EXPECT_EQ(m().reg(PortRegister::kCommand) & 1, 0u);
    m().set(PortRegister::kSataControl, 0x301);
    m().hba.never_answers = false;
    m().set(PortRegister::kSataControl, 0x300);
    m().hba.run();
    m().start_port();
    EXPECT_TRUE(m().write(6000, pattern));
    expect_disk_consistent(pattern);
}

TEST_F(InFlight, ErrorIsRememberedWhenOtherCommandsEndAfterIt) {
    for (std::uint32_t round = 0; round < 20; ++round) {
        start({.seed = round});
        const auto pattern = prepare();
        m().hba.ends_after_error = true;
        m().disk.unreadable_lba = 1000 + 5 * 64 + 7;  // of the read in slot 5
        fill_queue();
        m().wait(~0u);
        ASSERT_NE(m().error, 0u);
        m().hba.run();
        EXPECT_EQ(m().reg(PortRegister::kTaskFile) & 1, 0u) << "control: nothing shows the error any more";
        EXPECT_EQ(m().recover(true), 5u) << "the port does not stop";
        expect_disk_consistent(pattern);
    }
}

// A write that the device should have given up, and a guest that puts plaintext where it may still read.
TEST_F(InFlight, BounceMemoryHoldsNothingOfTheGuestsThatIsNotCheckedOrEncrypted) {
    const auto set_start = [&](bool on) {
        const std::uint32_t command = m().reg(PortRegister::kCommand);
        m().set(PortRegister::kCommand, on ? command | 1u : command & ~1u);
    };
    const auto stopping = [&] { return (m().reg(PortRegister::kCommand) & bits(PortCommand::kListRunning)) != 0; };
    constexpr std::byte kMark{0xa7};
    const auto is_mark = [](std::byte value) { return value == kMark; };
    for (std::uint32_t round = 0; round < 80; ++round) {
        start({.seed = round});
        m().mediator->disks()[0].allow_trim(true);
        m().disk.unreadable_lba = 5000;
        m().submit(0, {.opcode = 0x25, .lba = 5000, .count = 1, .buffer = kBuffer, .bytes = 512});
        m().hba.run();
        m().stop_port();
        set_start(true);  // PxIS.TFES is still set
        m().hba.late_transfers = true;
        std::ranges::fill(m().ram(kBuffer, 64 * 512), kMark);
        const auto before = m().hba.commands;
        m().submit(1, {.opcode = 0x35, .lba = 1000, .count = 64, .buffer = kBuffer, .bytes = 64 * 512});
        while (m().hba.commands == before) m().hba.step();
        m().hba.paused = true;
        (void)m().reg(PortRegister::kInterruptStatus);
        set_start(false);
        for (int i = 0; i < 3000; ++i) ASSERT_TRUE(stopping()) << "an error of before the start ended it";
        m().hba.paused = false;
        while (stopping()) m().hba.step();
        m().set(PortRegister::kInterruptStatus, ~0u);
        set_start(true);
        if (round % 2 == 0) {
            m().submit(0, {.opcode = 0x35, .lba = 3000, .count = 1, .regions = {{kBuffer, 256}, {kHypervisor, 256}}});
        } else {
            m().submit(0, {.opcode = 0x06, .count = 1, .features = 1, .buffer = kBuffer, .bytes = 512});
        }
        for (int i = 0; i < 400; ++i) m().hba.step();
        std::size_t run = 0;
        const DmaArena arena = m().memory.arena();
        for (const std::byte value : Bytes(arena.data, arena.size)) {
            run = is_mark(value) ? run + 1 : 0;
            ASSERT_LT(run, 64u) << "the guest's bytes are in the arena";
        }
        EXPECT_FALSE(std::ranges::all_of(m().disk.sector(1000).first(256), is_mark));
    }
}

// There are controllers that go on after an error.
TEST_F(InFlight, NothingStartsAfterAnErrorBeforeThePortIsStartedAgain) {
    for (std::uint32_t round = 0; round < 20; ++round) {
        start({.seed = round});
        m().hba.clear_issue_on_error = true;
        m().disk.unreadable_lba = 5000;
        m().submit(0, {.opcode = 0x25, .lba = 5000, .count = 1, .buffer = kBuffer, .bytes = 512});
        m().hba.run();
        EXPECT_NE(m().reg(PortRegister::kInterruptStatus) & bits(PortInterrupt::kTaskFileError), 0u);
        m().set(PortRegister::kInterruptStatus, ~0u);
        const auto before = m().hba.commands;
        m().submit(1, {.opcode = 0x35, .lba = 1000, .count = 64, .buffer = kBuffer, .bytes = 64 * 512});
        m().hba.run();
        EXPECT_EQ(m().hba.commands, before);
        EXPECT_EQ(m().reg(PortRegister::kCommandIssue) & 1, 1u) << "the command that failed is shown as done";
        (void)m().recover(false);
        std::array<std::byte, 512> sector{};
        EXPECT_TRUE(m().read(1000, 1, sector));
    }
}

TEST_F(InFlight, ErrorThatIsSeenWhileThePortIsStoppedHoldsNothingBack) {
    m().disk.unreadable_lba = 5000;
    m().submit(0, {.opcode = 0x25, .lba = 5000, .count = 1, .buffer = kBuffer, .bytes = 512});
    m().hba.run();
    m().stop_port();
    (void)m().reg(PortRegister::kInterruptStatus);
    m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) | 1u);
    std::array<std::byte, 512> sector{};
    EXPECT_TRUE(m().read(1000, 1, sector));
}

TEST_F(InFlight, LostRegistersAreNoCompletion) {
    (void)prepare();
    for (std::uint32_t slot = 0; slot < 32; ++slot) {
        m().build(slot, {.opcode = 0x60, .lba = 1000 + slot, .count = 1, .buffer = kBuffer + slot * 512, .bytes = 512});
    }
    m().hba.paused = true;
    m().issue(~0u, ~0u);
    m().hba.lose_registers();
    EXPECT_EQ(m().reg(PortRegister::kSataActive), ~0u);
    m().hba.paused = false;
    m().mediator->write(4, 4, 0x80000001);
    m().hba.run();
    m().boot_guest();
}

TEST_F(HostileGuest, RefusedCommandLeavesTheDriveWithoutAnError) {
    m().hba.error_stays = true;
    for (const std::uint8_t opcode : {std::uint8_t{0xf3}, std::uint8_t{0x61}}) {
        EXPECT_FALSE(
            m().command({.opcode = opcode, .lba = Machine::kBoot, .count = 1, .buffer = kBuffer, .bytes = 512}, 3));
        EXPECT_EQ(m().error, 1u << 30);
        EXPECT_EQ(m().reg(PortRegister::kInterruptStatus) & 1u << 30, 0u) << "cleared by the driver";
        EXPECT_EQ(m().recover(opcode == 0x61), opcode == 0x61 ? std::optional<std::uint32_t>(3) : std::nullopt);
        EXPECT_EQ(m().reg(PortRegister::kTaskFile) & 1, 0u);
        EXPECT_TRUE(m().command({.opcode = 0x60, .lba = 1000, .count = 1, .buffer = kBuffer, .bytes = 512}, 5));
    }
}

// After a refused command, as after any error, the port takes no further one until it has been stopped.
TEST_F(HostileGuest, RefusedCommandHaltsThePort) {
    m().build(0, {.opcode = 0xf3});
    m().build(1, {.opcode = 0xe7});
    m().issue(3);
    m().wait(3);
    ASSERT_NE(m().error, 0u);
    m().hba.run();
    EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 3u);
    EXPECT_EQ(m().disk.opcode_count[0xe7], 0u);
    m().recover(false);
}

// The registers' own rules (AHCI 1.3.1 section 10.7.2): an interrupt for what is pending and enabled, as long as it is.
TEST_F(HostileGuest, RefusedCommandInterruptsAsItsBitsAreEnabledUntilTheyAreCleared) {
    constexpr std::uint32_t kError = 1u << 30, kRegister = 1u << 0, kOwn = 1u << Machine::kPort;
    const auto acknowledge = [&](std::uint32_t pending) {
        m().set(PortRegister::kInterruptStatus, pending);
        m().mediator->write(8, 4, kOwn);
    };
    for (const std::uint32_t enabled : {kError, kRegister, kError | kRegister, 0u}) {
        SCOPED_TRACE(enabled);
        m().set(PortRegister::kInterruptEnable, enabled);
        EXPECT_EQ(m().reg(PortRegister::kInterruptEnable), enabled);
        m().submit(0, {.opcode = 0xf3});
        m().hba.run();
        EXPECT_EQ(m().hba.take_interrupt(), enabled != 0);
        EXPECT_EQ(m().mediator->read(8, 4), enabled != 0 ? kOwn : 0);
        EXPECT_EQ(m().reg(PortRegister::kInterruptStatus), kError | kRegister);
        acknowledge(kRegister);
        EXPECT_EQ(m().reg(PortRegister::kInterruptStatus), kError);
        EXPECT_EQ(m().hba.take_interrupt(), (enabled & kError) != 0);
        m().set(PortRegister::kInterruptEnable, 0);
        acknowledge(0);
        EXPECT_EQ(m().mediator->read(8, 4), 0u);
        m().set(PortRegister::kInterruptEnable, enabled);
        EXPECT_EQ(m().hba.take_interrupt(), (enabled & kError) != 0);
        m().stop_port();
        EXPECT_EQ(m().reg(PortRegister::kInterruptStatus), kError) << "a stop clears nothing";
        acknowledge(kError);
        EXPECT_EQ(m().reg(PortRegister::kInterruptStatus), 0u);
        EXPECT_EQ(m().mediator->read(8, 4), 0u);
        EXPECT_FALSE(m().hba.take_interrupt());
        // What is no refusal interrupts as it always did.
        m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) | 1u);
        m().submit(0, {.opcode = 0xe7});
        m().hba.run();
        EXPECT_EQ(m().hba.take_interrupt(), (enabled & kRegister) != 0);
        EXPECT_EQ(m().reg(PortRegister::kInterruptStatus), kRegister);
        acknowledge(kRegister);
        EXPECT_FALSE(m().hba.take_interrupt());
    }
}

// Nothing of it outlives a reset of link or controller: NCQ error log (ACS-4 section 9.13), PxIS.
TEST_F(HostileGuest, RefusedCommandIsForgottenAtAReset) {
    for (const bool whole : {false, true}) {
        EXPECT_FALSE(
            m().command({.opcode = 0x61, .lba = Machine::kBoot, .count = 1, .buffer = kBuffer, .bytes = 512}, 3));
        m().submit(4, {.opcode = 0xf3});
        if (whole) {
            m().boot_guest();
            EXPECT_EQ(m().reg(PortRegister::kInterruptStatus), 0u);
        } else {
            m().stop_port();
            m().set(PortRegister::kSataControl, 0x301);
            m().set(PortRegister::kSataControl, 0x300);
            m().hba.run();
            m().start_port();
        }
        EXPECT_EQ(m().recover(true), std::nullopt);
    }
}

// Drivers start the port once they have seen it (AHCI 1.3.1 section 10.1.2).
TEST_F(HostileGuest, SignatureIsInMemoryAfterALinkResetBeforeThePortIsStarted) {
    m().stop_port();
    wipe(m().ram(Machine::kFisArea, 256));
    m().set(PortRegister::kSataControl, 0x301);
    (void)m().reg(PortRegister::kTaskFile);
    EXPECT_EQ(m().ram(Machine::kFisArea, 256)[0x40], std::byte{0});
    m().set(PortRegister::kSataControl, 0x300);
    m().hba.run();
    EXPECT_EQ(m().reg(PortRegister::kTaskFile), 0x150u);
    const Bytes fis = m().ram(Machine::kFisArea + 0x40, 20);
    EXPECT_EQ(fis[0], std::byte{0x34});
    EXPECT_EQ(fis[2], std::byte{0x50});
    EXPECT_EQ(fis[3], std::byte{0x01});
    m().start_port();
}

TEST_F(InFlight, LinkResetWithCommandsInFlight) {
    for (std::uint32_t round = 0; round < 20; ++round) {
        start({.seed = round});
        const auto pattern = prepare();
        fill_queue();
        m().set(PortRegister::kSataControl, 0x301);
        for (unsigned i = 0; i < round; ++i) m().hba.step();
        m().set(PortRegister::kSataControl, 0x300);
        m().hba.run();
        EXPECT_EQ(m().reg(PortRegister::kSataStatus), 0x123u);
        m().recover(false);
        expect_disk_consistent(pattern);
        EXPECT_TRUE(m().write(6000, pattern));
    }
}

TEST_F(InFlight, ControllerResetWithCommandsInFlight) {
    for (std::uint32_t round = 0; round < 20; ++round) {
        start({.seed = round});
        const auto pattern = prepare();
        fill_queue();
        m().mediator->write(4, 4, 0x80000003);
        EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 0u);
        m().set(PortRegister::kCommand, 0x11);
        m().set(PortRegister::kCommandIssue, 1);
        m().hba.run();
        EXPECT_EQ(m().mediator->read(4, 4), 0x80000004u) << "out of reset, AE set, IE clear";
        m().boot_guest();
        expect_disk_consistent(pattern);
        EXPECT_TRUE(m().write(6000, pattern));
        EXPECT_EQ(m().decrypted(6000), pattern);
    }
}

TEST_F(InFlight, ControllerThatStaysInResetIsSilent) {
    m().hba.never_leaves_reset = true;
    m().mediator->write(4, 4, 0x80000001);
    m().hba.run();
    EXPECT_EQ(m().mediator->read(4, 4) & 1, 1u);
    EXPECT_EQ(m().reg(PortRegister::kSataStatus), 0u);
    m().set(PortRegister::kCommand, 0x11);
    m().hba.never_leaves_reset = false;
    m().hba.run();
    m().boot_guest();
}

// An error of before must not be taken for the answer to the command under way by a driver that polls memory.
TEST_F(HostileGuest, FisOfAnEarlierErrorIsNotShownAgain) {
    expect_refused({.opcode = 0xf3});
    wipe(m().ram(Machine::kFisArea, 256));
    m().hba.paused = true;
    m().submit(0, read_request());
    (void)m().reg(PortRegister::kTaskFile);
    EXPECT_EQ(m().ram(Machine::kFisArea, 256)[0x40], std::byte{0});
    m().hba.paused = false;
    m().wait(1);
}

// The stand-in ends after the driver has read PxIS for the command before, and is acknowledged along with it.
TEST_F(HostileGuest, RefusedCommandBehindAnotherInterruptsAlways) {
    for (const PortRegister last : {PortRegister::kInterruptStatus, PortRegister::kCommandIssue}) {
        m().build(0, {.opcode = 0xe7});
        m().build(1, {.opcode = 0xf3});
        m().issue(3);
        m().hba.run();
        while (m().hba.take_interrupt()) {}
        const std::uint32_t status = m().reg(PortRegister::kInterruptStatus);
        EXPECT_EQ(status, 1u);
        m().hba.run();
        m().set(PortRegister::kInterruptStatus, status);
        if (last == PortRegister::kCommandIssue) {
            EXPECT_EQ(m().reg(PortRegister::kCommandIssue), 2u);
        }
        m().mediator->write(8, 4, 1u << Machine::kPort);
        while (m().hba.take_interrupt()) {}
        m().hba.run();
        EXPECT_TRUE(m().hba.take_interrupt());
        EXPECT_NE(m().reg(PortRegister::kInterruptStatus) & 1u << 30, 0u);
        m().recover(false);
    }
}

// A CPU may have found the port present just before another one resets the controller.
TEST_F(HostileGuest, AccessThatMeetsAControllerResetHasNoEffect) {
    m().build(0, write_request(1000));
    m().mediator->write(4, 4, 0x80000001);
    m().hba.run();
    ahci::Port& port = m().mediator->disks()[0];
    port.write(PortRegister::kCommand, 0x11);
    port.write(PortRegister::kCommandIssue, 1);
    EXPECT_EQ(m().hba.read(0x100 + Machine::kPort * 0x80 + 0x18) & 0x11, 0u);
    EXPECT_EQ(port.read(PortRegister::kCommandIssue), 0u);
    m().boot_guest();
    EXPECT_EQ(m().disk.sectors_written, 0u);
}

// Only a reset of the link that is over ends what is in flight: not one that has begun, nor turning the link off.
TEST_F(InFlight, NothingLandsAfterAStartInALinkResetOrWithTheLinkTurnedOff) {
    for (const std::vector<std::uint32_t>& detections : {std::vector{1u}, {4u, 0u}, {1u, 4u, 0u}, {1u, 4u}}) {
        start();
        const auto pattern = prepare();
        m().hba.late_transfers = true;
        fill_queue();
        m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) & ~1u);
        for (const std::uint32_t detection : detections) m().set(PortRegister::kSataControl, 0x300 | detection);
        while ((m().reg(PortRegister::kCommand) & bits(PortCommand::kListRunning)) != 0) m().hba.step();
        m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) | 1u);
        if ((m().reg(PortRegister::kCommand) & 1) != 0) {
            const MutableBytes other = m().ram(kBuffer, 32 * 0x10000);
            std::ranges::fill(other, std::byte{0xc3});
            for (int i = 0; i < 2000; ++i) m().hba.step();
            EXPECT_TRUE(std::ranges::all_of(other, [](std::byte b) { return b == std::byte{0xc3}; }));
        }
        m().set(PortRegister::kSataControl, 0x301);
        m().set(PortRegister::kSataControl, 0x300);
        m().hba.run();
        m().recover(false);
        expect_disk_consistent(pattern);
    }
}

// --- Registers ---

TEST_F(HostileGuest, RegistersOfFeaturesThatAreNotOfferedReadZeroAndIgnoreWrites) {
    auto& hba = *m().mediator;
    EXPECT_EQ(hba.read(0x00, 4) & 0x200300c0, 0u) << "CAP: SSNTF, SPM, FBSS, CCCS, EMS";
    EXPECT_NE(hba.read(0x00, 4) & 1u << 30, 0u) << "CAP.SNCQ stays";
    EXPECT_EQ(hba.read(0x0c, 4), 1u << Machine::kPort);
    EXPECT_EQ(hba.read(0x10, 4), 0x10301u);
    for (std::uint32_t offset = 0x14; offset < 0x100; offset += 4) {
        hba.write(offset, 4, 0xffffffff);
        EXPECT_EQ(hba.read(offset, 4), 0u) << std::hex << offset;
    }
    const std::uint32_t base = 0x100 + Machine::kPort * 0x80;
    for (const std::uint32_t offset : {0x1cu, 0x3cu, 0x40u, 0x44u, 0x48u, 0x70u, 0x7cu}) {
        hba.write(base + offset, 4, 0xffffffff);
        EXPECT_EQ(hba.read(base + offset, 4), 0u) << std::hex << offset;
    }
    for (std::uint32_t port = 0; port < 33; ++port) {
        if (port == Machine::kPort) continue;
        for (std::uint32_t offset = 0; offset < 0x80; offset += 4) {
            hba.write(0x100 + port * 0x80 + offset, 4, 0xffffffff);
            EXPECT_EQ(hba.read(0x100 + port * 0x80 + offset, 4), 0u);
        }
    }
}

TEST_F(HostileGuest, AhciModeCannotBeLeftAndThePortMultiplierBitCannotBeSet) {
    m().mediator->write(4, 4, 0);
    EXPECT_EQ(m().mediator->read(4, 4) & 0x80000000, 0x80000000);
    EXPECT_EQ(m().hba.read(4) & 0x80000000, 0x80000000);
    m().set(PortRegister::kCommand, m().reg(PortRegister::kCommand) | bits(PortCommand::kNotOffered));
    EXPECT_EQ(m().hba.read(0x100 + Machine::kPort * 0x80 + 0x18) & bits(PortCommand::kNotOffered), 0u);
    m().set(PortRegister::kSataControl, 0x000f0300);
    EXPECT_EQ(m().hba.read(0x100 + Machine::kPort * 0x80 + 0x2c), 0x300u);
    m().mediator->write(4, 4, 0x80000002);
}

TEST_F(HostileGuest, AccessesOfEverySizeAndPlaceAreHarmless) {
    for (int i = 0; i < 200000; ++i) {
        const auto offset = static_cast<std::uint32_t>(m().random() % 0x1200);
        const std::uint32_t size = 1u << m().random() % 4;
        if (offset < 0x100 && m().random() % 16 != 0) continue;  // not too many controller resets
        if (m().random() % 2 == 0) {
            const std::uint64_t value = m().mediator->read(offset, size);
            if (size < 8) {
                EXPECT_EQ(value >> (8 * size), 0u);
            }
        } else {
            m().mediator->write(offset, size, std::uint64_t{m().random()} << 32 | m().random());
        }
        m().hba.step();
    }
    m().hba.run();
    m().memory.never_in_guest.clear();
    m().boot_guest();
}

TEST_F(HostileGuest, WideReadsAreTwoRegisters) {
    const std::uint32_t base = 0x100 + Machine::kPort * 0x80;
    m().mediator->write(base, 8, 0x1'0001'0000);
    EXPECT_EQ(m().mediator->read(base, 8), 0x1'0001'0000u);
    EXPECT_EQ(m().mediator->read(base + 2, 2), 1u);
    EXPECT_EQ(m().mediator->read(base + 4, 1), 1u);
    m().mediator->write(base, 8, Machine::kCommandList);
}

// --- A driver that polls memory ---

TEST_F(HostileGuest, FisInMemoryNeverTellsOfDataThatAreNotDecrypted) {
    std::uint64_t seen = 0;
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
        start({.seed = seed, .chaos = 60});
        for (int round = 0; round < 20; ++round) {
            const bool queued = round % 2 == 0;
            std::vector<std::vector<std::byte>> data;
            const std::uint32_t depth = queued ? 8 : 1;
            wipe(m().ram(Machine::kFisArea, 256));
            for (std::uint32_t slot = 0; slot < depth; ++slot) {
                data.push_back(m().random_bytes(2 * 512));
                m().fill_encrypted(1000 + slot * 2, data[slot]);
                m().build(slot, {.opcode = static_cast<std::uint8_t>(queued ? 0x60 : 0x25),
                                 .lba = 1000 + slot * 2,
                                 .count = 2,
                                 .buffer = kBuffer + slot * 1024,
                                 .bytes = 1024});
            }
            wipe(m().ram(Machine::kFisArea, 256));
            m().set(PortRegister::kSataActive, queued ? 0xff : 0);
            m().set(PortRegister::kCommandIssue, queued ? 0xff : 1);
            std::uint32_t left = (1u << depth) - 1;
            for (int i = 0; i < 10000 && left != 0; ++i) {
                m().hba.step();
                if (i % 3 == 0) (void)m().reg(PortRegister::kTaskFile);
                const Bytes area = m().ram(Machine::kFisArea, 256);
                std::uint32_t told = 0;
                if (queued && area[0x58] == std::byte{0xa1}) told = load<std::uint32_t>(&area[0x5c], Endian::kLittle);
                if (!queued && area[0x40] == std::byte{0x34} && area[0x42] == std::byte{0x50}) told = 1;
                for (std::uint32_t slot = 0; slot < depth; ++slot) {
                    if ((told & left) >> slot & 1) {
                        ++seen;
                        ASSERT_TRUE(equal_bytes(m().ram(kBuffer + slot * 1024, 1024), data[slot]));
                    }
                }
                left &= ~told;
                if (queued && m().reg(PortRegister::kSataActive) == 0) left = 0;  // SDB FIS may be overwritten unseen
            }
            ASSERT_EQ(left, 0u);
            m().set(PortRegister::kInterruptStatus, ~0u);
        }
    }
    EXPECT_GT(seen, 500u);
}

// --- Several CPUs ---

TEST_F(HostileGuest, FourCpusAtOnceOnOnePort) {
    start({.chaos = 30});
    std::atomic<bool> stop = false;
    std::vector<std::thread> cpus;
    for (int cpu = 0; cpu < 3; ++cpu) {
        cpus.emplace_back([&, cpu] {
            std::mt19937 random(static_cast<unsigned>(cpu));
            constexpr std::uint32_t kRegisters[] = {0x10, 0x20, 0x34, 0x38, 0x18, 0x28};
            while (!stop) {
                (void)m().mediator->read(0x100 + Machine::kPort * 0x80 + kRegisters[random() % 6], 4);
            }
        });
    }
    for (int round = 0; round < 200; ++round) {
        const std::uint64_t lba = 300 + static_cast<std::uint64_t>(round);
        const auto data = m().random_bytes(4 * 512);
        ASSERT_TRUE(m().write(lba, data));
        std::vector<std::byte> out(data.size());
        ASSERT_TRUE(m().read(lba, 4, out));
        ASSERT_EQ(out, data);
    }
    stop = true;
    for (auto& cpu : cpus) cpu.join();
}

// A command of 28 bits that crosses sector 2^28 is done in parts, and the part behind it must not be that from sector 0.
class EndOf28Bits : public ::testing::Test {
  protected:
    static constexpr std::uint64_t kEnd = 1u << 28;
    static bool sent(Machine& machine, std::uint8_t opcode, std::uint64_t lba, std::uint32_t bytes) {
        std::vector<std::pair<std::uint64_t, std::uint32_t>> regions;
        for (unsigned i = 0; i < 256; ++i) regions.emplace_back(Machine::kBuffers + i * 2 * bytes, bytes);
        machine.launch();
        machine.boot_guest();
        return machine.command({.opcode = opcode,
                                .lba = lba,
                                .count = 0,
                                .device = static_cast<std::uint8_t>(0x40 | (lba >> 24 & 0xf)),
                                .regions = regions});
    }
};

TEST_F(EndOf28Bits, IsNotWrittenAcross) {
    Machine m({.sector_size = 4096, .sectors = kEnd + 1000, .arena = ahci::Port::kMinimumArena});
    const auto before = std::vector<std::byte>(m.disk.sector(0, 128).begin(), m.disk.sector(0, 128).end());
    EXPECT_FALSE(sent(m, 0xca, kEnd - 128, 4096));
    EXPECT_TRUE(equal_bytes(before, m.disk.sector(0, 128))) << "partition table and boot partition were written";
}

TEST_F(EndOf28Bits, IsNotReadAcross) {
    Machine m({.sectors = kEnd + 1000});
    EXPECT_FALSE(sent(m, 0xc8, kEnd - 185, 512));
}

TEST_F(EndOf28Bits, IsReadUpTo) {
    Machine m({.sectors = kEnd + 1000});
    EXPECT_TRUE(sent(m, 0xc8, kEnd - 256, 512));
}

}  // namespace
}  // namespace gatehouse::ata::testing

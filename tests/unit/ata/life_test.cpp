// From firmware to guest: take-over, the mediator's own commands, hand-over; volumes.
#include <gtest/gtest.h>

#include "tests/unit/ata/machine.hpp"

namespace gatehouse::ata::testing {
namespace {

using ahci::PortRegister;

constexpr std::uint64_t kMegabyte = 1024 * 1024;

struct Bare {
    PhysicalMemory memory{16 * kMegabyte, 8 * kMegabyte, 6 * kMegabyte, 4 * kMegabyte};
    HbaModel hba{memory, 1};
    DiskModel disk{512, 4096};
    Vectors vectors;
    ahci::Controller controller;
    Environment environment{&memory, &hba, &hba, &vectors};
};

TEST(Life, ReadsSectorsBeforeTheGuest) {
    Machine m;
    const Environment environment{&m.memory, &m.hba, &m.hba, &m.vectors};
    ASSERT_TRUE(m.mediator->take_over(environment, m.memory.arena()).ok());
    std::array<std::byte, 512> page{};
    std::vector<std::byte> out(1000 * 512);
    EXPECT_EQ(m.mediator->read_sectors(Machine::kPort, 0, out).error(), Error::kState) << "before identify";
    ASSERT_TRUE(m.mediator->identify(Machine::kPort, page).ok());
    EXPECT_EQ(page, m.disk.identify()) << "the mediator itself sees the drive as it is";
    ASSERT_TRUE(m.mediator->read_sectors(Machine::kPort, 10, out).ok());
    EXPECT_TRUE(equal_bytes(out, m.disk.sector(10, 1000)));
    EXPECT_EQ(m.mediator->read_sectors(Machine::kPort, m.options.sectors - 999, out).error(), Error::kOutOfRange);
    EXPECT_EQ(m.mediator->read_sectors(Machine::kPort, 0, MutableBytes(out).first(100)).error(), Error::kOutOfRange);
    EXPECT_EQ(m.mediator->read_sectors(1, 0, out).error(), Error::kNotFound);
    EXPECT_EQ(m.hba.read(0x28) & 1, 0u) << "the firmware has let go";
    m.expect_untouched();
}

TEST(Life, DeviceErrorIsReportedAndTheNextCommandWorks) {
    Machine m;
    const Environment environment{&m.memory, &m.hba, &m.hba, &m.vectors};
    ASSERT_TRUE(m.mediator->take_over(environment, m.memory.arena()).ok());
    std::array<std::byte, 512> page{};
    ASSERT_TRUE(m.mediator->identify(Machine::kPort, page).ok());
    m.disk.unreadable_lba = 50;
    std::vector<std::byte> out(512);
    const Status failed = m.mediator->read_sectors(Machine::kPort, 50, out);
    EXPECT_EQ(failed.error(), Error::kDeviceError);
    EXPECT_EQ(failed.failure().detail & 0xffff, 0x4051u);
    EXPECT_TRUE(m.mediator->read_sectors(Machine::kPort, 51, out).ok());
}

TEST(Life, HungDiskIsATimeout) {
    Machine m;
    const Environment environment{&m.memory, &m.hba, &m.hba, &m.vectors};
    ASSERT_TRUE(m.mediator->take_over(environment, m.memory.arena()).ok());
    m.hba.never_answers = true;
    std::array<std::byte, 512> page{};
    EXPECT_EQ(m.mediator->identify(Machine::kPort, page).error(), Error::kTimeout);
}

TEST(Life, DiskThatStaysBusyIsAbsentAndTheOthersWork) {
    PhysicalMemory memory{16 * kMegabyte, 8 * kMegabyte, 6 * kMegabyte, 4 * kMegabyte};
    HbaModel hba{memory, 2};
    DiskModel busy{512, 4096}, good{512, 4096};
    Vectors vectors;
    ahci::Controller controller;
    hba.plug(0, busy);
    hba.plug(1, good);
    hba.busy_ports = 1;
    ASSERT_TRUE(controller.take_over({&memory, &hba, &hba, &vectors}, memory.arena()).ok());
    EXPECT_EQ(controller.disks(), 2u);
    std::array<std::byte, 512> page{};
    EXPECT_TRUE(controller.identify(1, page).ok());
}

TEST(Life, EngineThatFirmwareLeftRunningForeverIsATimeout) {
    Bare bare;
    bare.hba.plug(0, bare.disk);
    bare.hba.write(0x118, 0x11);
    bare.hba.never_stops = true;
    EXPECT_EQ(bare.controller.take_over(bare.environment, bare.memory.arena()).error(), Error::kTimeout);
}

TEST(Life, PacketDevicesAndEmptyPortsAreAbsent) {
    Bare bare;
    DiskModel cdrom{512, 16};
    DiskModel silent{512, 16};
    bare.hba.plug(0, cdrom, 0xeb140101);
    bare.hba.plug(3, bare.disk);
    bare.hba.plug(4, silent, 0xffffffff);
    ASSERT_TRUE(bare.controller.take_over(bare.environment, bare.memory.arena()).ok());
    EXPECT_EQ(bare.controller.disks(), 1u << 3);
}

TEST(Life, DiskWithoutVolumeIsAbsentForTheGuest) {
    Bare bare;
    DiskModel other{512, 4096};
    bare.hba.plug(0, bare.disk);
    bare.hba.plug(5, other);
    ASSERT_TRUE(bare.controller.take_over(bare.environment, bare.memory.arena()).ok());
    EXPECT_EQ(bare.controller.disks(), 0x21u);
    std::array<std::byte, 512> page{};
    ASSERT_TRUE(bare.controller.identify(5, page).ok());
    ASSERT_TRUE(bare.controller.attach(5, {{512, 4096}, {}, RegionClass::kReadOnly, nullptr}).ok());
    ASSERT_TRUE(bare.controller.hand_over().ok());
    EXPECT_EQ(bare.controller.read(0x0c, 4), 1u << 5);
    EXPECT_EQ(bare.controller.read(0x128, 4), 0u) << "PxSSTS of port 0";
    EXPECT_NE(bare.controller.read(0x3a8, 4), 0u) << "PxSSTS of port 5";
    EXPECT_EQ(bare.controller.identify(5, page).error(), Error::kState);
    EXPECT_EQ(bare.controller.attach(0, {{512, 4096}, {}, RegionClass::kReadOnly, nullptr}).error(), Error::kState);
}

TEST(Life, ArenaTooSmallForTheDisksIsRefused) {
    Bare bare;
    DiskModel other{512, 4096};
    bare.hba.plug(0, bare.disk);
    bare.hba.plug(1, other);
    DmaArena arena = bare.memory.arena();
    arena.size = 2 * ahci::Controller::kArenaPerDisk - 4096;
    EXPECT_EQ(bare.controller.take_over(bare.environment, arena).error(), Error::kNoSpace);
}

TEST(Life, HandedOverPortLooksAsAfterReset) {
    Machine m;
    m.launch();
    EXPECT_EQ(m.reg(PortRegister::kCommand) & 0xc011, 0u) << "ST, FRE, FR, CR";
    EXPECT_EQ(m.reg(PortRegister::kInterruptStatus), 0u);
    EXPECT_EQ(m.reg(PortRegister::kInterruptEnable), 0u);
    EXPECT_EQ(m.reg(PortRegister::kCommandList), 0u);
    EXPECT_EQ(m.reg(PortRegister::kSignature), 0x101u);
    EXPECT_EQ(m.mediator->read(4, 4) & 3, 0u);
}

TEST(Life, StopEndsAllDma) {
    Machine m;
    m.launch();
    m.boot_guest();
    m.hba.paused = true;
    m.submit(0, {.opcode = 0x25, .lba = 1000, .count = 8, .buffer = Machine::kBuffers, .bytes = 4096});
    m.hba.paused = false;
    m.mediator->stop();
    const std::uint64_t before = m.memory.guest_dma_writes;
    m.hba.run();
    EXPECT_EQ(m.memory.guest_dma_writes, before);
}

TEST(Volumes, CheckRefusesNonsense) {
    XtsKey key;
    std::array<std::byte, 64> bytes{};
    bytes[0] = std::byte{1};
    ASSERT_TRUE(key.set(bytes).ok());
    const XtsKey unset;
    const auto error = [&](std::vector<Region> regions, Geometry geometry = {512, 100},
                           RegionClass otherwise = RegionClass::kEncrypted, const XtsKey* k = nullptr) {
        return Volume{geometry, regions, otherwise, k}.check().error();
    };
    using enum RegionClass;
    EXPECT_EQ(error({}, {512, 100}, kEncrypted, &key), Error::kNone);
    EXPECT_EQ(error({}, {512, 100}, kEncrypted, nullptr), Error::kBadValue);
    EXPECT_EQ(error({}, {512, 100}, kEncrypted, &unset), Error::kBadValue);
    EXPECT_EQ(error({{0, 1, kEncrypted, nullptr}}, {512, 100}, kReadOnly, nullptr), Error::kBadValue);
    EXPECT_EQ(error({}, {520, 100}, kReadOnly), Error::kUnsupported);
    EXPECT_EQ(error({}, {512, 100}, kOverlay, &key), Error::kBadValue);
    EXPECT_EQ(error({{0, 1, kOverlay, nullptr}}, {512, 100}, kReadOnly), Error::kBadValue);
    EXPECT_EQ(error({{0, 0, kHidden, nullptr}}, {512, 100}, kReadOnly), Error::kBadValue);
    EXPECT_EQ(error({{99, 2, kHidden, nullptr}}, {512, 100}, kReadOnly), Error::kBadValue);
    EXPECT_EQ(error({{1, ~std::uint64_t{0}, kHidden, nullptr}}, {512, 100}, kReadOnly), Error::kBadValue);
    EXPECT_EQ(error({{5, 10, kHidden, nullptr}, {14, 1, kHidden, nullptr}}, {512, 100}, kReadOnly), Error::kBadValue);
    EXPECT_EQ(error({{5, 10, kHidden, nullptr}, {3, 1, kHidden, nullptr}}, {512, 100}, kReadOnly), Error::kBadValue);
}

TEST(Volumes, AttachRefusesAnotherDisksGeometry) {
    Bare bare;
    bare.hba.plug(0, bare.disk);
    ASSERT_TRUE(bare.controller.take_over(bare.environment, bare.memory.arena()).ok());
    std::array<std::byte, 512> page{};
    ASSERT_TRUE(bare.controller.identify(0, page).ok());
    EXPECT_EQ(bare.controller.attach(0, {{512, 4095}, {}, RegionClass::kReadOnly, nullptr}).error(), Error::kMismatch);
    EXPECT_EQ(bare.controller.attach(0, {{4096, 4096}, {}, RegionClass::kReadOnly, nullptr}).error(), Error::kMismatch);
}

TEST(Volumes, RunsCoverEverySectorOnce) {
    std::array<std::byte, 512 * 4> overlay{};
    const std::vector<Region> regions{{2, 4, RegionClass::kOverlay, overlay.data()},
                                      {6, 1, RegionClass::kHidden, nullptr},
                                      {90, 10, RegionClass::kReadOnly, nullptr}};
    const Volume volume{{512, 100}, regions, RegionClass::kEncrypted, nullptr};
    using enum RegionClass;
    for (std::uint64_t lba = 0; lba < 100; ++lba) {
        const auto run = volume.run_at(lba, 1);
        const RegionClass expected = lba < 2    ? kEncrypted
                                     : lba < 6  ? kOverlay
                                     : lba < 7  ? kHidden
                                     : lba < 90 ? kEncrypted
                                                : kReadOnly;
        EXPECT_EQ(run.kind, expected) << lba;
        EXPECT_EQ(run.count, 1u);
        if (run.kind == kOverlay) {
            EXPECT_EQ(run.overlay, overlay.data() + (lba - 2) * 512);
        }
        EXPECT_EQ(volume.writable(lba, 1), expected == kEncrypted);
    }
    EXPECT_EQ(volume.run_at(0, 100).count, 2u);
    EXPECT_EQ(volume.run_at(7, 100).count, 83u);
    EXPECT_EQ(volume.run_at(3, 100).count, 3u);
    EXPECT_FALSE(volume.writable(88, 3));
    EXPECT_TRUE(volume.writable(88, 2));
    EXPECT_TRUE(volume.geometry.contains(99, 1));
    EXPECT_FALSE(volume.geometry.contains(99, 2));
    EXPECT_FALSE(volume.geometry.contains(100, 0));
    EXPECT_FALSE(volume.geometry.contains(5, ~std::uint64_t{0}));
}

}  // namespace
}  // namespace gatehouse::ata::testing

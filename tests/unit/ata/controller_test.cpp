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
    ahci::Controller controller;
};

std::vector<std::uint32_t> ports_of(ahci::Controller& controller) {
    std::vector<std::uint32_t> ports;
    for (const ahci::Port& port : controller.disks()) ports.push_back(port.number());
    return ports;
}

TEST(Controller, ReadsSectorsBeforeTheGuest) {
    Machine m;
    ahci::Port& port = m.take_over();
    std::vector<std::byte> out(1000 * 512);
    EXPECT_EQ(port.read_sectors(0, out).error(), Error::kState) << "before identify";
    ASSERT_TRUE(port.identify().ok());
    EXPECT_EQ(port.geometry().sector_size, m.options.sector_size);
    EXPECT_EQ(port.geometry().sectors, m.options.sectors);
    ASSERT_TRUE(port.read_sectors(10, out).ok());
    EXPECT_TRUE(equal_bytes(out, m.disk.sector(10, 1000)));
    EXPECT_EQ(port.read_sectors(m.options.sectors - 999, out).error(), Error::kOutOfRange);
    EXPECT_EQ(port.read_sectors(0, MutableBytes(out).first(100)).error(), Error::kOutOfRange);
    EXPECT_EQ(m.hba.read(0x28) & 1, 0u) << "the firmware has let go";
    m.expect_untouched();
}

TEST(Controller, DeviceErrorIsReportedAndTheNextCommandWorks) {
    Machine m;
    ahci::Port& port = m.take_over();
    ASSERT_TRUE(port.identify().ok());
    m.disk.unreadable_lba = 50;
    std::vector<std::byte> out(512);
    const Status failed = port.read_sectors(50, out);
    EXPECT_EQ(failed.error(), Error::kDeviceError);
    EXPECT_EQ(failed.failure().detail & 0xffff, 0x4051u);
    EXPECT_TRUE(port.read_sectors(51, out).ok());
}

TEST(Controller, HungDiskIsATimeout) {
    Machine m;
    ahci::Port& port = m.take_over();
    m.hba.never_answers = true;
    EXPECT_EQ(port.identify().error(), Error::kTimeout);
}

TEST(Controller, DiskThatStaysBusyIsAbsentAndTheOthersWork) {
    PhysicalMemory memory{16 * kMegabyte, 8 * kMegabyte, 6 * kMegabyte, 4 * kMegabyte};
    HbaModel hba{memory, 2};
    DiskModel busy{512, 4096}, good{512, 4096};
    ahci::Controller controller;
    hba.plug(0, busy);
    hba.plug(1, good);
    hba.busy_ports = 1;
    ASSERT_TRUE(controller.take_over(hba, memory.arena()).ok());
    ASSERT_EQ(ports_of(controller), std::vector{1u});
    EXPECT_TRUE(controller.disks()[0].identify().ok());
}

TEST(Controller, EngineThatFirmwareLeftRunningForeverIsATimeout) {
    Bare bare;
    bare.hba.plug(0, bare.disk);
    bare.hba.write(0x118, 0x11);
    bare.hba.never_stops = true;
    EXPECT_EQ(bare.controller.take_over(bare.hba, bare.memory.arena()).error(), Error::kTimeout);
}

TEST(Controller, PortMultipliersAndEmptyPortsAreAbsentAndPacketDevicesTheGuests) {
    Bare bare;
    DiskModel cdrom{2048, 16};
    DiskModel silent{512, 16};
    DiskModel multiplier{512, 16};
    bare.hba.plug(0, cdrom, 0xeb140101);
    bare.hba.plug(1, multiplier, 0x96690101);
    bare.hba.plug(3, bare.disk);
    bare.hba.plug(4, silent, 0xffffffff);
    ASSERT_TRUE(bare.controller.take_over(bare.hba, bare.memory.arena()).ok());
    EXPECT_EQ(ports_of(bare.controller), (std::vector{0u, 3u}));
    EXPECT_EQ(multiplier.opcodes_seen.size(), 0u);
    EXPECT_TRUE(bare.controller.disks()[0].is_attached());
    EXPECT_FALSE(bare.controller.disks()[1].is_attached());
    ASSERT_TRUE(bare.controller.disks()[1].identify().ok());
    const XtsKey key;
    bare.controller.disks()[1].attach({}, key);
    ASSERT_TRUE(bare.controller.hand_over().ok());
    EXPECT_EQ(bare.controller.read(0x0c, 4), 1u << 3 | 1u);
    EXPECT_EQ(bare.controller.read(0x124, 4), 0xeb140101u) << "PxSIG of the packet device";
    EXPECT_EQ(cdrom.opcodes_seen.size(), 0u);
    EXPECT_EQ(bare.controller.read(0x1a4, 4), 0u) << "PxSIG of the multiplier's port";
}

TEST(Controller, DiskWithoutVolumeIsAbsentForTheGuest) {
    Bare bare;
    DiskModel other{512, 4096};
    bare.hba.plug(0, bare.disk);
    bare.hba.plug(5, other);
    ASSERT_TRUE(bare.controller.take_over(bare.hba, bare.memory.arena()).ok());
    ASSERT_EQ(ports_of(bare.controller), (std::vector{0u, 5u}));
    ASSERT_TRUE(bare.controller.disks()[1].identify().ok());
    const XtsKey key;
    bare.controller.disks()[1].attach({}, key);
    ASSERT_TRUE(bare.controller.hand_over().ok());
    EXPECT_EQ(bare.controller.read(0x0c, 4), 1u << 5);
    EXPECT_EQ(bare.controller.read(0x128, 4), 0u) << "PxSSTS of port 0";
    EXPECT_NE(bare.controller.read(0x3a8, 4), 0u) << "PxSSTS of port 5";
}

TEST(Controller, ArenaTooSmallForTheDisksIsRefused) {
    Bare bare;
    DiskModel other{512, 4096};
    bare.hba.plug(0, bare.disk);
    bare.hba.plug(1, other);
    DmaArena arena = bare.memory.arena();
    arena.size = 2 * ahci::Port::kMinimumArena - 4096;
    EXPECT_EQ(bare.controller.take_over(bare.hba, arena).error(), Error::kNoSpace);
}

TEST(Controller, HandedOverPortLooksAsAfterReset) {
    Machine m;
    m.launch();
    EXPECT_EQ(m.reg(PortRegister::kCommand) & 0xc011, 0u) << "ST, FRE, FR, CR";
    EXPECT_EQ(m.reg(PortRegister::kInterruptStatus), 0u);
    EXPECT_EQ(m.reg(PortRegister::kInterruptEnable), 0u);
    EXPECT_EQ(m.reg(PortRegister::kCommandList), 0u);
    EXPECT_EQ(m.reg(PortRegister::kSignature), 0x101u);
    EXPECT_EQ(m.mediator->read(4, 4) & 3, 0u);
}

TEST(Controller, StopEndsAllDma) {
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

TEST(Volumes, RunsCoverEverySectorOnce) {
    std::array<std::byte, 512 * 4> overlay{};
    const std::vector<Region> regions{{2, 4, RegionClass::kOverlay, overlay.data()},
                                      {6, 1, RegionClass::kHidden, nullptr},
                                      {90, 10, RegionClass::kReadOnly, nullptr}};
    const Volume volume{{512, 100}, regions, nullptr, {}};
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
        EXPECT_EQ(volume.permits(lba, 1, true), expected == kEncrypted);
    }
    EXPECT_EQ(volume.run_at(0, 100).count, 2u);
    EXPECT_EQ(volume.run_at(7, 100).count, 83u);
    EXPECT_EQ(volume.run_at(3, 100).count, 3u);
    EXPECT_FALSE(volume.permits(88, 3, true));
    EXPECT_TRUE(volume.permits(88, 2, true));
    EXPECT_TRUE(volume.permits(0, 100, false));
    EXPECT_FALSE(volume.permits(99, 2, false));
    EXPECT_FALSE(volume.permits(99, 2, true));
    EXPECT_TRUE(volume.geometry.contains(99, 1));
    EXPECT_FALSE(volume.geometry.contains(99, 2));
    EXPECT_FALSE(volume.geometry.contains(100, 0));
    EXPECT_FALSE(volume.geometry.contains(5, ~std::uint64_t{0}));
}

}  // namespace
}  // namespace gatehouse::ata::testing

// The mediator's own commands between the guest's: what the guest finds afterwards is what it would have found without them.
#include <gtest/gtest.h>

#include "tests/unit/ata/machine.hpp"

namespace gatehouse::ata::testing {
namespace {

using ahci::PortRegister;

constexpr std::uint64_t kLba = Machine::kData + 100;
constexpr std::uint32_t kErrors = 0x7d800010;

class OwnCommandsOf : public ::testing::Test {
  protected:
    OwnCommandsOf() {
        machine.launch();
        machine.boot_guest();
    }
    ahci::Port& port() { return machine.mediator->disks()[0]; }
    OwnCommands& own() { return *port().own_commands(); }
    Error error_of_rest() {
        const Status rests = own().rest();
        if (rests) own().resume();
        return rests.error();
    }
    Request read_request() {
        return {.opcode = 0x25, .lba = kLba, .count = 8, .buffer = Machine::kBuffers, .bytes = 4096};
    }
    std::uint32_t hardware(PortRegister reg) {
        return machine.hba.read(0x100 + Machine::kPort * 0x80 + ahci::bits(reg));
    }
    // Whether a queued command still goes well: it would not with an error in PxTFD.
    bool queued_read_works() {
        machine.hba.error_stays = true;
        Request request = read_request();
        request.opcode = 0x60;
        return machine.command(request);
    }
    Machine machine;
    std::vector<std::byte> data = machine.random_bytes(4096);
};

TEST_F(OwnCommandsOf, WriteReadAndFlush) {
    ASSERT_TRUE(own().rest().ok());
    EXPECT_TRUE(own().write_sectors(kLba, data).ok());
    EXPECT_TRUE(own().flush().ok());
    std::vector<std::byte> found(data.size());
    EXPECT_TRUE(port().read_sectors(kLba, found).ok());
    own().resume();
    EXPECT_EQ(found, data);
    EXPECT_TRUE(equal_bytes(machine.disk.sector(kLba, 8), data));
    EXPECT_EQ(machine.disk.opcode_count[0xea], 1u);
    EXPECT_FALSE(machine.hba.take_interrupt()) << "an event of the mediator's own";
    EXPECT_EQ(machine.reg(PortRegister::kInterruptStatus), 0u);
    EXPECT_TRUE(queued_read_works());
    machine.expect_untouched();
}

TEST_F(OwnCommandsOf, RefuseWhatIsNotOnTheDisk) {
    ASSERT_TRUE(own().rest().ok());
    EXPECT_EQ(own().write_sectors(machine.options.sectors - 7, data).error(), Error::kOutOfRange);
    EXPECT_EQ(own().write_sectors(kLba, machine.random_bytes(512 * 1024)).error(), Error::kOutOfRange);
    own().resume();
    EXPECT_EQ(machine.disk.sectors_written, 0u);
}

// Completed, and the guest has not looked yet.
TEST_F(OwnCommandsOf, LeaveWhatTheGuestHasNotSeen) {
    for (const bool fails : {false, true}) {
        machine.submit(3, read_request());
        machine.hba.run();
        ASSERT_TRUE(own().rest().ok());
        machine.disk.unreadable_lba = fails ? kLba : ~std::uint64_t{0};
        EXPECT_EQ(port().read_sectors(kLba, data).ok(), !fails);
        own().resume();
        machine.disk.unreadable_lba = ~std::uint64_t{0};
        ASSERT_TRUE(machine.hba.take_interrupt());
        EXPECT_EQ(machine.handle_interrupt(), 1u << 3);
        EXPECT_EQ(machine.error, 0u);
        EXPECT_EQ(machine.reg(PortRegister::kInterruptStatus), 0u);
    }
    EXPECT_TRUE(queued_read_works());
}

// What runs when they come is ended first, and what has been issued after it goes on afterwards.
TEST_F(OwnCommandsOf, WaitForTheGuestsCommands) {
    for (std::uint32_t slot = 0; slot < 4; ++slot) {
        Request request = read_request();
        request.opcode = 0x60;
        request.buffer += slot * 0x10000;
        machine.build(slot, request);
    }
    machine.issue(0xf, 0xf);
    ASSERT_TRUE(own().rest().ok());
    EXPECT_TRUE(own().write_sectors(kLba + 8, data).ok());
    own().resume();
    EXPECT_EQ(machine.wait(0xf), 0xfu);
    EXPECT_EQ(machine.error, 0u);
    machine.expect_untouched();
}

TEST_F(OwnCommandsOf, AnErrorIsNotTheGuests) {
    machine.disk.unreadable_lba = kLba;
    ASSERT_TRUE(own().rest().ok());
    EXPECT_EQ(port().read_sectors(kLba, data).error(), Error::kDeviceError);
    own().resume();
    machine.disk.unreadable_lba = ~std::uint64_t{0};
    EXPECT_EQ(machine.disk.opcode_count[0xe5], 1u) << "CHECK POWER MODE takes the error out of PxTFD";
    EXPECT_EQ(machine.reg(PortRegister::kInterruptStatus) & kErrors, 0u);
    EXPECT_EQ(machine.reg(PortRegister::kTaskFile) & 1, 0u);
    EXPECT_EQ(machine.reg(PortRegister::kInterruptStatus), 0u) << "nothing was to be seen by the guest";
    EXPECT_TRUE(queued_read_works());
    machine.expect_untouched();
}

TEST_F(OwnCommandsOf, ADeviceFaultIsAnError) {
    machine.hba.device_fault = true;
    ASSERT_TRUE(own().rest().ok());
    EXPECT_EQ(own().write_sectors(kLba, data).error(), Error::kDeviceError);
    machine.hba.device_fault = false;
    own().resume();
    EXPECT_TRUE(queued_read_works());
}

TEST_F(OwnCommandsOf, DoNotBeginBeforeTheGuestHasSeenAnError) {
    machine.disk.unreadable_lba = kLba;
    machine.submit(0, read_request());
    machine.hba.run();
    EXPECT_EQ(error_of_rest(), Error::kState);
    EXPECT_EQ(machine.wait(1), 0u);
    EXPECT_NE(machine.error, 0u);
    machine.disk.unreadable_lba = ~std::uint64_t{0};
    (void)machine.recover(false);
    EXPECT_TRUE(machine.command(read_request()));
    ASSERT_TRUE(own().rest().ok());
    own().resume();
}

TEST_F(OwnCommandsOf, DoNotBeginOnAPortThatIsStopped) {
    machine.stop_port();
    EXPECT_EQ(error_of_rest(), Error::kState);
    machine.start_port();
    EXPECT_TRUE(machine.command(read_request()));
}

TEST_F(OwnCommandsOf, HaveAnEndOnADiskThatDoesNotAnswer) {
    ASSERT_TRUE(own().rest().ok());
    machine.hba.never_answers = true;
    const std::uint64_t begin = machine.hba.microseconds();
    EXPECT_EQ(own().write_sectors(kLba, data).error(), Error::kTimeout);
    EXPECT_EQ(own().flush().error(), Error::kTimeout);
    own().resume();
    EXPECT_LT(machine.hba.microseconds() - begin, 12'000'000u) << "a stop of the machine waits for 15 s";
}

TEST_F(OwnCommandsOf, ALockedRangeIsRefusedToTheGuest) {
    port().set_boundary({~std::uint64_t{0}, nullptr, {kLba + 7, 3}});
    EXPECT_FALSE(machine.command(read_request()));
    (void)machine.recover(false);
    EXPECT_FALSE(machine.write(kLba + 9, Bytes(data).first(512)));
    EXPECT_EQ(machine.disk.sectors_written, 0u);
    (void)machine.recover(false);
    EXPECT_TRUE(machine.write(kLba + 10, Bytes(data).first(512)));
    EXPECT_TRUE(machine.write(kLba + 6, Bytes(data).first(512)));
    port().set_boundary({});
    EXPECT_TRUE(machine.command(read_request()));
}

// Taken while it was permitted, and started after the range has been locked.
TEST_F(OwnCommandsOf, AWaitingWriteDoesNotStartIntoALockedRange) {
    Request queued = read_request();
    queued.opcode = 0x60;
    queued.lba = kLba + 1000;
    machine.build(0, queued);
    machine.issue(1, 1);
    Request write = read_request();
    write.opcode = 0x35;
    write.header_flags = 5 | 1u << 6;
    write.buffer += 0x10000;
    machine.submit(1, write);  // not queued: it waits for the one that is
    ASSERT_TRUE(own().rest().ok());
    ASSERT_EQ(machine.disk.opcode_count[0x35], 0u);
    port().set_boundary({kLba + 8, nullptr, {kLba + 7, 1}});
    own().resume();
    std::uint32_t errors = 0;
    for (int i = 0; i < 100 && errors == 0; ++i) {
        machine.hba.run();
        const std::uint32_t status = machine.reg(PortRegister::kInterruptStatus);
        machine.set(PortRegister::kInterruptStatus, status);
        errors = status & kErrors;
    }
    EXPECT_NE(errors, 0u);
    EXPECT_EQ(machine.reg(PortRegister::kCommandIssue), 2u);
    EXPECT_EQ(machine.disk.sectors_written, 0u);
    (void)machine.recover(false);
    port().set_boundary({});
    EXPECT_TRUE(machine.write(kLba, data));
}

TEST_F(OwnCommandsOf, LaterPartsOfAWriteDoNotStartIntoALockedRange) {
    Request request = read_request();
    request.opcode = 0x35;
    request.header_flags = 5 | 1u << 6;
    request.count = 6144;  // 3 MiB
    request.bytes = 3 << 20;
    machine.submit(1, request);
    for (int i = 0; i < 100000 && machine.disk.sectors_written == 0; ++i) (void)machine.hba.step();
    ASSERT_TRUE(own().rest().ok());
    const auto then = machine.disk.sectors_written;
    ASSERT_LT(then, 6144u);
    port().set_boundary({kLba + 6144, nullptr, {kLba + 6143, 512}});
    own().resume();
    EXPECT_EQ(machine.wait(2), 0u);
    EXPECT_NE(machine.error, 0u);
    EXPECT_EQ(machine.disk.sectors_written, then);
    EXPECT_EQ(machine.disk.opcode_count[0x35], 1u);
}

// A refused command: acknowledged, and PxCMD.ST not yet cleared.
TEST_F(OwnCommandsOf, DoNotBeginBeforeTheGuestHasRecoveredFromARefusal) {
    Request beyond = read_request();
    beyond.lba = machine.options.sectors;
    machine.submit(0, beyond);
    machine.hba.run();
    EXPECT_EQ(error_of_rest(), Error::kState) << "not seen yet";
    EXPECT_EQ(machine.wait(1), 0u);
    EXPECT_EQ(machine.reg(PortRegister::kInterruptStatus), 0u) << "acknowledged";
    EXPECT_EQ(error_of_rest(), Error::kState);
    (void)machine.recover(false);
    ASSERT_TRUE(own().rest().ok());
    own().resume();
}

// It stands in PxTFD alone, until the next command.
TEST_F(OwnCommandsOf, DoNotHideADeviceFault) {
    machine.hba.device_fault = true;
    (void)machine.command(read_request());
    machine.hba.device_fault = false;
    EXPECT_EQ(error_of_rest(), Error::kState);
    EXPECT_TRUE(machine.command(read_request()));
    ASSERT_TRUE(own().rest().ok());
    own().resume();
}

// QEMU's drive goes on, and the next command takes the error out of PxTFD: PxIS has it still.
TEST_F(OwnCommandsOf, DoNotWaitForACommandThatHasFailed) {
    machine.hba.ends_after_error = true;
    machine.disk.unreadable_lba = kLba;
    for (std::uint32_t slot = 0; slot < 2; ++slot) {
        Request request = read_request();
        request.opcode = 0x60;
        request.lba += slot * 1000;
        request.buffer += slot * 0x10000;
        machine.build(slot, request);
    }
    machine.issue(1, 1);
    machine.hba.run();
    machine.issue(2, 2);
    machine.hba.run();
    ASSERT_EQ(hardware(PortRegister::kTaskFile) & 1, 0u) << "PxTFD";
    const std::uint64_t begin = machine.hba.microseconds();
    EXPECT_EQ(error_of_rest(), Error::kState);
    EXPECT_LT(machine.hba.microseconds() - begin, 100'000u);
}

TEST_F(OwnCommandsOf, ShowTheGuestNoFisOfTheirs) {
    EXPECT_TRUE(machine.command(read_request()));
    ASSERT_TRUE(own().rest().ok());
    const auto area = machine.ram(Machine::kFisArea, 256);
    const std::vector<std::byte> mark(area.size(), std::byte{0xa5});
    copy_bytes(area, mark);
    EXPECT_TRUE(own().write_sectors(kLba, data).ok());
    own().resume();
    (void)machine.reg(PortRegister::kCommandIssue);
    EXPECT_TRUE(equal_bytes(area, mark));
}

// By themselves: the guest may have seen all that there was to see.
TEST_F(OwnCommandsOf, StartWhatHasWaited) {
    Request queued = read_request();
    queued.opcode = 0x60;
    machine.build(0, queued);
    machine.issue(1, 1);
    Request after = read_request();
    after.buffer += 0x10000;
    const auto before = machine.disk.opcode_count[0x25];
    machine.submit(1, after);
    ASSERT_TRUE(own().rest().ok());
    ASSERT_EQ(machine.disk.opcode_count[0x25], before);
    own().resume();
    machine.hba.run();
    EXPECT_EQ(machine.disk.opcode_count[0x25], before + 1);
    EXPECT_EQ(machine.wait(3), 3u);
}

// PxCMD.ST is not set over a busy device (AHCI 1.3.1 section 10.3.1): nothing goes well any more, until the guest has reset the link.
TEST_F(OwnCommandsOf, DoNotStartAPortWhoseDiskStaysBusy) {
    ASSERT_TRUE(own().rest().ok());
    machine.hba.never_answers = true;
    machine.hba.busy_ports = 1u << Machine::kPort;
    EXPECT_EQ(own().write_sectors(kLba, data).error(), Error::kTimeout);
    EXPECT_EQ(hardware(PortRegister::kCommand) & 1, 0u) << "PxCMD.ST";
    EXPECT_EQ(own().write_sectors(kLba, data).error(), Error::kState) << "not taken for done";
    own().resume();
    EXPECT_EQ(error_of_rest(), Error::kState);
    machine.hba.never_answers = false;
    machine.hba.busy_ports = 0;
    machine.set(PortRegister::kSataControl, 1);
    machine.set(PortRegister::kSataControl, 0);
    (void)machine.recover(false);
    EXPECT_TRUE(machine.write(kLba, data));
    ASSERT_TRUE(own().rest().ok());
    EXPECT_TRUE(own().write_sectors(kLba, data).ok());
    own().resume();
}

// What was lost with a FLUSH of ours may be what the guest has written: its next one fails, and no other.
TEST_F(OwnCommandsOf, AFlushThatFailsIsTheGuestsToKnow) {
    for (const int opcode : {0xe7, 0xea}) {
        const Request flush{
            .opcode = static_cast<std::uint8_t>(opcode), .lba = 0, .count = 0, .buffer = Machine::kBuffers, .bytes = 0};
        EXPECT_TRUE(machine.command(flush));
        ASSERT_TRUE(own().rest().ok());
        machine.hba.device_fault = true;
        EXPECT_EQ(own().flush().error(), Error::kDeviceError);
        machine.hba.device_fault = false;
        own().resume();
        EXPECT_TRUE(machine.command(read_request()));
        EXPECT_FALSE(machine.command(flush));
        (void)machine.recover(false);
        EXPECT_TRUE(machine.command(flush));
    }
}

// From plaintext: what is not encrypted yet is read and written as it is.
TEST_F(OwnCommandsOf, SectorsBehindTheBoundaryMayBePlaintext) {
    port().set_boundary({kLba + 3, nullptr, {}});
    ASSERT_TRUE(machine.write(kLba, data));
    EXPECT_TRUE(equal_bytes(machine.disk.sector(kLba + 3, 5), Bytes(data).subspan(3 * 512)));
    EXPECT_TRUE(equal_bytes(machine.decrypted(kLba, 3), Bytes(data).first(3 * 512)));
    std::vector<std::byte> found(data.size());
    ASSERT_TRUE(machine.read(kLba, 8, found));
    EXPECT_EQ(found, data);
}

TEST_F(OwnCommandsOf, AFlushThatWaitsWhileOursFailsIsToldAsWell) {
    Request read = read_request();
    read.opcode = 0x60;
    const Request flush{.opcode = 0xea, .lba = 0, .count = 0, .buffer = Machine::kBuffers + 0x20000, .bytes = 0};
    machine.build(0, read);
    machine.build(1, flush);
    machine.issue(0x3, 0x1);
    ASSERT_TRUE(own().rest().ok());
    machine.hba.device_fault = true;
    EXPECT_EQ(own().flush().error(), Error::kDeviceError);
    machine.hba.device_fault = false;
    own().resume();
    (void)machine.wait(0x3);
    EXPECT_EQ(machine.disk.opcode_count[0xea], 1u)
        << "ours; the guest's came before it failed, and is asked of the disk after it";
}

}  // namespace
}  // namespace gatehouse::ata::testing

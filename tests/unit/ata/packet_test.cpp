// A packet device (ATAPI) at the port: read through the mediator as it is, and never written.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/ata/machine.hpp"

namespace gatehouse::ata::testing {
namespace {

using ahci::PortRegister;

constexpr std::uint64_t kBuffer = Machine::kBuffers;
constexpr std::uint32_t kSector = 2048;
constexpr std::uint32_t kAtapi = 5 | 1u << 5;  // command header: A
constexpr Options kDrive{.sector_size = kSector, .sectors = 4096, .signature = 0xeb140101};

std::vector<std::uint8_t> read_10(std::uint32_t lba, std::uint16_t count) {
    return {0x28,
            0,
            static_cast<std::uint8_t>(lba >> 24),
            static_cast<std::uint8_t>(lba >> 16),
            static_cast<std::uint8_t>(lba >> 8),
            static_cast<std::uint8_t>(lba),
            0,
            static_cast<std::uint8_t>(count >> 8),
            static_cast<std::uint8_t>(count),
            0,
            0,
            0};
}

// DMA, and a byte count limit, as Linux has it.
Request packet(std::vector<std::uint8_t> operation, std::uint64_t bytes = 0, std::uint64_t buffer = kBuffer) {
    return {.opcode = 0xa0,
            .lba = 0xf80000,
            .features = 1,
            .device = 0xa0,
            .buffer = buffer,
            .bytes = bytes,
            .header_flags = kAtapi,
            .packet = std::move(operation)};
}

class PacketDevice : public ::testing::Test {
  protected:
    void SetUp() override {
        m.launch();
        m.boot_guest();
        copy_bytes(m.disk.sector(1000, 64), m.random_bytes(64 * kSector));
    }
    void TearDown() override {
        m.expect_untouched();
        EXPECT_EQ(m.disk.sectors_written, 0u);
        EXPECT_EQ(m.hba.vector_sections, 0u) << "nothing of it is encrypted";
        m.recover(false);
        EXPECT_TRUE(m.command(packet(read_10(1000, 1), kSector)));
    }
    void expect_read(std::uint32_t lba, std::uint16_t count, const Request& request) {
        wipe(m.ram(kBuffer, count * kSector));
        ASSERT_TRUE(m.command(request));
        EXPECT_TRUE(equal_bytes(m.ram(kBuffer, count * kSector), m.disk.sector(lba, count)));
    }
    // CHECK CONDITION of a packet that no drive has.
    void expect_refused(const Request& request, std::uint32_t slot = 0) {
        const auto commands = m.disk.opcode_count;
        auto packets = m.disk.packets;
        EXPECT_FALSE(m.command(request, slot));
        EXPECT_NE(m.error & 1u << 30, 0u) << "TFES";
        EXPECT_EQ(m.reg(PortRegister::kTaskFile) & 0xff01, 0x5001u) << "sense key 5, CHK";
        EXPECT_NE(m.reg(PortRegister::kCommandIssue) & 1u << slot, 0u);
        EXPECT_EQ(m.ram(Machine::kFisArea + 0x40, 20)[3], std::byte{0x50});
        EXPECT_EQ(++packets[0x7f], m.disk.packets[0x7f]);
        EXPECT_EQ(packets, m.disk.packets);
        for (const auto& [opcode, count] : m.disk.opcode_count) {
            const auto before = commands.find(opcode);
            EXPECT_EQ(count, (before == commands.end() ? 0 : before->second) + (opcode == 0xa0 ? 1u : 0u));
        }
        m.recover(false);
        EXPECT_TRUE(m.command(packet({0x03, 0, 0, 0, 18}, 18)));
        EXPECT_EQ(m.ram(kBuffer, 18)[2], std::byte{5}) << "ILLEGAL REQUEST";
    }
    Machine m{kDrive};
};

TEST_F(PacketDevice, MediumIsReadAsItIs) {
    expect_read(1000, 64, packet(read_10(1000, 64), 64 * kSector));
    Request scattered = packet(read_10(1003, 2));
    scattered.regions = {{kBuffer, 2}, {kBuffer + 2, 4000}, {kBuffer + 4002, 94}};
    expect_read(1003, 2, scattered);
    EXPECT_EQ(m.reg(PortRegister::kCommandIssue), 0u);
}

TEST_F(PacketDevice, ShortDataAreCounted) {
    wipe(m.ram(kBuffer, 96));
    ASSERT_TRUE(m.command(packet({0x12, 0, 0, 0, 96}, 96)));
    EXPECT_TRUE(equal_bytes(m.ram(kBuffer, 36), Bytes(m.disk.identify()).first(36)));
    EXPECT_EQ(load<std::uint32_t>(m.memory.guest(Machine::kCommandList + 4, 4), Endian::kLittle), 36u) << "PRDBC";
}

TEST_F(PacketDevice, IdentifyIsEdited) {
    ASSERT_TRUE(m.command({.opcode = 0xa1, .buffer = kBuffer, .bytes = 512}));
    auto expected = m.disk.identify();
    filter_page(expected, Filter::kIdentify, false);
    EXPECT_TRUE(equal_bytes(m.ram(kBuffer, 512), expected));
    EXPECT_NE(expected[164] & std::byte{0x10}, std::byte{0}) << "PACKET";
}

TEST_F(PacketDevice, CommandsWithoutData) {
    EXPECT_TRUE(m.command(packet({0x00})));
    EXPECT_TRUE(m.command({.opcode = 0xef, .count = 0x45, .features = 3}));
    EXPECT_EQ(m.disk.opcode_count[0xef], 1u);
}

TEST_F(PacketDevice, DrivesErrorIsTheGuests) {
    EXPECT_FALSE(m.command(packet(read_10(4096, 1), kSector)));
    EXPECT_EQ(m.reg(PortRegister::kTaskFile) & 0xff01, 0x5001u);
    EXPECT_EQ(m.disk.packets[0x28], 1u);
    m.recover(false);
}

TEST_F(PacketDevice, WhatWritesIsRefused) {
    // FORMAT UNIT, WRITE (10), WRITE BUFFER, MODE SELECT (10), SEND KEY, BLANK, a vendor's
    for (const int operation : {0x04, 0x2a, 0x3b, 0x55, 0xa3, 0xa1, 0xd8, 0x7f}) {
        expect_refused(packet({static_cast<std::uint8_t>(operation), 0, 0, 0, 3, 0xe8, 0, 0, 1}, kSector));
        Request out = packet({static_cast<std::uint8_t>(operation), 0, 0, 0, 3, 0xe8, 0, 0, 1}, kSector);
        out.header_flags |= 1u << 6;  // W
        expect_refused(out);
    }
}

TEST_F(PacketDevice, DirectionIsNotTheGuestsToChoose) {
    Request out = packet(read_10(1000, 1), kSector);
    out.header_flags |= 1u << 6;  // W; the model counts it if it arrives
    expect_read(1000, 1, out);
}

TEST_F(PacketDevice, DiskCommandsAreRefused) {
    for (const int opcode :
         {0x00, 0x08, 0x20, 0x25, 0x30, 0x35, 0x60, 0x61, 0x06, 0x92, 0xb0, 0xc8, 0xca, 0xec, 0xf4}) {
        expect_refused({.opcode = static_cast<std::uint8_t>(opcode), .count = 1, .buffer = kBuffer, .bytes = kSector});
    }
}

TEST_F(PacketDevice, PacketBitAndOpcodeMustAgree) {
    Request without = packet(read_10(1000, 1), kSector);
    without.header_flags = 5;
    expect_refused(without);
    expect_refused({.opcode = 0xa1, .buffer = kBuffer, .bytes = 512, .header_flags = kAtapi});
    expect_refused({.opcode = 0xe7, .header_flags = kAtapi, .packet = {0x2a}});
}

TEST_F(PacketDevice, RefusesDescriptorsThatLeaveGuestMemory) {
    for (const std::uint64_t address :
         {Machine::kHole, Machine::kHole + 0x240000, Machine::kHole - 256, m.memory.size(), m.memory.size() - 2,
          ~std::uint64_t{0} - 0xfff, std::uint64_t{0xfee00000}}) {
        SCOPED_TRACE(address);
        expect_refused(packet(read_10(1000, 1), kSector, address));
        Request late = packet(read_10(1000, 2));
        late.regions = {{kBuffer, kSector}, {address, kSector}};
        expect_refused(late);
        // What the data do not reach is checked all the same.
        Request beyond = packet(read_10(1000, 1));
        beyond.regions = {{kBuffer, kSector}, {address, kSector}};
        expect_refused(beyond);
    }
    expect_refused(packet(read_10(1000, 1), kSector, kBuffer + 1));
    Request odd = packet(read_10(1000, 1));
    odd.regions = {{kBuffer, 2047}, {kBuffer + 2047, 1}};
    expect_refused(odd);
    Request many = packet(read_10(1000, 1));
    for (std::uint64_t i = 0; i < 300; ++i) many.regions.emplace_back(kBuffer + 8 * i, 8);
    expect_refused(many);
    many.regions.resize(180, {kBuffer, 2});
    many.regions.emplace_back(kBuffer, 0x400000);
    EXPECT_TRUE(m.command(many));
    Request table = packet(read_10(1000, 1), kSector);
    table.table = Machine::kHole - 0x80;
    table.prdtl = 0xffff;
    expect_refused(table);
}

TEST_F(PacketDevice, PacketChangedAfterIssueHasNoEffect) {
    m.submit(0, packet(read_10(1000, 1), kSector));
    std::ranges::fill_n(m.memory.guest(Machine::kTables, 0x100), 0x100, std::byte{0x2a});
    wipe(m.ram(Machine::kCommandList, 32));
    m.wait(1);
    EXPECT_EQ(m.error, 0u);
    EXPECT_EQ(m.disk.packets, (std::map<std::uint8_t, unsigned>{{0x28, 1}}));
    EXPECT_TRUE(equal_bytes(m.ram(kBuffer, kSector), m.disk.sector(1000)));
}

TEST_F(PacketDevice, LaterCommandsOfASlotHaveNothingOfThePacket) {
    expect_read(1000, 1, packet(read_10(1000, 1), kSector));
    EXPECT_TRUE(m.command({.opcode = 0xe7}));  // the model counts a packet bit that is still there
    EXPECT_TRUE(m.command({.opcode = 0xa1, .buffer = kBuffer, .bytes = 512}));
}

TEST(PacketOnADisk, IsRefusedAndNeverArrives) {
    Machine m;
    m.launch();
    m.boot_guest();
    for (const std::uint32_t flags : {kAtapi, 5u}) {
        for (const int opcode : {0xa0, 0xa1, 0x25, 0xec}) {
            if (flags == 5 && opcode < 0xa0) continue;
            if (flags == 5 && opcode == 0xec) continue;
            EXPECT_FALSE(m.command({.opcode = static_cast<std::uint8_t>(opcode),
                                    .lba = 1000,
                                    .count = 1,
                                    .buffer = kBuffer,
                                    .bytes = kSector,
                                    .header_flags = flags,
                                    .packet = read_10(1000, 1)}));
            EXPECT_EQ(m.reg(PortRegister::kTaskFile) & 0xffff, 0x0451u);
            m.recover(false);
        }
    }
    EXPECT_FALSE(m.disk.opcodes_seen.contains(0xa0));
    EXPECT_FALSE(m.disk.opcodes_seen.contains(0xa1));
    m.expect_untouched();
}

}  // namespace
}  // namespace gatehouse::ata::testing

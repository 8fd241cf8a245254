#include "hypervisor/guest/config_filter.hpp"

#include <gtest/gtest.h>

#include <map>
#include <vector>

namespace gatehouse::guest {
namespace {

constexpr FunctionId kDisk = 0x00fa;  // 00:1f.2
constexpr FunctionId kOther = 0x0010;

// Functions with the header of a disk controller: BAR5 of 4 KiB memory, BAR4 of 32 I/O ports, capabilities
// MSI (0x80) -> SATA (0xa8) -> power management (0x70).
class FakeConfig : public ConfigSpace {
  public:
    FakeConfig() {
        put(kDisk, 0x04, 2, 0x0403);
        put(kDisk, 0x20, 4, 0xc041);
        put(kDisk, 0x24, 4, 0xfebf1000);
        put(kDisk, 0x34, 1, 0x80);
        put(kDisk, 0x80, 4, 0x0080a805);
        put(kDisk, 0xa8, 4, 0x00107012);
        put(kDisk, 0xac, 4, 0x12345678);
        put(kDisk, 0x70, 4, 0x00030001);
    }
    std::uint32_t read(FunctionId function, std::uint16_t offset, unsigned size) override {
        std::uint32_t value = 0;
        for (unsigned i = 0; i < size; ++i) value |= std::uint32_t{bytes(function)[offset + i]} << (8 * i);
        return value;
    }
    void write(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) override {
        ++writes;
        if (function == kDisk && offset == 0x24) value &= 0xfffff000;
        if (function == kDisk && offset == 0x20) value = (value & 0xffe0) | 1;
        if (function == kDisk && offset >= 0x10 && offset < 0x20) value = 0;
        put(function, offset, size, value);
    }
    void put(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) {
        for (unsigned i = 0; i < size; ++i) bytes(function)[offset + i] = static_cast<std::uint8_t>(value >> (8 * i));
    }
    std::vector<std::uint8_t>& bytes(FunctionId function) {
        auto& space = spaces_[function];
        space.resize(4096);
        return space;
    }
    int writes = 0;

  private:
    std::map<FunctionId, std::vector<std::uint8_t>> spaces_;
};

class ConfigFilterTest : public testing::Test {
  protected:
    ConfigFilterTest() {
        EXPECT_TRUE(filter.protect(kDisk, FunctionKind::kDisk).ok());
        real.writes = 0;
    }
    FakeConfig real;
    ConfigFilter filter{real};
};

TEST_F(ConfigFilterTest, SizesBarsLikeHardwareWithoutMovingThem) {
    EXPECT_EQ(filter.read(kDisk, 0x24, 4), 0xfebf1000u);
    filter.write(kDisk, 0x24, 4, 0xffffffff);
    EXPECT_EQ(filter.read(kDisk, 0x24, 4), 0xfffff000u);
    filter.write(kDisk, 0x20, 4, 0xffffffff);
    EXPECT_EQ(filter.read(kDisk, 0x20, 4), 0xffe1u);
    filter.write(kDisk, 0x10, 4, 0xffffffff);
    EXPECT_EQ(filter.read(kDisk, 0x10, 4), 0u) << "a BAR that does not exist";
    EXPECT_EQ(real.read(kDisk, 0x24, 4), 0xfebf1000u);
    EXPECT_EQ(real.read(kDisk, 0x20, 4), 0xc041u);
    EXPECT_EQ(real.writes, 0);
}

TEST_F(ConfigFilterTest, TellsPlaceAndSizeOfMemoryBars) {
    EXPECT_EQ(filter.memory_bar(kDisk, 5).base, 0xfebf1000u);
    EXPECT_EQ(filter.memory_bar(kDisk, 5).length, 0x1000u);
    EXPECT_EQ(filter.memory_bar(kDisk, 4).length, 0u) << "ports";
    EXPECT_EQ(filter.memory_bar(kDisk, 0).length, 0u) << "absent";
    EXPECT_EQ(filter.memory_bar(kOther, 5).length, 0u);
}

TEST_F(ConfigFilterTest, RemembersAMovedBarInParts) {
    filter.write(kDisk, 0x26, 2, 0xe000);
    EXPECT_EQ(filter.read(kDisk, 0x24, 4), 0xe0001000u);
    EXPECT_EQ(filter.read(kDisk, 0x27, 1), 0xe0u);
    EXPECT_EQ(real.writes, 0);
}

TEST_F(ConfigFilterTest, KeepsDecodingAndBusMasteringOn) {
    filter.write(kDisk, 0x04, 2, 0);
    EXPECT_EQ(real.read(kDisk, 0x04, 2), 6u);
    filter.write(kDisk, 0x04, 1, 0);
    EXPECT_EQ(real.read(kDisk, 0x04, 2), 6u);
    filter.write(kDisk, 0x04, 2, 0x0400);
    EXPECT_EQ(real.read(kDisk, 0x04, 2), 0x0406u) << "INTx disable is the guest's";
}

// An IDE controller by class, with its bus masters in BAR 4.
struct FakeIde : FakeConfig {
    explicit FakeIde(std::uint32_t interface) {
        put(kDisk, 0x08, 4, 0x01010000 | interface << 8);
        put(kDisk, 0x04, 2, 0x0403);
    }
};

TEST(ConfigFilterIde, PortsAreDecodedInCompatibilityModeOnly) {
    for (const auto& [interface, command] :
         {std::pair{0x80u, 5u}, {0x8au, 5u}, {0x8fu, 0u}, {0x85u, 0u}, {0x81u, 0u}, {0x84u, 0u}}) {
        FakeIde real(interface);
        ConfigFilter filter(real);
        ASSERT_TRUE(filter.protect(kDisk, FunctionKind::kDisk).ok());
        EXPECT_EQ(real.read(kDisk, 0x04, 2) & 7, command) << std::hex << interface;
        for (const std::uint32_t written : {0u, 0x407u, 3u}) {
            filter.write(kDisk, 0x04, 2, written);
            EXPECT_EQ(real.read(kDisk, 0x04, 2) & 7, command) << std::hex << interface;
        }
        filter.write(kDisk, 0x20, 4, 0x01f1);
        filter.write(kDisk, 0x09, 1, 0x8f);
        filter.write(kDisk, 0x40, 4, 0);
        EXPECT_EQ(real.read(kDisk, 0x20, 4), 0xc041u) << "the bus masters stay where they are";
        EXPECT_EQ(real.read(kDisk, 0x09, 1), interface);
    }
}

TEST_F(ConfigFilterTest, NeverDecodesPorts) {
    EXPECT_EQ(real.read(kDisk, 0x04, 2) & 1, 0u) << "firmware left it on";
    for (const unsigned size : {1u, 2u, 4u}) {
        filter.write(kDisk, 0x04, size, 0x0407);
        EXPECT_EQ(real.read(kDisk, 0x04, 2) & 7, 6u) << size;
    }
}

TEST_F(ConfigFilterTest, HidesTheIndexDataPair) {
    EXPECT_EQ(filter.read(kDisk, 0x80, 4), 0x0080a805u);
    EXPECT_EQ(filter.read(kDisk, 0xa8, 4), 0x00007000u) << "a null capability, with its successor";
    EXPECT_EQ(filter.read(kDisk, 0xac, 4), 0u);
    filter.write(kDisk, 0xac, 4, 1);
    EXPECT_EQ(real.writes, 0);
}

TEST_F(ConfigFilterTest, LetsTheGuestProgramMsiOnly) {
    filter.write(kDisk, 0x82, 2, 0x81);
    filter.write(kDisk, 0x84, 4, 0xfee00000);
    filter.write(kDisk, 0x8c, 2, 0x41);
    EXPECT_EQ(real.writes, 3);
    filter.write(kDisk, 0x74, 2, 3);  // D3hot
    filter.write(kDisk, 0x90, 4, 0);  // vendor registers: port map, IDE mode
    filter.write(kDisk, 0x30, 4, 1);  // expansion ROM
    filter.write(kDisk, 0x80, 2, 0);
    EXPECT_EQ(real.writes, 3);
}

// An MSI is a DMA write to wherever its address says.
TEST_F(ConfigFilterTest, KeepsMsiAddressesAmongTheInterruptControllers) {
    for (const std::uint32_t address : {0x00000000u, 0x2de01008u, 0xfed40000u, 0xfef00000u, 0xffffffffu}) {
        filter.write(kDisk, 0x84, 4, address);
        EXPECT_EQ(real.read(kDisk, 0x84, 4), 0xfee00000u | (address & 0xffffc)) << std::hex << address;
        filter.write(kDisk, 0x88, 4, address);
        EXPECT_EQ(real.read(kDisk, 0x88, 4), 0u) << "the upper half";
    }
    filter.write(kDisk, 0x84, 4, 0xfee01000);
    for (const unsigned size : {1u, 2u, 4u}) {
        for (std::uint16_t offset = 0x80; offset < 0x8c; offset = static_cast<std::uint16_t>(offset + size)) {
            if (size == 4 && offset == 0x84) continue;
            filter.write(kDisk, offset, size, 0xffffffff);
            EXPECT_EQ(real.read(kDisk, 0x84, 4), 0xfee01000u) << offset << "/" << size;
            EXPECT_EQ(real.read(kDisk, 0x88, 4), 0u) << offset << "/" << size;
        }
    }
}

TEST(ConfigFilterInterrupts, AreAsAfterResetWhateverTheLauncherLeft) {
    FakeConfig left;
    left.put(kDisk, 0x82, 2, 0x0081);      // enabled
    left.put(kDisk, 0x84, 4, 0x2de01008);  // into the hypervisor
    left.put(kDisk, 0x88, 4, 0x1);
    left.put(kDisk, 0x70, 4, 0x80030011);  // MSI-X, enabled
    ConfigFilter other(left);
    ASSERT_TRUE(other.protect(kDisk, FunctionKind::kDisk).ok());
    EXPECT_EQ(left.read(kDisk, 0x82, 2), 0x0080u);
    EXPECT_EQ(left.read(kDisk, 0x84, 4), 0xfee00000u);
    EXPECT_EQ(left.read(kDisk, 0x88, 4), 0u);
    EXPECT_EQ(left.read(kDisk, 0x72, 2), 0x0003u) << "MSI-X is off";
    EXPECT_EQ(other.read(kDisk, 0x70, 4), 0u) << "and not to be seen";
    other.write(kDisk, 0x72, 2, 0x8000);
    EXPECT_EQ(left.read(kDisk, 0x72, 2), 0x0003u);
}

TEST(ConfigFilterInterrupts, AreOffWhereTheyRunPastTheHeader) {
    for (const std::uint16_t at : std::array<std::uint16_t, 4>{0xf0, 0xf4, 0xf8, 0xfc}) {  // 14 bytes each
        FakeConfig real;
        real.put(kDisk, 0x34, 1, at);
        real.put(kDisk, at, 4, 0x00810005);
        real.put(kDisk, 0x100, 4, 0x00010001);  // the first extended capability
        ConfigFilter filter(real);
        ASSERT_TRUE(filter.protect(kDisk, FunctionKind::kDisk).ok());
        EXPECT_EQ(real.read(kDisk, at, 4), 0x00800005u);
        filter.write(kDisk, static_cast<std::uint16_t>(at + 2), 2, 0x81);
        EXPECT_EQ(real.read(kDisk, at, 4), at == 0xf0 ? 0x00810005u : 0x00800005u) << at;
        for (std::uint16_t offset = 0xf4; offset < 0x110; offset = static_cast<std::uint16_t>(offset + 4)) {
            filter.write(kDisk, offset, 4, 0x2de01008);
        }
        EXPECT_EQ(real.read(kDisk, 0x100, 4), 0x00010001u) << at;
    }
}

TEST(ConfigFilterLists, HideACapabilityAtTheHeadersEnd) {
    FakeConfig last;
    last.put(kDisk, 0x34, 1, 0xf8);
    last.put(kDisk, 0xf8, 4, 0x00107012);
    last.put(kDisk, 0xfc, 4, 0x12345678);
    ConfigFilter other(last);
    ASSERT_TRUE(other.protect(kDisk, FunctionKind::kDisk).ok());
    EXPECT_EQ(other.read(kDisk, 0xfc, 4), 0u);
}

TEST_F(ConfigFilterTest, DropsWritesToHostBridgesIsaBridgesAndIommus) {
    for (const FunctionId function : {FunctionId{0}, FunctionId{0xf8}, FunctionId{2}})
        ASSERT_TRUE(filter.protect(function, FunctionKind::kReadOnly).ok());
    real.writes = 0;
    filter.write(0, 0x60, 4, 0xb0000001);
    filter.write(2, 0x44, 4, 0);
    filter.write(0xf8, 0x40, 4, 0x701);  // where the ACPI ports are
    EXPECT_EQ(real.writes, 0);
}

TEST_F(ConfigFilterTest, KeepsBusNumbers) {
    constexpr FunctionId kBridge = 0x0008;
    ASSERT_TRUE(filter.protect(kBridge, FunctionKind::kBridge).ok());
    real.put(kBridge, 0x18, 4, 0x00020100);
    real.writes = 0;
    filter.write(kBridge, 0x18, 4, 0x00050400);
    filter.write(kBridge, 0x19, 1, 9);
    filter.write(kBridge, 0x1a, 2, 9);
    EXPECT_EQ(real.writes, 0);
    filter.write(kBridge, 0x20, 4, 0xfff0fff0);
    EXPECT_EQ(real.writes, 1);
}

TEST_F(ConfigFilterTest, PassesOthersAndRefusesUnaligned) {
    filter.write(kOther, 0x10, 4, 7);
    EXPECT_EQ(real.read(kOther, 0x10, 4), 7u);
    EXPECT_EQ(filter.read(kOther, 0x11, 2), 0xffffu);
    filter.write(kOther, 0x12, 4, 0);
    EXPECT_EQ(real.writes, 1);
}

TEST_F(ConfigFilterTest, EndsOnACircularCapabilityList) {
    FakeConfig circular;
    circular.put(kDisk, 0x70, 4, 0x00038001);
    circular.put(kDisk, 0xa8, 4, 0x00108012);
    ConfigFilter other(circular);
    EXPECT_TRUE(other.protect(kDisk, FunctionKind::kDisk).ok());
}

}  // namespace
}  // namespace gatehouse::guest

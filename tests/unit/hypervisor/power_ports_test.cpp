#include "hypervisor/guest/power_ports.hpp"

#include <gtest/gtest.h>

#include <string>

namespace gatehouse::guest {
namespace {

class FakeActions final : public PowerActions {
  public:
    std::uint32_t read(std::uint16_t, unsigned) override { return 0x1234; }
    void write(std::uint16_t port, unsigned, std::uint32_t value) override {
        order += port == 0xcf9 && value == 6 ? "r" : "w";
    }
    void prepare_stop() override { order += "p"; }
    void wait_for_the_end() override { order += "e"; }
    std::string order;
};

class PowerPortsTest : public testing::Test {
  protected:
    PowerPortsTest() { ports.watch(0x604, 5); }
    std::string write(std::uint16_t port, unsigned size, std::uint32_t value) {
        actions.order.clear();
        ports.write(port, size, value);
        return actions.order;
    }
    FakeActions actions;
    PowerPorts ports{actions};
};

TEST_F(PowerPortsTest, WipesKeysBeforeEveryKindOfReset) {
    EXPECT_EQ(write(0x64, 1, 0xfe), "pwe");
    EXPECT_EQ(write(0x64, 1, 0xf0), "pwe");
    EXPECT_EQ(write(0x92, 1, 0x01), "pwe");
    EXPECT_EQ(write(0xcf9, 1, 0x06), "pre");
}

TEST_F(PowerPortsTest, WipesKeysBeforeSleepAndPowerOff) {
    EXPECT_EQ(write(0x604, 2, 0x3401), "pwe");
    EXPECT_EQ(write(0x605, 1, 0x34), "pwe");
}

TEST_F(PowerPortsTest, ResetsInsteadOfAnySleepButS5) {
    for (unsigned type = 0; type < 8; ++type) {
        const std::string wanted = type == 5 ? "pwe" : "pre";
        EXPECT_EQ(write(0x604, 2, 0x2001 | type << 10), wanted) << type;
        EXPECT_EQ(write(0x605, 1, 0x20 | type << 2), wanted) << type;
    }
}

TEST_F(PowerPortsTest, DropsWritesThatCouldMoveTheBlock) {
    EXPECT_EQ(write(0xcd7, 1, 0x06), "");
    EXPECT_EQ(write(0xcd6, 1, 0x62), "w") << "the index, for reads";
}

// Its bit 0 is the reset line.
TEST_F(PowerPortsTest, NeverLetsTheKeyboardControllersOutputPortBeWritten) { EXPECT_EQ(write(0x64, 1, 0xd1), ""); }

TEST_F(PowerPortsTest, PassesEverythingElse) {
    EXPECT_EQ(write(0x64, 1, 0xd0), "w");
    EXPECT_EQ(write(0x64, 1, 0xff), "w") << "a pulse command that pulses nothing";
    EXPECT_EQ(write(0x92, 1, 0x02), "w");
    EXPECT_EQ(write(0xcf9, 1, 0x02), "w");
    EXPECT_EQ(write(0x604, 2, 0x1c01), "w") << "SLP_TYP without SLP_EN";
    EXPECT_EQ(ports.read(0x604, 2), 0x1234u);
}

// As machine.cpp has them: what spans ports comes here byte by byte.
TEST_F(PowerPortsTest, WideAccessesAreTakenApartBeforeTheyCome) {
    cpu::IoPortMap map;
    for (const auto port : {PowerPorts::kKeyboard, PowerPorts::kSystemControlA, platform::kResetControl.number})
        ASSERT_TRUE(map.add(port, port, ports).ok());
    ASSERT_TRUE(map.add(0x604, 0x605, ports).ok());
    const auto write_wide = [&](std::uint16_t port, unsigned size, std::uint32_t value) {
        actions.order.clear();
        map.write(port, size, value, [](std::uint16_t, std::uint8_t) {});
        return actions.order;
    };
    EXPECT_EQ(write_wide(0x91, 2, 0x0100), "pwe");
    EXPECT_EQ(write_wide(0x62, 4, 0x00fe0000), "pwe");
    EXPECT_EQ(write_wide(0x602, 4, 0x34000000), "wpwe");
    EXPECT_EQ(write_wide(0x604, 4, 0x00003401), "wpwe");
    EXPECT_EQ(write_wide(0x604, 2, 0x3401), "pwe");
    EXPECT_EQ(write_wide(0xcf8, 4, 0x00000600), "pre");
}

}  // namespace
}  // namespace gatehouse::guest

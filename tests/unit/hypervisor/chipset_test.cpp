#include "hypervisor/platform/chipset.hpp"

#include <gtest/gtest.h>

#include "tests/unit/hypervisor/pci_model.hpp"

namespace gatehouse::platform {
namespace {

constexpr FunctionId kLpc = 0x00f8;
constexpr FunctionId kSmbus = 0x00a0;
constexpr std::uint32_t kIch9 = 0x29188086;
constexpr std::uint32_t kQemu = 0x11001af4;

// Q35 as QEMU's firmware leaves it.
struct Q35 : PciModel {
    explicit Q35(std::uint32_t subsystem = kQemu) {
        add(kLpc, kIch9);
        put(kLpc, 0x2c, 4, subsystem);
        put(kLpc, 0x40, 4, 0x601);
        put(kLpc, 0x44, 1, 0x80);
    }
};

struct Fch : PciModel {
    explicit Fch(std::uint32_t identity) {
        add(kLpc, 0x790e1022);
        add(kSmbus, identity);
        set(0x60, 0x800);
        set(0x62, 0x804);
        set(0x64, 0x818);
        set(0x68, 0x810);
    }
    void set(std::size_t index, std::uint16_t port) {
        fch.at(index) = static_cast<std::uint8_t>(port);
        fch.at(index + 1) = static_cast<std::uint8_t>(port >> 8);
    }
};

TEST(ChipsetTest, ReadsQemusIch9) {
    const Q35 machine;
    const auto chipset = find_chipset();
    ASSERT_TRUE(chipset.ok());
    EXPECT_EQ(*chipset, (Chipset{.pm1_event = 0x600,
                                 .pm1_control = 0x604,
                                 .pm_timer = 0x608,
                                 .gpe0 = 0x620,
                                 .gpe0_size = 16,
                                 .s5_type = 0,
                                 .sci_active_low = false,
                                 .fch = false}));
}

TEST(ChipsetTest, ReadsTheBlocksOfBothFchs) {
    for (const std::uint32_t identity : {0x780b1022u, 0x790b1022u}) {
        const Fch machine(identity);
        const auto chipset = find_chipset();
        ASSERT_TRUE(chipset.ok()) << std::hex << identity;
        EXPECT_EQ(*chipset, (Chipset{.pm1_event = 0x800,
                                     .pm1_control = 0x804,
                                     .pm_timer = 0x818,
                                     .gpe0 = 0x810,
                                     .gpe0_size = 8,
                                     .s5_type = 5,
                                     .sci_active_low = true,
                                     .fch = true}));
    }
}

TEST(ChipsetTest, RefusesBlocksWhereThePortsOfOthersAre) {
    for (const std::uint16_t port : std::initializer_list<std::uint16_t>{0xcd6, 0xcf8, 0xcfc, 0xcfe, 0x60, 0x805}) {
        Fch machine(0x790b1022);
        machine.set(0x62, port);
        EXPECT_EQ(find_chipset().error(), Error::kBadValue) << std::hex << port;
    }
}

TEST(ChipsetTest, RefusesUnknownOnes) {
    const PciModel nothing;
    EXPECT_EQ(find_chipset().error(), Error::kUnsupported);
    const Q35 true_ich9(0x02881028);  // its S5 is another
    EXPECT_EQ(find_chipset().error(), Error::kUnsupported);
    EXPECT_EQ(find_chipset().failure().detail, kIch9);
    const Fch later(0x790c1022);
    EXPECT_EQ(find_chipset().error(), Error::kUnsupported);
    EXPECT_EQ(find_chipset().failure().detail, 0x790e1022u);
}

TEST(ChipsetTest, RefusesABlockThatIsOff) {
    Q35 machine;
    machine.put(kLpc, 0x44, 1, 0x03);
    EXPECT_EQ(find_chipset().error(), Error::kBadValue);
    EXPECT_STREQ(find_chipset().failure().item, "chipset: ACPI block is off");
}

TEST(ChipsetTest, RefusesPortsThatAreOthers) {
    for (const std::uint32_t base : {0x0000u, 0x0380u, 0xff80u}) {
        Q35 machine;
        machine.put(kLpc, 0x40, 2, base | 1);
        EXPECT_EQ(find_chipset().ok(), base == 0xff80) << std::hex << base;
    }
    for (const std::size_t index : {0x60u, 0x62u, 0x64u, 0x68u}) {
        for (const int bad : {0x0000, 0x0064, 0x03fe, 0x0805, 0xfff2, 0xffff}) {
            const auto port = static_cast<std::uint16_t>(bad);
            Fch machine(0x790b1022);
            machine.set(index, port);
            ASSERT_EQ(find_chipset().error(), Error::kBadValue) << index << " " << port;
            EXPECT_EQ(find_chipset().failure().detail, port);
        }
        Fch machine(0x790b1022);
        machine.set(index, 0x0400);
        EXPECT_TRUE(find_chipset().ok());
    }
}

}  // namespace
}  // namespace gatehouse::platform

#include "hypervisor/platform/pci_reset.hpp"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>

#include "tests/unit/hypervisor/pci_model.hpp"

namespace gatehouse::platform {
namespace {

// Functions with PCI Express (at 0x50) and power management (at 0x70) capabilities that do what the specifications say.
class FunctionResetTest : public testing::Test {
  protected:
    FunctionResetTest() {
        waited = 0;
        pci.add(0x0000, 0x29c08086);
        pci.put(0x0000, 0x08, 4, 0x06000000);
        pci.on_write = [this](FunctionId function, std::uint16_t offset, std::uint32_t value) {
            if (offset == 0x58 && (value & 0x8000) != 0 && has_flr.contains(function)) lose(function, 0);
            if (offset == 0x74 && (value & 3) == 0 && asleep.erase(function) != 0 && resets_in_d3.contains(function)) {
                lose(function, 0);
            }
            if (offset == 0x74 && (value & 3) == 3) asleep.insert(function);
            if (offset == 0x3e && (value & 0x40) != 0) {
                for (const FunctionId below : behind[function]) lose(below, 1);
            }
        };
    }
    void add(FunctionId function, std::uint32_t code = 0x020000) {
        pci.add(function, 0x10d38086, 0x50);
        pci.put(function, 0x04, 2, 0x0507);
        pci.put(function, 0x08, 4, code << 8);
        pci.put(function, 0x10, 4, 0xfe000000);
        pci.put(function, 0x3c, 1, 11);
        pci.put(function, 0x50, 4, 0x00027010);
        pci.put(function, 0x58, 2, 0x2810);
        pci.put(function, 0x70, 4, 0x00030001);
        pci.put(function, 0x74, 2, 0x0008);  // No_Soft_Reset
    }
    void add_bridge(FunctionId function, std::uint8_t bus, std::set<FunctionId> below, std::uint16_t port_type = 4) {
        pci.add(function, 0x000c1b36, 0x50);
        pci.put(function, 0x08, 4, 0x06040000);
        pci.put(function, 0x0e, 1, 1);
        pci.put(function, 0x18, 4, static_cast<std::uint32_t>(bus << 16 | bus << 8));
        pci.put(function, 0x50, 4, 0x00020010u | std::uint32_t{port_type} << 20);
        behind[function] = std::move(below);
    }
    void allow_flr(FunctionId function) {
        pci.put(function, 0x54, 4, 1u << 28);
        has_flr.insert(function);
    }
    void allow_d3(FunctionId function) {
        pci.put(function, 0x74, 2, 0);
        resets_in_d3.insert(function);
    }
    void lose(FunctionId function, unsigned by_bus) {
        if (pci.get(function, 0x04, 2) & 4) ++reset_with_bus_mastering_on;
        pci.put(function, 0x04, 2, 0);
        pci.put(function, 0x10, 4, 0);
        pci.put(function, 0x3c, 1, 0);
        pci.put(function, 0x58, 2, 0x2810 & 0x0fff);
        ++resets[function];
        bus_resets += by_bus;
    }
    // The functions that count as reset.
    std::set<FunctionId> run() {
        auto all = std::make_unique<FunctionResets>();
        for_each_function([&](FunctionId function) { EXPECT_TRUE(all->add(function)); });
        all->run([](unsigned milliseconds) { waited += milliseconds; });
        std::set<FunctionId> done;
        for (const auto& function : all->all()) {
            if (function.reset) done.insert(function.id);
        }
        return done;
    }
    void expect_restored(FunctionId function) {
        EXPECT_EQ(pci.get(function, 0x04, 2), 0x0503u) << "all but bus mastering";
        EXPECT_EQ(pci.get(function, 0x10, 4), 0xfe000000u);
        EXPECT_EQ(pci.get(function, 0x3c, 1), 11u);
        EXPECT_EQ(pci.get(function, 0x58, 2), 0x2810u);
    }

    static inline unsigned waited = 0;
    PciModel pci;
    std::set<FunctionId> has_flr, resets_in_d3, asleep;
    std::map<FunctionId, std::set<FunctionId>> behind;
    std::map<FunctionId, unsigned> resets;
    unsigned bus_resets = 0, reset_with_bus_mastering_on = 0;
};

using Set = std::set<FunctionId>;

TEST_F(FunctionResetTest, UsesFunctionLevelResetAndPutsBackWhatFirmwareConfigured) {
    add(0x0010);
    allow_flr(0x0010);
    EXPECT_EQ(run(), Set{0x0010});
    EXPECT_EQ(resets[0x0010], 1u);
    EXPECT_GE(waited, 100u);
    EXPECT_EQ(reset_with_bus_mastering_on, 0u);
    expect_restored(0x0010);
}

TEST_F(FunctionResetTest, UsesAdvancedFeaturesWithoutPciExpress) {
    add(0x0010);
    pci.put(0x0010, 0x50, 4, 0x03060013);  // capability 0x13: TP, FLR; its control byte is at 0x54
    pci.on_write = [this](FunctionId function, std::uint16_t offset, std::uint32_t value) {
        if (offset == 0x54 && value == 1) lose(function, 0);
    };
    pci.put(0x0010, 0x51, 1, 0x00);
    EXPECT_EQ(run(), Set{0x0010});
}

TEST_F(FunctionResetTest, UsesThePowerStateElse) {
    add(0x0010);
    allow_d3(0x0010);
    pci.put(0x0010, 0x51, 1, 0x70);
    EXPECT_EQ(run(), Set{0x0010});
    EXPECT_EQ(pci.get(0x0010, 0x74, 2) & 3, 0u);
    expect_restored(0x0010);
}

TEST_F(FunctionResetTest, APromiseThatIsNotKeptDoesNotCount) {
    add(0x0010);
    pci.put(0x0010, 0x51, 1, 0x70);
    pci.put(0x0010, 0x54, 4, 1u << 28);  // says it has FLR
    pci.put(0x0010, 0x74, 2, 0);         // says it resets in D3hot
    EXPECT_EQ(run(), Set{});
    expect_restored(0x0010);
}

TEST_F(FunctionResetTest, ACommandRegisterThatHoldsNothingProvesNothing) {
    add(0x0010);
    allow_flr(0x0010);
    pci.on_write = [this](FunctionId function, std::uint16_t offset, std::uint32_t) {
        if (offset == 0x04) pci.put(function, 0x04, 2, 0);
    };
    EXPECT_EQ(run(), Set{});
}

TEST_F(FunctionResetTest, AFunctionThatDoesNotComeBackDoesNotCount) {
    add(0x0010);
    pci.put(0x0010, 0x54, 4, 1u << 28);
    pci.on_write = [this](FunctionId function, std::uint16_t offset, std::uint32_t value) {
        if (offset == 0x58 && (value & 0x8000) != 0) pci.put(function, 0x04, 4, 0xffffffff);
    };
    EXPECT_EQ(run(), Set{});
}

TEST_F(FunctionResetTest, ResetsTheBusWhereTheFunctionCannotBe) {
    add_bridge(0x0018, 1, {0x0100, 0x0108});
    add(0x0100);
    add(0x0108);
    allow_flr(0x0108);
    EXPECT_EQ(run(), (Set{0x0100, 0x0108}));
    EXPECT_GT(bus_resets, 0u);
    EXPECT_EQ(pci.get(0x0018, 0x3e, 2) & 0x40, 0u) << "the bus is out of reset again";
    expect_restored(0x0100);
    expect_restored(0x0108);
}

TEST_F(FunctionResetTest, ABusWithSomethingElseOnItIsNotReset) {
    add_bridge(0x0018, 1, {0x0100, 0x0108});
    add(0x0100);
    add(0x0108, 0x030000);  // a display
    EXPECT_EQ(run(), Set{});
    EXPECT_EQ(bus_resets, 0u);
}

TEST_F(FunctionResetTest, ADisplayIsResetByFunctionLevelResetOnly) {
    add(0x0010, 0x030000);
    allow_d3(0x0010);
    pci.put(0x0010, 0x51, 1, 0x70);
    EXPECT_EQ(run(), Set{});
    EXPECT_EQ(resets[0x0010], 0u);
    allow_flr(0x0010);
    EXPECT_EQ(run(), Set{0x0010});
}

TEST_F(FunctionResetTest, LeavesBridgesAndIommusAlone) {
    add(0x0010, 0x060100);
    add(0x0018, 0x080600);
    add(0x0020, 0x060400);
    for (const FunctionId function : Set{0x0010, 0x0018, 0x0020}) allow_flr(function);
    EXPECT_EQ(run(), Set{});
    EXPECT_TRUE(resets.empty());
    EXPECT_EQ(pci.get(0x0010, 0x04, 2), 0x0507u);
}

TEST_F(FunctionResetTest, FunctionsThatShareANumberBehindAConventionalBridgeDoNotCount) {
    for (const std::uint16_t port_type : {std::uint16_t{7}, std::uint16_t{1}}) {
        add_bridge(0x0018, 1, {0x0100}, port_type);
        add(0x0100);
        allow_flr(0x0100);
        EXPECT_EQ(run(), Set{}) << port_type;
    }
    add_bridge(0x0018, 1, {0x0100});
    EXPECT_EQ(run(), Set{0x0100});
}

TEST_F(FunctionResetTest, DoesNotUseFunctionLevelResetsThatHang) {
    add(0x0010);
    allow_flr(0x0010);
    pci.put(0x0010, 0x00, 4, 0x149c1022);
    EXPECT_EQ(run(), Set{});
    EXPECT_TRUE(resets.empty());
}

}  // namespace
}  // namespace gatehouse::platform

#include "hypervisor/cpu/apic.hpp"

#include <gtest/gtest.h>

namespace gatehouse::cpu::apic {
namespace {

constexpr std::uint64_t xapic(std::uint64_t destination, std::uint32_t low) { return destination << 56 | low; }
Icr icr(std::uint64_t value, bool x2apic) { return {value, x2apic}; }
constexpr std::uint64_t x2apic(std::uint64_t destination, std::uint32_t low) { return destination << 32 | low; }

TEST(Icr, IsTakenApart) {
    const Icr startup{xapic(3, 0x000c4699), false};
    EXPECT_TRUE(startup.is_startup());
    EXPECT_FALSE(startup.is_init());
    EXPECT_EQ(startup.vector(), 0x99);
    EXPECT_TRUE((Icr{xapic(3, 0x4500), false}.is_init()));
    const Icr nmi{0x0400, false};
    EXPECT_FALSE(nmi.is_init() || nmi.is_startup());
}

TEST(Icr, OnlyALevelTriggeredInitWithLevelZeroIsADeassert) {
    EXPECT_TRUE(icr(0x8500, false).is_deassert()) << "as Linux sends it";
    EXPECT_FALSE(icr(0xc500, false).is_deassert());
    EXPECT_FALSE(icr(0x4500, false).is_deassert());
    EXPECT_FALSE(icr(0x0500, false).is_deassert());
}

TEST(Icr, PhysicalDestinationsMeanOneProcessorOrAll) {
    const Icr one{xapic(2, 0x4500), false};
    EXPECT_TRUE(one.targets(2, false));
    EXPECT_TRUE(one.targets(2, true));
    EXPECT_FALSE(one.targets(1, false));
    EXPECT_TRUE(icr(xapic(0xff, 0x4500), false).targets(7, true));
    EXPECT_FALSE(icr(x2apic(0xff, 0x4500), true).targets(7, false)) << "255 is an APIC ID there";
    EXPECT_TRUE(icr(x2apic(0xff, 0x4500), true).targets(255, false));
    EXPECT_TRUE(icr(x2apic(0xffffffff, 0x4500), true).targets(7, false));
}

TEST(Icr, ShorthandsGoBeforeDestinations) {
    EXPECT_TRUE(icr(xapic(9, 0x00044500), false).targets(1, true));
    EXPECT_FALSE(icr(xapic(1, 0x00044500), false).targets(1, false));
    EXPECT_TRUE(icr(xapic(9, 0x00084500), false).targets(1, true));
    EXPECT_TRUE(icr(xapic(9, 0x00084500), false).targets(1, false));
    EXPECT_FALSE(icr(xapic(9, 0x000c4500), false).targets(1, true));
    EXPECT_TRUE(icr(xapic(9, 0x000c4500), false).targets(1, false));
}

TEST(Icr, LogicalX2apicDestinationsAreClusterAndBit) {
    EXPECT_TRUE(icr(x2apic(0x0001'0004, 0x4d00), true).targets(0x12, false));
    EXPECT_FALSE(icr(x2apic(0x0001'0004, 0x4d00), true).targets(0x02, false));
    EXPECT_FALSE(icr(x2apic(0x0001'0004, 0x4d00), true).targets(0x13, false));
    EXPECT_FALSE(icr(xapic(0x02, 0x4d00), false).targets(1, false)) << "an xAPIC's logical ID is not known";
}

}  // namespace
}  // namespace gatehouse::cpu::apic

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <string>

#include "hypervisor/cpu/guest_walk.hpp"
#include "hypervisor/cpu/io_ports.hpp"
#include "hypervisor/cpu/mmio.hpp"
#include "hypervisor/cpu/svm/policy.hpp"

namespace gatehouse::cpu {
namespace {

// --- policy.hpp
// ------------------------------------------------------------------------------------------------

using svm::MsrRule;

MsrRule write_rule(std::uint32_t msr) { return svm::msr_policy(msr).write; }
MsrRule read_rule(std::uint32_t msr) { return svm::msr_policy(msr).read; }

TEST(MsrPolicy, SvmDoesNotExistForTheGuest) {
    for (const std::uint32_t msr :
         {0xc0010114u, 0xc0010115u, 0xc0010117u, 0xc0010118u, 0xc001011bu, 0xc0000104u, 0xc0010130u, 0xc0010131u}) {
        EXPECT_EQ(read_rule(msr), MsrRule::kFault) << std::hex << msr;
        EXPECT_EQ(write_rule(msr), MsrRule::kFault) << std::hex << msr;
    }
    EXPECT_EQ(read_rule(kMsrEfer), MsrRule::kEfer);
    EXPECT_EQ(write_rule(kMsrEfer), MsrRule::kEfer);
}

TEST(MsrPolicy, WhatMovesMemoryOrReachesSmmOrMicrocodeCannotBeWritten) {
    for (const std::uint32_t msr :
         {0xc0010010u, 0xc0010016u, 0xc0010019u, 0xc001001au, 0xc001001du, 0xc001001fu, 0xc0010020u, 0xc0010022u,
          0xc0010050u, 0xc0010054u, 0xc0010056u, 0xc0010058u, 0xc0010064u}) {
        EXPECT_EQ(write_rule(msr), MsrRule::kDrop) << std::hex << msr;
        EXPECT_EQ(read_rule(msr), MsrRule::kPass) << std::hex << msr;
    }
    for (const std::uint32_t msr : {0xc0010111u, 0xc0010112u, 0xc0010113u}) {
        EXPECT_EQ(write_rule(msr), MsrRule::kFault) << std::hex << msr;
    }
}

TEST(MsrPolicy, EveryUnlistedC001RegisterIsReadOnly) {
    for (const std::uint32_t msr : {0xc0010042u, 0xc0010140u, 0xc0010292u, 0xc0011004u, 0xc0011020u, 0xc0011fffu}) {
        EXPECT_EQ(write_rule(msr), MsrRule::kDrop) << std::hex << msr;
    }
}

TEST(MsrPolicy, HwcrKeepsItsLockBits) {
    const svm::MsrPolicy policy = svm::msr_policy(kMsrHwcr);
    EXPECT_EQ(policy.write, MsrRule::kMask);
    EXPECT_EQ(policy.mask & 1, 0u) << "SMMLOCK";
    EXPECT_EQ(policy.mask & 1u << 3, 0u) << "INVD as WBINVD and cache controls";
}

TEST(MsrPolicy, MemoryTypesOfRangesAreReadOnly) {
    for (const std::uint32_t msr : {0x200u, 0x20fu, 0x250u, 0x259u, 0x26fu, 0x2ffu}) {
        EXPECT_EQ(read_rule(msr), MsrRule::kPass) << std::hex << msr;
        EXPECT_EQ(write_rule(msr), MsrRule::kDrop) << std::hex << msr;
    }
}

TEST(MsrPolicy, CountersAndSamplesTellNothingOfTheHypervisor) {
    for (const std::uint32_t msr : {0xc0010000u, 0xc0010003u, 0xc0010200u, 0xc001020au}) {
        EXPECT_EQ(write_rule(msr), MsrRule::kCounter) << std::hex << msr;
        EXPECT_EQ(svm::guest_counter(msr, ~std::uint64_t{0}) >> 40 & 3, 1u) << "the guest's events only";
        EXPECT_EQ(svm::guest_counter(msr, 0x430076), 0x430076u | std::uint64_t{1} << 40);
    }
    for (const std::uint32_t msr : {0xc0010004u, 0xc0010201u, 0xc001020bu}) {
        EXPECT_EQ(svm::guest_counter(msr, ~std::uint64_t{0}), ~std::uint64_t{0}) << "a count";
    }
    for (const std::uint32_t msr : {0xc0010230u, 0xc0010240u, 0xc0011030u, 0xc001103du}) {
        EXPECT_EQ(write_rule(msr), MsrRule::kDrop) << std::hex << msr;
    }
}

TEST(MsrPolicy, OrdinaryRegistersCauseNoExits) {
    for (const std::uint32_t msr : {0x48u, 0x49u, 0x174u, 0x1d9u, 0x277u, 0x6e0u, 0x80bu, 0x83fu, 0xc0000081u,
                                    0xc0000100u, 0xc0000102u, 0xc0000103u}) {
        EXPECT_EQ(read_rule(msr), MsrRule::kPass) << std::hex << msr;
        EXPECT_EQ(write_rule(msr), MsrRule::kPass) << std::hex << msr;
    }
    EXPECT_EQ(read_rule(0x830), MsrRule::kPass);
    EXPECT_EQ(write_rule(0x830), MsrRule::kIcr);
    EXPECT_EQ(write_rule(0x1b), MsrRule::kApicBase);
}

// APM vol. 2, 15.11: two bits an MSR, read first; blocks at 0, 0x800 and 0x1000.
TEST(MsrPolicy, BitmapSaysWhatTheTableSays) {
    std::array<std::uint8_t, svm::kMsrBitmapSize> bitmap{};
    svm::write_msr_bitmap(bitmap);
    const auto bits = [&bitmap](std::size_t block, std::uint32_t index) {
        const std::size_t bit = block * 0x4000 + index * 2;
        return bitmap[bit / 8] >> bit % 8 & 3;
    };
    EXPECT_EQ(bits(0, 0x1b), 3);
    EXPECT_EQ(bits(0, 0x830), 2);
    EXPECT_EQ(bits(0, 0x277), 0);
    EXPECT_EQ(bits(1, 0x80), 3);
    EXPECT_EQ(bits(1, 0x82), 0);
    EXPECT_EQ(bits(2, 0x10), 2);
    EXPECT_EQ(bits(2, 0x114), 3);
    EXPECT_EQ(bits(2, 0x200), 2);
    for (std::size_t i = 0x1800; i < bitmap.size(); ++i) EXPECT_EQ(bitmap[i], 0) << "reserved quarter";
    for (std::uint32_t i = 0; i < 0x2000; ++i) {
        EXPECT_EQ(bits(2, i) != 0,
                  read_rule(0xc0010000 + i) != MsrRule::kPass || write_rule(0xc0010000 + i) != MsrRule::kPass);
    }
}

TEST(GuestCpuid, HidesSvmAndItsKin) {
    const CpuidLeaf all{~0u, ~0u, ~0u, ~0u};
    EXPECT_EQ(svm::guest_cpuid(0x80000001, 0, all, 0).ecx,
              ~0u & ~(1u << 2 | 1u << 10 | 1u << 12 | 1u << 24 | 1u << 28));
    EXPECT_EQ(svm::guest_cpuid(0x80000001, 0, all, 0).edx, ~0u);
    EXPECT_EQ(svm::guest_cpuid(0x8000000a, 0, all, 0).eax, 0u);
    EXPECT_EQ(svm::guest_cpuid(0x8000000a, 0, all, 0).edx, 0u);
    EXPECT_EQ(svm::guest_cpuid(0x8000001b, 0, all, 0).eax, 0u);
    EXPECT_EQ(svm::guest_cpuid(0x8000001f, 0, all, 0).eax, 0u);
    EXPECT_EQ(svm::guest_cpuid(0x80000008, 0, all, 0).ebx & 1u << 3, 0u);
}

TEST(GuestCpuid, ShowsTheGuestsOwnControlBits) {
    const CpuidLeaf none{}, all{~0u, ~0u, ~0u, ~0u};
    EXPECT_EQ(svm::guest_cpuid(1, 0, all, 0).ecx, ~0u & ~(1u << 27));
    EXPECT_EQ(svm::guest_cpuid(1, 0, none, 1u << 18).ecx, 1u << 27);
    EXPECT_EQ(svm::guest_cpuid(7, 0, all, 0).ecx, ~0u & ~(1u << 4));
    EXPECT_EQ(svm::guest_cpuid(7, 0, none, 1u << 22).ecx, 1u << 4);
    EXPECT_EQ(svm::guest_cpuid(7, 1, all, 0).ecx, ~0u);
    EXPECT_EQ(svm::guest_cpuid(0xd, 0, all, 0).ebx, ~0u);
}

// --- io_ports.hpp, mmio.hpp

struct Ports final : IoPortHandler {
    std::uint32_t read(std::uint16_t, unsigned) override { return 0; }
    void write(std::uint16_t, unsigned, std::uint32_t) override {}
};
struct Registers final : MmioHandler {
    std::uint64_t read(std::uint64_t, unsigned) override { return 0; }
    void write(std::uint64_t, unsigned, std::uint64_t) override {}
};

TEST(IoPortMap, AnAccessGoesToTheSmallestRegionThatHoldsIt) {
    IoPortMap map;
    Ports config, reset;
    ASSERT_TRUE(map.add(0xcf9, 0xcf9, reset).ok());
    ASSERT_TRUE(map.add(0xcf8, 0xcfb, config).ok());
    ASSERT_TRUE(map.add(0xfffe, 0xffff, reset).ok());
    EXPECT_EQ(map.find(0xcf8, 4), &config);
    EXPECT_EQ(map.find(0xcf9, 1), &reset);
    EXPECT_EQ(map.find(0xcf9, 2), &config);
    EXPECT_EQ(map.find(0xcf6, 4), nullptr);
    EXPECT_EQ(map.find(0xcf9, 4), nullptr);
    EXPECT_EQ(map.find(0xffff, 1), &reset);
    EXPECT_EQ(map.add(0xcfa, 0xcff, config).error(), Error::kOverlap) << "neither within nor around";
    EXPECT_EQ(map.add(0xcf9, 0xcf9, config).error(), Error::kOverlap) << "the same";
    EXPECT_EQ(map.add(2, 1, config).error(), Error::kBadValue);
}

// What reached a real port, as "port:value".
std::string real_ports;
void real_write(std::uint16_t port, std::uint8_t value) {
    real_ports += std::to_string(port) + ":" + std::to_string(value) + " ";
}

TEST(IoPortMap, SplitsAnAccessThatSpansHandlersIntoBytes) {
    struct Recorder final : IoPortHandler {
        std::uint32_t read(std::uint16_t port, unsigned size) override { return port + 0x10 * size; }
        void write(std::uint16_t port, unsigned size, std::uint32_t value) override {
            seen += std::to_string(port) + "/" + std::to_string(size) + "=" + std::to_string(value) + " ";
        }
        std::string seen;
    };
    IoPortMap map;
    Recorder address, reset, data;
    ASSERT_TRUE(map.add(10, 13, address).ok());
    ASSERT_TRUE(map.add(11, 11, reset).ok());
    ASSERT_TRUE(map.add(14, 17, data).ok());
    real_ports.clear();
    map.write(11, 4, 0x44332211, real_write);  // as a 4-byte OUT at 0xcf9, whose last byte is configuration data
    EXPECT_EQ(reset.seen, "11/1=17 ");
    EXPECT_EQ(address.seen, "12/1=34 13/1=51 ");
    EXPECT_EQ(data.seen, "14/1=68 ");
    EXPECT_EQ(real_ports, "");
    map.write(16, 4, 0x04030201, real_write);
    EXPECT_EQ(data.seen, "14/1=68 16/1=1 17/1=2 ");
    EXPECT_EQ(real_ports, "18:3 19:4 ");
    EXPECT_EQ(map.read(17, 2, [](std::uint16_t) { return std::uint8_t{0xab}; }), 0xab00u + 17 + 0x10);
    EXPECT_EQ(map.read(14, 4, [](std::uint16_t) { return std::uint8_t{0}; }), 14u + 0x40) << "whole";
}

TEST(IoPortMap, BitmapHasABitForEachTrappedPort) {
    IoPortMap map;
    Ports handler;
    ASSERT_TRUE(map.add(0x10, 0x1f, handler).ok());
    ASSERT_TRUE(map.add(0xfff9, 0xffff, handler).ok());
    std::array<std::uint8_t, IoPortMap::kBitmapSize> bitmap{};
    map.write_bitmap(bitmap);
    for (unsigned port = 0; port < 0x10000; ++port) {
        const bool expected = (port >= 0x10 && port <= 0x1f) || port >= 0xfff9;
        ASSERT_EQ((bitmap[port / 8] >> port % 8 & 1) != 0, expected) << port;
    }
}

TEST(MmioMap, FindsTheHandlerOfAPage) {
    MmioMap map;
    Registers a, b;
    ASSERT_TRUE(map.add(0xfe000000, 0x2000, a).ok());
    ASSERT_TRUE(map.add(0xfe002000, 0x1000, b).ok());
    EXPECT_EQ(map.find(0xfe001fff), &a);
    EXPECT_EQ(map.find(0xfe002000), &b);
    EXPECT_EQ(map.find(0xfe003000), nullptr);
    EXPECT_EQ(map.find(0xfdffffff), nullptr);
    EXPECT_EQ(map.add(0xfe001000, 0x1000, b).error(), Error::kOverlap);
    EXPECT_EQ(map.add(0xfe003800, 0x1000, b).error(), Error::kMisaligned);
    EXPECT_EQ(map.add(0xfe004000, 0, b).error(), Error::kMisaligned);
}

// --- guest_walk.hpp
// --------------------------------------------------------------------------------------------

// Page tables at an address that is below 512 GiB in this program too.
class GuestWalk : public testing::Test {
  protected:
    static constexpr std::uint64_t kBase = 0x20000000;
    static constexpr std::size_t kSize = 8 * 4096;

    void SetUp() override {
        void* const at = mmap(reinterpret_cast<void*>(kBase), kSize, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        ASSERT_EQ(at, reinterpret_cast<void*>(kBase));
        ASSERT_TRUE(ram_.add({kBase, kSize}).ok());
    }
    void TearDown() override { munmap(reinterpret_cast<void*>(kBase), kSize); }
    static constexpr std::uint64_t table(std::uint64_t i) { return kBase + i * 4096; }
    static void set(std::uint64_t i, std::size_t index, std::uint64_t entry) {
        reinterpret_cast<std::uint64_t*>(table(i))[index] = entry;
    }
    Result<std::uint64_t> walk(std::uint64_t cr3, std::uint64_t address, bool five_levels = false) {
        return guest_physical(ram_, cr3, five_levels, address);
    }
    memory::PhysicalMemory ram_;
};

TEST_F(GuestWalk, FollowsFourAndFiveLevels) {
    const std::uint64_t four = table(0) | 0x18;
    set(0, 511, table(1) | 1);
    set(1, 510, table(2) | 0x8000000000000001);
    set(2, 3, table(3) | 1);
    set(3, 5, 0x7fff000 | 0x63);
    set(2, 4, 0x0123'4560'0000 | 0x81);
    set(1, 509, 0x40000000 | 0x1081);
    const std::uint64_t top = 0xffff'ff80'0000'0000 | std::uint64_t{510} << 30;
    EXPECT_EQ(*walk(four, top + 3 * 0x200000 + 5 * 4096 + 0x123), 0x7fff123u);
    EXPECT_EQ(*walk(four, top + 4 * 0x200000 + 0x12345), 0x0123'4561'2345u) << "2 MiB";
    EXPECT_EQ(*walk(four, top - 0x40000000 + 0x1234567), 0x41234567u) << "1 GiB";
    EXPECT_EQ(walk(four, top + 3 * 0x200000 + 6 * 4096).error(), Error::kNotFound);
    EXPECT_EQ(walk(four, 0).error(), Error::kNotFound);

    set(4, 511, table(0) | 1);
    EXPECT_EQ(*walk(table(4), top + 3 * 0x200000 + 5 * 4096, true), 0x7fff000u);
}

TEST_F(GuestWalk, ReadsTablesInGuestRamOnly) {
    EXPECT_EQ(walk(kBase + kSize, 0).error(), Error::kOutOfRange);
    set(0, 0, (kBase - 4096) | 1);
    EXPECT_EQ(walk(table(0), 0).error(), Error::kOutOfRange);
    set(0, 0, 0x000ffffffffff001);
    EXPECT_EQ(walk(table(0), 0).error(), Error::kOutOfRange);
}

TEST_F(GuestWalk, EndsForATableThatPointsToItself) {
    set(0, 0, table(0) | 1);
    EXPECT_EQ(*walk(table(0), 0x10, true), table(0) + 0x10);
}

}  // namespace
}  // namespace gatehouse::cpu

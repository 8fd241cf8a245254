#include <gtest/gtest.h>

#include <array>

#include "hypervisor/cpu/svm/policy.hpp"

namespace gatehouse::cpu {
namespace {

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

}  // namespace
}  // namespace gatehouse::cpu

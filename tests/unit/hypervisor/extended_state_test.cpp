#include "hypervisor/cpu/extended_state.hpp"

#include <cpuid.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <random>

namespace gatehouse::cpu {
namespace {

// Everything here runs between two blocks of assembly, so that no register is changed but by what is called.
struct Registers {
    alignas(64) std::array<std::array<std::byte, 64>, 16> vectors;  // zmm0-zmm15; without AVX-512 the lower halves
    std::uint32_t mxcsr = 0;
};

void (*const volatile save_state)(ExtendedState&) = [](ExtendedState& state) { state.save(); };
void (*const volatile restore_state)(ExtendedState&) = [](ExtendedState& state) { state.restore(); };

bool has_avx512() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    const bool enabled = (a & 0xe6) == 0xe6;
    return enabled && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_AVX512F) != 0;
}

#define EACH_REGISTER(instruction) \
    ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n\t" instruction "\n\t.endr\n\t"

// Loads the registers, saves, clobbers them as VEX code does, restores, and stores them to `out`.
void through_a_section(ExtendedState& state, const Registers& in, Registers& out, bool wide) {
    asm volatile(
        "mov %%rsp, %%rbx\n\t"
        "sub $256, %%rsp\n\t"
        "and $-64, %%rsp\n\t"
        "ldmxcsr 1024(%[in])\n\t"
        "test %b[wide], %b[wide]\n\t"
        "jz 1f\n\t" EACH_REGISTER("vmovdqu64 \\n*64(%[in]), %%zmm\\n")  //
        "jmp 2f\n"
        "1:\n\t" EACH_REGISTER("vmovdqu \\n*64(%[in]), %%ymm\\n")  //
        "2:\n\t"
        "mov %[state], %%rdi\n\t"
        "call *%[save]\n\t"  //
        EACH_REGISTER("vpcmpeqd %%ymm\\n, %%ymm\\n, %%ymm\\n")
        "mov %[state], %%rdi\n\t"
        "call *%[restore]\n\t"
        "stmxcsr 1024(%[out])\n\t"
        "test %b[wide], %b[wide]\n\t"
        "jz 1f\n\t" EACH_REGISTER("vmovdqu64 %%zmm\\n, \\n*64(%[out])")  //
        "jmp 2f\n"
        "1:\n\t" EACH_REGISTER("vmovdqu %%ymm\\n, \\n*64(%[out])")  //
        "2:\n\t"
        "vzeroupper\n\t"
        "mov %%rbx, %%rsp\n\t"
        :
        : [in] "r"(&in), [out] "r"(&out), [state] "r"(&state), [save] "m"(save_state), [restore] "m"(restore_state),
          [wide] "r"(wide)
        : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3",
          "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

class ExtendedStateTest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (choose_extended_state() == 0) GTEST_SKIP() << "a CPU without VAES: nothing but FXSAVE is used";
        wide_ = has_avx512();
    }
    // Those of the guest's registers that a VEX instruction changes.
    [[nodiscard]] std::size_t bytes() const { return wide_ ? 64 : 32; }
    bool wide_ = false;
};

TEST_F(ExtendedStateTest, GivesBackAllOfYmmAndZmm) {
    std::mt19937_64 random(1);
    for (int run = 0; run < 100; ++run) {
        ExtendedState state;
        Registers in, out;
        for (auto& vector : in.vectors) {
            for (std::byte& one : vector) one = static_cast<std::byte>(random());
        }
        in.mxcsr = 0x1f80 | static_cast<std::uint32_t>(random() & 0x6000);
        through_a_section(state, in, out, wide_);
        EXPECT_EQ(out.mxcsr, in.mxcsr);
        for (std::size_t i = 0; i < in.vectors.size(); ++i) {
            EXPECT_EQ(std::memcmp(in.vectors[i].data(), out.vectors[i].data(), bytes()), 0) << "register " << i;
        }
    }
}

// Which components are in their initial state is restored, too: XSAVEOPT of the guest goes by it.
TEST_F(ExtendedStateTest, LeavesInitialWhatWasInitial) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kXgetbv1 = 1u << 2;
    if (__get_cpuid_count(0xd, 1, &a, &b, &c, &d) == 0 || (a & kXgetbv1) == 0) GTEST_SKIP() << "no XGETBV of XINUSE";
    ExtendedState state;
    unsigned in_use = 0;
    asm volatile(
        "vzeroall\n\t"
        "mov %%rsp, %%rbx\n\t"
        "sub $256, %%rsp\n\t"
        "and $-64, %%rsp\n\t"
        "mov %[state], %%rdi\n\t"
        "call *%[save]\n\t" EACH_REGISTER("vpcmpeqd %%ymm\\n, %%ymm\\n, %%ymm\\n")
        "mov %[state], %%rdi\n\t"
        "call *%[restore]\n\t"
        "mov $1, %%ecx\n\t"
        "xgetbv\n\t"
        "mov %%rbx, %%rsp\n\t"
        : "=&a"(in_use)
        : [state] "r"(&state), [save] "m"(save_state), [restore] "m"(restore_state)
        : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
          "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    EXPECT_EQ(in_use & 0x44, 0u) << "AVX, ZMM_Hi256";
}

TEST_F(ExtendedStateTest, ClearLeavesNothingInRegistersOrCopy) {
    alignas(ExtendedState) std::array<std::byte, sizeof(ExtendedState)> memory{};
    auto* state = new (memory.data()) ExtendedState;
    Registers in, out;
    for (auto& vector : in.vectors) vector.fill(std::byte{0x5a});
    in.mxcsr = 0x1f80;
    through_a_section(*state, in, out, wide_);
    const auto held = std::count(memory.begin(), memory.end(), std::byte{0x5a});
    EXPECT_GE(held, static_cast<std::ptrdiff_t>(16 * bytes()));
    state->clear();
    EXPECT_EQ(std::count(memory.begin(), memory.end(), std::byte{0x5a}), 0);
}

}  // namespace
}  // namespace gatehouse::cpu

// Instructions that C++ has no words for.
#pragma once

#include "hypervisor/platform/io.hpp"

namespace gatehouse::cpu {

struct CpuidLeaf {
    std::uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

[[nodiscard]] inline CpuidLeaf cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
    CpuidLeaf out;
    asm volatile("cpuid" : "=a"(out.eax), "=b"(out.ebx), "=c"(out.ecx), "=d"(out.edx) : "a"(leaf), "c"(subleaf));
    return out;
}

using platform::read_msr;
using platform::write_msr;

inline constexpr std::uint64_t kEferSce = 1u << 0;
inline constexpr std::uint64_t kEferLme = 1u << 8;
inline constexpr std::uint64_t kEferLma = 1u << 10;
inline constexpr std::uint64_t kEferNxe = 1u << 11;
inline constexpr std::uint64_t kEferSvme = 1u << 12;

// R_INIT; DIS_A20M: no guest can make the hypervisor miss address bit 20. SKINIT sets both on the BSP.
inline constexpr std::uint64_t kVmCrLaunched = 1u << 1 | 1u << 2;
inline constexpr std::uint64_t kVmCrSvmDisabled = 1u << 4;

inline constexpr std::uint64_t kCr0Pe = 1u << 0;
inline constexpr std::uint64_t kCr0Et = 1u << 4;
inline constexpr std::uint64_t kCr0Ne = 1u << 5;
inline constexpr std::uint64_t kCr0Nw = 1u << 29;
inline constexpr std::uint64_t kCr0Cd = 1u << 30;
inline constexpr std::uint64_t kCr0Pg = 1u << 31;
inline constexpr std::uint64_t kCr4Pae = 1u << 5;
inline constexpr std::uint64_t kCr4Mce = 1u << 6;
inline constexpr std::uint64_t kCr4Osfxsr = 1u << 9;
inline constexpr std::uint64_t kCr4Osxmmexcpt = 1u << 10;
inline constexpr std::uint64_t kCr4La57 = 1u << 12;
inline constexpr std::uint64_t kCr4Osxsave = 1u << 18;
inline constexpr std::uint64_t kCr4Pke = 1u << 22;

// As read_msr and write_msr; false where the processor answers with #GP. In entry.S.
extern "C" [[nodiscard]] bool try_read_msr(Msr msr, std::uint64_t* value);
extern "C" [[nodiscard]] bool try_write_msr(Msr msr, std::uint64_t value);

// Drops this processor's translations.
inline void reload_cr3() { asm volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory"); }
inline void pause() { asm volatile("pause"); }

}  // namespace gatehouse::cpu

// Ports, model-specific registers and time: the instructions, with names.
#pragma once

#include <cstdint>

namespace gatehouse::platform {

inline void out8(std::uint16_t port, std::uint8_t value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
inline void out16(std::uint16_t port, std::uint16_t value) { asm volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
inline void out32(std::uint16_t port, std::uint32_t value) { asm volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
[[nodiscard]] inline std::uint8_t in8(std::uint16_t port) {
    std::uint8_t value = 0;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
[[nodiscard]] inline std::uint16_t in16(std::uint16_t port) {
    std::uint16_t value = 0;
    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
[[nodiscard]] inline std::uint32_t in32(std::uint16_t port) {
    std::uint32_t value = 0;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

// An MSR that the processor does not have raises #GP, which is fatal here: ask CPUID first.
[[nodiscard]] inline std::uint64_t read_msr(std::uint32_t msr) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return std::uint64_t{high} << 32 | low;
}
inline void write_msr(std::uint32_t msr, std::uint64_t value) {
    asm volatile("wrmsr"
                 :
                 : "c"(msr), "a"(static_cast<std::uint32_t>(value)), "d"(static_cast<std::uint32_t>(value >> 32))
                 : "memory");
}

// AMD: where configuration space is in memory (pci.hpp, ecam_window).
inline constexpr std::uint32_t kMmioConfigurationBase = 0xc0010058;

// A clock for time-outs that needs no calibration and trusts none: no time-stamp counter runs faster than 5
// GHz, so waits last at least as long as they say, and at most a few times as long. Never goes back.
[[nodiscard]] inline std::uint64_t microseconds() {
    constexpr std::uint64_t kFastestMegahertz = 5000;
    return __builtin_ia32_rdtsc() / kFastestMegahertz;
}

}  // namespace gatehouse::platform

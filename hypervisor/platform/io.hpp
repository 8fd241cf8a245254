// Ports, model-specific registers and time: the instructions, with names.
#pragma once

#include <cstdint>

namespace gatehouse::platform {

// `size` is 1, 2 or 4.
[[nodiscard]] inline std::uint32_t in(std::uint16_t port, unsigned size) {
    std::uint32_t value = 0;
    if (size == 1) asm volatile("inb %1, %b0" : "+a"(value) : "Nd"(port));
    if (size == 2) asm volatile("inw %1, %w0" : "+a"(value) : "Nd"(port));
    if (size == 4) asm volatile("inl %1, %0" : "+a"(value) : "Nd"(port));
    return value;
}
inline void out(std::uint16_t port, unsigned size, std::uint32_t value) {
    if (size == 1) asm volatile("outb %b0, %1" : : "a"(value), "Nd"(port));
    if (size == 2) asm volatile("outw %w0, %1" : : "a"(value), "Nd"(port));
    if (size == 4) asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
[[nodiscard]] inline std::uint8_t in8(std::uint16_t port) { return static_cast<std::uint8_t>(in(port, 1)); }
inline void out8(std::uint16_t port, std::uint8_t value) { out(port, 1, value); }

// A device's register, in memory that is mapped at itself and uncacheable.
template <typename T>
[[nodiscard]] volatile T& mapped(std::uint64_t address) {
    return *reinterpret_cast<volatile T*>(address);
}

// An MSR that the processor does not have raises #GP, which is fatal here: ask CPUID first.
[[nodiscard]] inline std::uint64_t read_msr(std::uint32_t msr) {
    std::uint32_t low = 0, high = 0;
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

// Ports, model-specific registers, devices' registers and time: the instructions, with names.
//
// What can be read or written is declared once, with its place and its width. No access chooses a width, and what is
// one kind's, or one device's, is no other's: it does not compile.
#pragma once

#include <concepts>
#include <type_traits>

#include "hypervisor/base/address.hpp"

namespace gatehouse {

// Model-specific registers, 64 bits wide (APM vol. 2, appendix A).
enum Msr : std::uint32_t {
    kMsrApicBase = 0x0000001b,
    kMsrPatchLevel = 0x0000008b,
    kMsrMtrrCap = 0x000000fe,       // [7:0] variable ranges
    kMsrMtrrVariable = 0x00000200,  // base: [51:12], [7:0] type; then mask: [51:12], bit 11 valid
    kMsrMtrrFix64K = 0x00000250,    // one byte for each of 8 ranges of 64 KiB from 0
    kMsrMtrrFix16K = 0x00000258,    // of 16 KiB from 0x80000
    kMsrPat = 0x00000277,
    kMsrMtrrDefault = 0x000002ff,  // bit 11 enable, bit 10 fixed ranges, [7:0] type
    kMsrX2Apic = 0x00000800,       // + register offset / 16
    kMsrX2ApicIcr = 0x00000830,
    kMsrEfer = 0xc0000080,
    kMsrFsBase = 0xc0000100,
    kMsrSyscfg = 0xc0010010,
    kMsrHwcr = 0xc0010015,
    kMsrIorrMask0 = 0xc0010017,  // bit 11 valid
    kMsrIorrMask1 = 0xc0010019,
    kMsrTopMem = 0xc001001a,
    kMsrTopMem2 = 0xc001001d,
    kMsrPatchLoader = 0xc0010020,
    kMsrMmioConfiguration = 0xc0010058,  // where configuration space is in memory (pci.hpp, ecam_window)
    kMsrSmmAddress = 0xc0010112,         // 10.2.5: [51:17]
    kMsrSmmMask = 0xc0010113,            // [51:17], bit 1: TSEG is protected
    kMsrVmCr = 0xc0010114,
    kMsrVmHsavePa = 0xc0010117,
};

}  // namespace gatehouse

namespace gatehouse::platform {

// For ports that others have chosen, the guest's and configuration space. `size` is 1, 2 or 4.
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

template <std::unsigned_integral T>
struct Port {
    std::uint16_t number;
};
template <typename T>
[[nodiscard]] T in(Port<T> port) {
    return static_cast<T>(in(port.number, sizeof(T)));
}
template <typename T>
void out(Port<T> port, std::type_identity_t<T> value) {
    out(port.number, sizeof(T), value);
}

// A register of a device: its offset among them.
template <typename Device, std::unsigned_integral T>
struct Register {
    std::uint32_t offset;
};
// The registers of a device, in memory that is mapped at itself and uncacheable.
template <typename Device>
class Mmio {
  public:
    explicit constexpr Mmio(HostPhysical base) : base_(base) {}
    template <typename T>
    [[nodiscard]] T read(Register<Device, T> reg) const {
        return *reinterpret_cast<const volatile T*>((base_ + reg.offset).value());
    }
    template <typename T>
    void write(Register<Device, T> reg, std::type_identity_t<T> value) const {
        *reinterpret_cast<volatile T*>((base_ + reg.offset).value()) = value;
    }

  private:
    HostPhysical base_;
};

// An MSR that the processor does not have raises #GP, which is fatal here: ask CPUID first.
[[nodiscard]] inline std::uint64_t read_msr(Msr msr) {
    std::uint32_t low = 0, high = 0;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return std::uint64_t{high} << 32 | low;
}
inline void write_msr(Msr msr, std::uint64_t value) {
    asm volatile("wrmsr"
                 :
                 : "c"(msr), "a"(static_cast<std::uint32_t>(value)), "d"(static_cast<std::uint32_t>(value >> 32))
                 : "memory");
}

// A clock for time-outs that needs no calibration and trusts none: no time-stamp counter runs faster than 5
// GHz, so waits last at least as long as they say, and at most a few times as long. Never goes back.
[[nodiscard]] inline std::uint64_t microseconds() { return __builtin_ia32_rdtsc() / 5000; }

}  // namespace gatehouse::platform

#include "hypervisor/cpu/extended_state.hpp"

#include <cpuid.h>

#include "hypervisor/base/secret.hpp"
#include "hypervisor/cpu/instructions.hpp"

namespace gatehouse::cpu {
namespace {

constexpr std::uint32_t kMxcsrDefault = 0x1f80;  // all exceptions masked
constexpr std::size_t kMxcsrOffset = 24;
constexpr std::uint32_t kSseAndAvx = 0x07, kAvx512 = 0xe0, kZmmHigh = 0x40;  // XCR0
constexpr std::uint32_t kAreaLeaf = 0xd;  // ECX: size of the area for all that the CPU has; EAX: XCR0's bits

// Components that save() keeps; 0: as FXSAVE does. And what XCR0 must have for them.
constinit std::uint32_t components = 0, enabled = 0;

std::uint64_t read_xcr0() {
    std::uint32_t low = 0, high = 0;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return std::uint64_t{high} << 32 | low;
}

void write_xcr0(std::uint64_t value) { asm volatile("xsetbv" : : "a"(value), "d"(value >> 32), "c"(0) : "memory"); }

}  // namespace

std::uint64_t choose_extended_state() {
    static constinit bool chosen = false;
    if (!chosen && cpuid(0).eax >= kAreaLeaf && (cpuid(1).ecx & bit_XSAVE) != 0 && (cpuid(7).ecx & bit_VAES) != 0 &&
        cpuid(kAreaLeaf).ecx <= ExtendedState::kSize) {
        enabled = cpuid(kAreaLeaf).eax & (kSseAndAvx | kAvx512);
        components = enabled & (kSseAndAvx | kZmmHigh);
    }
    chosen = true;
    return components != 0 ? kCr4Osxsave : 0;
}

// CR0.TS, CR0.EM, CR4.OSFXSR and CR4.OSXSAVE are the hypervisor's own here (the world switch loads them), so that the
// guest's settings do not matter; EFER.FFXSR, with which FXSAVE leaves the XMM registers out, is 0.
void ExtendedState::save() {
    if (components == 0) {
        asm volatile("fxsave64 %0" : "=m"(area_));
    } else {
        guest_xcr0_ = read_xcr0();
        if ((guest_xcr0_ & enabled) != enabled) write_xcr0(guest_xcr0_ | enabled);
        asm volatile("xsave64 %0" : "+m"(area_) : "a"(components), "d"(0));
    }
    asm volatile("ldmxcsr %0" : : "m"(kMxcsrDefault));
}

void ExtendedState::restore() {
    if (components == 0) {
        asm volatile("fxrstor64 %0" : : "m"(area_));
        return;
    }
    asm volatile("xrstor64 %0" : : "m"(area_), "a"(components), "d"(0));
    if ((guest_xcr0_ & enabled) != enabled) write_xcr0(guest_xcr0_);
}

void ExtendedState::clear() {
    save();  // which enables all that restore() gives
    wipe(area_);
    std::memcpy(area_.data() + kMxcsrOffset, &kMxcsrDefault, sizeof(kMxcsrDefault));
    restore();
    asm volatile("fninit");
}

}  // namespace gatehouse::cpu

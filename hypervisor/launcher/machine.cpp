#include "hypervisor/launcher/machine.hpp"

#include <array>

#include "hypervisor/base/log.hpp"
#include "hypervisor/base/until.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::launcher {
namespace {

using platform::read_msr;
using platform::write_msr;

constexpr std::uint32_t kApicBase = 0x1b;
constexpr std::uint32_t kX2ApicInterruptCommand = 0x830;
constexpr std::uint32_t kEfer = 0xc0000080;
constexpr std::uint32_t kVmCr = 0xc0010114;

std::array<std::uint32_t, 4> cpuid(std::uint32_t leaf) {
    std::array<std::uint32_t, 4> out{};
    asm volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(0));
    return out;
}

template <typename T>
volatile T& mmio(std::uint64_t address) {
    return *reinterpret_cast<volatile T*>(address);
}

void wait(std::uint64_t microseconds) {
    (void)until(platform::microseconds, microseconds, [] { return false; });
}

}  // namespace

bool has_feature(std::uint32_t leaf, Register where, unsigned bit) {
    if (cpuid(leaf & 0x80000000)[0] < leaf) return false;
    return ((cpuid(leaf)[static_cast<std::size_t>(where)] >> bit) & 1) != 0;
}

bool svm_disabled() { return (read_msr(kVmCr) & 1u << 4) != 0; }

void halt() {
    for (;;) asm volatile("cli; hlt");
}

// FIFO: TPM_ACCESS.activeLocality (PTP 1.05, 6.5.2.4). CRB: TPM_LOC_CTRL.relinquish (6.5.3.3).
void relinquish_tpm() {
    constexpr std::uint64_t kBase = 0xfed40000;
    constexpr unsigned kLocalities = 4;  // the fifth is the CPU's own
    const bool crb = (mmio<std::uint32_t>(kBase + 0x30) & 0xf) == 1;
    for (unsigned locality = 0; locality < kLocalities; ++locality) {
        const std::uint64_t registers = kBase + locality * 0x1000;
        if (crb) {
            mmio<std::uint32_t>(registers + 0x08) = 1u << 1;
        } else {
            mmio<std::uint8_t>(registers) = 1u << 5;
        }
    }
}

void mask_legacy_interrupts() {
    platform::out8(0x21, 0xff);
    platform::out8(0xa1, 0xff);
}

// AMD64 APM vol. 2, 15.27.8 and 16.5: INIT, level, assert, all excluding self.
void park_other_cpus() {
    constexpr std::uint32_t kInitToOthers = 0x000c4500;
    constexpr std::uint64_t kX2Apic = 1u << 10;
    constexpr std::uint64_t kEnabled = 1u << 11;
    const std::uint64_t base = read_msr(kApicBase);
    if ((base & kEnabled) == 0) {
        log("launcher: the local APIC is off: other CPUs cannot be parked");
        return;
    }
    if ((base & kX2Apic) != 0) {
        write_msr(kX2ApicInterruptCommand, kInitToOthers);
    } else {
        constexpr std::uint64_t kInterruptCommandLow = 0x300;
        constexpr std::uint32_t kPending = 1u << 12;
        volatile std::uint32_t& command = mmio<std::uint32_t>((base & 0xffffff000) + kInterruptCommandLow);
        command = kInitToOthers;
        (void)until(platform::microseconds, 1000, [&command] { return (command & kPending) == 0; });
    }
    wait(20'000);
}

void enable_svm() {
    constexpr std::uint64_t kSvme = 1u << 12;
    write_msr(kEfer, read_msr(kEfer) | kSvme);
}

}  // namespace gatehouse::launcher

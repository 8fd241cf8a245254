#include "hypervisor/launcher/machine.hpp"

#include <array>

#include "hypervisor/base/log.hpp"
#include "hypervisor/base/until.hpp"
#include "hypervisor/platform/io.hpp"
#include "hypervisor/platform/tpm_transport.hpp"

namespace gatehouse::launcher {
namespace {

using platform::read_msr;
using platform::write_msr;

std::array<std::uint32_t, 4> cpuid(std::uint32_t leaf) {
    std::array<std::uint32_t, 4> out{};
    asm volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(0));
    return out;
}

void wait(std::uint64_t microseconds) {
    (void)until(platform::microseconds, microseconds, [] { return false; });
}

}  // namespace

bool has_feature(std::uint32_t leaf, Register where, unsigned bit) {
    if (cpuid(leaf & 0x80000000)[0] < leaf) return false;
    return ((cpuid(leaf)[static_cast<std::size_t>(where)] >> bit) & 1) != 0;
}

bool svm_disabled() { return (read_msr(kMsrVmCr) & 1u << 4) != 0; }

void halt() {
    for (;;) asm volatile("cli; hlt");
}

// FIFO: TPM_ACCESS.activeLocality (PTP 1.05, 6.5.2.4). CRB: TPM_LOC_CTRL.relinquish (6.5.3.3).
void relinquish_tpm() {
    using platform::TpmBus;
    constexpr unsigned kLocalities = 4;  // the fifth is the CPU's own
    constexpr std::uint32_t kControlRelinquish = 1u << 1;
    const auto page = [](unsigned locality) {
        return platform::Mmio<TpmBus>(HostPhysical(platform::kTpmBase + locality * 0x1000));
    };
    const bool crb = (page(0).read(platform::kTpmInterfaceId) & platform::kTpmIdTypeMask) == platform::kTpmIdCrb;
    for (unsigned locality = 0; locality < kLocalities; ++locality) {
        if (crb) {
            page(locality).write(platform::kTpmLocalityControl, kControlRelinquish);
        } else {
            page(locality).write(platform::kTpmAccess, platform::kTpmAccessActive);
        }
    }
}

void mask_legacy_interrupts() {
    constexpr platform::Port<std::uint8_t> kFirst{0x21}, kSecond{0xa1};
    platform::out(kFirst, 0xff);
    platform::out(kSecond, 0xff);
}

// AMD64 APM vol. 2, 15.27.8 and 16.5: INIT, level, assert, all excluding self.
void park_other_cpus() {
    constexpr std::uint32_t kInitToOthers = 0x000c4500;
    constexpr std::uint64_t kX2Apic = 1u << 10;
    constexpr std::uint64_t kEnabled = 1u << 11;
    const std::uint64_t base = read_msr(kMsrApicBase);
    if ((base & kEnabled) == 0) {
        log("launcher: the local APIC is off: other CPUs cannot be parked");
        return;
    }
    if ((base & kX2Apic) != 0) {
        write_msr(kMsrX2ApicIcr, kInitToOthers);
    } else {
        constexpr platform::Register<struct Apic, std::uint32_t> kInterruptCommandLow{0x300};
        constexpr std::uint32_t kPending = 1u << 12;
        const platform::Mmio<Apic> apic(HostPhysical(base & 0xffffff000));
        apic.write(kInterruptCommandLow, kInitToOthers);
        (void)until(platform::microseconds, 1000, [&] { return (apic.read(kInterruptCommandLow) & kPending) == 0; });
    }
    wait(200'000);  // SKINIT refuses one that has not taken it, and on an emulated machine it may take its time
}

void enable_svm() {
    constexpr std::uint64_t kSvme = 1u << 12;
    write_msr(kMsrEfer, read_msr(kMsrEfer) | kSvme);
}

}  // namespace gatehouse::launcher

// What the guest sees of the processor: CPUID and model-specific registers.
//
// The guest sees this very processor without SVM: no SVM, SKINIT, SEV, SME, broadcast TLB flushes. It may not
// touch what could move memory under the hypervisor or change how it is cached, reach into SMM or replace microcode.
#pragma once

#include <span>

#include "hypervisor/cpu/instructions.hpp"

namespace gatehouse::cpu::svm {

// CPUID's answer to a guest whose CR4 is `guest_cr4`; `hardware` is the processor's.
[[nodiscard]] CpuidLeaf guest_cpuid(std::uint32_t leaf, std::uint32_t subleaf, CpuidLeaf hardware,
                                    std::uint64_t guest_cr4);

enum class MsrRule : std::uint8_t {
    kPass,      // no exit
    kDrop,      // a write changes nothing; it is #GP only if the register does not exist
    kMask,      // a write changes the bits of MsrPolicy::mask only
    kFault,     // #GP, as where the register does not exist
    kEfer,      // SVME hidden
    kApicBase,  // the page stays where it is, the APIC stays on
    kIcr,       // x2APIC: INIT and SIPI are emulated
    kCounter,   // performance counter: guest_counter()
};

struct MsrPolicy {
    MsrRule read = MsrRule::kPass;
    MsrRule write = MsrRule::kPass;
    std::uint64_t mask = 0;
};

[[nodiscard]] MsrPolicy msr_policy(std::uint32_t msr);
// What a guest's write of a core performance counter's register becomes: a control register counts the guest's events
// only (HG_ONLY, bits 41:40, is 01b; APM vol. 2, 13.2.1), so that nothing is learned of the hypervisor.
[[nodiscard]] std::uint64_t guest_counter(std::uint32_t msr, std::uint64_t value);

// Sets read and write bits of every register whose rule is not kPass: two bits an MSR (APM vol. 2, 15.11).
// MSRs that the bitmap does not cover always exit.
inline constexpr std::size_t kMsrBitmapSize = 0x2000;
void write_msr_bitmap(std::span<std::uint8_t, kMsrBitmapSize> bitmap);

}  // namespace gatehouse::cpu::svm

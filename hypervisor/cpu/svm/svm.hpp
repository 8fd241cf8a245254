// AMD SVM: one guest on all processors (AMD64 Architecture Programmer's Manual, "APM", vol. 2, chapter 15).
//
// Intercepted: CPUID, some MSRs (policy.hpp) and ports, SVM instructions, INIT, shutdown, nested page faults.
// Nothing else: interrupts, NMIs and exceptions go straight to the guest, and an idle guest causes no exits.
#pragma once

#include "hypervisor/base/result.hpp"

namespace gatehouse::cpu::svm {

// Checks for SVM and nested paging, turns SVM on for this processor and builds the nested page table: all
// physical addresses that the processor has, at themselves, the kept region (at `kept_base`) hidden. Errors:
// kUnsupported with the missing feature; kNoSpace.
[[nodiscard]] Status enable(std::uint64_t kept_base);

// Guest state at its entry, in 64-bit mode with interrupts off: CS 0x10, DS, ES and SS 0x18, flat; other
// registers zero. Addresses of the tables are guest-physical; the GDT has four entries.
struct GuestEntry {
    std::uint64_t rip = 0;
    std::uint64_t rsi = 0;
    std::uint64_t rsp = 0;
    std::uint64_t cr3 = 0;
    std::uint64_t gdt = 0;
};
[[noreturn]] void run_guest(const GuestEntry& entry);

}  // namespace gatehouse::cpu::svm

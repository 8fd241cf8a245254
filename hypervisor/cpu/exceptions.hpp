// Exceptions in the hypervisor: there should be none.
//
// Three are expected: #GP of try_read_msr and try_write_msr, #SX of a redirected INIT and an NMI, both of
// them only in open_window(). Any other is a broken invariant, and a panic.
#pragma once

#include <cstdint>

namespace gatehouse::cpu {

// As exception_common in entry.S pushes it.
struct ExceptionFrame {
    std::uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    std::uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

struct PerCpu;

// Fills the shared IDT; once, on the BSP.
void build_interrupt_table();
// Loads GDT, TSS, IDT and FS for this processor. cpu.task's stacks have been set.
void load_tables(PerCpu& cpu);

}  // namespace gatehouse::cpu

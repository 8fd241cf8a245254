// What belongs to one processor.
#pragma once

#include <atomic>

#include "hypervisor/cpu/extended_state.hpp"
#include "hypervisor/memory/physical_memory.hpp"

namespace gatehouse::cpu {

namespace svm {
struct Vcpu;
}

// 64-bit task state segment (APM vol. 2, 12.2.5); only the interrupt stacks are used.
struct [[gnu::packed]] TaskState {
    std::uint32_t reserved0 = 0;
    std::array<std::uint64_t, 3> rsp{};
    std::uint64_t reserved1 = 0;
    std::array<std::uint64_t, 7> ist{};        // [0]: exceptions, [1]: NMI
    std::array<std::uint16_t, 6> reserved2{};  // the port bitmap's place as well: all is CPL 0
};
static_assert(sizeof(TaskState) == 104);

inline constexpr std::uint64_t kStackSize = 7 * memory::kPageSize;  // of each processor's main stack

// FS points here while the hypervisor runs: compiled code reads its stack canary from fs:0x28.
struct alignas(64) PerCpu {
    PerCpu* self = nullptr;   // fs:0x00
    std::uint32_t index = 0;  // 0: the BSP
    std::uint32_t apic_id = 0;
    std::uint64_t stack = 0;  // top of the main stack
    std::uint64_t reserved[2] = {};
    std::uint64_t canary = 0;   // fs:0x28
    svm::Vcpu* vcpu = nullptr;  // set by svm::enable()
    std::atomic<bool> online = false;
    std::atomic<bool> nmi_pending = false;  // an NMI came in open_window(); it is the guest's
    unsigned vector_depth = 0;
    std::array<std::uint64_t, 5> gdt{};  // null, code, data, TSS (two)
    TaskState task;
    ExtendedState extended;  // the guest's
};
static_assert(offsetof(PerCpu, canary) == 0x28);

[[nodiscard]] inline PerCpu& this_cpu() {
    PerCpu* cpu = nullptr;
    asm volatile("mov %%fs:0, %0" : "=r"(cpu));
    return *cpu;
}

// Processor `index`, below cpu_count().
[[nodiscard]] PerCpu& cpu_at(std::size_t index);

// In entry.S. Opens GIF for a moment, or halts until something comes; true if an INIT came (as #SX).
extern "C" [[nodiscard]] bool open_window(bool halt);

// Stops this processor for good.
[[noreturn]] void halt();

}  // namespace gatehouse::cpu

#include "hypervisor/cpu/vector.hpp"

#include "hypervisor/cpu/per_cpu.hpp"

namespace gatehouse::cpu {

void begin_vectors() {
    PerCpu& cpu = this_cpu();
    if (cpu.vector_depth++ == 0) cpu.extended.save();
}

void end_vectors() {
    PerCpu& cpu = this_cpu();
    if (--cpu.vector_depth == 0) cpu.extended.restore();
}

void forget_secrets() {
    PerCpu& cpu = this_cpu();
    cpu.extended.clear();
    std::uint64_t bottom = cpu.stack - kStackSize;
    asm volatile("mov %%rsp, %%rcx; sub %0, %%rcx; cmp %1, %%rcx; cmova %1, %%rcx; rep stosb"
                 : "+D"(bottom)
                 : "r"(kStackSize), "a"(0)
                 : "rcx", "memory", "cc");
}

}  // namespace gatehouse::cpu

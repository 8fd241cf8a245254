#include "hypervisor/cpu/vector.hpp"

#include "hypervisor/base/secret.hpp"
#include "hypervisor/cpu/per_cpu.hpp"

namespace gatehouse::cpu {

static constexpr std::uint32_t kMxcsrDefault = 0x1f80;  // all exceptions masked

// CR0.TS, CR0.EM and CR4.OSFXSR are the hypervisor's own here (the world switch loads them), so that the
// guest's settings do not matter; EFER.FFXSR, with which FXSAVE leaves the XMM registers out, is 0.
void begin_vectors() {
    PerCpu& cpu = this_cpu();
    if (cpu.vector_depth++ != 0) return;
    asm volatile("fxsave64 %0" : "=m"(cpu.vector_area));
    asm volatile("ldmxcsr %0" : : "m"(kMxcsrDefault));
}

void end_vectors() {
    PerCpu& cpu = this_cpu();
    if (--cpu.vector_depth != 0) return;
    asm volatile("fxrstor64 %0" : : "m"(cpu.vector_area));
}

void forget_secrets() {
    PerCpu& cpu = this_cpu();
    wipe(cpu.vector_area);
    std::memcpy(cpu.vector_area.data() + 24, &kMxcsrDefault, sizeof(kMxcsrDefault));
    asm volatile("fxrstor64 %0; fninit" : : "m"(cpu.vector_area));
    std::uint64_t bottom = cpu.stack - kStackSize;
    asm volatile("mov %%rsp, %%rcx; sub %0, %%rcx; cmp %1, %%rcx; cmova %1, %%rcx; rep stosb"
                 : "+D"(bottom)
                 : "r"(kStackSize), "a"(0)
                 : "rcx", "memory", "cc");
}

}  // namespace gatehouse::cpu

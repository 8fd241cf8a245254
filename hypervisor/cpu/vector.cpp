#include "hypervisor/cpu/vector.hpp"

#include "hypervisor/cpu/per_cpu.hpp"

namespace gatehouse::cpu {

// CR0.TS, CR0.EM and CR4.OSFXSR are the hypervisor's own here (the world switch loads them), so that the
// guest's settings do not matter; EFER.FFXSR, with which FXSAVE leaves the XMM registers out, is 0.
void begin_vectors() {
    constexpr std::uint32_t kMxcsrDefault = 0x1f80;  // all exceptions masked
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

}  // namespace gatehouse::cpu

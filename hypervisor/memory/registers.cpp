// The real registers of amd_vi.hpp and ram.hpp.
#include "hypervisor/memory/amd_vi.hpp"

namespace gatehouse::memory {

std::uint64_t read_msr(Msr msr) { return platform::read_msr(msr); }
void write_msr(Msr msr, std::uint64_t value) { platform::write_msr(msr, value); }

std::uint64_t IommuRegisters::read(Register reg) const { return platform::Mmio<IommuRegisters>(base_).read(reg); }
void IommuRegisters::write(Register reg, std::uint64_t value) const {
    platform::Mmio<IommuRegisters>(base_).write(reg, value);
}
std::uint64_t IommuRegisters::microseconds() const { return platform::microseconds(); }

}  // namespace gatehouse::memory

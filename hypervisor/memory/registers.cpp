// The real registers of amd_vi.hpp and ram.hpp.
#include "hypervisor/memory/amd_vi.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::memory {

std::uint64_t read_msr(std::uint32_t msr) { return platform::read_msr(msr); }
void write_msr(std::uint32_t msr, std::uint64_t value) { platform::write_msr(msr, value); }

std::uint64_t IommuRegisters::read(std::uint32_t offset) const {
    return platform::mapped<std::uint64_t>(base_ + offset);
}
void IommuRegisters::write(std::uint32_t offset, std::uint64_t value) const {
    platform::mapped<std::uint64_t>(base_ + offset) = value;
}
std::uint64_t IommuRegisters::microseconds() const { return platform::microseconds(); }

}  // namespace gatehouse::memory

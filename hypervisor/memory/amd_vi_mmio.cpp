#include "hypervisor/memory/amd_vi_mmio.hpp"

#include "hypervisor/platform/io.hpp"

namespace gatehouse::memory {

std::uint64_t IommuMmio::read(std::uint32_t offset) {
    return *reinterpret_cast<volatile std::uint64_t*>(base_ + offset);
}
void IommuMmio::write(std::uint32_t offset, std::uint64_t value) {
    *reinterpret_cast<volatile std::uint64_t*>(base_ + offset) = value;
}
std::uint64_t IommuMmio::microseconds() { return platform::microseconds(); }

}  // namespace gatehouse::memory

#include "hypervisor/cpu/mmio.hpp"

namespace gatehouse::cpu {

Status MmioMap::add(std::uint64_t base, std::uint64_t size, MmioHandler& handler) {
    if (((base | size) & 0xfff) != 0 || size == 0) return {Error::kMisaligned, "MMIO region", base};
    if (count_ == kMaxRegions) return {Error::kNoSpace, "MMIO regions", kMaxRegions};
    for (std::size_t i = 0; i < count_; ++i) {
        if (base < regions_[i].base + regions_[i].size && regions_[i].base < base + size) {
            return {Error::kOverlap, "MMIO region", base};
        }
    }
    regions_[count_++] = {base, size, &handler};
    return {};
}

MmioHandler* MmioMap::find(std::uint64_t address) const {
    for (std::size_t i = 0; i < count_; ++i) {
        if (address - regions_[i].base < regions_[i].size) return regions_[i].handler;
    }
    return nullptr;
}

}  // namespace gatehouse::cpu

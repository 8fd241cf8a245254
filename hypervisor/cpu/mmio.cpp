#include "hypervisor/cpu/mmio.hpp"

namespace gatehouse::cpu {

Status MmioMap::add(std::uint64_t base, std::uint64_t size, MmioHandler& handler) {
    if (((base | size) & 0xfff) != 0 || size == 0) return {Error::kMisaligned, "MMIO region", base};
    if (count_ == kMaxRegions) return {Error::kNoSpace, "MMIO regions", kMaxRegions};
    const Extent place{base, size};
    for (const Region& other : std::span(regions_).first(count_)) {
        if (other.place.overlaps(place)) return {Error::kOverlap, "MMIO region", base};
    }
    regions_[count_++] = {place, &handler};
    return {};
}

MmioHandler* MmioMap::find(GuestPhysical address) const {
    for (const Region& region : std::span(regions_).first(count_)) {
        if (address - GuestPhysical(region.place.base) < region.place.length) return region.handler;
    }
    return nullptr;
}

}  // namespace gatehouse::cpu

#include "hypervisor/cpu/guest_walk.hpp"

#include <atomic>

namespace gatehouse::cpu {

Result<GuestPhysical> guest_physical(const memory::PhysicalMemory& memory, std::uint64_t cr3, bool five_levels,
                                     std::uint64_t address) {
    using namespace memory::page;
    GuestPhysical table{cr3 & kAddress};
    for (unsigned shift = five_levels ? 48 : 39;; shift -= 9) {
        GATEHOUSE_ASSIGN(const HostPhysical place, memory.guest(table + (address >> shift & 511) * 8, 8));
        const std::uint64_t entry = std::atomic_ref(*reinterpret_cast<std::uint64_t*>(memory::at_physical(place)))
                                        .load(std::memory_order_relaxed);
        if ((entry & kPresent) == 0) return {Error::kNotFound, "guest page", address};
        if (shift == 12 || ((shift == 21 || shift == 30) && (entry & kLarge) != 0)) {
            const std::uint64_t offset = (std::uint64_t{1} << shift) - 1;
            return GuestPhysical((entry & kAddress & ~offset) | (address & offset));
        }
        table = GuestPhysical(entry & kAddress);
    }
}

}  // namespace gatehouse::cpu

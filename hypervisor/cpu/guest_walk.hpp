// Guest-virtual to guest-physical, by the guest's page table in long mode (APM vol. 2, 5.3).
//
// The table is the guest's and changes under the walk: entries are read once each, only from the guest's RAM, at most
// five of them. Rights are not checked: the processor has, and the result is used to read instruction bytes only.
#pragma once

#include "hypervisor/memory/physical_memory.hpp"

namespace gatehouse::cpu {

// kOutOfRange: a table outside of the guest's RAM; kNotFound: not present.
[[nodiscard]] Result<GuestPhysical> guest_physical(const memory::PhysicalMemory& memory, std::uint64_t cr3,
                                                   bool five_levels, std::uint64_t address);

}  // namespace gatehouse::cpu

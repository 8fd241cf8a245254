#include "hypervisor/boot/machine_memory.hpp"

#include "hypervisor/boot/payload.hpp"

namespace gatehouse::boot {

Status MachineMemory::read() {
    GATEHOUSE_TRY(
        launch::parse_launch_block(kept(launch::kLaunchBlockOffset, launch::kLaunchBlockSize), kept_base_, block_));
    GATEHOUSE_TRY(ram_.read());
    return build_memory_map(block_, ram_, map_);
}

Bytes MachineMemory::view(std::uint64_t physical, std::uint64_t size) {
    const Extent extent{physical, size};
    const bool good = physical >= memory::kPageSize && ram_.check(extent, "ACPI table").ok() &&
                      extent.end() <= memory::kIdentityLimit && !extent.overlaps({kept_base_, launch::kKeptSize});
    return good ? Bytes(memory::at_physical(HostPhysical(physical)), size) : Bytes{};
}

}  // namespace gatehouse::boot

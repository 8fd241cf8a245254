// The machine's memory: what the launcher says of it, and what of that is true.
//
// The kept region is ours (launch/layout.hpp says what lies where in it). Of the rest only what the processor's own
// registers call RAM becomes the guest's, and nothing is read in another place.
#pragma once

#include "hypervisor/guest/linux.hpp"
#include "hypervisor/memory/physical_memory.hpp"
#include "hypervisor/memory/ram.hpp"
#include "hypervisor/platform/acpi.hpp"

namespace gatehouse::boot {

class MachineMemory final : public platform::AcpiMemory, public guest::PhysicalView {
  public:
    explicit MachineMemory(std::uint64_t kept_base) : kept_base_(kept_base) {}

    // The launch block, which the parser copies out of the launcher's reach, RAM, and of both the guest's memory map.
    // Errors: those of parse_launch_block(), Ram::read() and build_memory_map().
    [[nodiscard]] Status read();

    [[nodiscard]] HostPhysical kept_base() const { return HostPhysical(kept_base_); }
    // `offset` as in launch/layout.hpp.
    [[nodiscard]] MutableBytes kept(std::uint64_t offset, std::uint64_t size) { return at(kept_base() + offset, size); }
    [[nodiscard]] MutableBytes at(HostPhysical physical, std::size_t size) override {
        return {memory::at_physical(physical), size};
    }
    // RAM that is not kept: reading it asks no device.
    [[nodiscard]] Bytes view(std::uint64_t physical, std::uint64_t size) override;

    [[nodiscard]] const launch::LaunchBlock& block() const { return block_; }
    [[nodiscard]] const memory::Ram& ram() const { return ram_; }
    [[nodiscard]] guest::MemoryMap& map() { return map_; }
    // Calls visit(Extent), which returns a Status, for all RAM that is the guest's, until one fails.
    template <typename Visit>
    [[nodiscard]] Status each_guest_range(Visit&& visit) const {
        for (const guest::MemoryRange& range : map_.ranges()) {
            if (range.is_ram()) GATEHOUSE_TRY(visit(range.extent()));
        }
        return {};
    }

  private:
    std::uint64_t kept_base_;
    launch::LaunchBlock block_;
    memory::Ram ram_;
    guest::MemoryMap map_;
};

}  // namespace gatehouse::boot

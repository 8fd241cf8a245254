#include "hypervisor/launcher/placement.hpp"

namespace gatehouse::launcher {
namespace {

constexpr std::size_t kMaxBusy = 2 * launch::kMaxModules + 8;

// Only counts up; far larger than what a launch has.
struct BusyList {
    std::array<Extent, kMaxBusy> entries{};
    std::size_t count = 0;

    [[nodiscard]] Status add(const Extent& extent) {
        if (extent.length == 0) return {};
        if (count == entries.size()) return {Error::kNoSpace, "list of places in use"};
        entries[count++] = extent;
        return {};
    }
    [[nodiscard]] std::span<const Extent> all() const { return std::span(entries).first(count); }
};

}  // namespace

Result<Placement> place(const BootInformation& information, std::span<const Extent> busy) {
    guest::MemoryMap map;
    for (const launch::MemoryRange& range : information.launch.all_memory()) {
        GATEHOUSE_TRY(map.add(range));
    }
    BusyList in_use;
    for (const Extent& extent : busy) GATEHOUSE_TRY(in_use.add(extent));
    GATEHOUSE_TRY(in_use.add({information.slb.base, information.slb.length}));
    GATEHOUSE_TRY(in_use.add({information.hypervisor.base, information.hypervisor.length}));
    for (const launch::Module& module : information.launch.all_modules()) {
        GATEHOUSE_TRY(in_use.add({module.address, module.size}));
    }

    Placement placement;
    GATEHOUSE_ASSIGN(placement.kept_base, map.find(launch::kKeptSize, launch::kKeptAlignment, kFourGiB, in_use.all()));
    for (std::size_t i = 0; i < information.launch.module_count; ++i) {
        const std::uint64_t size = (information.launch.modules[i].size + kPageSize - 1) & ~(kPageSize - 1);
        GATEHOUSE_ASSIGN(placement.modules[i], map.find(size, kPageSize, placement.kept_base, in_use.all()));
        GATEHOUSE_TRY(in_use.add({placement.modules[i], size}));
    }
    return placement;
}

}  // namespace gatehouse::launcher

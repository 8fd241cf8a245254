#include "hypervisor/boot/ide_controller.hpp"

#include <algorithm>

namespace gatehouse::boot {

// By sector 0 of the first disk there is, which comes to the arena's first page from its bounce memory.
Result<bool> IdeController::provoke_dma(const ata::DmaArena& arena) {
    GATEHOUSE_TRY(take_over(arena));
    const auto disk =
        std::ranges::find_if(channels_, [](ata::ide::Channel& channel) { return channel.identify().ok(); });
    if (disk == channels_.end()) return false;
    (void)disk->read_sectors(0, MutableBytes(arena.data, disk->geometry().sector_size));
    return true;
}

Status IdeController::trap_command_blocks() {
    constexpr std::uint16_t kRanges[][2] = {{0x1f0, 0x1f7}, {0x3f6, 0x3f6}, {0x170, 0x177}, {0x376, 0x376}};
    for (const auto& [first, last] : kRanges) GATEHOUSE_TRY(cpu::port_map().add(first, last, *this));
    return {};
}

Result<Extent> IdeController::ports(platform::FunctionId function) const {
    constexpr std::uint32_t kNative = 0x05, kMasters = 0x20, kLast = 0x24, kIsaPorts = 0x400;
    const std::uint32_t masters = platform::read_config(function, kMasters, 4);
    const bool good = (platform::class_of(function) & kNative) == 0 &&
                      (platform::read_config(function, kLast, 4) & 1) == 0 && (masters & 1) != 0 &&
                      (masters & 0xfff0) >= kIsaPorts && registers().length == 0;
    if (!good) return {Error::kUnsupported, "IDE controller: native mode, a second one, or other ports", masters};
    return Extent{masters & 0xfff0, std::size(ata::ide::kCommandBlocks) * ata::ide::kPorts};
}

}  // namespace gatehouse::boot

#include <algorithm>

#include "hypervisor/guest/linux.hpp"

namespace gatehouse::guest {

Status MemoryMap::insert(std::size_t at, const MemoryRange& range) {
    if (count_ == kMaxRanges) return {Error::kNoSpace, "memory map", count_};
    ranges_[count_++] = range;
    MemoryRange* const first = ranges_.data();
    std::rotate(first + at, first + count_ - 1, first + count_);
    return {};
}

Status MemoryMap::add(const MemoryRange& range) {
    if (range.length == 0 || range.end() < range.base) return {Error::kBadValue, "memory range", range.base};
    std::size_t at = 0;
    while (at < count_ && ranges_[at].base < range.base) ++at;
    if (at > 0 && ranges_[at - 1].end() > range.base) return {Error::kOverlap, "memory range", range.base};
    if (at < count_ && ranges_[at].base < range.end()) return {Error::kOverlap, "memory range", range.base};
    // Neighbours of one kind become one range: UEFI maps come in many small pieces.
    if (at > 0 && ranges_[at - 1].end() == range.base && ranges_[at - 1].type == range.type) {
        ranges_[at - 1].length += range.length;
        return {};
    }
    return insert(at, range);
}

Status MemoryMap::reserve(const Extent& extent) {
    for (std::size_t i = 0; i < count_; ++i) {
        const MemoryRange old = ranges_[i];
        if (old.type != MemoryType::kUsable || !old.extent().contains(extent)) continue;
        if (extent.length == 0 || extent.wraps()) break;
        const MemoryRange before{old.base, extent.base - old.base, old.type};
        const MemoryRange after{extent.end(), old.end() - extent.end(), old.type};
        ranges_[i] = {extent.base, extent.length, MemoryType::kUnusable};
        if (after.length != 0) GATEHOUSE_TRY(insert(i + 1, after));
        if (before.length != 0) GATEHOUSE_TRY(insert(i, before));
        return {};
    }
    return {Error::kOutOfRange, "reserved extent", extent.base};
}

std::optional<HostPhysical> MemoryMap::usable(const Extent& extent) const {
    const bool good = !extent.wraps() && std::ranges::any_of(ranges(), [&](const MemoryRange& range) {
        return range.type == MemoryType::kUsable && range.extent().contains(extent);
    });
    return good ? std::optional(HostPhysical(extent.base)) : std::nullopt;
}

bool MemoryMap::is_no_ram(const Extent& extent) const {
    return !extent.wraps() && std::ranges::none_of(ranges(), [&](const MemoryRange& range) {
        return range.type != MemoryType::kReserved && extent.overlaps(range.extent());
    });
}

Result<std::uint64_t> MemoryMap::find(std::uint64_t size, std::uint64_t alignment, std::uint64_t below,
                                      std::span<const Extent> busy) const {
    for (std::size_t i = count_; i-- > 0;) {
        const MemoryRange& range = ranges_[i];
        if (range.type != MemoryType::kUsable) continue;
        const std::uint64_t low = std::max<std::uint64_t>(range.base, 0x1000);
        std::uint64_t top = std::min(range.end(), below);
        while (top >= low && top - low >= size) {
            const Extent candidate{(top - size) & ~(alignment - 1), size};
            if (candidate.base < low) break;
            const auto hit = std::ranges::find_if(busy, [&](const Extent& b) { return b.overlaps(candidate); });
            if (hit == busy.end()) return candidate.base;
            top = hit->base;
        }
    }
    return {Error::kNoSpace, "usable memory", size};
}

std::uint64_t MemoryMap::usable_bytes() const {
    std::uint64_t sum = 0;
    for (const MemoryRange& range : ranges()) {
        if (range.type == MemoryType::kUsable) sum += range.length;
    }
    return sum;
}

}  // namespace gatehouse::guest

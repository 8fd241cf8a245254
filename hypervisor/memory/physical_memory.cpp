#include "hypervisor/memory/physical_memory.hpp"

#include <algorithm>

namespace gatehouse::memory {

Result<HostPhysical> PagePool::take(std::size_t count, std::uint64_t alignment) {
    const std::uint64_t first = (next_ + alignment - 1) & ~(alignment - 1);
    if (first > end_ || count > (end_ - first) / kPageSize) return {Error::kNoSpace, "kept pages", count};
    next_ = first + count * kPageSize;
    std::memset(at_physical(HostPhysical(first)), 0, count * kPageSize);
    return HostPhysical(first);
}

Status PhysicalMemory::add(const Extent& ram) {
    if (ram.wraps() || ram.end() > kIdentityLimit) return {Error::kOutOfRange, "RAM range", ram.base};
    const std::uint64_t base = std::max(page_up(ram.base), kPageSize), end = ram.end() & ~(kPageSize - 1);
    if (base >= end) return {};
    const std::uint64_t last = count_ == 0 ? 0 : ranges_[count_ - 1].end();
    if (base < last) return {Error::kOverlap, "RAM range", base};
    if (base == last) {
        ranges_[count_ - 1].length += end - base;
        return {};
    }
    if (count_ == kMaxRanges) return {Error::kNoSpace, "RAM ranges", kMaxRanges};
    ranges_[count_++] = {base, end - base};
    return {};
}

Status PhysicalMemory::check_outside(const Extent& registers) const {
    for (const Extent& range : ranges()) {
        if (range.overlaps(registers)) return {Error::kOverlap, "memory map: RAM over registers", range.base};
    }
    return {};
}

}  // namespace gatehouse::memory

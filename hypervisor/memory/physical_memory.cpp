#include "hypervisor/memory/physical_memory.hpp"

#include <algorithm>

namespace gatehouse::memory {

Result<std::uint64_t> PagePool::take(std::size_t count, std::uint64_t alignment) {
    const std::uint64_t first = (next_ + alignment - 1) & ~(alignment - 1);
    if (first > end_ || count > (end_ - first) / kPageSize) return {Error::kNoSpace, "kept pages", count};
    next_ = first + count * kPageSize;
    std::memset(at_physical(first), 0, count * kPageSize);
    return first;
}

Status PhysicalMemory::add(std::uint64_t base, std::uint64_t size) {
    if (base + size < base || base + size > kIdentityLimit) return {Error::kOutOfRange, "RAM range", base};
    const std::uint64_t end = (base + size) & ~(kPageSize - 1);
    base = std::max((base + kPageSize - 1) & ~(kPageSize - 1), kPageSize);
    if (base >= end) return {};

    std::size_t at = 0;
    while (at < count_ && ranges_[at].end <= base) ++at;
    if (at < count_ && ranges_[at].base < end) return {Error::kOverlap, "RAM range", base};
    if (count_ == kMaxRanges) return {Error::kNoSpace, "RAM ranges", kMaxRanges};
    for (std::size_t i = count_; i > at; --i) ranges_[i] = ranges_[i - 1];
    ranges_[at] = {base, end};
    ++count_;
    return {};
}

bool PhysicalMemory::is_guest_ram(std::uint64_t address, std::uint64_t size) const {
    for (std::size_t i = 0; i < count_; ++i) {  // sorted: what one range lacks, the next may begin with
        if (address < ranges_[i].base || address >= ranges_[i].end) continue;
        const std::uint64_t here = ranges_[i].end - address;
        if (size <= here) return true;
        address += here;
        size -= here;
    }
    return false;
}

Status PhysicalMemory::check_outside(std::uint64_t base, std::uint64_t size) const {
    for (const Range& range : std::span(ranges_).first(count_)) {
        if (range.base < base + size && base < range.end)
            return {Error::kOverlap, "memory map: RAM over registers", range.base};
    }
    return {};
}

Result<MutableBytes> PhysicalMemory::guest(std::uint64_t address, std::uint64_t size) const {
    if (!is_guest_ram(address, size)) return {Error::kOutOfRange, "guest memory", address};
    return MutableBytes(at_physical(address), size);
}

}  // namespace gatehouse::memory

// Physical memory as the hypervisor sees it: its own pages, and the guest's RAM.
//
// Both are reached through the identity map (cpu/cpu.hpp): a physical address is a pointer.
#pragma once

#include "hypervisor/base/address.hpp"
#include "hypervisor/base/bytes.hpp"
#include "hypervisor/base/extent.hpp"

namespace gatehouse::memory {

using gatehouse::kPageSize;
// What the identity map covers; RAM beyond it cannot be given to a guest.
inline constexpr std::uint64_t kIdentityLimit = std::uint64_t{512} << 30;

// Entries of the processor's page tables, nested ones included (APM vol. 2, 5.3 and 5.4), and what larger ones map.
namespace page {
inline constexpr std::uint64_t kPresent = 1u << 0, kWritable = 1u << 1, kUser = 1u << 2, kLarge = 1u << 7;
inline constexpr std::uint64_t kAddress = 0x000f'ffff'ffff'f000, kNoExecute = std::uint64_t{1} << 63;
inline constexpr std::uint64_t kMiB2 = std::uint64_t{2} << 20, kGiB = std::uint64_t{1} << 30;
}  // namespace page

// The first page boundary at or after `address`, which is below the last page.
[[nodiscard]] constexpr std::uint64_t page_up(std::uint64_t address) {
    return (address + kPageSize - 1) & ~(kPageSize - 1);
}
[[nodiscard]] inline std::byte* at_physical(HostPhysical address) {
    return reinterpret_cast<std::byte*>(address.value());
}

// Hands out pages once, zeroed, upwards; nothing is given back. Used by the BSP before the guest starts; the
// nested page table takes pages under its own lock later.
class PagePool {
  public:
    PagePool() = default;
    // [base, base + size) in whole pages.
    PagePool(HostPhysical base, std::uint64_t size) : next_(base.value()), end_(next_ + size) {}

    // `count` consecutive pages, the first aligned to `alignment` (a power of two, at
    // least a page). kNoSpace if there are no more.
    [[nodiscard]] Result<HostPhysical> take(std::size_t count, std::uint64_t alignment = kPageSize);
    [[nodiscard]] std::uint64_t left() const { return end_ - next_; }

  private:
    std::uint64_t next_ = 0;
    std::uint64_t end_ = 0;
};

// RAM that the guest owns, for everything that follows an address from the guest: page walks, PRDTs, mailbox.
// Filled before the guest starts, read-only from then on. The guest changes its RAM at any time, on any
// processor: copy first, then check, then use the copy.
class PhysicalMemory {
  public:
    static constexpr std::size_t kMaxRanges = 128;

    // RAM of the guest, in ascending order. Page 0 and what is not a whole page are left out. kOverlap (or out of
    // order), kNoSpace, kOutOfRange (wraps, or beyond kIdentityLimit).
    [[nodiscard]] Status add(const Extent& ram);
    // kOverlap if a part of `registers` has been added as RAM.
    [[nodiscard]] Status check_outside(const Extent& registers) const;
    // Where the guest's bytes are, if all `size` of them are its RAM, or kOutOfRange.
    [[nodiscard]] Result<HostPhysical> guest(GuestPhysical address, std::uint64_t size) const {
        const std::uint64_t base = address.unchecked();
        for (std::size_t i = count_; i-- != 0;) {  // most RAM is high
            const std::uint64_t into = base - ranges_[i].base;
            if (into < ranges_[i].length && size <= ranges_[i].length - into) return HostPhysical(base);
        }
        return {Error::kOutOfRange, "guest memory", base};
    }

  private:
    [[nodiscard]] std::span<const Extent> ranges() const { return std::span(ranges_).first(count_); }

    std::array<Extent, kMaxRanges> ranges_{};  // ascending, not even adjacent
    std::size_t count_ = 0;
};

}  // namespace gatehouse::memory

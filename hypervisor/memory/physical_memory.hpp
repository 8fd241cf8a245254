// Physical memory as the hypervisor sees it: its own pages, and the guest's RAM.
//
// Both are reached through the identity map (cpu/cpu.hpp): a physical address is a pointer.
#pragma once

#include <array>

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::memory {

inline constexpr std::uint64_t kPageSize = 4096;
// What the identity map covers; RAM beyond it cannot be given to a guest.
inline constexpr std::uint64_t kIdentityLimit = std::uint64_t{512} << 30;

[[nodiscard]] inline std::byte* at_physical(std::uint64_t address) { return reinterpret_cast<std::byte*>(address); }

// Hands out pages once, zeroed, upwards; nothing is given back. Used by the BSP before the guest starts; the
// nested page table takes pages under its own lock later.
class PagePool {
  public:
    PagePool() = default;
    // [base, base + size) in whole pages.
    PagePool(std::uint64_t base, std::uint64_t size) : next_(base), end_(base + size) {}

    // Physical address of `count` consecutive pages, the first aligned to `alignment` (a power of two, at
    // least a page). kNoSpace if there are no more.
    [[nodiscard]] Result<std::uint64_t> take(std::size_t count, std::uint64_t alignment = kPageSize);
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

    // RAM of the guest. Page 0 and what is not a whole page are left out. kOverlap, kNoSpace, kOutOfRange
    // (wraps, or beyond kIdentityLimit).
    [[nodiscard]] Status add(std::uint64_t base, std::uint64_t size);
    // Whether [address, address + size) lies in the guest's RAM (in one added range or in adjacent ones).
    [[nodiscard]] bool is_guest_ram(std::uint64_t address, std::uint64_t size) const;
    // kOverlap if a part of [base, base + size), registers, has been added as RAM.
    [[nodiscard]] Status check_outside(std::uint64_t base, std::uint64_t size) const;
    // The guest's bytes, or kOutOfRange.
    [[nodiscard]] Result<MutableBytes> guest(std::uint64_t address, std::uint64_t size) const;

  private:
    struct Range {
        std::uint64_t base = 0;
        std::uint64_t end = 0;
    };
    std::array<Range, kMaxRanges> ranges_{};  // sorted, disjoint
    std::size_t count_ = 0;
};

}  // namespace gatehouse::memory

// Direct boot: starts a Linux kernel with the 64-bit boot protocol, no firmware in the path.
//
// Source: Linux Documentation/arch/x86/boot.rst (protocol 2.12 and later, "64-bit BOOT PROTOCOL") and
// Documentation/arch/x86/zero-page.rst. The kernel file is a bzImage; everything in it is hostile until checked,
// although its hash has been extended by then: a file that does not fit is refused with the field's name.
#pragma once

#include <optional>

#include "hypervisor/base/address.hpp"
#include "hypervisor/cpu/svm/svm.hpp"
#include "hypervisor/launch/launch_block.hpp"

namespace gatehouse::guest {

using launch::MemoryRange;
using launch::MemoryType;

// The guest's memory map: at most the 128 entries that the zero page holds, sorted, disjoint.
class MemoryMap {
  public:
    static constexpr std::size_t kMaxRanges = 128;

    // Adds a range as the launcher tells it, which is hostile: kBadValue if it wraps or is empty; kOverlap if it
    // overlaps an earlier one and their types differ; kNoSpace if the table is full.
    [[nodiscard]] Status add(const MemoryRange& range);
    // Makes [extent) unusable, which is RAM, but not the guest's (to which it is reserved);
    // splits what it cuts. The whole extent must lie in usable memory: kOutOfRange.
    [[nodiscard]] Status reserve(const Extent& extent);
    // Where `extent` is, if all of it is usable memory.
    [[nodiscard]] std::optional<HostPhysical> usable(const Extent& extent) const;
    // `extent` does not wrap, and no byte of it is RAM, by the map, the guest's or not.
    [[nodiscard]] bool is_no_ram(const Extent& extent) const;
    // The highest aligned place for `size` bytes in usable memory in [0x1000, below) that overlaps none of `busy`.
    [[nodiscard]] Result<std::uint64_t> find(std::uint64_t size, std::uint64_t alignment, std::uint64_t below,
                                             std::span<const Extent> busy) const;
    [[nodiscard]] std::span<const MemoryRange> ranges() const { return std::span(ranges_).first(count_); }
    // Sum of the usable ranges in bytes.
    [[nodiscard]] std::uint64_t usable_bytes() const;

  private:
    [[nodiscard]] Status insert(std::size_t at, const MemoryRange& range);

    std::array<MemoryRange, kMaxRanges> ranges_{};
    std::size_t count_ = 0;
};

// Physical memory as the boot code sees it: `at` yields `size` bytes that the memory map has given or found usable.
class PhysicalView {
  public:
    [[nodiscard]] virtual MutableBytes at(HostPhysical physical, std::size_t size) = 0;

  protected:
    ~PhysicalView() = default;
};

struct LinuxImage {
    Extent kernel;  // the bzImage, page-aligned, in usable memory
    Extent initrd;  // page-aligned, below 4 GiB, stays where it is; length 0: none
    Bytes command_line;
    std::uint64_t rsdp = 0;
    // struct screen_info as the launcher tells it; left out if its framebuffer is
    // over RAM of the map or its kept region: the guest would draw there.
    std::array<std::byte, 64> screen{};
};

// Puts the kernel, boot_params, command line, GDT and page tables (the first 512 GiB at
// themselves) into usable memory of `map` and returns where to enter, with boot_params in RSI.
// Errors name the field: kBadMagic ("kernel: not a bzImage"), kBadVersion, kUnsupported (no
// 64-bit entry, not relocatable and its place taken), kNoSpace, kOverlap, kOutOfRange.
[[nodiscard]] Result<cpu::svm::GuestEntry> load_linux(PhysicalView& memory, const MemoryMap& map,
                                                      const LinuxImage& image);

}  // namespace gatehouse::guest

// The hypervisor's own page table: four levels, every leaf as strict as what it holds.
//
//   [4 KiB, 4 GiB)      physical memory at itself, RW; 4 KiB leaves up to 2 MiB, 2 MiB leaves above, so
//                       that no leaf spans several MTRR types (APM vol. 2, 7.7.8); page 0 and the image
//                       are left out
//   [4 GiB, 512 GiB)    physical memory at itself, RW, 1 GiB leaves
//                       of both: uncacheable above 0xfe00'0000 (APICs, TPM), and what set_uncached() is
//                       told, so that MTRRs left by the launcher put no cache before a device's registers
//   kImageVirtual       the image: text R X, constants R, data RW
//   kStackVirtual       stacks, RW, with unmapped pages between them
#pragma once

#include "hypervisor/launch/layout.hpp"
#include "hypervisor/memory/physical_memory.hpp"

namespace gatehouse::memory {

inline constexpr std::uint64_t kStackVirtual = launch::kImageVirtual + launch::kImageMaxSize;
inline constexpr std::uint64_t kStackWindow = 0x400000;

// Offsets into the image, each page-aligned.
struct ImageSections {
    std::uint64_t rodata = 0;
    std::uint64_t data = 0;
    std::uint64_t end = 0;
};

class HostPageTable {
  public:
    // `image` is where the image lies, 2 MiB aligned. kNoSpace.
    [[nodiscard]] Status build(PagePool& pool, std::uint64_t image, const ImageSections& sections);
    // Maps `count` fresh pages at `address`, within the stack window. kNoSpace, kOutOfRange.
    [[nodiscard]] Status map_stack(PagePool& pool, std::uint64_t address, std::size_t count);
    // Makes [base, base + size) uncacheable (PAT entry 3, which overrides the MTRRs: APM vol. 2, table 7-10),
    // in leaves of 2 MiB. The caller flushes the TLB. kOutOfRange, kNoSpace.
    [[nodiscard]] Status set_uncached(PagePool& pool, std::uint64_t base, std::uint64_t size);
    // For CR3.
    [[nodiscard]] HostPhysical root() const { return root_; }

  private:
    HostPhysical root_;
    std::array<HostPhysical, kStackWindow / 0x200000> stack_tables_{};
};

}  // namespace gatehouse::memory

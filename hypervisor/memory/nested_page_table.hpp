// The nested page table: which physical addresses the guest's processors reach (APM vol. 2, 15.25).
//
// Guest-physical addresses are host-physical ones, or they are nothing. The table has the format of a
// four-level long-mode page table, every entry with U/S = 1 (15.25.5), page attributes 0 (write-back: the
// guest's PAT and the MTRRs decide). Memory below 4 GiB is mapped with 2 MiB leaves and its first 2 MiB with
// 4 KiB leaves, so that no leaf spans several MTRR types (7.7.8); the rest with 1 GiB leaves.
#pragma once

#include "hypervisor/base/spin_lock.hpp"
#include "hypervisor/memory/physical_memory.hpp"

namespace gatehouse::memory {

enum class GuestAccess : std::uint8_t {
    kAll,         // read, write, execute
    kTrapWrites,  // readable; a write is a nested page fault
    kTrap,        // every access is a nested page fault
    kHidden,      // reads all ones, as an empty bus; a write is a nested page fault
};

class NestedPageTable {
  public:
    // Builds the map of the first 512 GiB (or of all, if there is less). `physical_bits`: CPUID 0x80000008
    // EAX[7:0]; `high_ram_end`: TOP_MEM2, the end of RAM above 4 GiB, or 0. kNoSpace if the pool is empty.
    [[nodiscard]] Status build(PagePool& pool, unsigned physical_bits, std::uint64_t high_ram_end);
    // Maps the 512 GiB around `address`, beyond what build() did. kOutOfRange: beyond the processor's, or no memory by
    // the processor's address map; kNoSpace.
    [[nodiscard]] Status extend(GuestPhysical address);
    // Changes [base, base + size), whole pages. The caller flushes (svm::flush_nested_everywhere) if the guest runs
    // and has lost something. kMisaligned, kOutOfRange, kNoSpace (nothing has been changed in the failed leaf).
    [[nodiscard]] Status set(std::uint64_t base, std::uint64_t size, GuestAccess access);
    [[nodiscard]] Status hide(std::uint64_t base, std::uint64_t size) { return set(base, size, GuestAccess::kHidden); }
    [[nodiscard]] Status map(std::uint64_t base, std::uint64_t size) { return set(base, size, GuestAccess::kAll); }

    // What the guest may do at `guest`; kTrap where nothing is mapped.
    [[nodiscard]] GuestAccess access(GuestPhysical guest) const;
    // The top level, for VMCB.N_CR3.
    [[nodiscard]] HostPhysical root() const { return root_; }
    // Counts changes: a processor that last entered the guest with another number flushes before it enters again.
    [[nodiscard]] std::uint64_t generation() const { return generation_.load(); }

  private:
    [[nodiscard]] Status fill(std::uint64_t& top, std::uint64_t address);
    [[nodiscard]] Status split(std::uint64_t& entry, std::uint64_t leaf_size);
    [[nodiscard]] Result<std::uint64_t*> walk(std::uint64_t address, std::uint64_t leaf_size);

    PagePool* pool_ = nullptr;
    HostPhysical root_;
    std::uint64_t limit_ = 0;  // highest physical address + 1
    HostPhysical ones_;        // a page of all ones
    std::atomic<std::uint64_t> generation_{1};
    mutable SpinLock lock_;
};

}  // namespace gatehouse::memory

// The nested page table: which physical addresses the guest's processors reach (APM vol. 2, 15.25).
//
// Guest-physical addresses are host-physical ones, or they are nothing. The table has the format of a four-level
// long-mode page table, every entry with U/S = 1 (15.25.5), page attributes 0 (write-back: the guest's PAT and the
// MTRRs decide). Memory below 4 GiB is mapped with 2 MiB leaves and its first 2 MiB with 4 KiB leaves, so that no
// leaf spans several MTRR types (7.7.8); the rest with 1 GiB leaves where the processor has them.
#pragma once

#include <atomic>

#include "hypervisor/cpu/spin_lock.hpp"
#include "hypervisor/memory/physical_memory.hpp"

namespace gatehouse::memory {

enum class GuestAccess : std::uint8_t {
    kAll,          // read, write, execute
    kTrapWrites,   // readable; a write is a nested page fault
    kTrap,         // every access is a nested page fault
    kHidden,       // reads all ones, as an empty bus; a write is a nested page fault
};

class NestedPageTable {
  public:
    struct Geometry {
        unsigned physical_bits = 40;  // CPUID 0x80000008 EAX[7:0]; mapped up to 512 GiB of it
        bool gigabyte_pages = true;   // CPUID 0x80000001 EDX[26]
        std::uint64_t high_ram_end = 0;  // TOP_MEM2: the leaf it lies in is split, for its two memory types
    };

    // Builds the identity map. kNoSpace if the pool is empty.
    [[nodiscard]] Status build(PagePool& pool, const Geometry& geometry);
    // Changes [base, base + size), whole pages. The caller flushes (svm::flush_nested_everywhere) if the guest runs
    // and has lost something. kMisaligned, kOutOfRange, kNoSpace (nothing has been changed in the failed leaf).
    [[nodiscard]] Status set(std::uint64_t base, std::uint64_t size, GuestAccess access);
    [[nodiscard]] Status hide(std::uint64_t base, std::uint64_t size) { return set(base, size, GuestAccess::kHidden); }
    [[nodiscard]] Status map(std::uint64_t base, std::uint64_t size) { return set(base, size, GuestAccess::kAll); }

    // What the guest may do at `address`; kTrap beyond the end.
    [[nodiscard]] GuestAccess access(std::uint64_t address) const;
    // Physical address of the top level, for VMCB.N_CR3.
    [[nodiscard]] std::uint64_t root() const { return root_; }
    // Counts changes: a processor that last entered the guest with another number flushes before it enters again.
    [[nodiscard]] std::uint64_t generation() const { return generation_.load(); }
    // Highest mapped address + 1.
    [[nodiscard]] std::uint64_t limit() const { return limit_; }

  private:
    using Entry = std::uint64_t;
    [[nodiscard]] Result<Entry*> table_below(Entry& entry, std::uint64_t leaf_size);
    [[nodiscard]] Result<Entry*> leaf(std::uint64_t address, std::uint64_t& size, std::uint64_t wanted);
    [[nodiscard]] Entry encode(std::uint64_t address, std::uint64_t leaf_size, GuestAccess access) const;

    PagePool* pool_ = nullptr;
    std::uint64_t root_ = 0;
    std::uint64_t limit_ = 0;
    std::uint64_t ones_ = 0;  // a page of all ones
    std::atomic<std::uint64_t> generation_{1};
    mutable cpu::SpinLock lock_;
};

}  // namespace gatehouse::memory

#include "hypervisor/memory/nested_page_table.hpp"

#include <algorithm>

namespace gatehouse::memory {

using namespace page;

namespace {

using Entry = std::uint64_t;

constexpr Entry kTable = kPresent | kWritable | kUser;
constexpr std::uint64_t kGiB512 = std::uint64_t{512} << 30;
constexpr std::uint64_t kHyperTransport =
    0xfd'0000'0000;  // to 1 TiB: ports and configuration space once more, no memory

Entry& slot(HostPhysical table, std::uint64_t address, std::uint64_t leaf_size) {
    return reinterpret_cast<Entry*>(at_physical(table))[(address / leaf_size) % 512];
}

HostPhysical table_of(Entry entry) { return HostPhysical(entry & kAddress); }

// Other processors walk the table meanwhile: one store, never a half-written entry.
void publish(Entry& entry, Entry value) { std::atomic_ref(entry).store(value, std::memory_order_release); }

}  // namespace

Status NestedPageTable::build(PagePool& pool, unsigned physical_bits, std::uint64_t high_ram_end) {
    pool_ = &pool;
    limit_ = std::uint64_t{1} << std::min(physical_bits, 48u);
    GATEHOUSE_ASSIGN(root_, pool.take(1));
    GATEHOUSE_ASSIGN(ones_, pool.take(1));
    std::memset(at_physical(ones_), 0xff, kPageSize);
    // No leaf with two memory types: below 4 GiB, below 2 MiB, and where RAM ends.
    for (std::uint64_t at = 0; at < 4 * kGiB; at += kGiB) GATEHOUSE_TRY(walk(at, kMiB2));
    GATEHOUSE_TRY(walk(0, kPageSize));
    if (high_ram_end > 4 * kGiB && high_ram_end < kGiB512) {
        GATEHOUSE_TRY(walk(high_ram_end, kMiB2));
    }
    return {};
}

Status NestedPageTable::extend(GuestPhysical address) {
    const SpinGuard guard(lock_);
    return walk(address.unchecked(), kGiB).failure();
}

// Maps the 512 GiB of a top entry.
Status NestedPageTable::fill(Entry& top, std::uint64_t address) {
    GATEHOUSE_ASSIGN(const HostPhysical pointers, pool_->take(1));
    const std::uint64_t first = address & ~(kGiB512 - 1);
    for (std::uint64_t at = first; at < std::min(first + kGiB512, limit_); at += kGiB) {
        if (at >= kHyperTransport && at < 2 * kGiB512) continue;
        slot(pointers, at, kGiB) = at | kTable | kLarge;
    }
    publish(top, pointers | kTable);
    return {};
}

// Replaces a leaf by a table of 512 smaller leaves with the same rights.
Status NestedPageTable::split(Entry& entry, std::uint64_t leaf_size) {
    GATEHOUSE_ASSIGN(const HostPhysical table, pool_->take(1));
    const std::uint64_t smaller = leaf_size / 512;
    const Entry first = smaller == kPageSize ? entry & ~kLarge : entry;
    for (std::uint64_t i = 0; i < 512; ++i) slot(table, i * smaller, smaller) = first + i * smaller;
    publish(entry, table | kTable);
    return {};
}

// The leaf that maps `address`, made or split until it is at most `leaf_size`.
Result<Entry*> NestedPageTable::walk(std::uint64_t address, std::uint64_t leaf_size) {
    if (address >= limit_) return {Error::kOutOfRange, "physical address", address};
    Entry& top = slot(root_, address, kGiB512);
    if ((top & kPresent) == 0) GATEHOUSE_TRY(fill(top, address));
    Entry* entry = &slot(table_of(top), address, kGiB);
    for (std::uint64_t size = kGiB; size > kPageSize; size /= 512) {
        if ((*entry & kPresent) == 0) return {Error::kOutOfRange, "nothing is mapped", address};
        if ((*entry & kLarge) != 0) {
            if (size <= leaf_size) return entry;
            GATEHOUSE_TRY(split(*entry, size));
        }
        entry = &slot(table_of(*entry), address, size / 512);
    }
    return entry;
}

Status NestedPageTable::set(std::uint64_t base, std::uint64_t size, GuestAccess access) {
    if (((base | size) & (kPageSize - 1)) != 0) return {Error::kMisaligned, "nested mapping", base};
    if (base + size < base || base + size > limit_) return {Error::kOutOfRange, "nested mapping", base};
    const SpinGuard guard(lock_);
    for (std::uint64_t at = base; at < base + size; at += kPageSize) {
        GATEHOUSE_ASSIGN(Entry* const entry, walk(at, kPageSize));
        publish(*entry, access == GuestAccess::kAll          ? at | kTable
                        : access == GuestAccess::kTrapWrites ? at | kPresent | kUser | kNoExecute
                        : access == GuestAccess::kHidden     ? ones_ | kPresent | kUser | kNoExecute
                                                             : 0);
    }
    generation_.fetch_add(1);
    return {};
}

GuestAccess NestedPageTable::access(GuestPhysical guest) const {
    const std::uint64_t address = guest.unchecked();
    Entry entry = address < limit_ ? slot(root_, address, kGiB512) : 0;
    if ((entry & kPresent) == 0) return GuestAccess::kTrap;
    for (std::uint64_t size = kGiB; size >= kPageSize; size /= 512) {
        entry = std::atomic_ref(slot(table_of(entry), address, size)).load(std::memory_order_acquire);
        if ((entry & kPresent) == 0) return GuestAccess::kTrap;
        if ((entry & kLarge) != 0) break;
    }
    if ((entry & kWritable) != 0) return GuestAccess::kAll;
    return table_of(entry) == ones_ ? GuestAccess::kHidden : GuestAccess::kTrapWrites;
}

}  // namespace gatehouse::memory

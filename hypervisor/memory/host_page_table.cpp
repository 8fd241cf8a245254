#include "hypervisor/memory/host_page_table.hpp"

namespace gatehouse::memory {

using namespace page;

namespace {

constexpr std::uint64_t kUncached = 1u << 3 | 1u << 4;  // PWT, PCD
constexpr std::uint64_t kTable = kPresent | kWritable;
constexpr std::uint64_t kData = kPresent | kWritable | kNoExecute;
constexpr std::uint64_t kDevices = 0xfe00'0000;  // no RAM from here to 4 GiB

std::uint64_t* table(HostPhysical address) { return reinterpret_cast<std::uint64_t*>(at_physical(address)); }

}  // namespace

Status HostPageTable::build(PagePool& pool, std::uint64_t image, const ImageSections& sections) {
    // Pages in this order: top level, low and high directory pointers, the first page table, the image's
    // directory and page table, stack page tables, four directories.
    constexpr std::size_t kStackTables = kStackWindow / kMiB2;
    GATEHOUSE_ASSIGN(const HostPhysical first, pool.take(6 + kStackTables + 4));
    root_ = first;
    const HostPhysical low = first + kPageSize, high = low + kPageSize, first_pages = high + kPageSize;
    const HostPhysical image_directory = first_pages + kPageSize, image_pages = image_directory + kPageSize;
    const HostPhysical stacks = image_pages + kPageSize, directories = stacks + kStackTables * kPageSize;

    table(root_)[0] = low | kTable;
    table(root_)[511] = high | kTable;
    for (std::uint64_t i = 0; i < 512; ++i) {
        table(low)[i] = i < 4 ? (directories + i * kPageSize) | kTable : (i * kGiB) | kData | kLarge;
        if (i != 0) table(first_pages)[i] = (i * kPageSize) | kData;
    }
    for (std::uint64_t i = 0; i < 4 * 512; ++i) {
        const std::uint64_t address = i * kMiB2;
        if (address == image) continue;
        table(directories)[i] = address | kData | kLarge | (address >= kDevices ? kUncached : 0);
    }
    table(directories)[0] = first_pages | kTable;

    table(high)[(launch::kImageVirtual >> 30) & 511] = image_directory | kTable;
    table(image_directory)[(launch::kImageVirtual >> 21) & 511] = image_pages | kTable;
    for (std::uint64_t offset = 0; offset < sections.end; offset += kPageSize) {
        const std::uint64_t rights = offset < sections.rodata ? kPresent
                                     : offset < sections.data ? kPresent | kNoExecute
                                                              : kData;
        table(image_pages)[offset / kPageSize] = (image + offset) | rights;
    }
    for (std::size_t i = 0; i < kStackTables; ++i) {
        stack_tables_[i] = stacks + i * kPageSize;
        table(image_directory)[((kStackVirtual >> 21) & 511) + i] = stack_tables_[i] | kTable;
    }
    return {};
}

Status HostPageTable::set_uncached(PagePool& pool, std::uint64_t base, std::uint64_t size) {
    if (base + size < base || base + size > kIdentityLimit || base < kMiB2) {
        return {Error::kOutOfRange, "device registers", base};
    }
    std::uint64_t* const pointers = table(HostPhysical(table(root_)[0] & kAddress));
    for (std::uint64_t at = base & ~(kMiB2 - 1); at < base + size; at += kMiB2) {
        std::uint64_t& pointer = pointers[at / kGiB];
        if ((pointer & kLarge) != 0) {
            GATEHOUSE_ASSIGN(const HostPhysical directory, pool.take(1));
            for (std::uint64_t i = 0; i < 512; ++i) table(directory)[i] = pointer + i * kMiB2;
            pointer = directory | kTable;
        }
        table(HostPhysical(pointer & kAddress))[at / kMiB2 % 512] |= kUncached;
    }
    return {};
}

Status HostPageTable::map_stack(PagePool& pool, std::uint64_t address, std::size_t count) {
    const std::uint64_t offset = address - kStackVirtual;
    if (address < kStackVirtual || offset / kPageSize + count > kStackWindow / kPageSize) {
        return {Error::kOutOfRange, "stack window", address};
    }
    GATEHOUSE_ASSIGN(const HostPhysical pages, pool.take(count));
    for (std::size_t i = 0; i < count; ++i) {
        const std::uint64_t page = offset / kPageSize + i;
        table(stack_tables_[page / 512])[page % 512] = (pages + i * kPageSize) | kData;
    }
    return {};
}

}  // namespace gatehouse::memory

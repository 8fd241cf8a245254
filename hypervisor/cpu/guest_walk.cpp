#include "hypervisor/cpu/guest_walk.hpp"

#include <atomic>

#include "hypervisor/cpu/instructions.hpp"

namespace gatehouse::cpu {
namespace {

constexpr std::uint64_t kPresent = 1;
constexpr std::uint64_t kLarge = 1u << 7;
constexpr std::uint64_t kPse = 1u << 4;

template <typename T>
Result<std::uint64_t> read_entry(const memory::PhysicalMemory& memory, std::uint64_t table, std::uint64_t index) {
    GATEHOUSE_ASSIGN(const MutableBytes bytes, memory.guest(table + index * sizeof(T), sizeof(T)));
    const std::uint64_t entry = std::atomic_ref(*reinterpret_cast<T*>(bytes.data())).load(std::memory_order_relaxed);
    if ((entry & kPresent) == 0) return {Error::kNotFound, "guest page", table};
    return entry;
}

}  // namespace

Result<std::uint64_t> guest_physical(const memory::PhysicalMemory& memory, const PagingState& state,
                                     std::uint64_t address) {
    constexpr std::uint64_t kAddress = 0x000f'ffff'ffff'f000;
    if ((state.cr0 & kCr0Pg) == 0) return address & 0xffffffff;
    const bool long_mode = (state.efer & kEferLma) != 0, pae = (state.cr4 & kCr4Pae) != 0;
    if (!long_mode) address &= 0xffffffff;
    // 9 bits a level, 64-bit entries; without PAE 10 bits, 32-bit entries, large pages of 4 MiB (PSE-36 not followed)
    const unsigned bits = pae ? 9 : 10;
    unsigned shift = !pae ? 22 : !long_mode ? 30 : (state.cr4 & kCr4La57) != 0 ? 48 : 39;
    std::uint64_t table = state.cr3 & (long_mode ? kAddress : pae ? 0xffffffe0 : 0xfffff000);
    for (;; shift -= bits) {
        const std::uint64_t index = address >> shift & ((1u << bits) - 1);
        GATEHOUSE_ASSIGN(const std::uint64_t entry, pae ? read_entry<std::uint64_t>(memory, table, index)
                                                        : read_entry<std::uint32_t>(memory, table, index));
        const bool may_be_large = shift == 21 || (shift == 30 && long_mode) || (shift == 22 && (state.cr4 & kPse) != 0);
        if (shift == 12 || (may_be_large && (entry & kLarge) != 0)) {
            const std::uint64_t offset = (std::uint64_t{1} << shift) - 1;
            return (entry & kAddress & ~offset) | (address & offset);
        }
        table = entry & kAddress;
    }
}

}  // namespace gatehouse::cpu

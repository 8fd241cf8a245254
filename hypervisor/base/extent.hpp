// A piece of an address space.
#pragma once

#include <cstdint>

namespace gatehouse {

inline constexpr std::uint64_t kPageSize = 0x1000, kFourGiB = 0x1'0000'0000;

// [base, end()). Does not wrap: whoever takes one from a stranger checks that.
struct Extent {
    std::uint64_t base = 0;
    std::uint64_t length = 0;
    [[nodiscard]] constexpr std::uint64_t end() const { return base + length; }
    [[nodiscard]] constexpr bool wraps() const { return end() < base; }
    [[nodiscard]] constexpr bool overlaps(const Extent& other) const {
        return base < other.end() && other.base < end();
    }
    [[nodiscard]] constexpr bool contains(const Extent& other) const {
        return base <= other.base && other.end() <= end();
    }
    friend bool operator==(const Extent&, const Extent&) = default;
};

}  // namespace gatehouse

// Addresses that must not be taken for each other, nor for numbers.
//
// A guest's physical address is the machine's, or it is nothing (memory/nested_page_table.hpp), so only the type tells
// them apart: GuestPhysical is what the guest, or whoever prepared it, says, HostPhysical is what the hypervisor has
// chosen or checked. From the one to the other, and so to a pointer, leads PhysicalMemory::guest() alone.
#pragma once

#include <compare>
#include <cstdint>

namespace gatehouse {

// Made explicitly, moved by sizes, compared and subtracted within its own space; costs what a number does.
template <typename Space>
class Address {
  public:
    constexpr Address() = default;
    explicit constexpr Address(std::uint64_t value) : value_(value) {}

    [[nodiscard]] constexpr std::uint64_t value() const requires(!Space::kHostile) { return value_; }
    // For the checks themselves, which are in hypervisor/memory.
    [[nodiscard]] constexpr std::uint64_t unchecked() const requires(Space::kHostile) { return value_; }
    // How far it is into its block of `size` bytes, a power of two.
    [[nodiscard]] constexpr std::uint64_t within(std::uint64_t size) const { return value_ & (size - 1); }

    constexpr Address& operator+=(std::uint64_t size) { return value_ += size, *this; }
    friend constexpr Address operator+(Address from, std::uint64_t size) { return from += size; }
    friend constexpr std::uint64_t operator-(Address to, Address from) { return to.value_ - from.value_; }
    friend constexpr auto operator<=>(const Address&, const Address&) = default;

  private:
    std::uint64_t value_ = 0;
};

struct HostSpace {
    static constexpr bool kHostile = false;
};
struct GuestSpace {
    static constexpr bool kHostile = true;
};
using HostPhysical = Address<HostSpace>;
using GuestPhysical = Address<GuestSpace>;

}  // namespace gatehouse

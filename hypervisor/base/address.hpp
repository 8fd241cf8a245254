// Addresses that must not be taken for each other, nor for numbers.
//
// A guest's physical address is the machine's, or it is nothing (memory/nested_page_table.hpp), so that only the type
// tells them apart: a GuestPhysical is what the guest says, a HostPhysical what the hypervisor has chosen or checked.
// From the one to the other, and to a pointer, leads PhysicalMemory::guest() alone (memory/physical_memory.hpp).
#pragma once

#include <compare>
#include <cstdint>

namespace gatehouse {

// Made explicitly, moved by sizes, compared and subtracted within its own space. Costs what a number does.
template <bool kHostile>
class Address {
  public:
    constexpr Address() = default;
    explicit constexpr Address(std::uint64_t value) : value_(value) {}
    // How far it is into its block of `size` bytes, a power of two.
    [[nodiscard]] constexpr std::uint64_t within(std::uint64_t size) const { return value_ & (size - 1); }
    friend constexpr Address operator+(Address from, std::uint64_t size) { return Address(from.value_ + size); }
    friend constexpr std::uint64_t operator-(Address to, Address from) { return to.value_ - from.value_; }
    // NOLINTNEXTLINE(modernize-use-nullptr): the compiler's own 0
    friend constexpr auto operator<=>(const Address&, const Address&) = default;

    // clang-format off
    [[nodiscard]] constexpr std::uint64_t value() const requires(!kHostile) { return value_; }
    // For the checks themselves, in hypervisor/memory.
    [[nodiscard]] constexpr std::uint64_t unchecked() const requires(kHostile) { return value_; }
    // An entry of a table that leads there: its flags are below the address, or above.
    constexpr std::uint64_t operator|(std::uint64_t bits) const requires(!kHostile) { return value_ | bits; }
    // clang-format on

  private:
    std::uint64_t value_ = 0;
};

using HostPhysical = Address<false>;
using GuestPhysical = Address<true>;

}  // namespace gatehouse

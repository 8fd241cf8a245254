// What cannot be done with an address does not compile, so it is asked by concepts.
#include "hypervisor/base/address.hpp"

#include <gtest/gtest.h>

#include <type_traits>

namespace gatehouse {
namespace {

template <typename T>
concept HasValue = requires(T address) {
    address.value();
};
template <typename T>
concept HasUnchecked = requires(T address) {
    address.unchecked();
};
template <typename A, typename B>
concept Adds = requires(A a, B b) {
    a + b;
};
template <typename A, typename B>
concept Subtracts = requires(A a, B b) {
    a - b;
};
template <typename A, typename B>
concept Compares = requires(A a, B b) {
    a == b;
};
template <typename T>
concept IsEntry = requires(T address) {
    address | std::uint64_t{1};
};

// A number is no address until somebody says so, and an address is no number.
static_assert(!std::is_convertible_v<std::uint64_t, GuestPhysical> &&
              !std::is_convertible_v<std::uint64_t, HostPhysical>);
static_assert(!std::is_convertible_v<GuestPhysical, std::uint64_t> &&
              !std::is_convertible_v<HostPhysical, std::uint64_t>);
static_assert(!std::is_constructible_v<std::uint64_t, GuestPhysical>);
// The guest's is never the machine's, nor a pointer, without a check.
static_assert(!std::is_constructible_v<HostPhysical, GuestPhysical> &&
              !std::is_constructible_v<GuestPhysical, HostPhysical>);
static_assert(!std::is_assignable_v<HostPhysical&, GuestPhysical> && !Compares<HostPhysical, GuestPhysical>);
static_assert(HasValue<HostPhysical> && !HasValue<GuestPhysical>);
static_assert(HasUnchecked<GuestPhysical> && !HasUnchecked<HostPhysical>);
static_assert(IsEntry<HostPhysical> && !IsEntry<GuestPhysical>);
// Arithmetic by sizes only.
static_assert(Adds<GuestPhysical, std::uint64_t> && !Adds<GuestPhysical, GuestPhysical>);
static_assert(Subtracts<HostPhysical, HostPhysical> && !Subtracts<HostPhysical, GuestPhysical>);
static_assert(!Compares<GuestPhysical, std::uint64_t>);
// As cheap as a number.
static_assert(sizeof(GuestPhysical) == sizeof(std::uint64_t) && std::is_trivially_copyable_v<GuestPhysical>);

TEST(Address, MovesBySizesAndTellsDistances) {
    constexpr GuestPhysical kAddress{0x12345};
    EXPECT_EQ(kAddress + 0x100, GuestPhysical(0x12445));
    EXPECT_EQ((kAddress + 0x100) - kAddress, 0x100u);
    EXPECT_EQ(kAddress.within(0x1000), 0x345u);
    EXPECT_LT(kAddress, kAddress + 1);
    EXPECT_EQ(HostPhysical(0x3000) | 3, 0x3003u);
    EXPECT_EQ(HostPhysical(), HostPhysical(0));
}

}  // namespace
}  // namespace gatehouse

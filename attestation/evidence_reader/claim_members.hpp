// What the tables of claims.hpp and machine_facts.hpp know of a member beyond its place: its name, which JSON and
// messages use as it is, and the names of its values. So a claim is said once, by its line in the table.
#pragma once

#include <array>
#include <string_view>
#include <tuple>
#include <utility>

#include "attestation/evidence/claims.hpp"

namespace gatehouse::evidence {

// The values of a member in text, from 0: there are no others.
constexpr std::array<const char*, 3> names_of(Launch) { return {"none", "SKINIT", "SENTER"}; }
constexpr std::array<const char*, 3> names_of(Iommu) { return {"none", "AMD-Vi", "VT-d"}; }
constexpr std::array<const char*, 2> names_of(Acpi) { return {"minimal", "machine"}; }
constexpr std::array<const char*, 3> names_of(VaultPin) { return {"nobody", "bundle", "record"}; }
constexpr std::array<const char*, 3> names_of(DiskState) { return {"absent", "encrypted", "encrypting"}; }
inline constexpr std::uint32_t kKnownFlags =
    static_cast<std::uint32_t>(ClaimFlag::kCapped) | static_cast<std::uint32_t>(ClaimFlag::kVaultOpened);

// "cpus" of &Claims::cpus, as the compiler tells it: "... kMember = &...::cpus; ...", or "]" at the end.
template <auto kMember>
[[nodiscard]] consteval std::string_view member_name() {
    std::string_view text = __PRETTY_FUNCTION__;
    text.remove_prefix(text.find("kMember = "));
    text = text.substr(0, text.find_first_of(";]"));
    return text.substr(text.rfind(':') + 1);
}
static_assert(member_name<&Claims::cpus>() == "cpus" && member_name<&DiskClaim::key_epoch>() == "key_epoch");

// Calls visit.operator()<&T::member>() for each member of a table, in the order of the encoding.
template <const auto& kTable, typename Visit>
constexpr void each_member(Visit&& visit) {
    [&]<std::size_t... kNumber>(std::index_sequence<kNumber...>) {
        (visit.template operator()<std::get<kNumber>(kTable)>(), ...);
    }
    (std::make_index_sequence<std::tuple_size_v<std::remove_cvref_t<decltype(kTable)>>>());
}

}  // namespace gatehouse::evidence

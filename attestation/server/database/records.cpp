#include "attestation/server/database/records.hpp"

#include <array>

namespace gatehouse::server {
namespace {

constexpr std::array kRoles{"read-only", "operator", "admin"};
constexpr std::array kOrigins{"settings", "CA certificate", "EK certificate"};
constexpr std::array kStates{"new", "trusted", "unmeasured", "untrusted", "stale", "retired"};

template <typename Enum, std::size_t N>
std::optional<Enum> by_name(const std::array<const char*, N>& names, std::string_view name) {
    for (std::size_t i = 0; i < N; ++i) {
        if (name == names[i]) return static_cast<Enum>(i);
    }
    return std::nullopt;
}

}  // namespace

const char* name_of(Role role) { return kRoles.at(static_cast<std::size_t>(role)); }
std::optional<Role> role_of(std::string_view name) { return by_name<Role>(kRoles, name); }
const char* name_of(State state) { return kStates.at(static_cast<std::size_t>(state)); }
std::optional<State> state_of(std::string_view name) { return by_name<State>(kStates, name); }
const char* name_of(CrlOrigin origin) { return kOrigins.at(static_cast<std::size_t>(origin)); }

}  // namespace gatehouse::server

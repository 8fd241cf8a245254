// What a call demands of who calls and of what it is given, before it does anything; and how it says that it will not.
#pragma once

#include <algorithm>
#include <string>

#include "attestation/server/service.hpp"

namespace gatehouse::server {

// At least `role`; ServiceError (403).
void demand_role(const Principal& by, Role role);
// 1 to 64 of [a-z0-9._-], or ServiceError (400) naming the item.
void demand_name(const std::string& name, const char* item);
// A cursor that is a number; ServiceError (400).
[[nodiscard]] std::int64_t number_of_cursor(const std::string& cursor);
[[nodiscard]] inline unsigned page_size(unsigned limit) { return limit == 0 ? 50 : std::min(limit, 500u); }
[[noreturn]] void not_found(const std::string& what);            // ServiceError (404)
[[nodiscard]] std::string date_text(Seconds time);               // "YYYY-MM-DD HH:MM:SS UTC"
[[nodiscard]] std::string endpoint_name(const std::string& id);  // "endpoint ID", as the audit log calls it

}  // namespace gatehouse::server

// Names of endpoints and enrollments.
#pragma once

#include <string>

#include "attestation/server/database/records.hpp"

namespace gatehouse::server {

// 26 characters of Crockford's base 32: 48 bits of milliseconds, 80 random ones; sortable by time.
[[nodiscard]] std::string new_id(Seconds now);

}  // namespace gatehouse::server

// PostgreSQL through libpqxx: a pool of connections, transactions of isolation level "read committed", a job
// run again when the server reports a conflict (SQLSTATE 40001, 40P01).
//
// Unless the URL says otherwise, a connection has 5 seconds to be made and is given up 20 seconds after the
// server's machine fell silent; a statement has 60 seconds, and 20 for a lock. What exceeds them is a
// DatabaseError. A server process that is stopped, on a machine that goes on, is not noticed.
#pragma once

#include "attestation/server/database/database.hpp"

namespace gatehouse::server {

[[nodiscard]] std::unique_ptr<Database> open_postgresql(const std::string& url);

}  // namespace gatehouse::server

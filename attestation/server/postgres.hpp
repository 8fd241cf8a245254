// PostgreSQL through libpqxx: a pool of connections, transactions of isolation level "read committed", a job
// run again when the server reports a conflict (SQLSTATE 40001, 40P01).
#pragma once

#include "attestation/server/database.hpp"

namespace gatehouse::server {

[[nodiscard]] std::unique_ptr<Database> open_postgresql(const std::string& url);

}  // namespace gatehouse::server

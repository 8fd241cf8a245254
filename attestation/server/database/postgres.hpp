// PostgreSQL through libpqxx: a pool of connections, transactions of isolation level "read committed", a job
// run again when the server reports a conflict (SQLSTATE 40001, 40P01).
//
// Unless the URL says otherwise, a connection has 5 seconds to be made and is given up 20 seconds after the
// server's machine fell silent; a statement has 60 seconds, and 20 for a lock; what exceeds these is a DatabaseError. A
// server process that does not answer within `patience`, as one that was stopped on a machine that goes on, loses the
// connection. The statements of a migration may take as long as they do.
//
// Errors: DatabaseAway if the server is out of reach, was lost, or has no connection free within `patience`. Nothing of
// the job was written then, unless the message says that this is not known.
#pragma once

#include <chrono>

#include "attestation/server/database/database.hpp"

namespace gatehouse::server {

[[nodiscard]] std::unique_ptr<Database> open_postgresql(const std::string& url,
                                                        std::chrono::milliseconds patience = std::chrono::seconds(75));

}  // namespace gatehouse::server

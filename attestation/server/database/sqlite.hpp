// SQLite: write-ahead log, synchronous=FULL, foreign keys on.
//
// One thread owns the only connection that writes. It takes all jobs that wait, runs each inside a savepoint
// of one transaction, commits, and only then lets their callers go on: under load one flush of the disk
// serves many callers. Reads have connections of their own, as many as there are readers at once, and never
// wait for writers.
#pragma once

#include "attestation/server/database/database.hpp"

namespace gatehouse::server {

[[nodiscard]] std::unique_ptr<Database> open_sqlite(const std::string& path);

}  // namespace gatehouse::server

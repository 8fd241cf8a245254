// The schema and its versions. A database is brought to the newest version under a lock, so that processes
// that start at once do it once; each version is one step, never changed after it was released.
//
// Spelled for both databases with these words: {integer key} a row number given by the database, {blob},
// {text} (compared byte by byte), {without rowid} (SQLite: rows are kept in the primary key's tree).
#pragma once

#include "attestation/server/database/database.hpp"

namespace gatehouse::server {

// ToolError if the database was made by a newer program.
void migrate(Database& database);

}  // namespace gatehouse::server

// Putting a backup in place of the database (SQLite only).
#pragma once

#include <cstdint>
#include <string>

#include "attestation/server/service.hpp"

namespace gatehouse::http {

// Checks a copy of `file` - that SQLite finds it whole, that this directory's master.key opens it, that its
// audit log is unbroken - and moves that into place; returns the number of audit entries. Refuses while a
// server runs on the directory, and unless `force` if there is a database already. ToolError.
std::int64_t restore_backup(const std::string& file, const server::ServiceOptions& options, bool force);

// Holds DIRECTORY/server.lock, or ToolError: one process for one data directory.
class DirectoryLock {
  public:
    explicit DirectoryLock(const std::string& directory);

  private:
    host::File file_;
};

}  // namespace gatehouse::http

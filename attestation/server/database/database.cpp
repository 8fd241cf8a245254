#include "attestation/server/database/database.hpp"

#include "attestation/server/database/postgres.hpp"
#include "attestation/server/database/sqlite.hpp"

namespace gatehouse::server {

std::unique_ptr<Database> Database::open(const std::string& url) {
    const std::string_view file = "sqlite:";
    if (url.starts_with(file) && url.size() > file.size()) return open_sqlite(url.substr(file.size()));
    if (url.starts_with("postgresql://") || url.starts_with("postgres://")) return open_postgresql(url);
    throw host::ToolError("database \"" + url + "\": must be sqlite:PATH or postgresql://...", host::ExitCode::kUsage);
}

}  // namespace gatehouse::server

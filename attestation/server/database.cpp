#include "attestation/server/database.hpp"

#include "attestation/server/postgres.hpp"
#include "attestation/server/sqlite.hpp"

namespace gatehouse::server {
namespace {

template <typename T>
const T& held(const Row::Value& value, const T& nothing) {
    if (std::holds_alternative<std::monostate>(value)) return nothing;
    const T* const found = std::get_if<T>(&value);
    if (found == nullptr) throw DatabaseError("a column is of another type than the program expects");
    return *found;
}

}  // namespace

std::int64_t Row::integer(std::size_t column) const {
    static const std::int64_t nothing = 0;
    return held(values_.at(column), nothing);
}

const std::string& Row::text(std::size_t column) const {
    static const std::string nothing;
    return held(values_.at(column), nothing);
}

const Buffer& Row::blob(std::size_t column) const {
    static const Buffer nothing;
    return held(values_.at(column), nothing);
}

std::optional<Row> Session::one(std::string_view sql, std::initializer_list<Param> params) {
    Rows rows = query(sql, params);
    if (rows.empty()) return std::nullopt;
    return std::move(rows.front());
}

std::unique_ptr<Database> Database::open(const std::string& url) {
    const std::string_view file = "sqlite:";
    if (url.starts_with(file) && url.size() > file.size()) return open_sqlite(url.substr(file.size()));
    if (url.starts_with("postgresql://") || url.starts_with("postgres://")) return open_postgresql(url);
    throw host::ToolError("database \"" + url + "\": must be sqlite:PATH or postgresql://...", host::ExitCode::kUsage);
}

}  // namespace gatehouse::server

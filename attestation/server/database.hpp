// The database under the server: SQLite in one file, or PostgreSQL shared by several server processes.
//
// One SQL text serves both. What it may use:
//   $1 ... $n            parameters, in both
//   /*+ TEXT +*/         TEXT for PostgreSQL only (a comment to SQLite): /*+ FOR UPDATE +*/
//   ON CONFLICT, RETURNING, CAST, LIKE on text that is lower-case already
// Integers are 64 bits, signed; an unsigned value is kept as its bit pattern.
//
// Statements are prepared once for each connection and kept by their text, so texts are to be literals or of
// a small set, never made of user input.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <variant>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::server {

using host::Buffer;

// The database refused or is out of reach; the message names the statement's beginning.
class DatabaseError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// A parameter: a view, valid for the call.
class Param {
  public:
    using Held = std::variant<std::int64_t, std::string_view, Bytes>;
    template <std::integral T>
    Param(T value) : held_(static_cast<std::int64_t>(value)) {}
    Param(std::string_view text) : held_(text) {}
    Param(const std::string& text) : held_(std::string_view(text)) {}
    Param(const char* text) : held_(std::string_view(text)) {}
    Param(Bytes bytes) : held_(bytes) {}
    Param(const Buffer& bytes) : held_(Bytes(bytes)) {}
    Param(const std::array<std::byte, 32>& digest) : held_(Bytes(digest)) {}
    [[nodiscard]] const Held& held() const { return held_; }

  private:
    Held held_;
};

// One row of an answer; columns from 0. SQL's NULL reads as 0 or empty; another type than asked for is a
// fault of the program (DatabaseError).
class Row {
  public:
    using Value = std::variant<std::monostate, std::int64_t, std::string, Buffer>;
    explicit Row(std::vector<Value> values) : values_(std::move(values)) {}
    [[nodiscard]] std::int64_t integer(std::size_t column) const;
    [[nodiscard]] bool flag(std::size_t column) const { return integer(column) != 0; }
    [[nodiscard]] const std::string& text(std::size_t column) const;
    [[nodiscard]] const Buffer& blob(std::size_t column) const;

  private:
    std::vector<Value> values_;
};
using Rows = std::vector<Row>;

// A connection for the time of one job.
class Session {
  public:
    Session() = default;
    virtual ~Session() = default;
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    [[nodiscard]] virtual Rows query_with(std::string_view sql, std::span<const Param> params) = 0;
    virtual std::int64_t execute_with(std::string_view sql, std::span<const Param> params) = 0;
    // Several statements without parameters, for migrations.
    virtual void script(const std::string& sql) = 0;
    [[nodiscard]] virtual bool is_postgresql() const = 0;

    [[nodiscard]] Rows query(std::string_view sql, std::initializer_list<Param> params = {}) {
        return query_with(sql, {params.begin(), params.size()});
    }
    // How many rows it changed.
    std::int64_t execute(std::string_view sql, std::initializer_list<Param> params = {}) {
        return execute_with(sql, {params.begin(), params.size()});
    }
    // The first row, if there is one.
    [[nodiscard]] std::optional<Row> one(std::string_view sql, std::initializer_list<Param> params = {});
};

class Database {
  public:
    using Job = std::function<void(Session&)>;

    Database() = default;
    virtual ~Database() = default;
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    // "sqlite:PATH" (made if it is not there, mode 0600) or "postgresql://..."; ToolError.
    [[nodiscard]] static std::unique_ptr<Database> open(const std::string& url);

    // Runs the job in a transaction and returns when that is on disk. What the job throws undoes the job
    // alone and is thrown here. A job may be run again from its start (PostgreSQL: a conflict with another
    // process), so it must set all it gives out anew each time. It may run on another thread, and must not
    // call the database itself.
    virtual void write(const Job& job) = 0;
    // Reads what has been committed; no transaction.
    virtual void read(const Job& job) = 0;
    // A copy of the whole database in a new file, while it is in use. ToolError if it cannot be made, and on
    // PostgreSQL.
    virtual void backup(const std::string& path) = 0;
};

}  // namespace gatehouse::server

// A connection for the time of one job, and SQL on it. For the sources of this room only: the others hold a Session&
// and hand it to the calls that the records' headers list.
//
// One SQL text serves both databases. What it may use:
//   $1 ... $n            parameters, in both
//   /*+ TEXT +*/         TEXT for PostgreSQL only (a comment to SQLite): /*+ FOR UPDATE +*/
//   ON CONFLICT, RETURNING, CAST, LIKE on text that is lower-case already
// Integers are 64 bits, signed; an unsigned value is kept as its bit pattern.
//
// Statements are prepared once for each connection and kept by their text, so texts are literals or of a small set,
// never made of user input.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "attestation/server/database/database.hpp"

namespace gatehouse::server {

// A parameter: a view, valid for the call.
class Param {
  public:
    using Held = std::variant<std::int64_t, std::string_view, Bytes>;
    template <typename T>
    requires std::integral<T> || std::is_enum_v<T> Param(T value) : held_(static_cast<std::int64_t>(value)) {}
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
using Params = std::initializer_list<Param>;

// One row of an answer, in the order of the statement's columns; monostate is NULL. record.hpp reads it by name.
using Value = std::variant<std::monostate, std::int64_t, std::string, Buffer>;
using Row = std::vector<Value>;
using Rows = std::vector<Row>;

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

    [[nodiscard]] Rows query(std::string_view sql, Params params = {}) {
        return query_with(sql, {params.begin(), params.size()});
    }
    // How many rows it changed.
    std::int64_t execute(std::string_view sql, Params params = {}) {
        return execute_with(sql, {params.begin(), params.size()});
    }
};

}  // namespace gatehouse::server

// Records by name. For the sources of this room only.
//
// A record is a struct with a table of columns, beside the calls that use it:
//
//   template <>
//   inline constexpr auto kColumns<Token> = std::tuple{
//       Column{"name", &Token::name}, Column{"role", &Token::role}, ...};
//
// A column is an SQL expression of the statement's tables and the member that it is read into, or written from. Members
// are text, integers, bool, enumerations (as their number), Buffer, and what this header lists below; the type decides
// how a value is kept. NULL is read as zero or empty.
//
//   select<Token>(session, "FROM tokens ORDER BY name")                     SELECT name, role, ... FROM tokens ...
//   find<Token>(session, "FROM tokens WHERE hash = $1", {hash})             the first of them, if there is one
//   returning<Token>(session, "DELETE FROM tokens WHERE expires < $1", {t}) ... RETURNING name, role, ...
//   insert(session, "policies", policy)                                     all its columns; so insert_new() and put()
//   insert(session, "groups", {{"name", name}})                             values by name; likewise
//   update(session, "tokens", {{"last_used", now}}, {{"hash", hash}})       SET ... WHERE hash = ... AND ...
//
// One value alone needs no record: value<T>(), values<T>(), exists().
#pragma once

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "attestation/server/database/records.hpp"
#include "attestation/server/database/session.hpp"
#include "attestation/server/database/tpm_state.hpp"

namespace gatehouse::server {

template <typename Place>  // a pointer to a member, or a function from the record to one of its members
struct Column {
    const char* expression;
    Place place;
};
template <typename Place>
Column(const char*, Place) -> Column<Place>;
template <typename Record>
inline constexpr auto kColumns = nullptr;  // each record's own

// Places in a record's `crls`.
inline constexpr auto kCrlOldest = [](auto& record) -> Seconds& { return record.crls.oldest; };
inline constexpr auto kCrlEnd = [](auto& record) -> Seconds& { return record.crls.end; };
inline constexpr auto kCrlGap = [](auto& record) -> std::string& { return record.crls.gap; };

// --- between a value of the database and one of the program

[[noreturn]] void refuse_type();
template <typename Kept>
Kept kept_as(Value&& value) {
    if (std::holds_alternative<std::monostate>(value)) return {};
    if (Kept* const found = std::get_if<Kept>(&value)) return std::move(*found);
    refuse_type();
}

template <typename T>
void from_value(Value&& value, T& out) {
    if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, Buffer>) {
        out = kept_as<T>(std::move(value));
    } else if constexpr (std::is_same_v<T, bool>) {
        out = kept_as<std::int64_t>(std::move(value)) != 0;
    } else {
        static_assert(std::is_integral_v<T> || std::is_enum_v<T>);
        out = static_cast<T>(kept_as<std::int64_t>(std::move(value)));
    }
}
void from_value(Value&& value, verifier::TpmState& out);
void from_value(Value&& value, std::vector<verifier::Finding>& out);

// What a Param can view.
template <typename T>
const T& to_value(const T& value) {
    return value;
}
[[nodiscard]] Buffer to_value(const verifier::TpmState& value);
[[nodiscard]] std::string to_value(const std::vector<verifier::Finding>& value);

// --- reading

template <typename Record>
const std::string& column_list() {
    static const std::string list = std::apply(
        [](const auto&... column) {
            std::string text;
            ((text += (text.empty() ? "" : ", ") + std::string(column.expression)), ...);
            return text;
        },
        kColumns<Record>);
    return list;
}

template <typename Record>
Record record_of(Row&& row) {
    Record record;
    std::size_t i = 0;
    std::apply(
        [&](const auto&... column) { (from_value(std::move(row.at(i++)), std::invoke(column.place, record)), ...); },
        kColumns<Record>);
    return record;
}

template <typename Record>
std::vector<Record> records_of(Rows&& rows) {
    std::vector<Record> all;
    all.reserve(rows.size());
    for (Row& row : rows) all.push_back(record_of<Record>(std::move(row)));
    return all;
}

template <typename Record>
std::vector<Record> select_with(Session& session, std::string_view from, std::span<const Param> params) {
    return records_of<Record>(session.query_with("SELECT " + column_list<Record>() + " " + std::string(from), params));
}
template <typename Record>
std::vector<Record> select(Session& session, std::string_view from, Params params = {}) {
    return select_with<Record>(session, from, {params.begin(), params.size()});
}
template <typename Record>
std::optional<Record> find(Session& session, std::string_view from, Params params = {}) {
    std::vector<Record> all = select<Record>(session, from, params);
    if (all.empty()) return std::nullopt;
    return std::move(all.front());
}
template <typename Record>
std::vector<Record> returning(Session& session, std::string_view change, Params params = {}) {
    return records_of<Record>(session.query(std::string(change) + " RETURNING " + column_list<Record>(), params));
}

// The only column of each row; of the first row.
template <typename T>
std::vector<T> values(Session& session, std::string_view sql, Params params = {}) {
    std::vector<T> all;
    for (Row& row : session.query(sql, params)) from_value(std::move(row.at(0)), all.emplace_back());
    return all;
}
template <typename T>
std::optional<T> value(Session& session, std::string_view sql, Params params = {}) {
    std::vector<T> all = values<T>(session, sql, params);
    if (all.empty()) return std::nullopt;
    return std::move(all.front());
}
// COUNT, MAX and the like: there is always a row.
[[nodiscard]] std::int64_t number(Session& session, std::string_view sql, Params params = {});
// `from`: "FROM ... WHERE ...".
[[nodiscard]] bool exists(Session& session, std::string_view from, Params params = {});

// --- writing

struct Named {
    const char* column;
    Param value;
};
using NamedValues = std::initializer_list<Named>;

void insert(Session& session, std::string_view table, NamedValues row);
// False if there is a row with this value of `key` already: nothing is changed.
bool insert_new(Session& session, std::string_view table, std::string_view key, NamedValues row);
// In place of the row with these values of `key` ("a" or "a, b"), if there is one.
void put(Session& session, std::string_view table, std::string_view key, NamedValues row);
// How many rows were as `which` says.
std::int64_t update(Session& session, std::string_view table, NamedValues changes, NamedValues which);
std::int64_t erase(Session& session, std::string_view table, NamedValues which);

// `then`, given all that is in a record, by name.
template <typename Record, typename Then>
auto with_values(const Record& record, Then then) {
    return std::apply(
        [&](const auto&... column) {
            return then(NamedValues{{column.expression, to_value(std::invoke(column.place, record))}...});
        },
        kColumns<Record>);
}
template <typename Record>
void insert(Session& session, std::string_view table, const Record& record) {
    with_values(record, [&](NamedValues row) { insert(session, table, row); });
}
template <typename Record>
bool insert_new(Session& session, std::string_view table, std::string_view key, const Record& record) {
    return with_values(record, [&](NamedValues row) { return insert_new(session, table, key, row); });
}
template <typename Record>
void put(Session& session, std::string_view table, std::string_view key, const Record& record) {
    with_values(record, [&](NamedValues row) { put(session, table, key, row); });
}

}  // namespace gatehouse::server

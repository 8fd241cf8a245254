#include "attestation/server/database/record.hpp"

#include "attestation/server/database/findings.hpp"

namespace gatehouse::server {
namespace {

std::vector<Param> params_of(NamedValues first, NamedValues second = {}) {
    std::vector<Param> params;
    params.reserve(first.size() + second.size());
    for (const NamedValues part : {first, second}) {
        for (const Named& one : part) params.push_back(one.value);
    }
    return params;
}

// "a = $3, b = $4"
std::string pairs(NamedValues values, std::size_t first, const char* between) {
    std::string text;
    for (const Named& one : values) {
        text += (text.empty() ? "" : between) + std::string(one.column) + " = $" + std::to_string(first++);
    }
    return text;
}

// INSERT INTO table (a, b) VALUES ($1, $2)
std::string insertion(std::string_view table, NamedValues row) {
    std::string names, places;
    std::size_t count = 0;
    for (const Named& one : row) {
        const char* const between = count == 0 ? "" : ", ";
        names += between + std::string(one.column);
        places += between + std::string("$") + std::to_string(++count);
    }
    return "INSERT INTO " + std::string(table) + " (" + names + ") VALUES (" + places + ")";
}

bool is_of(std::string_view key, std::string_view column) {
    return (", " + std::string(key) + ",").find(", " + std::string(column) + ",") != std::string::npos;
}

}  // namespace

void refuse_type() { throw DatabaseError("a column is of another type than the program expects"); }

void from_value(Value&& value, verifier::TpmState& out) { out = decode_tpm(kept_as<Buffer>(std::move(value))); }
void from_value(Value&& value, std::vector<verifier::Finding>& out) {
    out = findings_from_json(kept_as<std::string>(std::move(value)));
}
Buffer to_value(const verifier::TpmState& value) { return encode_tpm(value); }
std::string to_value(const std::vector<verifier::Finding>& value) { return findings_json(value); }

std::int64_t number(Session& session, std::string_view sql, Params params) {
    return value<std::int64_t>(session, sql, params).value();
}

bool exists(Session& session, std::string_view from, Params params) {
    return !session.query("SELECT 1 " + std::string(from), params).empty();
}

void insert(Session& session, std::string_view table, NamedValues row) {
    session.execute_with(insertion(table, row), params_of(row));
}

bool insert_new(Session& session, std::string_view table, std::string_view key, NamedValues row) {
    return session.execute_with(insertion(table, row) + " ON CONFLICT (" + std::string(key) + ") DO NOTHING",
                                params_of(row)) == 1;
}

void put(Session& session, std::string_view table, std::string_view key, NamedValues row) {
    std::string changes;
    for (const Named& one : row) {
        if (is_of(key, one.column)) continue;
        changes += (changes.empty() ? "" : ", ") + std::string(one.column) + " = excluded." + one.column;
    }
    session.execute_with(insertion(table, row) + " ON CONFLICT (" + std::string(key) + ") DO UPDATE SET " + changes,
                         params_of(row));
}

std::int64_t update(Session& session, std::string_view table, NamedValues changes, NamedValues which) {
    return session.execute_with("UPDATE " + std::string(table) + " SET " + pairs(changes, 1, ", ") + " WHERE " +
                                    pairs(which, changes.size() + 1, " AND "),
                                params_of(changes, which));
}

std::int64_t erase(Session& session, std::string_view table, NamedValues which) {
    return session.execute_with("DELETE FROM " + std::string(table) + " WHERE " + pairs(which, 1, " AND "),
                                params_of(which));
}

}  // namespace gatehouse::server

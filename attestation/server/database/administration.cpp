#include "attestation/server/database/administration.hpp"

#include "attestation/server/database/record.hpp"

namespace gatehouse::server {

template <>
inline constexpr auto kColumns<Token> =
    std::tuple{Column{"name", &Token::name}, Column{"role", &Token::role}, Column{"created", &Token::created},
               Column{"expires", &Token::expires}, Column{"last_used", &Token::last_used}};

template <>
inline constexpr auto kColumns<VendorRow> =
    std::tuple{Column{"name", &VendorRow::name}, Column{"content", &VendorRow::content}};

const char* name_of(Counter which) { return which == Counter::kAssignments ? "assignments" : "vendors"; }

std::int64_t counter(Session& session, Counter which) {
    return number(session, "SELECT value FROM settings WHERE name = $1", {name_of(which)});
}

std::int64_t lock_counter(Session& session, Counter which) {
    return number(session, "SELECT value FROM settings WHERE name = $1 /*+ FOR UPDATE +*/", {name_of(which)});
}

void count_up(Session& session, Counter which) {
    session.execute("UPDATE settings SET value = value + 1 WHERE name = $1", {name_of(which)});
}

bool take_first_token(Session& session) {
    return insert_new(session, "settings", "name", {{"name", "first token"}, {"value", 1}});
}

std::optional<Buffer> find_secret(Session& session, const std::string& name) {
    return value<Buffer>(session, "SELECT value FROM secrets WHERE name = $1", {name});
}

void add_secret(Session& session, const std::string& name, const Buffer& sealed) {
    insert_new(session, "secrets", "name", {{"name", name}, {"value", sealed}});
}

void replace_secret(Session& session, const std::string& name, const Buffer& sealed) {
    put(session, "secrets", "name", {{"name", name}, {"value", sealed}});
}

std::optional<Token> find_token(Session& session, const Sha256Digest& hash) {
    return find<Token>(session, "FROM tokens WHERE hash = $1", {hash});
}

bool has_token_named(Session& session, const std::string& name) {
    return exists(session, "FROM tokens WHERE name = $1", {name});
}

std::vector<Token> list_tokens(Session& session) { return select<Token>(session, "FROM tokens ORDER BY name"); }

void add_token(Session& session, const Sha256Digest& hash, const Token& token) {
    insert(session, "tokens",
           {{"hash", hash},
            {"name", token.name},
            {"role", token.role},
            {"created", token.created},
            {"expires", token.expires},
            {"last_used", token.last_used}});
}

void use_token(Session& session, const Sha256Digest& hash, Seconds now) {
    update(session, "tokens", {{"last_used", now}}, {{"hash", hash}});
}

bool remove_token(Session& session, const std::string& name) { return erase(session, "tokens", {{"name", name}}) != 0; }

void drop_tokens_expired_before(Session& session, Seconds time) {
    session.execute("DELETE FROM tokens WHERE expires <> 0 AND expires < $1", {time});
}

bool has_group(Session& session, const std::string& name) {
    return exists(session, "FROM groups WHERE name = $1", {name});
}

std::vector<std::string> list_groups(Session& session) {
    return values<std::string>(session, "SELECT name FROM groups ORDER BY name");
}

bool add_group(Session& session, const std::string& name) {
    return insert_new(session, "groups", "name", {{"name", name}});
}

std::vector<VendorRow> list_vendors(Session& session) { return select<VendorRow>(session, "FROM vendors"); }

std::vector<std::string> list_vendor_names(Session& session) {
    return values<std::string>(session, "SELECT name FROM vendors ORDER BY name");
}

void put_vendor(Session& session, const VendorRow& vendor) { put(session, "vendors", "name", vendor); }

bool remove_vendor(Session& session, const std::string& name) {
    return erase(session, "vendors", {{"name", name}}) != 0;
}

std::int64_t count_escrow(Session& session, const std::string& endpoint) {
    return number(session, "SELECT COUNT(*) FROM escrow WHERE endpoint = $1", {endpoint});
}

std::vector<std::string> list_escrow(Session& session, const std::string& endpoint) {
    return values<std::string>(session, "SELECT name FROM escrow WHERE endpoint = $1 ORDER BY name", {endpoint});
}

std::optional<Buffer> find_escrow(Session& session, const std::string& endpoint, const std::string& name) {
    return value<Buffer>(session, "SELECT blob FROM escrow WHERE endpoint = $1 AND name = $2", {endpoint, name});
}

void add_escrow(Session& session, const std::string& endpoint, const std::string& name, Seconds time,
                const Buffer& blob) {
    insert(session, "escrow", {{"endpoint", endpoint}, {"name", name}, {"time", time}, {"blob", blob}});
}

bool remove_escrow(Session& session, const std::string& endpoint, const std::string& name) {
    return erase(session, "escrow", {{"endpoint", endpoint}, {"name", name}}) != 0;
}

}  // namespace gatehouse::server

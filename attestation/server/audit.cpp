#include "attestation/server/audit.hpp"

#include <nlohmann/json.hpp>

#include "hypervisor/base/hash.hpp"

namespace gatehouse::server {
namespace {

constexpr unsigned kBatch = 1000;

Sha256Digest chained(Bytes before, const AuditEntry& entry) {
    // nlohmann::json keeps the members of an object in the order of their names.
    const nlohmann::json fields{{"number", entry.number}, {"time", entry.time},       {"who", entry.who},
                                {"action", entry.action}, {"subject", entry.subject}, {"detail", entry.detail}};
    const std::string text = fields.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    return sha256({before, host::text_bytes(text)});
}

std::vector<AuditEntry> entries(const Rows& rows) {
    std::vector<AuditEntry> all;
    all.reserve(rows.size());
    for (const Row& row : rows) {
        all.push_back({row.integer(0), row.integer(1), row.text(2), row.text(3), row.text(4), row.text(5),
                       host::hex(row.blob(6))});
    }
    return all;
}

}  // namespace

void append_audit(Session& session, Seconds now, const AuditNote& note) {
    const Row head = session.one("SELECT number, hash FROM audit_head /*+ FOR UPDATE +*/").value();
    const AuditEntry entry{head.integer(0) + 1, now, note.who, note.action, note.subject, note.detail, {}};
    const Sha256Digest hash = chained(head.blob(1), entry);
    session.execute(
        "INSERT INTO audit (number, time, who, action, subject, detail, hash) VALUES ($1, $2, $3, $4, $5, "
        "$6, $7)",
        {entry.number, entry.time, entry.who, entry.action, entry.subject, entry.detail, hash});
    session.execute("UPDATE audit_head SET number = $1, hash = $2", {entry.number, hash});
}

std::int64_t audit_length(Session& session) { return session.one("SELECT number FROM audit_head").value().integer(0); }

std::vector<AuditEntry> audit_after(Session& session, std::int64_t after, unsigned limit) {
    return entries(
        session.query("SELECT number, time, who, action, subject, detail, hash FROM audit "
                      "WHERE number > $1 ORDER BY number LIMIT $2",
                      {after, limit}));
}

std::vector<AuditEntry> audit_before(Session& session, std::int64_t before, unsigned limit) {
    return entries(
        session.query("SELECT number, time, who, action, subject, detail, hash FROM audit "
                      "WHERE number < $1 ORDER BY number DESC LIMIT $2",
                      {before, limit}));
}

Service::AuditCheck check_audit(Database& database) {
    Service::AuditCheck check{.ok = true, .entries = 0, .head = {}, .fault = {}};
    const auto fault = [&check](std::string text) {
        check.ok = false;
        check.fault = std::move(text);
        return check;
    };
    // The head first: rows that are added meanwhile lie behind it.
    std::optional<Row> head;
    database.read([&](Session& session) { head = session.one("SELECT number, hash FROM audit_head"); });
    if (!head) return fault("the head is missing");
    const std::int64_t length = head->integer(0);
    Buffer before;
    while (check.entries < length) {
        std::vector<AuditEntry> batch;
        database.read([&](Session& session) { batch = audit_after(session, check.entries, kBatch); });
        if (batch.empty()) return fault("entries after number " + std::to_string(check.entries) + " are missing");
        for (const AuditEntry& entry : batch) {
            if (entry.number > length) break;
            const std::string which = "entry " + std::to_string(check.entries + 1);
            if (entry.number != check.entries + 1) return fault(which + " is missing");
            const Sha256Digest hash = chained(before, entry);
            if (host::hex(hash) != entry.hash)
                return fault(which + " or the one before was changed: its hash does not follow");
            before.assign(hash.begin(), hash.end());
            ++check.entries;
        }
    }
    check.head = host::hex(before);
    if (!equal_bytes(before, head->blob(1))) return fault("the head is not the hash of the last entry");
    return check;
}

}  // namespace gatehouse::server

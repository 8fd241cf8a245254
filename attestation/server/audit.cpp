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

}  // namespace

void append_audit(Session& session, Seconds now, const AuditNote& note) {
    const AuditHead head = lock_audit_head(session);
    const AuditEntry entry{head.number + 1, now,         note.who, std::string(note.action.name()),
                           note.subject,    note.detail, {}};
    const Sha256Digest hash = chained(head.hash, entry);
    add_audit_row(session, entry, Buffer(hash.begin(), hash.end()));
}

std::int64_t audit_length(Session& session) { return audit_head(session).value().number; }

Service::AuditCheck check_audit(Database& database) {
    Service::AuditCheck check{.ok = true, .entries = 0, .head = {}, .fault = {}};
    const auto fault = [&check](std::string text) {
        check.ok = false;
        check.fault = std::move(text);
        return check;
    };
    // The head first: rows that are added meanwhile lie behind it.
    std::optional<AuditHead> head;
    database.read([&](Session& session) { head = audit_head(session); });
    if (!head) return fault("the head is missing");
    const std::int64_t length = head->number;
    Buffer before;
    while (check.entries < length) {
        std::vector<AuditEntry> batch;
        database.read([&](Session& session) { batch = audit_after(session, check.entries, kBatch); });
        if (batch.empty()) return fault("entries after number " + std::to_string(check.entries) + " are missing");
        for (const AuditEntry& entry : batch) {
            if (check.entries == length) break;
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
    if (!equal_bytes(before, head->hash)) return fault("the head is not the hash of the last entry");
    return check;
}

}  // namespace gatehouse::server

#include "attestation/server/database/audit_rows.hpp"

#include "attestation/server/database/record.hpp"

namespace gatehouse::server {
namespace {

struct AuditRow {
    AuditEntry entry;
    Buffer hash;
};

}  // namespace

template <>
inline constexpr auto kColumns<AuditHead> =
    std::tuple{Column{"number", &AuditHead::number}, Column{"hash", &AuditHead::hash}};

// clang-format off
template <>
inline constexpr auto kColumns<AuditRow> = std::tuple{
    Column{"number",  [](auto& row) -> auto& { return row.entry.number; }},
    Column{"time",    [](auto& row) -> auto& { return row.entry.time; }},
    Column{"who",     [](auto& row) -> auto& { return row.entry.who; }},
    Column{"action",  [](auto& row) -> auto& { return row.entry.action; }},
    Column{"subject", [](auto& row) -> auto& { return row.entry.subject; }},
    Column{"detail",  [](auto& row) -> auto& { return row.entry.detail; }},
    Column{"hash",    &AuditRow::hash},
};
// clang-format on

namespace {

std::vector<AuditEntry> entries(std::vector<AuditRow> rows) {
    std::vector<AuditEntry> all;
    all.reserve(rows.size());
    for (AuditRow& row : rows) {
        row.entry.hash = host::hex(row.hash);
        all.push_back(std::move(row.entry));
    }
    return all;
}

}  // namespace

std::optional<AuditHead> audit_head(Session& session) { return find<AuditHead>(session, "FROM audit_head"); }

AuditHead lock_audit_head(Session& session) {
    return find<AuditHead>(session, "FROM audit_head /*+ FOR UPDATE +*/").value();
}

void add_audit_row(Session& session, const AuditEntry& entry, const Buffer& hash) {
    insert(session, "audit", AuditRow{entry, hash});
    session.execute("UPDATE audit_head SET number = $1, hash = $2", {entry.number, hash});
}

std::vector<AuditEntry> audit_after(Session& session, std::int64_t after, unsigned limit) {
    return entries(select<AuditRow>(session, "FROM audit WHERE number > $1 ORDER BY number LIMIT $2", {after, limit}));
}

std::vector<AuditEntry> audit_before(Session& session, std::int64_t before, unsigned limit) {
    return entries(
        select<AuditRow>(session, "FROM audit WHERE number < $1 ORDER BY number DESC LIMIT $2", {before, limit}));
}

}  // namespace gatehouse::server

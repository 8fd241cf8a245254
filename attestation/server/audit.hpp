// The audit log: rows that are only ever added, numbered without gaps from 1, each with the hash of the one
// before in its own. Who changes a row, or takes one out, must change all that follow; the newest hash, noted
// elsewhere, shows that.
//
// hash = SHA-256(hash of the row before, 32 bytes, none for the first || JSON), the JSON being
// {"action":...,"detail":...,"number":...,"subject":...,"time":...,"who":...} in this order, without white
// space, `detail` as a string.
#pragma once

#include "attestation/server/database/audit_rows.hpp"
#include "attestation/server/service.hpp"

namespace gatehouse::server {

struct AuditNote {
    std::string who;
    AuditAction action;
    std::string subject, detail = "{}";
};

// Within a write job, and its last step: it takes the log's lock, which other processes wait for till the job
// ends.
void append_audit(Session& session, Seconds now, const AuditNote& note);

// Number of the newest row.
[[nodiscard]] std::int64_t audit_length(Session& session);

// Walks the whole log.
[[nodiscard]] Service::AuditCheck check_audit(Database& database);

}  // namespace gatehouse::server

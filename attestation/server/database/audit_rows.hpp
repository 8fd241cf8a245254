// The rows of the audit log. What they hold and how they are chained is in audit.hpp.
#pragma once

#include "attestation/server/database/database.hpp"
#include "attestation/server/database/records.hpp"

namespace gatehouse::server {

struct AuditHead {
    std::int64_t number = 0;
    Buffer hash;
};
[[nodiscard]] std::optional<AuditHead> audit_head(Session& session);
// The head's row is locked until the job ends: whoever appends waits there.
[[nodiscard]] AuditHead lock_audit_head(Session& session);
// The row, and the head after it. `hash`: the entry's, not its member in hex.
void add_audit_row(Session& session, const AuditEntry& entry, const Buffer& hash);

// Rows after `after`, oldest first, at most `limit`; rows before `before`, newest first.
[[nodiscard]] std::vector<AuditEntry> audit_after(Session& session, std::int64_t after, unsigned limit);
[[nodiscard]] std::vector<AuditEntry> audit_before(Session& session, std::int64_t before, unsigned limit);

}  // namespace gatehouse::server

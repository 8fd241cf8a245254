// Policies, who may sign them, the groups they are assigned to, and what they refused. Within a job.
#pragma once

#include "attestation/server/database/database.hpp"
#include "attestation/server/database/records.hpp"

namespace gatehouse::server {

// --- authorities
[[nodiscard]] bool add_authority(Session& session, const std::string& name, const std::string& public_key);  // new ones
[[nodiscard]] bool remove_authority(Session& session, const std::string& name);
[[nodiscard]] std::vector<std::string> list_authorities(Session& session);
// Public keys, PEM, of all but the one of that name.
[[nodiscard]] std::vector<std::string> list_authority_keys(Session& session, const std::string& but_of = "");

// --- versions of policies
void add_policy(Session& session, const PolicyVersion& policy);
[[nodiscard]] std::optional<PolicyVersion> find_policy(Session& session, const std::string& name,
                                                       std::uint64_t version);
[[nodiscard]] std::vector<PolicyVersion> list_policies(Session& session);  // by name, the newest version first
[[nodiscard]] std::int64_t newest_version(Session& session, const std::string& name);  // 0: there is none

// --- assignments
// Locks of a transaction (PostgreSQL; SQLite has one writer): shared by those that act on assignments, alone for who
// changes them. Taken first.
void share_assignments(Session& session);
void lock_assignments(Session& session);
struct AssignedPolicy {
    std::string group, policy;
    std::uint64_t version = 0;
    Stage stage = Stage::kReport;
};
[[nodiscard]] std::vector<AssignedPolicy> list_assigned(Session& session);  // by policy, the newest version first
struct AssignedJws {
    std::string group, policy;
    std::uint64_t version = 0;
    std::string jws;
};
[[nodiscard]] std::vector<AssignedJws> list_assigned_jws(Session& session);  // by policy and version
[[nodiscard]] std::vector<Assignment> list_assignments(Session& session);    // by group, policy and version
[[nodiscard]] bool has_assignment(Session& session, const std::string& group, const std::string& policy,
                                  std::uint64_t version);
void put_assignment(Session& session, const AssignedPolicy& assigned);
[[nodiscard]] bool remove_assignment(Session& session, const std::string& group, const std::string& policy,
                                     std::uint64_t version);

// --- what an assigned policy refused
struct RefusedRow {
    std::string endpoint, hostname;
    State state = State::kNew;  // as stored
    Seconds lease_until = 0, last_seen = 0;
    std::string reason;  // "rule: detail"
};
// In the order of their ids, those after the query's cursor, at most `limit`.
[[nodiscard]] std::vector<RefusedRow> list_refused(Session& session, const RefusedQuery& query, unsigned limit);

}  // namespace gatehouse::server

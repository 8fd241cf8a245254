#include "attestation/server/database/policies.hpp"

#include "attestation/server/database/record.hpp"
#include "attestation/server/database/text.hpp"

namespace gatehouse::server {

template <>
inline constexpr auto kColumns<PolicyVersion> = std::tuple{
    Column{"name", &PolicyVersion::name},       Column{"version", &PolicyVersion::version},
    Column{"address", &PolicyVersion::address}, Column{"added", &PolicyVersion::added},
    Column{"json", &PolicyVersion::json},       Column{"jws", &PolicyVersion::jws},
};

template <>
inline constexpr auto kColumns<AssignedPolicy> =
    std::tuple{Column{"group_name", &AssignedPolicy::group}, Column{"policy", &AssignedPolicy::policy},
               Column{"version", &AssignedPolicy::version}, Column{"stage", &AssignedPolicy::stage}};

template <>
inline constexpr auto kColumns<AssignedJws> =
    std::tuple{Column{"a.group_name", &AssignedJws::group}, Column{"a.policy", &AssignedJws::policy},
               Column{"a.version", &AssignedJws::version}, Column{"p.jws", &AssignedJws::jws}};

template <>
inline constexpr auto kColumns<Assignment> = std::tuple{
    Column{"a.group_name", &Assignment::group},
    Column{"a.policy", &Assignment::policy},
    Column{"a.version", &Assignment::version},
    Column{"a.stage", &Assignment::stage},
    Column{"(SELECT COUNT(*) FROM endpoints e WHERE e.group_name = a.group_name)", &Assignment::covered},
    Column{"(SELECT COUNT(*) FROM outcomes o WHERE o.group_name = a.group_name AND o.policy = a.policy "
           "AND o.version = a.version)",
           &Assignment::would_pass},  // with those that would fail, until list_assignments() takes them off
    Column{"(SELECT COUNT(*) FROM outcomes o WHERE o.group_name = a.group_name AND o.policy = a.policy "
           "AND o.version = a.version AND o.ok = 0)",
           &Assignment::would_fail},
};

template <>
inline constexpr auto kColumns<RefusedRow> = std::tuple{
    Column{"e.id", &RefusedRow::endpoint},         Column{"e.hostname", &RefusedRow::hostname},
    Column{"e.state", &RefusedRow::state},         Column{"e.lease_until", &RefusedRow::lease_until},
    Column{"e.last_seen", &RefusedRow::last_seen}, Column{"o.reason", &RefusedRow::reason},
};

bool add_authority(Session& session, const std::string& name, const std::string& public_key) {
    return insert_new(session, "policy_authorities", "name", {{"name", name}, {"public_key", public_key}});
}

bool remove_authority(Session& session, const std::string& name) {
    return erase(session, "policy_authorities", {{"name", name}}) != 0;
}

std::vector<std::string> list_authorities(Session& session) {
    return values<std::string>(session, "SELECT name FROM policy_authorities ORDER BY name");
}

std::vector<std::string> list_authority_keys(Session& session, const std::string& but_of) {
    return values<std::string>(session, "SELECT public_key FROM policy_authorities WHERE name <> $1", {but_of});
}

void add_policy(Session& session, const PolicyVersion& policy) { insert(session, "policies", policy); }

std::optional<PolicyVersion> find_policy(Session& session, const std::string& name, std::uint64_t version) {
    return find<PolicyVersion>(session, "FROM policies WHERE name = $1 AND version = $2", {name, version});
}

std::vector<PolicyVersion> list_policies(Session& session) {
    return select<PolicyVersion>(session, "FROM policies ORDER BY name, version DESC");
}

std::int64_t newest_version(Session& session, const std::string& name) {
    return number(session, "SELECT MAX(version) FROM policies WHERE name = $1", {name});
}

// The number is "GHpolicy".
void share_assignments(Session& session) {
    (void)session.query("SELECT 1 /*+ FROM pg_advisory_xact_lock_shared(5136478998878577529) +*/");
}

void lock_assignments(Session& session) {
    (void)session.query("SELECT 1 /*+ FROM pg_advisory_xact_lock(5136478998878577529) +*/");
}

std::vector<AssignedPolicy> list_assigned(Session& session) {
    return select<AssignedPolicy>(session, "FROM assignments ORDER BY policy, version DESC");
}

std::vector<AssignedJws> list_assigned_jws(Session& session) {
    return select<AssignedJws>(session,
                               "FROM assignments a JOIN policies p ON p.name = a.policy AND p.version = a.version "
                               "ORDER BY a.policy, a.version");
}

std::vector<Assignment> list_assignments(Session& session) {
    std::vector<Assignment> all =
        select<Assignment>(session, "FROM assignments a ORDER BY a.group_name, a.policy, a.version");
    for (Assignment& one : all) one.would_pass -= one.would_fail;
    return all;
}

bool has_assignment(Session& session, const std::string& group, const std::string& policy, std::uint64_t version) {
    return exists(session, "FROM assignments WHERE group_name = $1 AND policy = $2 AND version = $3",
                  {group, policy, version});
}

void put_assignment(Session& session, const AssignedPolicy& assigned) {
    put(session, "assignments", "group_name, policy, version", assigned);
}

bool remove_assignment(Session& session, const std::string& group, const std::string& policy, std::uint64_t version) {
    return erase(session, "assignments", {{"group_name", group}, {"policy", policy}, {"version", version}}) != 0;
}

// By the index of what was refused; a search goes through the endpoints instead, as that of their list does, so that it
// does not look up each one that was refused. CROSS JOIN: SQLite keeps this order.
std::vector<RefusedRow> list_refused(Session& session, const RefusedQuery& query, unsigned limit) {
    static const std::string which =
        "WHERE o.endpoint = e.id AND o.ok = 0 AND o.group_name = $1 AND o.policy = $2 AND o.version = $3 ";
    static const std::string listed =
        "FROM outcomes o CROSS JOIN endpoints e " + which + "AND o.endpoint > $4 ORDER BY o.endpoint LIMIT $5";
    static const std::string searched = "FROM endpoints e CROSS JOIN outcomes o " + which +
                                        "AND e.id > $4 AND e.search LIKE $6 ESCAPE '\\' ORDER BY e.id LIMIT $5";
    if (query.search.empty())
        return select<RefusedRow>(session, listed, {query.group, query.policy, query.version, query.cursor, limit});
    return select<RefusedRow>(
        session, searched, {query.group, query.policy, query.version, query.cursor, limit, like_pattern(query.search)});
}

}  // namespace gatehouse::server

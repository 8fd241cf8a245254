// Policies: who may sign them, their versions, the groups they are valid for, and what they make of evidence.
#include <nlohmann/json.hpp>

#include "attestation/server/appraising.hpp"
#include "attestation/server/inside.hpp"

namespace gatehouse::server {
namespace {

constexpr std::size_t kMostPolicy = 1u << 20;

constexpr const char* kPolicyColumns = "SELECT name, version, address, added, json, jws FROM policies ";

PolicyVersion policy_of(const Row& row) {
    return {row.text(0), static_cast<std::uint64_t>(row.integer(1)), row.text(2), row.integer(3), row.text(4),
            row.text(5)};
}

std::string version_name(const std::string& policy, std::uint64_t version) {
    return policy + ":" + std::to_string(version);
}

// First in the job: see update_endpoint() of attesting.cpp.
void count_assignments(Session& session) {
    (void)session.query(kLockAssignments);
    session.execute("UPDATE settings SET value = value + 1 WHERE name = 'assignments'");
}

std::vector<Key> authority_keys(Session& session, const std::string& but_of = "") {
    std::vector<Key> keys;
    for (const Row& row : session.query("SELECT public_key FROM policy_authorities WHERE name <> $1", {but_of}))
        keys.push_back(public_key_from_pem(row.text(0)));
    return keys;
}

// The payload. ToolError if none of them signed it.
std::string verified_policy(const std::string& jws, const std::vector<Key>& keys) {
    std::vector<const EVP_PKEY*> authorities;
    authorities.reserve(keys.size());
    for (const Key& key : keys) authorities.push_back(key.get());
    return verifier::verify_signed_policy(jws, authorities);
}

bool is_signed(const std::string& jws, const std::vector<Key>& keys) {
    try {
        (void)verified_policy(jws, keys);
        return true;
    } catch (const host::ToolError&) {
        return false;
    }
}

}  // namespace

std::shared_ptr<const Service::Inside::Assignments> Service::Inside::assignments_of(std::int64_t generation) {
    {
        const std::lock_guard lock(assignments_mutex);
        if (generation == assignments_generation) return assignments;
    }
    auto fresh = std::make_shared<Assignments>();
    std::int64_t read_at = 0;
    // The number first: what changes in between is read again next time.
    database->read([&](Session& session) {
        read_at = session.one("SELECT value FROM settings WHERE name = 'assignments'").value().integer(0);
        for (const Row& row : session.query("SELECT group_name, policy, version, stage FROM assignments "
                                            "ORDER BY policy, version DESC")) {
            (*fresh)[row.text(0)].push_back(
                {row.text(1), static_cast<std::uint64_t>(row.integer(2)), static_cast<Stage>(row.integer(3))});
        }
    });
    const std::lock_guard lock(assignments_mutex);
    assignments = fresh;
    assignments_generation = read_at;
    return fresh;
}

std::shared_ptr<const LoadedPolicy> Service::Inside::policy(const std::string& name, std::uint64_t version) {
    return policies.get(version_name(name, version), [&] {
        const auto row = read([&](Session& session) {
            return session.one("SELECT json, address FROM policies WHERE name = $1 AND version = $2", {name, version});
        });
        if (!row) not_found("policy " + version_name(name, version));
        return std::make_shared<const LoadedPolicy>(LoadedPolicy{verifier::parse_policy(row->text(0)), row->text(1)});
    });
}

void Service::add_policy_authority(const Principal& by, const std::string& name, const std::string& public_key_pem) {
    demand_role(by, Role::kAdmin);
    demand_name(name, "authority name");
    const Key key = public_key_from_pem(public_key_pem);
    if (!key) throw ServiceError(422, "authority", "public_key: is not a public key on P-256 in PEM");
    const std::string pem = public_pem(key.get());
    const nlohmann::json detail{{"sha256", host::hex(sha256(host::text_bytes(pem)))}};
    inside_->write({by.name, "authority.add", name, detail.dump()}, [&](Session& session) {
        if (session.execute("INSERT INTO policy_authorities (name, public_key) VALUES ($1, $2) "
                            "ON CONFLICT (name) DO NOTHING",
                            {name, pem}) == 0) {
            throw ServiceError(409, "exists", "authority \"" + name + "\": there is one of that name");
        }
    });
}

void Service::remove_policy_authority(const Principal& by, const std::string& name) {
    demand_role(by, Role::kAdmin);
    inside_->write({by.name, "authority.remove", clean_text(name, 64)}, [&](Session& session) {
        (void)session.query(kLockAssignments);  // nothing is assigned meanwhile
        const std::vector<Key> others = authority_keys(session, name);
        for (const Row& row :
             session.query("SELECT a.group_name, a.policy, a.version, p.jws FROM assignments a JOIN policies p ON "
                           "p.name = a.policy AND p.version = a.version ORDER BY a.policy, a.version")) {
            if (is_signed(row.text(3), others)) continue;
            throw ServiceError(409, "authority_in_use",
                               "authority \"" + clean_text(name, 64) + "\": policy " +
                                   version_name(row.text(1), static_cast<std::uint64_t>(row.integer(2))) +
                                   ", which no other authority signed, is assigned to group \"" + row.text(0) +
                                   "\"; withdraw it first");
        }
        if (session.execute("DELETE FROM policy_authorities WHERE name = $1", {name}) == 0)
            not_found("authority \"" + clean_text(name, 64) + "\"");
    });
}

std::vector<std::string> Service::policy_authorities(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    std::vector<std::string> names;
    for (const Row& row : inside_->read(
             [](Session& session) { return session.query("SELECT name FROM policy_authorities ORDER BY name"); }))
        names.push_back(row.text(0));
    return names;
}

PolicyVersion Service::add_policy(const Principal& by, const std::string& jws) {
    demand_role(by, Role::kOperator);
    if (jws.size() > kMostPolicy) throw ServiceError(413, "size", "policy: larger than 1 MiB");
    std::vector<Key> keys;
    inside_->database->read([&](Session& session) { keys = authority_keys(session); });
    if (keys.empty())
        throw ServiceError(422, "policy", "policy: no policy authority is known; an admin adds one first");
    PolicyVersion added;
    try {
        added.json = verified_policy(jws, keys);
        const verifier::Policy parsed = verifier::parse_policy(added.json);
        added.name = parsed.name;
        added.version = parsed.version;
    } catch (const host::ToolError& error) {
        throw ServiceError(422, "policy", error.what());
    }
    if (added.version > std::numeric_limits<std::int64_t>::max())
        throw ServiceError(422, "policy", "policy: version is too large");
    added.address = verifier::policy_address(added.json);
    added.added = inside_->now();
    added.jws = jws;
    const nlohmann::json detail{{"version", added.version}, {"address", added.address}};
    inside_->write({by.name, "policy.add", added.name, detail.dump()}, [&](Session& session) {
        const auto newest =
            session.one("SELECT MAX(version) FROM policies WHERE name = $1", {added.name}).value().integer(0);
        if (static_cast<std::int64_t>(added.version) <= newest) {
            throw ServiceError(409, "downgrade",
                               "policy " + version_name(added.name, added.version) + ": version " +
                                   std::to_string(newest) + " is there already; a new one must be higher");
        }
        session.execute(
            "INSERT INTO policies (name, version, address, added, json, jws) VALUES ($1, $2, $3, $4, $5, $6)",
            {added.name, added.version, added.address, added.added, added.json, added.jws});
    });
    return added;
}

std::vector<PolicyVersion> Service::policies(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    static const std::string sql = std::string(kPolicyColumns) + "ORDER BY name, version DESC";
    std::vector<PolicyVersion> all;
    for (const Row& row : inside_->read([](Session& session) { return session.query(sql); }))
        all.push_back(policy_of(row));
    return all;
}

PolicyVersion Service::policy(const Principal& by, const std::string& name, std::uint64_t version) {
    demand_role(by, Role::kReadOnly);
    static const std::string sql = std::string(kPolicyColumns) + "WHERE name = $1 AND version = $2";
    const auto row = inside_->read([&](Session& session) { return session.one(sql, {name, version}); });
    if (!row) not_found("policy " + clean_text(version_name(name, version), 128));
    return policy_of(*row);
}

void Service::assign(const Principal& by, const std::string& group, const std::string& policy, std::uint64_t version,
                     Stage stage) {
    demand_role(by, Role::kOperator);
    const nlohmann::json detail{
        {"policy", policy}, {"version", version}, {"stage", stage == Stage::kEnforce ? "enforce" : "report"}};
    inside_->write({by.name, "policy.assign", clean_text(group, 64), detail.dump()}, [&](Session& session) {
        count_assignments(session);
        if (!session.one("SELECT 1 FROM groups WHERE name = $1", {group})) not_found("group \"" + group + "\"");
        const auto row = session.one("SELECT jws FROM policies WHERE name = $1 AND version = $2", {policy, version});
        if (!row) not_found("policy " + version_name(policy, version));
        if (!is_signed(row->text(0), authority_keys(session)))
            throw ServiceError(
                409, "authority",
                "policy " + version_name(policy, version) + ": the authority that signed it was removed");
        session.execute(
            "INSERT INTO assignments (group_name, policy, version, stage) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (group_name, policy, version) DO UPDATE SET stage = excluded.stage",
            {group, policy, version, static_cast<std::int64_t>(stage)});
        if (stage == Stage::kReport) inside_->end_leases(session, group, version_name(policy, version));
    });
}

void Service::unassign(const Principal& by, const std::string& group, const std::string& policy,
                       std::uint64_t version) {
    demand_role(by, Role::kOperator);
    const nlohmann::json detail{{"policy", policy}, {"version", version}};
    inside_->write({by.name, "policy.unassign", clean_text(group, 64), detail.dump()}, [&](Session& session) {
        count_assignments(session);
        const std::int64_t removed = session.execute(
            "DELETE FROM assignments WHERE group_name = $1 AND policy = $2 AND version = $3", {group, policy, version});
        if (removed == 0) not_found("assignment of " + version_name(policy, version) + " to group \"" + group + "\"");
        inside_->end_leases(session, group, version_name(policy, version));
    });
}

// Verdicts by a policy that is no longer enforced in the group: the endpoints are asked for evidence, and
// given a few minutes for it.
void Service::Inside::end_leases(Session& session, const std::string& group, const std::string& policy) {
    session.execute(
        "UPDATE endpoints SET wanted = $4, lease_until = CASE WHEN lease_until > $1 THEN $1 ELSE lease_until "
        "END WHERE group_name = $2 AND policy = $3 AND state IN (1, 2)",
        {now() + kGrace, group, policy, now()});
}

std::vector<Assignment> Service::assignments(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    std::vector<Assignment> all;
    inside_->database->read([&](Session& session) {
        all.clear();
        for (const Row& row :
             session.query("SELECT a.group_name, a.policy, a.version, a.stage, "
                           "(SELECT COUNT(*) FROM endpoints e WHERE e.group_name = a.group_name), "
                           "(SELECT COUNT(*) FROM outcomes o WHERE o.group_name = a.group_name AND o.policy "
                           "= a.policy AND "
                           "o.version = a.version), "
                           "(SELECT COUNT(*) FROM outcomes o WHERE o.group_name = a.group_name AND o.policy "
                           "= a.policy AND "
                           "o.version = a.version AND o.ok = 0) FROM assignments a ORDER BY a.group_name, "
                           "a.policy, a.version")) {
            all.push_back({row.text(0), row.text(1), static_cast<std::uint64_t>(row.integer(2)),
                           static_cast<Stage>(row.integer(3)), row.integer(4), row.integer(5) - row.integer(6),
                           row.integer(6)});
        }
    });
    return all;
}

// By the index of what was refused; a search goes through the endpoints instead, as that of their list does,
// so that it does not look up each one that was refused.
Page<Refusal> Service::refused(const Principal& by, const RefusedQuery& query) {
    demand_role(by, Role::kReadOnly);
    const Seconds now = inside_->now();
    const unsigned size = page_size(query.limit);
    static const std::string columns = "SELECT e.id, e.hostname, e.state, e.lease_until, e.last_seen, o.reason FROM ";
    static const std::string which =
        "WHERE o.endpoint = e.id AND o.ok = 0 AND o.group_name = $1 AND o.policy = $2 AND o.version = $3 ";
    static const std::string listed =
        columns + "outcomes o CROSS JOIN endpoints e " + which + "AND o.endpoint > $4 ORDER BY o.endpoint LIMIT $5";
    static const std::string searched = columns + "endpoints e CROSS JOIN outcomes o " + which +
                                        "AND e.id > $4 AND e.search LIKE $6 ESCAPE '\\' ORDER BY e.id LIMIT $5";
    Page<Refusal> page;
    for (const Row& row : inside_->read([&](Session& session) {
             if (!session.one("SELECT 1 FROM assignments WHERE group_name = $1 AND policy = $2 AND version = $3",
                              {query.group, query.policy, query.version}))
                 not_found("assignment of " + clean_text(version_name(query.policy, query.version), 128) +
                           " to group \"" + clean_text(query.group, 64) + "\"");
             if (query.search.empty())
                 return session.query(listed, {query.group, query.policy, query.version, query.cursor, size + 1});
             return session.query(searched, {query.group, query.policy, query.version, query.cursor, size + 1,
                                             like_pattern(query.search)});
         })) {
        const std::string reason = row.text(5);
        const std::size_t colon = std::min(reason.find(": "), reason.size());
        page.rows.push_back({row.text(0), row.text(1),
                             state_at(static_cast<State>(row.integer(2)), row.integer(3), now), row.integer(4),
                             reason.substr(0, colon), reason.substr(std::min(colon + 2, reason.size()))});
    }
    if (page.rows.size() > size) {
        page.rows.pop_back();
        page.next = page.rows.back().endpoint;
    }
    return page;
}

}  // namespace gatehouse::server

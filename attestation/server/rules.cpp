// Policies: who may sign them, their versions, the groups they are valid for, and what they make of evidence.
#include <nlohmann/json.hpp>

#include "attestation/server/appraising.hpp"
#include "attestation/server/database/administration.hpp"
#include "attestation/server/inside.hpp"

namespace gatehouse::server {
namespace {

constexpr std::size_t kMostPolicy = 1u << 20;

std::string version_name(const std::string& policy, std::uint64_t version) {
    return policy + ":" + std::to_string(version);
}

// First in the job: see set_verdict().
void count_assignments(Session& session) {
    lock_assignments(session);
    count_up(session, Counter::kAssignments);
}

std::vector<Key> authority_keys(Session& session, const std::string& but_of = "") {
    std::vector<Key> keys;
    for (const std::string& pem : list_authority_keys(session, but_of)) keys.push_back(public_key_from_pem(pem));
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
        read_at = counter(session, Counter::kAssignments);
        for (AssignedPolicy& one : list_assigned(session)) (*fresh)[one.group].push_back(std::move(one));
    });
    const std::lock_guard lock(assignments_mutex);
    assignments = fresh;
    assignments_generation = read_at;
    return fresh;
}

std::shared_ptr<const LoadedPolicy> Service::Inside::policy(const std::string& name, std::uint64_t version) {
    return policies.get(version_name(name, version), [&] {
        const auto found = read([&](Session& session) { return find_policy(session, name, version); });
        if (!found) not_found("policy " + version_name(name, version));
        return std::make_shared<const LoadedPolicy>(LoadedPolicy{verifier::parse_policy(found->json), found->address});
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
        if (!add_authority(session, name, pem))
            throw ServiceError(409, "exists", "authority \"" + name + "\": there is one of that name");
    });
}

void Service::remove_policy_authority(const Principal& by, const std::string& name) {
    demand_role(by, Role::kAdmin);
    inside_->write({by.name, "authority.remove", clean_text(name, 64)}, [&](Session& session) {
        lock_assignments(session);  // nothing is assigned meanwhile
        const std::vector<Key> others = authority_keys(session, name);
        for (const AssignedJws& one : list_assigned_jws(session)) {
            if (is_signed(one.jws, others)) continue;
            throw ServiceError(
                409, "authority_in_use",
                "authority \"" + clean_text(name, 64) + "\": policy " + version_name(one.policy, one.version) +
                    ", which no other authority signed, is assigned to group \"" + one.group + "\"; withdraw it first");
        }
        if (!remove_authority(session, name)) not_found("authority \"" + clean_text(name, 64) + "\"");
    });
}

std::vector<std::string> Service::policy_authorities(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    return inside_->read([](Session& session) { return list_authorities(session); });
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
        const std::int64_t newest = newest_version(session, added.name);
        if (static_cast<std::int64_t>(added.version) <= newest) {
            throw ServiceError(409, "downgrade",
                               "policy " + version_name(added.name, added.version) + ": version " +
                                   std::to_string(newest) + " is there already; a new one must be higher");
        }
        server::add_policy(session, added);
    });
    return added;
}

std::vector<PolicyVersion> Service::policies(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    return inside_->read([](Session& session) { return list_policies(session); });
}

PolicyVersion Service::policy(const Principal& by, const std::string& name, std::uint64_t version) {
    demand_role(by, Role::kReadOnly);
    auto found = inside_->read([&](Session& session) { return find_policy(session, name, version); });
    if (!found) not_found("policy " + clean_text(version_name(name, version), 128));
    return std::move(*found);
}

void Service::assign(const Principal& by, const std::string& group, const std::string& policy, std::uint64_t version,
                     Stage stage) {
    demand_role(by, Role::kOperator);
    const nlohmann::json detail{
        {"policy", policy}, {"version", version}, {"stage", stage == Stage::kEnforce ? "enforce" : "report"}};
    inside_->write({by.name, "policy.assign", clean_text(group, 64), detail.dump()}, [&](Session& session) {
        count_assignments(session);
        if (!has_group(session, group)) not_found("group \"" + group + "\"");
        const auto found = find_policy(session, policy, version);
        if (!found) not_found("policy " + version_name(policy, version));
        if (!is_signed(found->jws, authority_keys(session)))
            throw ServiceError(
                409, "authority",
                "policy " + version_name(policy, version) + ": the authority that signed it was removed");
        put_assignment(session, {.group = group, .policy = policy, .version = version, .stage = stage});
        if (stage == Stage::kReport) inside_->withdraw(session, group, version_name(policy, version));
    });
}

void Service::unassign(const Principal& by, const std::string& group, const std::string& policy,
                       std::uint64_t version) {
    demand_role(by, Role::kOperator);
    const nlohmann::json detail{{"policy", policy}, {"version", version}};
    inside_->write({by.name, "policy.unassign", clean_text(group, 64), detail.dump()}, [&](Session& session) {
        count_assignments(session);
        if (!remove_assignment(session, group, policy, version))
            not_found("assignment of " + version_name(policy, version) + " to group \"" + group + "\"");
        inside_->withdraw(session, group, version_name(policy, version));
    });
}

// Verdicts by a policy that is no longer enforced in the group: the endpoints are asked for evidence, and
// given a few minutes for it.
void Service::Inside::withdraw(Session& session, const std::string& group, const std::string& policy) {
    end_leases(session, group, policy, now(), now() + kGrace);
}

std::vector<Assignment> Service::assignments(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    return inside_->read([](Session& session) { return list_assignments(session); });
}

Page<Refusal> Service::refused(const Principal& by, const RefusedQuery& query) {
    demand_role(by, Role::kReadOnly);
    const Seconds now = inside_->now();
    const unsigned size = page_size(query.limit);
    Page<Refusal> page;
    for (const RefusedRow& row : inside_->read([&](Session& session) {
             if (!has_assignment(session, query.group, query.policy, query.version))
                 not_found("assignment of " + clean_text(version_name(query.policy, query.version), 128) +
                           " to group \"" + clean_text(query.group, 64) + "\"");
             return list_refused(session, query, size + 1);
         })) {
        const std::size_t colon = std::min(row.reason.find(": "), row.reason.size());
        page.rows.push_back({row.endpoint, row.hostname, state_at(row.state, row.lease_until, now), row.last_seen,
                             row.reason.substr(0, colon), row.reason.substr(std::min(colon + 2, row.reason.size()))});
    }
    if (page.rows.size() > size) {
        page.rows.pop_back();
        page.next = page.rows.back().endpoint;
    }
    return page;
}

}  // namespace gatehouse::server

#include "attestation/server/database/endpoints.hpp"

#include "attestation/server/database/attestations.hpp"
#include "attestation/server/database/record.hpp"
#include "attestation/server/database/text.hpp"

namespace gatehouse::server {

template <>
inline constexpr auto kColumns<Endpoint> = std::tuple{Column{"id", &Endpoint::id},
                                                      Column{"hostname", &Endpoint::hostname},
                                                      Column{"group_name", &Endpoint::group},
                                                      Column{"source", &Endpoint::source},
                                                      Column{"state", &Endpoint::state},
                                                      Column{"ek_hash", &Endpoint::ek_hash},
                                                      Column{"vendor", &Endpoint::vendor},
                                                      Column{"manufacturer", &Endpoint::manufacturer},
                                                      Column{"model", &Endpoint::model},
                                                      Column{"endorsement_fault", &Endpoint::endorsement_fault},
                                                      Column{"crl_oldest", kCrlOldest},
                                                      Column{"crl_end", kCrlEnd},
                                                      Column{"crl_gap", kCrlGap},
                                                      Column{"ak_public", &Endpoint::ak_public},
                                                      Column{"enrolled", &Endpoint::enrolled},
                                                      Column{"last_seen", &Endpoint::last_seen},
                                                      Column{"lease_until", &Endpoint::lease_until},
                                                      Column{"reason", &Endpoint::reason},
                                                      Column{"tpm", &Endpoint::tpm}};

template <>
inline constexpr auto kColumns<StateCount> =
    std::tuple{Column{"state", &StateCount::state}, Column{"COUNT(*)", &StateCount::endpoints}};

template <>
inline constexpr auto kColumns<Distrusted> = std::tuple{
    Column{"id", &Distrusted::id}, Column{"ek_hash", &Distrusted::ek_hash}, Column{"state", &Distrusted::state},
    Column{"since", &Distrusted::since}, Column{"lease_until", &Distrusted::lease_until}};

template <>
inline constexpr auto kColumns<EndpointSummary> =
    std::tuple{Column{"id", &EndpointSummary::id},
               Column{"hostname", &EndpointSummary::hostname},
               Column{"group_name", &EndpointSummary::group},
               Column{"source", &EndpointSummary::source},
               Column{"policy", &EndpointSummary::policy},
               Column{"state", &EndpointSummary::state},
               Column{"tpm", &EndpointSummary::tpm},
               Column{"endorsement_fault", &EndpointSummary::endorsement_fault}};

template <>
inline constexpr auto kColumns<Unchecked> = std::tuple{
    Column{"endpoint", &Unchecked::id},     Column{"ek_hash", &Unchecked::ek_hash},
    Column{"vendor", &Unchecked::vendor},   Column{"fault", &Unchecked::fault},
    Column{"checked", &Unchecked::checked}, Column{"time", &Unchecked::accepted},
    Column{"content", &Unchecked::content},
};

template <>
inline constexpr auto kColumns<Endorsement> =
    std::tuple{Column{"ek_hash", &Endorsement::ek_hash}, Column{"vendor", &Endorsement::vendor},
               Column{"time", &Endorsement::accepted}, Column{"fault", &Endorsement::fault},
               Column{"CASE WHEN fault <> '' AND fault = overruled THEN 1 ELSE 0 END", &Endorsement::overruled}};

namespace {

const Buffer kNone;  // an empty blob

// "state IN (1, 2)", as text and not as parameters: the planner is to know which index serves.
std::string state_in(std::initializer_list<State> states) {
    std::string text;
    for (const State one : states) text += (text.empty() ? "" : ", ") + std::to_string(static_cast<int>(one));
    return "state IN (" + text + ")";
}
// Those that a lease goes with.
std::string is_leased() { return state_in({State::kTrusted, State::kUnmeasured}); }

Endpoint as_of(Endpoint&& kept, Seconds now) {
    if (kept.state != State::kStale && state_at(kept.state, kept.lease_until, now) == State::kStale) {
        kept.state = State::kStale;
        kept.reason = kLeaseEnded;
    }
    return std::move(kept);
}

// The text and parameters of a listing; the text is of a small set (states, with or without group and search).
struct Listing {
    std::string where = "id > $1";
    std::vector<Param> params;
    void add(const std::string& before, Param param, const std::string& after = "") {
        params.push_back(param);
        where += " AND " + before + "$" + std::to_string(params.size()) + after;
    }
};

void restrict_to(Listing& listing, State state, Seconds now) {
    switch (state) {
        case State::kTrusted:
        case State::kUnmeasured:
            listing.add("state = ", state);
            listing.add("lease_until >= ", now);
            break;
        case State::kStale:
            listing.add("(" + state_in({State::kStale}) + " OR (" + is_leased() + " AND lease_until < ", now, "))");
            break;
        default: listing.add("state = ", state);
    }
}

std::string searched_text(const NewEndpoint& endpoint) {
    return lower_case(endpoint.hostname + " " + endpoint.id + " " + endpoint.ek_hash);
}

// `then`, given all that an enrollment sets, the first one or a later one of the same TPM: nothing else is kept but
// when the endpoint was last seen and its last nonce, which is not to be used again.
template <typename Then>
void with_enrolled(const NewEndpoint& endpoint, const Buffer& tpm, Then then) {
    const std::string search = searched_text(endpoint);
    then(Named{"hostname", endpoint.hostname}, Named{"search", search}, Named{"group_name", endpoint.group},
         Named{"source", endpoint.source}, Named{"state", State::kNew}, Named{"ek_key", endpoint.ek_key},
         Named{"vendor", endpoint.vendor}, Named{"manufacturer", endpoint.manufacturer}, Named{"model", endpoint.model},
         Named{"ak_public", endpoint.ak_public}, Named{"enrolled", endpoint.enrolled},
         Named{"since", endpoint.enrolled}, Named{"lease_until", 0}, Named{"reason", ""}, Named{"policy", ""},
         Named{"tpm", tpm}, Named{"wanted", 0}, Named{"log_hash", kNone}, Named{"outcomes", ""}, Named{"run", 0},
         Named{"run_length", 0}, Named{"certificate", endpoint.certificate}, Named{"next_certificate", kNone},
         Named{"endorsement_fault", ""}, Named{"crl_oldest", 0}, Named{"crl_end", 0}, Named{"crl_gap", ""});
}

}  // namespace

State state_at(State kept, Seconds lease_until, Seconds now) {
    const bool leased = kept == State::kTrusted || kept == State::kUnmeasured;
    return leased && lease_until < now ? State::kStale : kept;
}

bool has_endpoint(Session& session, const std::string& id) {
    return exists(session, "FROM endpoints WHERE id = $1", {id});
}

std::optional<Endpoint> find_endpoint(Session& session, const std::string& id, Seconds now) {
    std::optional<Endpoint> found = find<Endpoint>(session, "FROM endpoints WHERE id = $1", {id});
    if (!found) return std::nullopt;
    return as_of(std::move(*found), now);
}

std::vector<Endpoint> list_endpoints(Session& session, const EndpointQuery& query, unsigned limit, Seconds now) {
    const std::string pattern = like_pattern(query.search);
    Listing listing;
    listing.params.emplace_back(query.cursor);
    if (query.state) restrict_to(listing, *query.state, now);
    if (!query.group.empty()) listing.add("group_name = ", query.group);
    if (!query.search.empty()) listing.add("search LIKE ", pattern, " ESCAPE '\\'");
    listing.params.emplace_back(limit);
    std::vector<Endpoint> all = select_with<Endpoint>(
        session,
        "FROM endpoints WHERE " + listing.where + " ORDER BY id LIMIT $" + std::to_string(listing.params.size()),
        listing.params);
    for (Endpoint& one : all) one = as_of(std::move(one), now);
    return all;
}

std::vector<StateCount> count_states(Session& session) {
    return select<StateCount>(session, "FROM endpoints GROUP BY state");
}

std::int64_t count_leases_ended(Session& session, State state, Seconds now) {
    return number(session, "SELECT COUNT(*) FROM endpoints WHERE state = $1 AND lease_until < $2", {state, now});
}

std::vector<Distrusted> list_distrusted(Session& session, Seconds now) {
    static const std::string from = "FROM endpoints WHERE " +
                                    state_in({State::kUntrusted, State::kStale, State::kRetired}) + " OR (" +
                                    is_leased() + " AND lease_until < $1) ORDER BY id";
    return select<Distrusted>(session, from, {now});
}

std::optional<EndpointSummary> find_summary(Session& session, const std::string& id) {
    return find<EndpointSummary>(session, "FROM endpoints WHERE id = $1", {id});
}

std::optional<EndpointSummary> lock_summary(Session& session, const std::string& id) {
    return find<EndpointSummary>(session, "FROM endpoints WHERE id = $1 /*+ FOR UPDATE +*/", {id});
}

std::vector<std::string> list_leases_ended(Session& session, Seconds now, unsigned limit) {
    static const std::string sql =
        "SELECT id FROM endpoints WHERE " + is_leased() + " AND lease_until < $1 ORDER BY id LIMIT $2";
    return values<std::string>(session, sql, {now, limit});
}

std::optional<EndpointSummary> lock_if_lease_ended(Session& session, const std::string& id, Seconds now) {
    static const std::string from =
        "FROM endpoints WHERE id = $1 AND " + is_leased() + " AND lease_until < $2 /*+ FOR UPDATE +*/";
    return find<EndpointSummary>(session, from, {id, now});
}

void leave_state(Session& session, const std::string& id, State to, Seconds at, const std::string& reason) {
    end_run_of(session, id);
    (void)add_run(
        session,
        {.endpoint = id, .time = at, .state = to, .policy = {}, .reason = reason, .result = {}, .verdict = {}});
    update(session, "endpoints", {{"state", to}, {"since", at}, {"reason", reason}, {"run", 0}}, {{"id", id}});
}

void set_retired(Session& session, const std::string& id, Seconds at, const std::string& reason) {
    end_run_of(session, id);
    update(
        session, "endpoints",
        {{"state", State::kRetired}, {"since", at}, {"lease_until", 0}, {"reason", reason}, {"wanted", 0}, {"run", 0}},
        {{"id", id}});
}

void set_group(Session& session, const std::string& id, const std::string& group, Seconds now, Seconds lease_until) {
    drop_outcomes(session, id);
    session.execute(
        "UPDATE endpoints SET group_name = $1, outcomes = '', wanted = $4, "
        "lease_until = CASE WHEN lease_until > $2 THEN $2 ELSE lease_until END WHERE id = $3",
        {group, lease_until, id, now});
}

void end_leases(Session& session, const std::string& group, const std::string& policy, Seconds now,
                Seconds lease_until) {
    static const std::string sql =
        "UPDATE endpoints SET wanted = $4, lease_until = CASE WHEN lease_until > $1 THEN $1 ELSE lease_until END "
        "WHERE group_name = $2 AND policy = $3 AND " +
        is_leased();
    session.execute(sql, {lease_until, group, policy, now});
}

std::optional<EndpointSummary> lock_by_ek(Session& session, const std::string& ek_hash) {
    return find<EndpointSummary>(session, "FROM endpoints WHERE ek_hash = $1 /*+ FOR UPDATE +*/", {ek_hash});
}

std::optional<std::string> id_of_disguised(Session& session, const std::string& ek_key, const std::string& ek_hash) {
    // In the words of the index, without which this would read the whole fleet.
    return value<std::string>(session, "SELECT id FROM endpoints WHERE ek_key <> '' AND ek_key = $1 AND ek_hash <> $2",
                              {ek_key, ek_hash});
}

std::vector<std::string> ids_of_keys(Session& session, const TpmKeys& keys) {
    return values<std::string>(
        session, "SELECT DISTINCT endpoint FROM tpm_keys WHERE key_hash IN ($1, $2, $3, $4) ORDER BY endpoint",
        {keys[0], keys[1], keys[2], keys[3]});
}

void keep_keys(Session& session, const std::string& id, TpmKeys keys) {
    std::ranges::sort(keys);  // in one order, whoever else does so at the same time
    for (const std::string& key : keys) {
        if (key.empty() || exists(session, "FROM tpm_keys WHERE key_hash = $1 AND endpoint = $2", {key, id})) continue;
        insert(session, "tpm_keys", {{"key_hash", key}, {"endpoint", id}});
    }
}

void drop_keys(Session& session, const std::string& id) {
    session.execute("DELETE FROM tpm_keys WHERE endpoint = $1", {id});
}

void drop_keys(Session& session, const std::string& id, const TpmKeys& keys) {
    session.execute("DELETE FROM tpm_keys WHERE endpoint = $1 AND key_hash IN ($2, $3, $4, $5)",
                    {id, keys[0], keys[1], keys[2], keys[3]});
}

bool has_endorsement(Session& session, const std::string& id) {
    return exists(session, "FROM ek_endorsements WHERE endpoint = $1", {id});
}

void move_keys(Session& session, const std::string& from, const std::string& to) {
    update(session, "tpm_keys", {{"endpoint", to}}, {{"endpoint", from}});
    // What vouches for its EKs, too: a fault of theirs is not left behind.
    session.execute(
        "UPDATE ek_endorsements SET endpoint = $2 WHERE endpoint = $1 AND NOT EXISTS "
        "(SELECT 1 FROM ek_endorsements other WHERE other.endpoint = $2 AND other.ek_hash = ek_endorsements.ek_hash)",
        {from, to});
}

void add_endpoint(Session& session, const NewEndpoint& endpoint) {
    with_enrolled(endpoint, kNone, [&](const auto&... enrolled) {
        insert(session, "endpoints",
               {{"id", endpoint.id}, {"ek_hash", endpoint.ek_hash}, {"last_seen", 0}, {"last_nonce", 0}, enrolled...});
    });
}

void replace_endpoint(Session& session, const NewEndpoint& endpoint, const Buffer& tpm) {
    end_run_of(session, endpoint.id);
    with_enrolled(endpoint, tpm, [&](const auto&... enrolled) {
        update(session, "endpoints", {{"ek_hash", endpoint.ek_hash}, enrolled...}, {{"id", endpoint.id}});
    });
    drop_evidence(session, endpoint.id);
}

std::optional<std::string> id_of_certificate(Session& session, const Sha256Digest& hash) {
    return value<std::string>(session, "SELECT id FROM endpoints WHERE certificate = $1 AND state <> $2",
                              {hash, State::kRetired});
}

std::optional<std::string> id_of_next_certificate(Session& session, const Sha256Digest& hash) {
    return value<std::string>(session, "SELECT id FROM endpoints WHERE next_certificate = $1 AND state <> $2",
                              {hash, State::kRetired});
}

bool is_certificate_of_retired(Session& session, const Sha256Digest& hash) {
    return exists(session, "FROM endpoints WHERE certificate = $1 AND state = $2", {hash, State::kRetired}) ||
           exists(session, "FROM endpoints WHERE next_certificate = $1 AND state = $2", {hash, State::kRetired});
}

bool set_next_certificate(Session& session, const std::string& id, const Sha256Digest& hash) {
    return session.execute("UPDATE endpoints SET next_certificate = $1 WHERE id = $2 AND state <> $3",
                           {hash, id, State::kRetired}) != 0;
}

void use_next_certificate(Session& session, const std::string& id, const Sha256Digest& hash) {
    update(session, "endpoints", {{"certificate", hash}, {"next_certificate", kNone}},
           {{"id", id}, {"next_certificate", hash}});
}

void want_evidence(Session& session, const std::string& id, Seconds now) {
    update(session, "endpoints", {{"wanted", now}}, {{"id", id}});
}

bool is_evidence_wanted(Session& session, const std::string& id) {
    return value<std::int64_t>(session, "SELECT wanted FROM endpoints WHERE id = $1", {id}).value_or(0) != 0;
}

std::vector<std::string> list_wishes(Session& session, Seconds since) {
    // In the words and the order of the index: by another order SQLite reads all endpoints, each second.
    return values<std::string>(
        session, "SELECT id FROM endpoints WHERE wanted > 0 AND wanted >= $1 ORDER BY wanted, id", {since});
}

bool take_wish(Session& session, const std::string& id) {
    return session.execute("UPDATE endpoints SET wanted = 0 WHERE id = $1 AND wanted > 0", {id}) == 1;
}

namespace {

// `endorsement_fault` of an endpoint, whose row the caller has locked: of several EKs' faults the first that counts.
void count_faults(Session& session, const std::string& id) {
    const std::string fault =
        value<std::string>(
            session,
            "SELECT fault FROM ek_endorsements WHERE endpoint = $1 AND fault <> '' AND fault <> overruled "
            "ORDER BY ek_hash LIMIT 1",
            {id})
            .value_or("");
    update(session, "endpoints", {{"endorsement_fault", fault}}, {{"id", id}});
}

}  // namespace

std::vector<Unchecked> list_unchecked(Session& session, std::int64_t number, unsigned limit) {
    return select<Unchecked>(session,
                             "FROM ek_endorsements WHERE checked < $1 ORDER BY checked, endpoint, ek_hash LIMIT $2",
                             {number, limit});
}

bool set_checked(Session& session, const Unchecked& one, std::int64_t number, const std::string& fault,
                 const CrlAge& crls, Seconds now) {
    // Before what is counted is read: another server may be checking another EK of it.
    (void)lock_summary(session, one.id);
    if (update(session, "ek_endorsements", {{"checked", number}, {"fault", fault}},
               {{"endpoint", one.id}, {"ek_hash", one.ek_hash}, {"checked", one.checked}}) == 0)
        return false;
    // Policies ask about the EK that it enrolled with last.
    update(session, "endpoints", {{"crl_oldest", crls.oldest}, {"crl_end", crls.end}, {"crl_gap", crls.gap}},
           {{"id", one.id}, {"ek_hash", one.ek_hash}});
    if (fault == one.fault) return true;
    // What was overruled and mended is a new fault when it comes again.
    if (fault.empty())
        update(session, "ek_endorsements", {{"overruled", ""}}, {{"endpoint", one.id}, {"ek_hash", one.ek_hash}});
    count_faults(session, one.id);
    want_evidence(session, one.id, now);
    return true;
}

void set_endorsement(Session& session, const std::string& id, const std::string& ek_hash, const std::string& vendor,
                     Seconds accepted, const std::string& content) {
    put(session, "ek_endorsements", "endpoint, ek_hash",
        {{"endpoint", id},
         {"ek_hash", ek_hash},
         {"vendor", vendor},
         {"time", accepted},
         {"content", content},
         {"checked", kNeverChecked},
         {"fault", ""},
         {"overruled", ""}});
    count_faults(session, id);
}

void overrule_faults(Session& session, const std::string& id) {
    session.execute("UPDATE ek_endorsements SET overruled = fault WHERE endpoint = $1 AND fault <> ''", {id});
    count_faults(session, id);
}

std::vector<Endorsement> list_endorsements(Session& session, const std::string& id) {
    return select<Endorsement>(session, "FROM ek_endorsements WHERE endpoint = $1 ORDER BY ek_hash", {id});
}

}  // namespace gatehouse::server

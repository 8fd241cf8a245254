#include "attestation/server/database/endpoints.hpp"

#include "attestation/server/database/attestations.hpp"
#include "attestation/server/database/record.hpp"
#include "attestation/server/database/text.hpp"

namespace gatehouse::server {

template <>
inline constexpr auto kColumns<Endpoint> = std::tuple{
    Column{"id", &Endpoint::id}, Column{"hostname", &Endpoint::hostname}, Column{"group_name", &Endpoint::group},
    Column{"source", &Endpoint::source}, Column{"state", &Endpoint::state}, Column{"ek_hash", &Endpoint::ek_hash},
    Column{"vendor", &Endpoint::vendor}, Column{"manufacturer", &Endpoint::manufacturer},
    Column{"model", &Endpoint::model}, Column{"endorsement_fault", &Endpoint::endorsement_fault},
    Column{"crl_oldest", [](auto& endpoint) -> auto& {return endpoint.crls.oldest;
}
}
, Column{"crl_end", [](auto& endpoint) -> auto& {return endpoint.crls.end;
}
}
, Column{"crl_gap", [](auto& endpoint) -> auto& {return endpoint.crls.gap;
}
}
, Column{"ak_public", &Endpoint::ak_public}, Column{"enrolled", &Endpoint::enrolled},
    Column{"last_seen", &Endpoint::last_seen}, Column{"lease_until", &Endpoint::lease_until},
    Column{"reason", &Endpoint::reason}, Column{"tpm", &Endpoint::tpm},
}
;

template <>
inline constexpr auto kColumns<StateCount> =
    std::tuple{Column{"state", &StateCount::state}, Column{"COUNT(*)", &StateCount::endpoints}};

template <>
inline constexpr auto kColumns<Distrusted> = std::tuple{
    Column{"id", &Distrusted::id}, Column{"ek_hash", &Distrusted::ek_hash}, Column{"state", &Distrusted::state},
    Column{"since", &Distrusted::since}, Column{"lease_until", &Distrusted::lease_until}};

template <>
inline constexpr auto kColumns<EndpointSummary> = std::tuple{Column{"id", &EndpointSummary::id},
                                                             Column{"hostname", &EndpointSummary::hostname},
                                                             Column{"group_name", &EndpointSummary::group},
                                                             Column{"source", &EndpointSummary::source},
                                                             Column{"policy", &EndpointSummary::policy},
                                                             Column{"state", &EndpointSummary::state},
                                                             Column{"tpm", &EndpointSummary::tpm}};

template <>
inline constexpr auto kColumns<Unchecked> =
    std::tuple{Column{"e.id", &Unchecked::id}, Column{"e.vendor", &Unchecked::vendor},
               Column{"e.endorsement_fault", &Unchecked::fault}, Column{"e.endorsement_checked", &Unchecked::checked},
               Column{"e.crl_oldest", [](auto& one) -> auto& {return one.crls.oldest;
}
}
, Column{"e.crl_end", [](auto& one) -> auto& {return one.crls.end;
}
}
, Column{"e.crl_gap", [](auto& one) -> auto& {return one.crls.gap;
}
}
, Column{"COALESCE(s.time, 0)", &Unchecked::accepted}, Column{"COALESCE(s.content, '')", &Unchecked::content},
}
;

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
    update(session, "endpoints",
           {{"state", State::kRetired},
            {"since", at},
            {"lease_until", 0},
            {"reason", reason},
            {"wanted", 0},
            {"certificate", kNone},
            {"next_certificate", kNone}},
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

std::vector<std::string> ids_of_keys(Session& session, const std::string& ek_key, const std::string& ak_key) {
    return values<std::string>(session,
                               "SELECT DISTINCT endpoint FROM tpm_keys WHERE key_hash IN ($1, $2) ORDER BY endpoint",
                               {ek_key, ak_key});
}

void keep_keys(Session& session, const std::string& id, const std::string& ek_key, const std::string& ak_key) {
    // In one order, whoever else does so at the same time.
    for (const std::string& key : {std::min(ek_key, ak_key), std::max(ek_key, ak_key)}) {
        if (exists(session, "FROM tpm_keys WHERE key_hash = $1 AND endpoint = $2", {key, id})) continue;
        insert(session, "tpm_keys", {{"key_hash", key}, {"endpoint", id}});
    }
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
    // In the words of the index.
    return values<std::string>(session, "SELECT id FROM endpoints WHERE wanted > 0 AND wanted >= $1 ORDER BY id",
                               {since});
}

bool take_wish(Session& session, const std::string& id) {
    return session.execute("UPDATE endpoints SET wanted = 0 WHERE id = $1 AND wanted > 0", {id}) == 1;
}

std::vector<Unchecked> list_unchecked(Session& session, std::int64_t number, unsigned limit) {
    return select<Unchecked>(session,
                             "FROM endpoints e LEFT JOIN endorsements s ON s.endpoint = e.id "
                             "WHERE e.endorsement_checked < $1 ORDER BY e.endorsement_checked, e.id LIMIT $2",
                             {number, limit});
}

bool set_checked(Session& session, const Unchecked& one, std::int64_t number, const std::string& fault,
                 const CrlAge& crls, Seconds now) {
    return session.execute(
               "UPDATE endpoints SET endorsement_checked = $1, endorsement_fault = $2, "
               "wanted = CASE WHEN endorsement_fault = $2 THEN wanted ELSE $3 END, "
               "crl_oldest = $6, crl_end = $7, crl_gap = $8 "
               "WHERE id = $4 AND endorsement_checked = $5",
               {number, fault, now, one.id, one.checked, crls.oldest, crls.end, crls.gap}) != 0;
}

void set_endorsement(Session& session, const std::string& id, bool endorsed, Seconds accepted,
                     const std::string& content) {
    erase(session, "endorsements", {{"endpoint", id}});
    if (endorsed) insert(session, "endorsements", {{"endpoint", id}, {"time", accepted}, {"content", content}});
    update(session, "endpoints", {{"endorsement_checked", endorsed ? kNeverChecked : kNothingToCheck}}, {{"id", id}});
}

}  // namespace gatehouse::server

#include "attestation/server/database/attestations.hpp"

#include <limits>

#include "attestation/server/database/administration.hpp"
#include "attestation/server/database/policies.hpp"
#include "attestation/server/database/record.hpp"

namespace gatehouse::server {

template <>
inline constexpr auto kColumns<KnownEndpoint> =
    std::tuple{Column{"id", &KnownEndpoint::id},
               Column{"hostname", &KnownEndpoint::hostname},
               Column{"group_name", &KnownEndpoint::group},
               Column{"source", &KnownEndpoint::source},
               Column{"ek_hash", &KnownEndpoint::ek_hash},
               Column{"vendor", &KnownEndpoint::vendor},
               Column{"reason", &KnownEndpoint::reason},
               Column{"policy", &KnownEndpoint::policy},
               Column{"outcomes", &KnownEndpoint::outcomes},
               Column{"endorsement_fault", &KnownEndpoint::endorsement_fault},
               Column{"state", &KnownEndpoint::state},
               Column{"ak_public", &KnownEndpoint::ak_public},
               Column{"tpm", &KnownEndpoint::tpm},
               Column{"log_hash", &KnownEndpoint::log_hash},
               Column{"last_nonce", &KnownEndpoint::last_nonce},
               Column{"run", &KnownEndpoint::run},
               Column{"run_length", &KnownEndpoint::run_length},
               Column{"last_seen", &KnownEndpoint::last_seen},
               Column{"(SELECT value FROM settings WHERE name = $2)", &KnownEndpoint::assignments},  // see find_known()
               Column{"COALESCE((SELECT k.checked FROM ek_endorsements k WHERE k.endpoint = endpoints.id AND "
                      "k.ek_hash = endpoints.ek_hash), 0)",
                      &KnownEndpoint::checked},
               Column{"crl_oldest", kCrlOldest},
               Column{"crl_end", kCrlEnd},
               Column{"crl_gap", kCrlGap}};

template <>
inline constexpr auto kColumns<Attestation> = std::tuple{
    Column{"h.number", &Attestation::number},
    Column{"h.endpoint", &Attestation::endpoint},
    Column{"h.time", &Attestation::time},
    Column{"h.state", &Attestation::state},
    Column{"h.policy", &Attestation::policy},
    Column{"h.reason", &Attestation::reason},
    Column{"h.result", &Attestation::result},
    Column{"h.verdict", &Attestation::verdict_json},
    Column{"CASE WHEN e.run = h.number THEN e.last_seen ELSE h.until END", &Attestation::until},
    Column{"CASE WHEN e.run = h.number THEN e.run_length ELSE h.length END", &Attestation::count},
};

// clang-format off
template <>
inline constexpr auto kColumns<KeptEvidence> = std::tuple{
    Column{"v.endpoint",          [](auto& kept) -> auto& { return kept.evidence.endpoint; }},
    Column{"v.number",            [](auto& kept) -> auto& { return kept.evidence.run; }},
    Column{"v.time",              [](auto& kept) -> auto& { return kept.evidence.time; }},
    Column{"v.state",             [](auto& kept) -> auto& { return kept.evidence.state; }},
    Column{"v.policy",            [](auto& kept) -> auto& { return kept.evidence.policy; }},
    Column{"v.reason",            [](auto& kept) -> auto& { return kept.evidence.reason; }},
    Column{"v.source",            [](auto& kept) -> auto& { return kept.evidence.source; }},
    Column{"v.nonce",             [](auto& kept) -> auto& { return kept.evidence.nonce; }},
    Column{"v.quote",             [](auto& kept) -> auto& { return kept.evidence.quote; }},
    Column{"v.signature",         [](auto& kept) -> auto& { return kept.evidence.signature; }},
    Column{"v.claims",            [](auto& kept) -> auto& { return kept.evidence.claims; }},
    Column{"v.pcr_values",        [](auto& kept) -> auto& { return kept.evidence.pcr_values; }},
    Column{"v.tpm_before",        [](auto& kept) -> auto& { return kept.evidence.tpm_before; }},
    Column{"v.result",            [](auto& kept) -> auto& { return kept.evidence.result; }},
    Column{"l.log",               &KeptEvidence::event_log},
    Column{"e.source",            &KeptEvidence::source},
    Column{"e.ak_public",         &KeptEvidence::ak_public},
    Column{"e.run_length",        &KeptEvidence::run_length},
    Column{"e.endorsement_fault", &KeptEvidence::endorsement_fault},
    Column{"e.crl_oldest",        kCrlOldest},
    Column{"e.crl_end",           kCrlEnd},
    Column{"e.crl_gap",           kCrlGap},
};
// clang-format on

template <>
inline constexpr auto kColumns<EvidenceRow> = std::tuple{
    Column{"endpoint", &EvidenceRow::endpoint},
    Column{"number", &EvidenceRow::run},
    Column{"time", &EvidenceRow::time},
    Column{"state", &EvidenceRow::state},
    Column{"policy", &EvidenceRow::policy},
    Column{"reason", &EvidenceRow::reason},
    Column{"source", &EvidenceRow::source},
    Column{"nonce", &EvidenceRow::nonce},
    Column{"quote", &EvidenceRow::quote},
    Column{"signature", &EvidenceRow::signature},
    Column{"claims", &EvidenceRow::claims},
    Column{"pcr_values", &EvidenceRow::pcr_values},
    Column{"tpm_before", &EvidenceRow::tpm_before},
    Column{"result", &EvidenceRow::result},
};

template <>
inline constexpr auto kColumns<OutcomeRow> = std::tuple{Column{"group_name", &OutcomeRow::group},
                                                        Column{"policy", &OutcomeRow::policy},
                                                        Column{"version", &OutcomeRow::version},
                                                        Column{"endpoint", &OutcomeRow::endpoint},
                                                        Column{"ok", &OutcomeRow::ok},
                                                        Column{"reason", &OutcomeRow::reason}};

template <>
inline constexpr auto kColumns<TimePoint> =
    std::tuple{Column{"hour", &TimePoint::hour}, Column{"SUM(trusted)", &TimePoint::trusted},
               Column{"SUM(unmeasured)", &TimePoint::unmeasured}, Column{"SUM(untrusted)", &TimePoint::untrusted}};

namespace {

// Until when a present run lasts, as `history` has it: whoever looks for old runs finds none of them, however long they
// have lasted. Migration 8 has the number as well.
constexpr Seconds kPresent = std::numeric_limits<Seconds>::max();
constexpr unsigned kShards = 16;  // of the time line, so that PostgreSQL's writers do not wait for one row

}  // namespace

std::optional<KnownEndpoint> find_known(Session& session, const std::string& id) {
    return find<KnownEndpoint>(session, "FROM endpoints WHERE id = $1", {id, name_of(Counter::kAssignments)});
}

bool set_verdict(Session& session, const KnownEndpoint& known, const VerdictRow& verdict) {
    // SQLite has one writer. On PostgreSQL, who changes assignments holds this lock alone (lock_assignments()): the
    // statement after it sees the old number, and the change comes after this transaction, or the new one.
    share_assignments(session);
    return session.execute(
               "UPDATE endpoints SET state = $1, since = CASE WHEN state = $1 THEN since ELSE $2 END, last_seen = $2, "
               "lease_until = $3, reason = $4, policy = $5, tpm = $6, last_nonce = $7, log_hash = $8, outcomes = $9, "
               "run_length = $10 "
               "WHERE id = $11 AND last_nonce = $12 AND ak_public = $13 AND state = $14 AND run = $15 "
               "AND group_name = $16 AND endorsement_fault = $17 "
               "AND (SELECT value FROM settings WHERE name = $19) = $18",
               {verdict.state, verdict.now, verdict.lease_until, verdict.reason, verdict.policy, verdict.tpm,
                verdict.nonce_time, verdict.log_hash, verdict.outcomes, verdict.run_length, known.id, known.last_nonce,
                known.ak_public, known.state, known.run, known.group, known.endorsement_fault, known.assignments,
                name_of(Counter::kAssignments)}) == 1;
}

std::int64_t add_run(Session& session, const RunRow& run) {
    return number(session,
                  "INSERT INTO history (endpoint, time, until, length, state, policy, reason, result, verdict) "
                  "VALUES ($1, $2, $2, 1, $3, $4, $5, $6, $7) RETURNING number",
                  {run.endpoint, run.time, run.state, run.policy, run.reason, run.result, run.verdict});
}

void set_present_run(Session& session, const std::string& endpoint, std::int64_t run) {
    update(session, "endpoints", {{"run", run}}, {{"id", endpoint}});
    update(session, "history", {{"until", kPresent}}, {{"number", run}});
}

void end_run(Session& session, std::int64_t run, Seconds until, std::int64_t length) {
    update(session, "history", {{"until", until}, {"length", length}}, {{"number", run}});
}

void end_run_of(Session& session, const std::string& endpoint) {
    session.execute(
        "UPDATE history SET until = e.last_seen, length = e.run_length FROM endpoints e "
        "WHERE e.id = $1 AND history.number = e.run",
        {endpoint});
}

void drop_oldest_runs(Session& session, const std::string& endpoint, unsigned most) {
    session.execute(
        "DELETE FROM history WHERE endpoint = $1 AND number <= "
        "(SELECT number FROM history WHERE endpoint = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)",
        {endpoint, most});
}

void drop_runs_before(Session& session, Seconds time, std::int64_t most) {
    session.execute("DELETE FROM history WHERE number IN (SELECT number FROM history WHERE until < $1 LIMIT $2)",
                    {time, most});
}

std::vector<Attestation> list_history(Session& session, const std::string& endpoint, std::int64_t before,
                                      unsigned limit) {
    return select<Attestation>(session,
                               "FROM history h JOIN endpoints e ON e.id = h.endpoint "
                               "WHERE h.endpoint = $1 AND h.number < $2 ORDER BY h.number DESC LIMIT $3",
                               {endpoint, before, limit});
}

void put_evidence(Session& session, const EvidenceRow& row) { put(session, "evidence", "endpoint", row); }

void put_event_log(Session& session, const std::string& endpoint, const Buffer& log) {
    put(session, "event_logs", "endpoint", {{"endpoint", endpoint}, {"log", log}});
}

void drop_evidence(Session& session, const std::string& endpoint) {
    for (const char* const table : {"evidence", "event_logs", "outcomes"})
        erase(session, table, {{"endpoint", endpoint}});
}

std::optional<KeptEvidence> find_evidence(Session& session, const std::string& endpoint) {
    return find<KeptEvidence>(session,
                              "FROM evidence v JOIN endpoints e ON e.id = v.endpoint "
                              "LEFT JOIN event_logs l ON l.endpoint = v.endpoint WHERE v.endpoint = $1",
                              {endpoint});
}

void add_outcome(Session& session, const OutcomeRow& row) { insert(session, "outcomes", row); }

void drop_outcomes(Session& session, const std::string& endpoint) {
    erase(session, "outcomes", {{"endpoint", endpoint}});
}

void count_verdict(Session& session, const std::string& endpoint, State state, Seconds now) {
    const std::size_t shard = session.is_postgresql() ? std::hash<std::string>{}(endpoint) % kShards : 0;
    session.execute(
        "INSERT INTO hours (hour, shard, trusted, unmeasured, untrusted) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (hour, shard) DO UPDATE SET trusted = hours.trusted + excluded.trusted, "
        "unmeasured = hours.unmeasured + excluded.unmeasured, untrusted = hours.untrusted + excluded.untrusted",
        {now / 3600 * 3600, shard, state == State::kTrusted, state == State::kUnmeasured, state == State::kUntrusted});
}

std::vector<TimePoint> list_hours(Session& session, Seconds first, Seconds last) {
    return select<TimePoint>(session, "FROM hours WHERE hour >= $1 AND hour <= $2 GROUP BY hour", {first, last});
}

void drop_hours_before(Session& session, Seconds time) { session.execute("DELETE FROM hours WHERE hour < $1", {time}); }

}  // namespace gatehouse::server

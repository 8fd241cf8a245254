// Attestation: nonces, the judgement of what comes, and what it does to the endpoint.
//
// A nonce is not stored. It is 32 bytes:
//   u64 time of issue, microseconds since the epoch, big-endian
//   u8[8] random
//   u8[16] front of HMAC-SHA-256(the servers' nonce key, endpoint id || time || random)
// and good once: it must not have expired, and be newer than the newest one that the endpoint has used, which
// is checked and moved on in the transaction that records the attestation.
#include <chrono>
#include <nlohmann/json.hpp>

#include "attestation/server/appraising.hpp"
#include "attestation/server/inside.hpp"
#include "attestation/verifier/result.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::server {

// The endpoint as attest() needs it.
struct Known {
    std::string id, hostname, group, source, ek_hash, vendor, reason, policy, outcomes, endorsement_fault;
    State state = State::kNew;
    Buffer ak_public, tpm, log_hash;
    std::int64_t last_nonce = 0, run = 0, run_length = 0, last_seen = 0, generation = 0;
};

namespace {

constexpr std::size_t kTimeSize = 8, kRandomSize = 8, kMacSize = 16;
constexpr std::int64_t kMicroseconds = 1'000'000;
constexpr unsigned kAttempts = 4;
constexpr unsigned kShards = 16;  // of the time line
constexpr unsigned kNextAfterRefusal = 60, kLeastNext = 20;

Sha256Digest nonce_mac(Bytes key, const std::string& endpoint, Bytes time_and_random) {
    return hmac_sha256(key, {host::text_bytes(endpoint), time_and_random});
}

constexpr const char* kKnownColumns =
    "SELECT hostname, group_name, source, ek_hash, vendor, reason, policy, outcomes, state, ak_public, tpm, "
    "log_hash, "
    "last_nonce, run, run_length, last_seen, (SELECT value FROM settings WHERE name = 'assignments'), "
    "endorsement_fault FROM endpoints WHERE id = $1";

Known known_of(const std::string& id, const Row& row) {
    return {.id = id,
            .hostname = row.text(0),
            .group = row.text(1),
            .source = row.text(2),
            .ek_hash = row.text(3),
            .vendor = row.text(4),
            .reason = row.text(5),
            .policy = row.text(6),
            .outcomes = row.text(7),
            .endorsement_fault = row.text(17),
            .state = static_cast<State>(row.integer(8)),
            .ak_public = row.blob(9),
            .tpm = row.blob(10),
            .log_hash = row.blob(11),
            .last_nonce = row.integer(12),
            .run = row.integer(13),
            .run_length = row.integer(14),
            .last_seen = row.integer(15),
            .generation = row.integer(16)};
}

std::string rule_of(const std::string& reason) { return reason.substr(0, reason.find(':')); }

// All that one attestation writes.
struct Record {
    Seconds now = 0;
    std::int64_t nonce_time = 0;
    Seconds lease_until = 0;
    std::string policy;
    Buffer tpm;  // to be remembered
    Buffer log_hash;
    bool new_run = false;
    std::string result;
    std::string verdict;  // of a new run
};

// False if the endpoint is not as it was judged any more: other evidence, another key, another group, stale,
// retired or without its vendor meanwhile, or judged by policies that are not the present ones. Without this,
// evidence that was on its way while a policy was withdrawn would get that policy's whole lease.
bool update_endpoint(Session& session, const Known& known, const Judgement& judgement, const Record& record) {
    // On SQLite there is one writer. On PostgreSQL, whoever changes assignments takes this lock alone
    // (count_assignments()): the statement after it sees either the old number, and the change comes after
    // this transaction, or the new one.
    (void)session.query(kShareAssignments);
    return session.execute(
               "UPDATE endpoints SET state = $1, since = CASE WHEN state = $1 THEN since ELSE $2 END, "
               "last_seen = $2, "
               "lease_until = $3, reason = $4, policy = $5, tpm = $6, last_nonce = $7, log_hash = $8, "
               "outcomes = $9, "
               "run_length = $10 WHERE id = $11 AND last_nonce = $12 AND ak_public = $13 AND state = $14 AND "
               "run = $15 AND group_name = $16 AND endorsement_fault = $18 AND "
               "(SELECT value FROM settings WHERE name = 'assignments') = $17",
               {static_cast<std::int64_t>(judgement.state), record.now, record.lease_until, judgement.reason,
                record.policy, record.tpm, record.nonce_time, record.log_hash, judgement.outcomes(),
                record.new_run ? 1 : known.run_length + 1, known.id, known.last_nonce, known.ak_public,
                static_cast<std::int64_t>(known.state), known.run, known.group, known.generation,
                known.endorsement_fault}) == 1;
}

// An endpoint that keeps changing its mind writes a row, with all that was found, each time: its oldest go.
void drop_oldest_runs(Session& session, const std::string& endpoint, unsigned most) {
    session.execute(
        "DELETE FROM history WHERE endpoint = $1 AND number <= (SELECT number FROM history WHERE endpoint = "
        "$1 ORDER BY number DESC LIMIT 1 OFFSET $2)",
        {endpoint, most});
}

std::int64_t start_run(Session& session, const Known& known, const Judgement& judgement, const Record& record) {
    if (known.run != 0) {
        session.execute("UPDATE history SET until = $1, length = $2 WHERE number = $3",
                        {known.last_seen, known.run_length, known.run});
    }
    const Rows made = session.query(
        "INSERT INTO history (endpoint, time, until, length, state, policy, reason, result, verdict) "
        "VALUES ($1, $2, $2, 1, $3, $4, $5, $6, $7) RETURNING number",
        {known.id, record.now, static_cast<std::int64_t>(judgement.state), record.policy, judgement.reason,
         record.result, record.verdict});
    const std::int64_t run = made.at(0).integer(0);
    session.execute("UPDATE endpoints SET run = $1 WHERE id = $2", {run, known.id});
    return run;
}

void keep_evidence(Session& session, const Known& known, const Judgement& judgement, const Record& record,
                   const EvidenceSet& evidence, std::int64_t run) {
    session.execute(
        "INSERT INTO evidence (endpoint, number, time, state, policy, reason, source, nonce, quote, "
        "signature, claims, "
        "pcr_values, tpm_before, result) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, "
        "$14) "
        "ON CONFLICT (endpoint) DO UPDATE SET number = excluded.number, time = excluded.time, state = "
        "excluded.state, "
        "policy = excluded.policy, reason = excluded.reason, source = excluded.source, nonce = "
        "excluded.nonce, "
        "quote = excluded.quote, signature = excluded.signature, claims = excluded.claims, "
        "pcr_values = excluded.pcr_values, tpm_before = excluded.tpm_before, result = excluded.result",
        {known.id, run, record.now, static_cast<std::int64_t>(judgement.state), record.policy, judgement.reason,
         evidence.source, evidence.nonce, evidence.quote, evidence.signature, evidence.claims, evidence.pcr_values,
         known.tpm, record.result});
    if (record.log_hash == known.log_hash) return;
    session.execute(
        "INSERT INTO event_logs (endpoint, log) VALUES ($1, $2) "
        "ON CONFLICT (endpoint) DO UPDATE SET log = excluded.log",
        {known.id, evidence.event_log});
}

void count_hour(Session& session, const Known& known, State state, Seconds now) {
    const std::size_t shard = session.is_postgresql() ? std::hash<std::string>{}(known.id) % kShards : 0;
    session.execute(
        "INSERT INTO hours (hour, shard, trusted, unmeasured, untrusted) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (hour, shard) DO UPDATE SET trusted = hours.trusted + excluded.trusted, "
        "unmeasured = hours.unmeasured + excluded.unmeasured, untrusted = hours.untrusted + "
        "excluded.untrusted",
        {now / 3600 * 3600, shard, state == State::kTrusted, state == State::kUnmeasured, state == State::kUntrusted});
}

void keep_outcomes(Session& session, const Known& known, const Judgement& judgement) {
    if (judgement.outcomes() == known.outcomes) return;
    session.execute("DELETE FROM outcomes WHERE endpoint = $1", {known.id});
    for (const Outcome& one : judgement.tried) {
        const verifier::Policy& policy = one.policy->policy;
        session.execute(
            "INSERT INTO outcomes (group_name, policy, version, endpoint, ok, reason) "
            "VALUES ($1, $2, $3, $4, $5, $6)",
            {known.group, policy.name, policy.version, known.id, one.refusal.empty(), one.refusal});
    }
}

std::string signed_result(const std::string& issuer, EVP_PKEY* key, const Known& known, const Judgement& judgement,
                          const EvidenceSet& evidence, const Record& record) {
    verifier::ResultFacts facts;
    facts.issuer = issuer;
    facts.issued = record.now;
    facts.expires = std::max(record.lease_until, record.now);
    copy_bytes(facts.ek_hash, host::from_hex(known.ek_hash, "EK hash"));
    facts.nonce = evidence.nonce;
    facts.vector = verifier::trust_vector(judgement.verdict.findings, evidence.source == "hypervisor",
                                          !known.vendor.empty() && known.endorsement_fault.empty());
    facts.status = judgement.state == State::kTrusted      ? verifier::Tier::kAffirming
                   : judgement.state == State::kUnmeasured ? verifier::Tier::kWarning
                                                           : verifier::Tier::kContraindicated;
    if (judgement.policy) facts.policy_id = name_of(*judgement.policy) + ":" + judgement.policy->address;
    facts.source = evidence.source;
    facts.findings = &judgement.verdict.findings;
    facts.coverage = judgement.verdict.coverage;
    return verifier::sign_jws(verifier::make_result(facts), verifier::kResultType, key);
}

}  // namespace

Buffer Service::Inside::new_nonce(const std::string& endpoint) {
    using std::chrono::microseconds;
    const std::int64_t clock =
        options.clock
            ? now() * kMicroseconds
            : std::chrono::duration_cast<microseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    // Each is newer than all that this process gave before, whatever the clock does.
    std::int64_t last = newest_nonce.load();
    std::int64_t time = 0;
    do {
        time = std::max(last + 1, clock);
    } while (!newest_nonce.compare_exchange_weak(last, time));

    Buffer nonce(protocol::kNonceSize);
    store(nonce.data(), static_cast<std::uint64_t>(time), Endian::kBig);
    copy_bytes(MutableBytes(nonce).subspan(kTimeSize, kRandomSize), random_bytes(kRandomSize));
    const Sha256Digest mac = nonce_mac(nonce_key, endpoint, Bytes(nonce).first(kTimeSize + kRandomSize));
    copy_bytes(MutableBytes(nonce).subspan(kTimeSize + kRandomSize), Bytes(mac).first(kMacSize));
    return nonce;
}

std::int64_t Service::Inside::check_nonce(const std::string& endpoint, Bytes nonce) {
    if (nonce.size() != protocol::kNonceSize) throw ServiceError(400, "nonce", "nonce: must be 32 bytes");
    const Sha256Digest mac = nonce_mac(nonce_key, endpoint, nonce.first(kTimeSize + kRandomSize));
    if (!equal_secret(Bytes(mac).first(kMacSize), nonce.subspan(kTimeSize + kRandomSize)))
        throw ServiceError(409, "nonce", "nonce: is not one that this server gave to this endpoint; ask for one");
    const auto time = static_cast<std::int64_t>(load<std::uint64_t>(nonce.data(), Endian::kBig));
    // The other direction allows for another server's clock.
    const std::int64_t age = now() - time / kMicroseconds;
    if (age > Seconds{options.nonce_lifetime_s} || age < -Seconds{options.nonce_lifetime_s})
        throw ServiceError(409, "nonce", "nonce: has expired; ask for a new one");
    return time;
}

std::shared_ptr<const verifier::AttestationKey> Service::Inside::key(const Buffer& ak_public) {
    const std::string by(reinterpret_cast<const char*>(ak_public.data()), ak_public.size());
    return keys.get(by, [&] { return std::make_shared<const verifier::AttestationKey>(ak_public); });
}

protocol::NonceAnswer Service::nonce(const std::string& endpoint) {
    return {inside_->new_nonce(endpoint), inside_->options.nonce_lifetime_s};
}

protocol::AttestAnswer Service::attest(const std::string& endpoint, const protocol::AttestRequest& request) {
    const std::int64_t nonce_time = inside_->check_nonce(endpoint, request.nonce);
    const EvidenceSet evidence{request.source, request.nonce,     request.quote,     request.signature,
                               request.claims, request.event_log, request.pcr_values};
    for (unsigned attempt = 0; attempt < kAttempts; ++attempt) {
        static const std::string select = kKnownColumns;
        const auto row = inside_->read([&](Session& session) { return session.one(select, {endpoint}); });
        if (!row) not_found(endpoint_name(clean_text(endpoint, 64)));
        const Known known = known_of(endpoint, *row);
        if (known.state == State::kRetired) throw ServiceError(403, "retired", endpoint_name(endpoint) + " is retired");
        if (nonce_time <= known.last_nonce)
            throw ServiceError(409, "nonce", "nonce: it or a newer one was used already; ask for a new one");
        if (std::optional<protocol::AttestAnswer> answer = inside_->judge_and_record(known, nonce_time, evidence))
            return std::move(*answer);
        // Something else changed the endpoint in between: judge again by what it is now.
    }
    throw ServiceError(503, "busy", endpoint_name(endpoint) + " is being changed; try again", 1);
}

std::optional<protocol::AttestAnswer> Service::Inside::judge_and_record(const Known& known, std::int64_t nonce_time,
                                                                        const EvidenceSet& evidence) {
    std::vector<std::shared_ptr<const LoadedPolicy>> enforced, reported;
    const auto all = assignments_of(known.generation);
    if (const auto found = all->find(known.group); found != all->end()) {
        for (const Assigned& one : found->second)
            (one.stage == Stage::kEnforce ? enforced : reported).push_back(policy(one.policy, one.version));
    }
    // The one that accepted last time is likely to do so again.
    std::stable_partition(enforced.begin(), enforced.end(),
                          [&](const auto& one) { return name_of(*one) == known.policy; });

    const Subject subject{known.source, key(known.ak_public), decode_tpm(known.tpm), known.endorsement_fault};
    Judgement judgement = judge_all(evidence, subject, enforced, reported);
    const bool accepted = judgement.state != State::kUntrusted;
    Record record;
    record.now = now();
    record.nonce_time = nonce_time;
    record.lease_until = accepted ? record.now + judgement.policy->policy.lease_s : 0;
    if (judgement.policy) record.policy = name_of(*judgement.policy);
    record.tpm = judgement.verdict.tpm ? encode_tpm(*judgement.verdict.tpm) : known.tpm;
    const Sha256Digest log_hash = sha256(evidence.event_log);
    record.log_hash.assign(log_hash.begin(), log_hash.end());
    record.new_run = known.run == 0 || known.state != judgement.state || known.policy != record.policy ||
                     rule_of(known.reason) != rule_of(judgement.reason);
    if (record.new_run) record.verdict = verdict_json(judge(evidence, subject, judgement.policy.get(), true));
    record.result = signed_result(options.issuer, result_key.get(), known, judgement, evidence, record);

    bool done = false;
    database->write([&](Session& session) {
        done = update_endpoint(session, known, judgement, record);
        if (!done) return;
        const std::int64_t run = record.new_run ? start_run(session, known, judgement, record) : known.run;
        if (record.new_run) drop_oldest_runs(session, known.id, options.history_runs);
        keep_evidence(session, known, judgement, record, evidence, run);
        keep_outcomes(session, known, judgement);
        count_hour(session, known, judgement.state, record.now);
        if (known.state == judgement.state) return;
        record_change(
            session,
            {known.id, known.hostname, known.group, known.state, judgement.state, judgement.reason, record.policy},
            endpoint_name(known.id));
    });
    if (!done) return std::nullopt;

    ++totals.attestations;
    ++(accepted ? totals.accepted : totals.rejected);
    protocol::AttestAnswer answer;
    answer.verdict = name_of(judgement.state);
    answer.result = std::move(record.result);
    answer.lease_until = record.lease_until;
    answer.next_s = accepted ? std::max(kLeastNext, judgement.policy->policy.lease_s / 3) : kNextAfterRefusal;
    answer.next_nonce = new_nonce(known.id);
    for (const verifier::Finding& finding : judgement.verdict.findings) {
        if (!finding.ok) answer.failures.push_back(clean_text(finding.rule + ": " + finding.detail, 1024));
    }
    if (!accepted && answer.failures.empty()) answer.failures.push_back(judgement.reason);
    return answer;
}

}  // namespace gatehouse::server

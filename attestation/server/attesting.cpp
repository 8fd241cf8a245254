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

#include "attestation/formats/jose.hpp"
#include "attestation/server/appraising.hpp"
#include "attestation/server/database/tpm_state.hpp"
#include "attestation/server/inside.hpp"
#include "attestation/verifier/result.hpp"

namespace gatehouse::server {

namespace {

constexpr std::size_t kTimeSize = 8, kRandomSize = 8, kMacSize = 16;
constexpr std::int64_t kMicroseconds = 1'000'000;
constexpr unsigned kAttempts = 4;
constexpr unsigned kNextAfterRefusal = 60, kLeastNext = 20;

Sha256Digest nonce_mac(Bytes key, const std::string& endpoint, Bytes time_and_random) {
    return hmac_sha256(key, {host::text_bytes(endpoint), time_and_random});
}

bool asks_for_crls(const std::shared_ptr<const LoadedPolicy>& one) { return one->policy.max_crl_age_days != 0; }

std::string rule_of(const std::string& reason) { return reason.substr(0, reason.find(':')); }

// All that one attestation writes: `verdict` and, of a new run, its row.
struct Record {
    VerdictRow verdict;
    bool new_run = false;
    std::string result;
    std::string verdict_json;  // of a new run
};

std::int64_t start_run(Session& session, const KnownEndpoint& known, const Record& record, unsigned most) {
    if (known.run != 0) end_run(session, known.run, known.last_seen, known.run_length);
    const std::int64_t run = add_run(session, {.endpoint = known.id,
                                               .time = record.verdict.now,
                                               .state = record.verdict.state,
                                               .policy = record.verdict.policy,
                                               .reason = record.verdict.reason,
                                               .result = record.result,
                                               .verdict = record.verdict_json});
    set_present_run(session, known.id, run);
    // An endpoint that keeps changing its mind writes a row, with all that was found, each time: its oldest go.
    drop_oldest_runs(session, known.id, most);
    return run;
}

void keep_evidence(Session& session, const KnownEndpoint& known, const Record& record, const EvidenceSet& evidence,
                   std::int64_t run) {
    put_evidence(session, {.endpoint = known.id,
                           .run = run,
                           .time = record.verdict.now,
                           .state = record.verdict.state,
                           .policy = record.verdict.policy,
                           .reason = record.verdict.reason,
                           .source = evidence.source,
                           .nonce = evidence.nonce,
                           .quote = evidence.quote,
                           .signature = evidence.signature,
                           .claims = evidence.claims,
                           .pcr_values = evidence.pcr_values,
                           .tpm_before = known.tpm,
                           .result = record.result});
    if (record.verdict.log_hash != known.log_hash) put_event_log(session, known.id, evidence.event_log);
}

void keep_outcomes(Session& session, const KnownEndpoint& known, const Judgement& judgement) {
    if (judgement.outcomes() == known.outcomes) return;
    drop_outcomes(session, known.id);
    for (const Outcome& one : judgement.tried) {
        const verifier::Policy& policy = one.policy->policy;
        add_outcome(session, {.group = known.group,
                              .policy = policy.name,
                              .version = policy.version,
                              .endpoint = known.id,
                              .ok = one.refusal.empty(),
                              .reason = one.refusal});
    }
}

std::string signed_result(const std::string& issuer, const ResultKey& key, const KnownEndpoint& known,
                          const Judgement& judgement, const EvidenceSet& evidence, const Record& record) {
    verifier::ResultFacts facts;
    facts.issuer = issuer;
    facts.issued = record.verdict.now;
    facts.expires = std::max(record.verdict.lease_until, record.verdict.now);
    copy_bytes(facts.ek_hash, host::from_hex(known.ek_hash, "EK hash"));
    facts.nonce = evidence.nonce;
    facts.vector = verifier::trust_vector(judgement.verdict.findings, evidence.view().source,
                                          judgement.policy ? &judgement.policy->policy : nullptr,
                                          !known.vendor.empty() && known.endorsement_fault.empty());
    facts.status = judgement.state == State::kTrusted      ? verifier::Tier::kAffirming
                   : judgement.state == State::kUnmeasured ? verifier::Tier::kWarning
                                                           : verifier::Tier::kContraindicated;
    if (judgement.policy) facts.policy_id = name_of(*judgement.policy) + ":" + judgement.policy->address;
    facts.source = evidence.source;
    facts.findings = &judgement.verdict.findings;
    facts.coverage = judgement.verdict.coverage;
    return formats::sign_jwt(verifier::make_result(facts), verifier::kResultType, key.get(), key.id);
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
        const auto found = inside_->read([&](Session& session) { return find_known(session, endpoint); });
        if (!found) not_found(endpoint_name(clean_text(endpoint, 64)));
        const KnownEndpoint& known = *found;
        if (known.state == State::kRetired) throw ServiceError(403, "retired", endpoint_name(endpoint) + " is retired");
        if (nonce_time <= known.last_nonce)
            throw ServiceError(409, "nonce", "nonce: it or a newer one was used already; ask for a new one");
        if (std::optional<protocol::AttestAnswer> answer = inside_->judge_and_record(known, nonce_time, evidence))
            return std::move(*answer);
        // Something else changed the endpoint in between: judge again by what it is now.
    }
    throw ServiceError(503, "busy", endpoint_name(endpoint) + " is being changed; try again", 1);
}

std::optional<protocol::AttestAnswer> Service::Inside::judge_and_record(const KnownEndpoint& known,
                                                                        std::int64_t nonce_time,
                                                                        const EvidenceSet& evidence) {
    std::vector<std::shared_ptr<const LoadedPolicy>> enforced, reported;
    const auto all = assignments_of(known.assignments);
    if (const auto found = all->find(known.group); found != all->end()) {
        for (const AssignedPolicy& one : found->second)
            (one.stage == Stage::kEnforce ? enforced : reported).push_back(policy(one.policy, one.version));
    }
    if (known.checked == kNeverChecked && std::ranges::any_of(enforced, asks_for_crls)) {
        // Just enrolled: what its TPM depends on is looked at now, not with the next tick.
        (void)check_some_endorsements();
        return std::nullopt;
    }
    // The one that accepted last time is likely to do so again.
    std::stable_partition(enforced.begin(), enforced.end(),
                          [&](const auto& one) { return name_of(*one) == known.policy; });

    const Subject subject{
        known.source, key(known.ak_public), decode_tpm(known.tpm), known.endorsement_fault, known.crls, now()};
    Judgement judgement = judge_all(evidence, subject, enforced, reported);
    const bool accepted = judgement.state != State::kUntrusted;
    Record record;
    VerdictRow& verdict = record.verdict;
    verdict.state = judgement.state;
    verdict.now = now();
    verdict.nonce_time = nonce_time;
    verdict.lease_until = accepted ? verdict.now + judgement.policy->policy.lease_s : 0;
    verdict.reason = judgement.reason;
    if (judgement.policy) verdict.policy = name_of(*judgement.policy);
    verdict.outcomes = judgement.outcomes();
    verdict.tpm = judgement.verdict.tpm ? encode_tpm(*judgement.verdict.tpm) : known.tpm;
    const Sha256Digest log_hash = sha256(evidence.event_log);
    verdict.log_hash.assign(log_hash.begin(), log_hash.end());
    record.new_run = known.run == 0 || known.state != verdict.state || known.policy != verdict.policy ||
                     rule_of(known.reason) != rule_of(verdict.reason);
    verdict.run_length = record.new_run ? 1 : known.run_length + 1;
    if (record.new_run) record.verdict_json = verdict_json(judge(evidence, subject, judgement.policy.get(), true));
    record.result = signed_result(options.issuer, result_keys.current(), known, judgement, evidence, record);

    bool done = false;
    database->write([&](Session& session) {
        done = set_verdict(session, known, verdict);
        if (!done) return;
        const std::int64_t run = record.new_run ? start_run(session, known, record, options.history_runs) : known.run;
        keep_evidence(session, known, record, evidence, run);
        keep_outcomes(session, known, judgement);
        count_verdict(session, known.id, verdict.state, verdict.now);
        if (known.state == verdict.state) return;
        record_change(
            session,
            {known.id, known.hostname, known.group, known.state, verdict.state, verdict.reason, verdict.policy},
            endpoint_name(known.id));
    });
    if (!done) return std::nullopt;

    ++totals.attestations;
    ++(accepted ? totals.accepted : totals.rejected);
    protocol::AttestAnswer answer;
    answer.verdict = name_of(judgement.state);
    answer.result = std::move(record.result);
    answer.lease_until = verdict.lease_until;
    answer.next_s = accepted ? std::max(kLeastNext, judgement.policy->policy.lease_s / 3) : kNextAfterRefusal;
    answer.next_nonce = new_nonce(known.id);
    for (const verifier::Finding& finding : judgement.verdict.findings) {
        if (!finding.ok) answer.failures.push_back(clean_text(finding.rule + ": " + finding.detail, 1024));
    }
    if (!accepted && answer.failures.empty()) answer.failures.push_back(judgement.reason);
    return answer;
}

}  // namespace gatehouse::server

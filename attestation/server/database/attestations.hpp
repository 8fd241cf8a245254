// What attestation leaves: the endpoint's verdict, its history in runs, the last evidence, verdicts by hour, and what
// each policy made of the last evidence. Within a job.
#pragma once

#include "attestation/server/database/database.hpp"
#include "attestation/server/database/records.hpp"

namespace gatehouse::server {

// An endpoint as its evidence is judged.
struct KnownEndpoint {
    std::string id, hostname, group, source, ek_hash, vendor, reason, policy, outcomes, endorsement_fault;
    State state = State::kNew;
    Buffer ak_public, tpm, log_hash;
    std::int64_t last_nonce = 0, run = 0, run_length = 0;
    Seconds last_seen = 0;
    std::int64_t assignments = 0;  // Counter::kAssignments when it was read
    std::int64_t checked = 0;  // Counter::kVendors that the next is of; kNeverChecked; 0: no vendor ever vouched for it
    CrlAge crls;
};
[[nodiscard]] std::optional<KnownEndpoint> find_known(Session& session, const std::string& id);

struct VerdictRow {
    State state = State::kUntrusted;
    Seconds now = 0, lease_until = 0;
    std::string reason, policy, outcomes;
    Buffer tpm, log_hash;  // tpm_state.hpp
    std::int64_t nonce_time = 0, run_length = 0;
};
// False, and nothing is written, if the endpoint is not as it is `known` any more: other evidence, another key, another
// group, stale, retired or without its vendor meanwhile, or the assignments are not those that it was judged by.
[[nodiscard]] bool set_verdict(Session& session, const KnownEndpoint& known, const VerdictRow& verdict);

// --- history: a row is a run of attestations with one outcome; the present one's end is kept with the endpoint
struct RunRow {
    std::string endpoint;
    Seconds time = 0;
    State state = State::kNew;
    std::string policy, reason, result, verdict;  // of the first
};
[[nodiscard]] std::int64_t add_run(Session& session, const RunRow& run);  // its number
void set_present_run(Session& session, const std::string& endpoint, std::int64_t run);
void end_run(Session& session, std::int64_t run, Seconds until, std::int64_t length);
void end_run_of(Session& session, const std::string& endpoint);  // its present one, if there is one
void drop_oldest_runs(Session& session, const std::string& endpoint, unsigned most);
void drop_runs_before(Session& session, Seconds time, std::int64_t most);  // but for present ones
// Those before number `before`, newest first.
[[nodiscard]] std::vector<Attestation> list_history(Session& session, const std::string& endpoint, std::int64_t before,
                                                    unsigned limit);

// --- the last evidence
struct EvidenceRow {
    std::string endpoint;
    std::int64_t run = 0;
    Seconds time = 0;
    State state = State::kNew;
    std::string policy, reason, source;
    Buffer nonce, quote, signature, claims, pcr_values;
    Buffer tpm_before;  // what was known of the TPM when it came
    std::string result;
};
void put_evidence(Session& session, const EvidenceRow& row);
void put_event_log(Session& session, const std::string& endpoint, const Buffer& log);
void drop_evidence(Session& session, const std::string& endpoint);  // the log and the outcomes with it
// With what it takes to judge it once more.
struct KeptEvidence {
    EvidenceRow evidence;
    Buffer event_log;
    std::string source;  // as enrolled
    Buffer ak_public;
    std::int64_t run_length = 0;
    std::string endorsement_fault;
    CrlAge crls;
};
[[nodiscard]] std::optional<KeptEvidence> find_evidence(Session& session, const std::string& endpoint);

// --- outcomes
struct OutcomeRow {
    std::string group, policy;
    std::uint64_t version = 0;
    std::string endpoint;
    bool ok = false;
    std::string reason;
};
void add_outcome(Session& session, const OutcomeRow& row);
void drop_outcomes(Session& session, const std::string& endpoint);

// --- hours
void count_verdict(Session& session, const std::string& endpoint, State state, Seconds now);
// Sums by hour, of the hours that have any; no order.
[[nodiscard]] std::vector<TimePoint> list_hours(Session& session, Seconds first, Seconds last);
void drop_hours_before(Session& session, Seconds time);

}  // namespace gatehouse::server

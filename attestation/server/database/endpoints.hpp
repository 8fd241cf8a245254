// Endpoints: what they are, their state, what vouches for them, what they are asked for. Within a job.
#pragma once

#include <array>

#include "attestation/server/database/database.hpp"
#include "attestation/server/database/records.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::server {

// --- seen from outside

// kStale if a lease that is kept has ended, whatever is stored.
[[nodiscard]] State state_at(State kept, Seconds lease_until, Seconds now);
inline constexpr const char* kLeaseEnded = "no evidence since the lease ended";  // reason of such an endpoint

[[nodiscard]] bool has_endpoint(Session& session, const std::string& id);
[[nodiscard]] std::optional<Endpoint> find_endpoint(Session& session, const std::string& id, Seconds now);
// In the order of their ids, those after the query's cursor, at most `limit`.
[[nodiscard]] std::vector<Endpoint> list_endpoints(Session& session, const EndpointQuery& query, unsigned limit,
                                                   Seconds now);
struct StateCount {
    State state = State::kNew;
    std::int64_t endpoints = 0;
};
[[nodiscard]] std::vector<StateCount> count_states(Session& session);  // as stored
[[nodiscard]] std::int64_t count_leases_ended(Session& session, State state, Seconds now);

struct Distrusted {
    std::string id, ek_hash;
    State state = State::kNew;  // kTrusted or kUnmeasured: its lease has ended
    Seconds since = 0, lease_until = 0;
};
// Untrusted, stale, retired, or past the lease; by id.
[[nodiscard]] std::vector<Distrusted> list_distrusted(Session& session, Seconds now);

// --- a change of state

// What a change of state is told with.
struct EndpointSummary {
    std::string id, hostname, group, source, policy;
    State state = State::kNew;
    Buffer tpm;  // tpm_state.hpp
    std::string endorsement_fault;
};
[[nodiscard]] std::optional<EndpointSummary> find_summary(Session& session, const std::string& id);
[[nodiscard]] std::optional<EndpointSummary> lock_summary(Session& session, const std::string& id);
// Ids of those whose lease has ended though they are stored as if it had not, at most `limit`; and one of them, locked,
// if it still is.
[[nodiscard]] std::vector<std::string> list_leases_ended(Session& session, Seconds now, unsigned limit);
[[nodiscard]] std::optional<EndpointSummary> lock_if_lease_ended(Session& session, const std::string& id, Seconds now);
// By a change without evidence: its run in the history ends, and a row of its own tells of the change.
void leave_state(Session& session, const std::string& id, State to, Seconds at, const std::string& reason);
// No certificate, no lease, no wish is left to it.
void set_retired(Session& session, const std::string& id, Seconds at, const std::string& reason);
// Its policies' outcomes go; evidence is wanted, and the present verdict stands until `lease_until` at most.
void set_group(Session& session, const std::string& id, const std::string& group, Seconds now, Seconds lease_until);
// The same for those of a group that are trusted by `policy` ("name:version"), but for the outcomes.
void end_leases(Session& session, const std::string& group, const std::string& policy, Seconds now,
                Seconds lease_until);

// --- enrollment

struct NewEndpoint {
    std::string id, hostname, group, source, ek_hash, ek_key;
    std::string vendor, manufacturer, model;
    Buffer ak_public;
    Seconds enrolled = 0;
    Sha256Digest certificate{};  // SHA-256 of the DER
};
[[nodiscard]] std::optional<EndpointSummary> lock_by_ek(Session& session, const std::string& ek_hash);
// What a TPM is known by: SHA-256 of its EK alone, of its attestation key alone, and what verifier::TpmIdentity has of
// its keys; hex, empty if it was not shown.
using TpmKeys = std::array<std::string, 4>;
// Ids of those whose TPM has shown one of these keys.
[[nodiscard]] std::vector<std::string> ids_of_keys(Session& session, const TpmKeys& keys);
// They are this endpoint's from now on.
void keep_keys(Session& session, const std::string& id, TpmKeys keys);
void drop_keys(Session& session, const std::string& id);
void drop_keys(Session& session, const std::string& id, const TpmKeys& keys);  // these of its
// Whether a vendor vouched for an EK of it.
[[nodiscard]] bool has_endorsement(Session& session, const std::string& id);
// All keys of one endpoint become another's.
void move_keys(Session& session, const std::string& from, const std::string& to);
// Of the one that has this EK in another public area.
[[nodiscard]] std::optional<std::string> id_of_disguised(Session& session, const std::string& ek_key,
                                                         const std::string& ek_hash);
void add_endpoint(Session& session, const NewEndpoint& endpoint);
// The endpoint of that id gets new keys: its history and what is in `tpm` stay, all else is as of a new one.
void replace_endpoint(Session& session, const NewEndpoint& endpoint, const Buffer& tpm);

// --- certificates, by the SHA-256 of their DER; of endpoints that are not retired
[[nodiscard]] std::optional<std::string> id_of_certificate(Session& session, const Sha256Digest& hash);
[[nodiscard]] std::optional<std::string> id_of_next_certificate(Session& session, const Sha256Digest& hash);
[[nodiscard]] bool is_certificate_of_retired(Session& session, const Sha256Digest& hash);
[[nodiscard]] bool set_next_certificate(Session& session, const std::string& id, const Sha256Digest& hash);
void use_next_certificate(Session& session, const std::string& id, const Sha256Digest& hash);

// --- wishes: evidence is wanted since some time
void want_evidence(Session& session, const std::string& id, Seconds now);
[[nodiscard]] bool is_evidence_wanted(Session& session, const std::string& id);
[[nodiscard]] std::vector<std::string> list_wishes(Session& session, Seconds since);
// Of several who ask at once, one is told.
[[nodiscard]] bool take_wish(Session& session, const std::string& id);

// --- what vouches for each EK of an endpoint's TPM, checked again with each number of Counter::kVendors
inline constexpr std::int64_t kNeverChecked = -1;
struct Unchecked {
    std::string id, ek_hash, vendor, fault;
    std::int64_t checked = kNeverChecked;
    Seconds accepted = 0;
    std::string content;  // as given to set_endorsement(); empty of endpoints that an older program enrolled
};
// Last checked with an older number than this.
[[nodiscard]] std::vector<Unchecked> list_unchecked(Session& session, std::int64_t number, unsigned limit);
// False if somebody else checked it meanwhile. With another fault than before, evidence is wanted.
[[nodiscard]] bool set_checked(Session& session, const Unchecked& one, std::int64_t number, const std::string& fault,
                               const CrlAge& crls, Seconds now);
// What vouches for this EK is new, was never checked, and has no fault.
void set_endorsement(Session& session, const std::string& id, const std::string& ek_hash, const std::string& vendor,
                     Seconds accepted, const std::string& content);
// An operator lets it in as it is: the faults that its EKs have now do not count any more, but are still to be seen.
void overrule_faults(Session& session, const std::string& id);
[[nodiscard]] std::vector<Endorsement> list_endorsements(Session& session, const std::string& id);

}  // namespace gatehouse::server

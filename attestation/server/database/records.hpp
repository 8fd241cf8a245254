// What the server keeps, as its users see it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attestation/verifier/appraisal.hpp"

namespace gatehouse::server {

using host::Buffer;
using Seconds = std::int64_t;  // since the epoch, UTC

enum class Role : std::uint8_t { kReadOnly, kOperator, kAdmin };
[[nodiscard]] const char* name_of(Role role);  // "read-only", "operator", "admin"
[[nodiscard]] std::optional<Role> role_of(std::string_view name);

// A person or program that asks: a token's owner, or "system".
struct Principal {
    std::string name;
    Role role = Role::kReadOnly;
};

// What a vendor says of one EK of an endpoint.
struct Endorsement {
    std::string ek_hash;  // hex
    std::string vendor;
    Seconds accepted = 0;    // 0: by an older program
    std::string fault;       // why the vendor does not vouch for it any more; empty: nothing is wrong
    bool overruled = false;  // an operator let the endpoint in with this fault: it does not count
};

// An endpoint's state, as shown. An endpoint that was trusted and has been silent past its lease is stale,
// whatever is stored.
enum class State : std::uint8_t { kNew, kTrusted, kUnmeasured, kUntrusted, kStale, kRetired };
[[nodiscard]] const char* name_of(State state);  // "new", "trusted", "unmeasured", "untrusted", "stale", "retired"
[[nodiscard]] std::optional<State> state_of(std::string_view name);

// The CRLs that an EK certificate's path depends on, as of the last check: crls_of_path().
struct CrlAge {
    Seconds oldest = 0;  // thisUpdate of the oldest; 0: there is none
    Seconds end = 0;     // the first nextUpdate; 0: none says one
    std::string gap;     // the first certificate of the path that no CRL is for; empty: each has one
    bool operator==(const CrlAge&) const = default;
};

// Where the URL of a CRL is from.
enum class CrlOrigin : std::uint8_t { kSettings, kCa, kEndorsement };
[[nodiscard]] const char* name_of(CrlOrigin origin);  // "settings", "CA certificate", "EK certificate"

struct Endpoint {
    std::string id;        // 26 characters, sortable by time of enrollment
    std::string hostname;  // as the endpoint calls itself: hostile text
    std::string group;
    std::string source;  // "hypervisor", "tpm"
    State state = State::kNew;
    std::string ek_hash;  // hex
    std::string vendor, manufacturer, model;
    std::string endorsement_fault;  // why nobody vouches for one of its EKs any more; empty: nothing is wrong
    CrlAge crls;                    // of the EK that it enrolled with last
    Buffer ak_public;               // TPMT_PUBLIC
    Seconds enrolled = 0;
    Seconds last_seen = 0;  // last attestation, of whatever verdict; 0: never
    Seconds lease_until = 0;
    std::string reason;  // first failure of the last verdict
    verifier::TpmState tpm;
};

// A run of attestations with the same outcome (state, policy, rule that failed), as kept for the history:
// `time`, `result` and `verdict_json` are of the first of them. The last one of each endpoint is kept with
// its evidence, and is what last_attestation() gives: `number` is then its run's, `until` its own time.
struct Attestation {
    std::int64_t number = 0;
    std::string endpoint;
    Seconds time = 0;
    State state = State::kNew;
    std::string policy;  // "name:version"
    std::string reason;
    std::string result;        // EAT
    std::string verdict_json;  // findings, coverage, quirks, PCRs and events, as verdict_json() has them
    Seconds until = 0;         // time of the run's last one
    std::int64_t count = 1;    // how many they are
};

// Which endpoints a listing is of; an empty member restricts nothing.
struct EndpointQuery {
    std::string search;  // part of hostname, id or EK hash
    std::optional<State> state;
    std::string group;
    std::string cursor;
    unsigned limit = 50;  // at most 500
};

struct Enrollment {
    std::string id;
    std::string hostname;
    std::string source;
    std::string ek_hash;
    std::string vendor, manufacturer, model;
    std::string state;   // "challenged", "waiting", "approved", "rejected"
    std::string reason;  // why it waits: "EK certificate: no chain to a trusted vendor", ...
    Seconds time = 0;
    bool endorsed = false;                    // the EK certificate was accepted
    std::vector<verifier::Finding> findings;  // of EK and AK
    std::string replaces;                     // id of the endpoint of the same TPM; empty if none, or approved
};

enum class Stage : std::uint8_t { kReport, kEnforce };
struct PolicyVersion {
    std::string name;
    std::uint64_t version = 0;
    std::string address;  // SHA-256 of the payload, hex
    Seconds added = 0;
    std::string json;  // the payload
    std::string jws;
};
// A policy that is valid for a group. Several may be: evidence is good if one enforced policy accepts it. A
// policy in Stage::kReport is tried as well and its verdict recorded, with no effect.
struct Assignment {
    std::string group;
    std::string policy;
    std::uint64_t version = 0;
    Stage stage = Stage::kReport;
    std::int64_t covered = 0;                     // endpoints of the group
    std::int64_t would_pass = 0, would_fail = 0;  // of their last evidence
};

// An endpoint whose last evidence a policy refused.
struct Refusal {
    std::string endpoint, hostname;
    State state = State::kNew;
    Seconds last_seen = 0;
    std::string rule, detail;  // the first that failed; empty if it was judged by an older program
};

struct RefusedQuery {
    std::string group, policy;
    std::uint64_t version = 0;
    std::string search;  // part of hostname, id or EK hash
    std::string cursor;
    unsigned limit = 50;  // at most 500
};

struct Token {
    std::string name;
    Role role = Role::kReadOnly;
    Seconds created = 0, expires = 0, last_used = 0;
};

struct AuditEntry {
    std::int64_t number = 0;  // from 1, without gaps
    Seconds time = 0;
    std::string who;     // principal or "endpoint ID" or "system"
    std::string action;  // "endpoint.approve", "policy.assign", ...
    std::string subject;
    std::string detail;  // JSON
    std::string hash;    // hex SHA-256(previous hash || canonical JSON of the fields above)
};

struct Counts {
    std::int64_t fresh = 0, trusted = 0, unmeasured = 0, untrusted = 0, stale = 0, retired = 0, enrollments_waiting = 0;
};
struct TimePoint {  // for the time line: verdicts by hour
    Seconds hour = 0;
    std::int64_t trusted = 0, unmeasured = 0, untrusted = 0;
};

template <typename T>
struct Page {
    std::vector<T> rows;
    std::string next;  // cursor for the page after this one; empty: this is the last
};

}  // namespace gatehouse::server

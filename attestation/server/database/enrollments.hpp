// Enrollments, from the challenge to their end, and what approves them beforehand: one-time tokens, registered EKs.
// Within a job.
#pragma once

#include "attestation/server/database/database.hpp"
#include "attestation/server/database/records.hpp"

namespace gatehouse::server {

// Enrollment::state
namespace enrollment_state {
inline constexpr const char* kChallenged = "challenged";  // has not shown yet that EK and AK are of one TPM
inline constexpr const char* kWaiting = "waiting";        // for somebody who approves
inline constexpr const char* kApproved = "approved";
inline constexpr const char* kRejected = "rejected";
}  // namespace enrollment_state

// All that is kept of one but for its findings.
struct OpenEnrollment {
    std::string id, state;
    Seconds time = 0, expires = 0;  // when it came; when its challenge ends
    std::string hostname, source, ek_hash;
    Buffer ek_public, ak_public;
    std::string csr;
    std::string vendor, manufacturer, model;
    bool endorsed = false;  // the EK certificate was accepted
    std::string reason;
    Buffer secret_hash;
    std::int64_t attempts = 0;          // with a wrong secret
    Buffer token_hash;                  // of the one-time token; empty: came without
    std::string endpoint, certificate;  // once approved
    std::string endorsement;            // what vouches for it; also empty if an older program did not keep it
    std::string ek_key, ak_key;         // SHA-256 of the keys alone, hex; empty if an older program did not keep them
    std::string ecc_key, storage_root;  // of verifier::TpmIdentity; empty: not shown
};

void add_enrollment(Session& session, const OpenEnrollment& enrollment, const std::vector<verifier::Finding>& findings);
[[nodiscard]] std::optional<OpenEnrollment> lock_enrollment(Session& session, const std::string& id);
[[nodiscard]] std::optional<std::string> enrollment_state_of(Session& session, const std::string& id);
[[nodiscard]] std::optional<Enrollment> find_enrollment(Session& session, const std::string& id);
// Those after `after`, in the order of their ids; `state` empty: of any.
[[nodiscard]] std::vector<Enrollment> list_enrollments(Session& session, const std::string& state,
                                                       const std::string& after, unsigned limit);
[[nodiscard]] std::int64_t count_open_enrollments(Session& session);  // challenged or waiting
[[nodiscard]] std::int64_t count_waiting_enrollments(Session& session);

void count_wrong_secret(Session& session, const std::string& id);
void set_enrollment_state(Session& session, const std::string& id, const char* state, const std::string& reason);
void set_enrollment_approved(Session& session, const std::string& id, const std::string& endpoint,
                             const std::string& certificate);
// All others that wait with its EK; if it is endorsed, with one of its other keys, too.
void reject_others_waiting(Session& session, const OpenEnrollment& enrollment, const std::string& reason);
struct RejectedEnrollment {
    std::string id, hostname, ek_hash;
};
// Those that have waited since before `time`.
[[nodiscard]] std::vector<RejectedEnrollment> reject_waiting_since(Session& session, Seconds time,
                                                                   const std::string& reason);
void drop_unanswered_enrollments(Session& session, Seconds now);  // whose challenge has ended
void drop_decided_enrollments(Session& session, Seconds before);  // that came before then

// --- one-time tokens, by the SHA-256 of their text
void add_enrollment_token(Session& session, const std::array<std::byte, 32>& hash, const std::string& group,
                          Seconds expires);
[[nodiscard]] bool has_enrollment_token(Session& session, const Buffer& hash, Seconds now);
// Its group; there is no such token any more.
[[nodiscard]] std::optional<std::string> use_enrollment_token(Session& session, const Buffer& hash, Seconds now);
void drop_enrollment_tokens(Session& session, Seconds now);  // that have expired

// --- registered EKs
void put_registered(Session& session, const std::string& ek_hash, const std::string& group);
[[nodiscard]] std::optional<std::string> registered_group(Session& session, const std::string& ek_hash);

}  // namespace gatehouse::server

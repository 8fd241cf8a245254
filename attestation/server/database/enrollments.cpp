#include "attestation/server/database/enrollments.hpp"

#include "attestation/server/database/record.hpp"

namespace gatehouse::server {

using namespace enrollment_state;

template <>
inline constexpr auto kColumns<OpenEnrollment> = std::tuple{
    Column{"id", &OpenEnrollment::id},
    Column{"state", &OpenEnrollment::state},
    Column{"time", &OpenEnrollment::time},
    Column{"expires", &OpenEnrollment::expires},
    Column{"hostname", &OpenEnrollment::hostname},
    Column{"source", &OpenEnrollment::source},
    Column{"ek_hash", &OpenEnrollment::ek_hash},
    Column{"ek_public", &OpenEnrollment::ek_public},
    Column{"ak_public", &OpenEnrollment::ak_public},
    Column{"csr", &OpenEnrollment::csr},
    Column{"vendor", &OpenEnrollment::vendor},
    Column{"manufacturer", &OpenEnrollment::manufacturer},
    Column{"model", &OpenEnrollment::model},
    Column{"endorsed", &OpenEnrollment::endorsed},
    Column{"reason", &OpenEnrollment::reason},
    Column{"secret_hash", &OpenEnrollment::secret_hash},
    Column{"attempts", &OpenEnrollment::attempts},
    Column{"token_hash", &OpenEnrollment::token_hash},
    Column{"endpoint", &OpenEnrollment::endpoint},
    Column{"certificate", &OpenEnrollment::certificate},
    Column{"endorsement", &OpenEnrollment::endorsement},
    Column{"ek_key", &OpenEnrollment::ek_key},
    Column{"ak_key", &OpenEnrollment::ak_key},
    Column{"ecc_key", &OpenEnrollment::ecc_key},
    Column{"storage_root", &OpenEnrollment::storage_root},
};

struct NewEnrollment : OpenEnrollment {
    std::vector<verifier::Finding> findings;
};

template <>
inline constexpr auto kColumns<NewEnrollment> =
    std::tuple_cat(kColumns<OpenEnrollment>, std::tuple{Column{"findings", &NewEnrollment::findings}});

template <>
inline constexpr auto kColumns<Enrollment> = std::tuple{
    Column{"id", &Enrollment::id},
    Column{"state", &Enrollment::state},
    Column{"time", &Enrollment::time},
    Column{"hostname", &Enrollment::hostname},
    Column{"source", &Enrollment::source},
    Column{"ek_hash", &Enrollment::ek_hash},
    Column{"vendor", &Enrollment::vendor},
    Column{"manufacturer", &Enrollment::manufacturer},
    Column{"model", &Enrollment::model},
    Column{"endorsed", &Enrollment::endorsed},
    Column{"findings", &Enrollment::findings},
    Column{"reason", &Enrollment::reason},
    Column{
        // Once it is approved the keys are its own endpoint's.
        "CASE WHEN enrollments.endpoint <> '' THEN '' ELSE "
        "(SELECT MIN(k.endpoint) FROM tpm_keys k WHERE k.key_hash = enrollments.ek_key OR (enrollments.endorsed <> 0 "
        "AND k.key_hash IN (enrollments.ak_key, enrollments.ecc_key, enrollments.storage_root))) END",
        &Enrollment::replaces},
};

template <>
inline constexpr auto kColumns<RejectedEnrollment> =
    std::tuple{Column{"id", &RejectedEnrollment::id}, Column{"hostname", &RejectedEnrollment::hostname},
               Column{"ek_hash", &RejectedEnrollment::ek_hash}};

void add_enrollment(Session& session, const OpenEnrollment& enrollment,
                    const std::vector<verifier::Finding>& findings) {
    insert(session, "enrollments", NewEnrollment{enrollment, findings});
}

std::optional<OpenEnrollment> lock_enrollment(Session& session, const std::string& id) {
    return find<OpenEnrollment>(session, "FROM enrollments WHERE id = $1 /*+ FOR UPDATE +*/", {id});
}

std::optional<std::string> enrollment_state_of(Session& session, const std::string& id) {
    return value<std::string>(session, "SELECT state FROM enrollments WHERE id = $1", {id});
}

std::optional<Enrollment> find_enrollment(Session& session, const std::string& id) {
    return find<Enrollment>(session, "FROM enrollments WHERE id = $1", {id});
}

std::vector<Enrollment> list_enrollments(Session& session, const std::string& state, const std::string& after,
                                         unsigned limit) {
    if (state.empty()) {
        return select<Enrollment>(session, "FROM enrollments WHERE id > $1 ORDER BY enrollments.id LIMIT $2",
                                  {after, limit});
    }
    return select<Enrollment>(session, "FROM enrollments WHERE state = $1 AND id > $2 ORDER BY enrollments.id LIMIT $3",
                              {state, after, limit});
}

std::int64_t count_open_enrollments(Session& session) {
    return number(session, "SELECT COUNT(*) FROM enrollments WHERE state IN ($1, $2)", {kChallenged, kWaiting});
}

std::int64_t count_waiting_enrollments(Session& session) {
    return number(session, "SELECT COUNT(*) FROM enrollments WHERE state = $1", {kWaiting});
}

void count_wrong_secret(Session& session, const std::string& id) {
    session.execute("UPDATE enrollments SET attempts = attempts + 1 WHERE id = $1", {id});
}

void set_enrollment_state(Session& session, const std::string& id, const char* state, const std::string& reason) {
    update(session, "enrollments", {{"state", state}, {"reason", reason}}, {{"id", id}});
}

void set_enrollment_approved(Session& session, const std::string& id, const std::string& endpoint,
                             const std::string& certificate) {
    update(session, "enrollments", {{"state", kApproved}, {"endpoint", endpoint}, {"certificate", certificate}},
           {{"id", id}});
}

void reject_others_waiting(Session& session, const OpenEnrollment& enrollment, const std::string& reason) {
    session.execute(
        "UPDATE enrollments SET state = $1, reason = $2 WHERE state = $3 AND id <> $4 AND "
        "(ek_hash = $5 OR ek_key = $6 OR ($10 <> 0 AND (ak_key = $7 OR (ecc_key <> '' AND ecc_key = $8) OR "
        "(storage_root <> '' AND storage_root = $9))))",
        {kRejected, reason, kWaiting, enrollment.id, enrollment.ek_hash, enrollment.ek_key, enrollment.ak_key,
         enrollment.ecc_key, enrollment.storage_root, enrollment.endorsed});
}

std::vector<RejectedEnrollment> reject_waiting_since(Session& session, Seconds time, const std::string& reason) {
    return returning<RejectedEnrollment>(
        session, "UPDATE enrollments SET state = $1, reason = $2 WHERE state = $3 AND time < $4",
        {kRejected, reason, kWaiting, time});
}

void drop_unanswered_enrollments(Session& session, Seconds now) {
    session.execute("DELETE FROM enrollments WHERE state = $1 AND expires < $2", {kChallenged, now});
}

void drop_decided_enrollments(Session& session, Seconds before) {
    session.execute("DELETE FROM enrollments WHERE state IN ($1, $2) AND time < $3", {kApproved, kRejected, before});
}

void add_enrollment_token(Session& session, const std::array<std::byte, 32>& hash, const std::string& group,
                          Seconds expires) {
    insert(session, "enrollment_tokens", {{"hash", hash}, {"group_name", group}, {"expires", expires}});
}

bool has_enrollment_token(Session& session, const Buffer& hash, Seconds now) {
    return exists(session, "FROM enrollment_tokens WHERE hash = $1 AND expires > $2", {hash, now});
}

std::optional<std::string> use_enrollment_token(Session& session, const Buffer& hash, Seconds now) {
    return value<std::string>(
        session, "DELETE FROM enrollment_tokens WHERE hash = $1 AND expires > $2 RETURNING group_name", {hash, now});
}

void drop_enrollment_tokens(Session& session, Seconds now) {
    session.execute("DELETE FROM enrollment_tokens WHERE expires < $1", {now});
}

void put_registered(Session& session, const std::string& ek_hash, const std::string& group) {
    put(session, "registered", "ek_hash", {{"ek_hash", ek_hash}, {"group_name", group}});
}

std::optional<std::string> registered_group(Session& session, const std::string& ek_hash) {
    return value<std::string>(session, "SELECT group_name FROM registered WHERE ek_hash = $1", {ek_hash});
}

}  // namespace gatehouse::server

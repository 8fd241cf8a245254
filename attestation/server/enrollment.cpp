// Enrollment: an endpoint shows its EK and AK, proves with ActivateCredential that one TPM has both, and gets
// a client certificate once somebody, or something set up beforehand, approves it.
#include <nlohmann/json.hpp>

#include "attestation/server/inside.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::server {
namespace {

constexpr std::int64_t kMostAttempts = 5;
constexpr std::size_t kMostChain = 8;
constexpr std::size_t kMostCertificate = 16 * 1024;
constexpr std::size_t kMostPublicArea = 2048;
constexpr const char* kDefaultGroup = "default";

constexpr const char* kEnrollmentColumns =
    "id, state, time, hostname, source, ek_hash, vendor, manufacturer, model, endorsed, findings, reason, "
    "(SELECT e.id FROM endpoints e WHERE e.ek_hash = enrollments.ek_hash)";

Enrollment enrollment_of(const Row& row) {
    Enrollment one;
    one.id = row.text(0);
    one.state = row.text(1);
    one.time = row.integer(2);
    one.hostname = row.text(3);
    one.source = row.text(4);
    one.ek_hash = row.text(5);
    one.vendor = row.text(6);
    one.manufacturer = row.text(7);
    one.model = row.text(8);
    one.endorsed = row.flag(9);
    one.findings = findings_from_json(row.text(10));
    one.reason = row.text(11);
    one.replaces = row.text(12);
    return one;
}

verifier::Source source_of(const std::string& name) {
    for (const verifier::Source one : {verifier::Source::kHypervisor, verifier::Source::kTpm}) {
        if (verifier::source_name(one) == name) return one;
    }
    throw ServiceError(400, "source", R"(source: must be "hypervisor" or "tpm")");
}

void demand_sizes(const protocol::EnrollRequest& request) {
    const auto demand = [](bool ok, const char* item, std::size_t limit) {
        if (!ok)
            throw ServiceError(400, "size", std::string(item) + ": empty, or larger than " + std::to_string(limit));
    };
    const auto fits = [](std::size_t size, std::size_t limit) { return size > 0 && size <= limit; };
    demand(fits(request.hostname.size(), 1012), "hostname", 253);
    demand(fits(request.ek_public.size(), kMostPublicArea), "ek_public", kMostPublicArea);
    demand(fits(request.ak_public.size(), kMostPublicArea), "ak_public", kMostPublicArea);
    demand(request.ek_certificate.size() <= kMostCertificate, "ek_certificate", kMostCertificate);
    demand(request.ek_chain.size() <= kMostChain, "ek_chain", kMostChain);
    for (const Buffer& one : request.ek_chain) demand(one.size() <= kMostCertificate, "ek_chain", kMostCertificate);
}

// A key that could sign what no TPM made vouches for nothing, whoever has it.
std::vector<verifier::Finding> checked_attestation_key(const protocol::EnrollRequest& request) {
    std::vector<verifier::Finding> findings =
        verifier::check_attestation_key(request.ak_public, source_of(request.source));
    if (!verifier::all_hold(findings))
        throw ServiceError(422, "attestation_key", "attestation key refused: " + first_failure(findings));
    return findings;
}

// The enrollment as activate() and approve() need it.
struct Open {
    std::string id, state, hostname, source, ek_hash, csr, vendor, manufacturer, model, reason, endpoint, certificate,
        endorsement;
    Buffer ek_public, ak_public, secret_hash, token_hash;
    std::int64_t attempts = 0;
    Seconds time = 0, expires = 0;
    bool endorsed = false;
};

std::optional<Open> find_open(Session& session, const std::string& id) {
    const auto row = session.one(
        "SELECT state, hostname, source, ek_hash, csr, vendor, manufacturer, model, reason, endpoint, "
        "certificate, "
        "ak_public, secret_hash, token_hash, attempts, expires, endorsed, ek_public, "
        "endorsement, time FROM enrollments WHERE id = $1 /*+ FOR UPDATE +*/",
        {id});
    if (!row) return std::nullopt;
    return Open{.id = id,
                .state = row->text(0),
                .hostname = row->text(1),
                .source = row->text(2),
                .ek_hash = row->text(3),
                .csr = row->text(4),
                .vendor = row->text(5),
                .manufacturer = row->text(6),
                .model = row->text(7),
                .reason = row->text(8),
                .endpoint = row->text(9),
                .certificate = row->text(10),
                .endorsement = row->text(18),
                .ek_public = row->blob(17),
                .ak_public = row->blob(11),
                .secret_hash = row->blob(12),
                .token_hash = row->blob(13),
                .attempts = row->integer(14),
                .time = row->integer(19),
                .expires = row->integer(15),
                .endorsed = row->flag(16)};
}

protocol::EnrollStatus status_of(const Open& open) {
    protocol::EnrollStatus status;
    status.state = open.state;
    if (open.state == "approved") {
        status.endpoint_id = open.endpoint;
        status.certificate = open.certificate;
    }
    if (open.state == "rejected") status.reason = open.reason;
    return status;
}

bool knows_secret(const Open& open, Bytes secret) { return equal_secret(open.secret_hash, sha256(secret)); }

void set_state(Session& session, Open& open, const char* state, const std::string& reason) {
    open.state = state;
    open.reason = reason;
    session.execute("UPDATE enrollments SET state = $1, reason = $2 WHERE id = $3", {state, reason, open.id});
}

std::string key_of(const Open& open) { return host::hex(verifier::endorsement_key_hash(open.ek_public)); }

// The endpoint, if any, whose EK this is though it was shown with other attributes or another policy then:
// the TPM has only one of that key, and is one endpoint only.
std::optional<std::string> disguised(Session& session, const Open& open) {
    // In the words of the index, without which this would read the whole fleet.
    const auto row = session.one("SELECT id FROM endpoints WHERE ek_key <> '' AND ek_key = $1 AND ek_hash <> $2",
                                 {key_of(open), open.ek_hash});
    if (!row) return std::nullopt;
    return "endpoint " + row->text(0) + " has this EK, in another public area";
}

// What stays known of an endpoint's TPM when its attestation key is another.
Buffer kept_of(Bytes tpm, Agreement agreement) {
    verifier::TpmState kept;
    if (agreement == Agreement::kBeforehand) kept.vaults = decode_tpm(tpm).vaults;
    return kept.vaults.empty() ? Buffer{} : encode_tpm(kept);
}

// The endpoint that has this EK: its new key takes the place of the old one, its history stays.
void replace_endpoint(Session& session, const Open& open, const std::string& group, Seconds now, const Issued& issued,
                      const Buffer& tpm) {
    session.execute(
        "UPDATE history SET until = e.last_seen, length = e.run_length FROM endpoints e "
        "WHERE e.id = $1 AND history.number = e.run",
        {open.endpoint});
    session.execute(
        "UPDATE endpoints SET hostname = $1, search = $2, group_name = $3, source = $4, state = $5, vendor = "
        "$6, "
        "manufacturer = $7, model = $8, ak_public = $9, enrolled = $10, since = $10, lease_until = 0, reason "
        "= '', "
        "policy = '', tpm = $14, wanted = 0, log_hash = $11, outcomes = '', run = 0, run_length = 0, "
        "certificate = $12, next_certificate = $11, ek_key = $15, endorsement_fault = '' WHERE id = $13",
        {open.hostname, lower_case(open.hostname + " " + open.endpoint + " " + open.ek_hash), group, open.source,
         static_cast<std::int64_t>(State::kNew), open.vendor, open.manufacturer, open.model, open.ak_public, now,
         Bytes(), issued.hash, open.endpoint, tpm, key_of(open)});
    session.execute("DELETE FROM evidence WHERE endpoint = $1", {open.endpoint});
    session.execute("DELETE FROM event_logs WHERE endpoint = $1", {open.endpoint});
    session.execute("DELETE FROM outcomes WHERE endpoint = $1", {open.endpoint});
}

void insert_endpoint(Session& session, const Open& open, const std::string& group, Seconds now, const Issued& issued) {
    session.execute(
        "INSERT INTO endpoints (id, hostname, search, group_name, source, state, ek_hash, vendor, "
        "manufacturer, model, "
        "ak_public, enrolled, since, last_seen, lease_until, reason, policy, tpm, last_nonce, wanted, "
        "log_hash, "
        "outcomes, run, run_length, certificate, next_certificate, ek_key) "
        "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, 0, 0, '', '', $13, 0, 0, $13, '', "
        "0, 0, $14, "
        "$13, $15)",
        {open.endpoint, open.hostname, lower_case(open.hostname + " " + open.endpoint + " " + open.ek_hash), group,
         open.source, static_cast<std::int64_t>(State::kNew), open.ek_hash, open.vendor, open.manufacturer, open.model,
         open.ak_public, now, Bytes(), issued.hash, key_of(open)});
}

// What vouches for the endpoint, to be checked again with other vendors than now.
void keep_endorsement(Session& session, const Open& open) {
    session.execute("DELETE FROM endorsements WHERE endpoint = $1", {open.endpoint});
    if (open.endorsed) {
        session.execute("INSERT INTO endorsements (endpoint, time, content) VALUES ($1, $2, $3)",
                        {open.endpoint, open.time, open.endorsement});
    }
    session.execute("UPDATE endpoints SET endorsement_checked = $1 WHERE id = $2",
                    {open.endorsed ? kNeverChecked : kNothingToCheck, open.endpoint});
}

void drop_expired(Session& session, Seconds now) {
    session.execute("DELETE FROM enrollments WHERE state = 'challenged' AND expires < $1", {now});
}

std::int64_t open_enrollments(Session& session) {
    return session.one("SELECT COUNT(*) FROM enrollments WHERE state IN ('challenged', 'waiting')").value().integer(0);
}

void demand_group(Session& session, const std::string& group) {
    if (!session.one("SELECT 1 FROM groups WHERE name = $1", {group})) not_found("group \"" + group + "\"");
}

// What approves an enrollment without an operator.
struct Automatic {
    std::string group;  // empty: nothing does
    std::string by;
    std::string why_not;
    Agreement agreement = Agreement::kNow;
};

Automatic automatic(Session& session, const Open& open, Seconds now) {
    const auto present = session.one("SELECT id, source, state FROM endpoints WHERE ek_hash = $1", {open.ek_hash});
    if (present && present->integer(2) == static_cast<std::int64_t>(State::kRetired))
        return {{}, {}, "endpoint " + present->text(0) + " with this EK was retired"};
    if (const auto why_not = disguised(session, open)) return {{}, {}, *why_not};
    // Evidence of another source is worth less, or more, than what somebody agreed to.
    if (present && present->text(1) != open.source)
        return {{}, {}, "endpoint " + present->text(0) + " with this EK has source \"" + present->text(1) + "\""};
    if (const auto row = session.one("SELECT group_name FROM registered WHERE ek_hash = $1", {open.ek_hash}))
        return {row->text(0), "registered EK", {}, Agreement::kBeforehand};
    if (!open.endorsed) return {{}, {}, "EK not endorsed: " + open.reason};
    if (open.token_hash.empty()) return {{}, {}, "came without a token, its EK is not registered"};
    const Rows used = session.query(
        "DELETE FROM enrollment_tokens WHERE hash = $1 AND expires > $2 RETURNING group_name", {open.token_hash, now});
    if (used.empty()) return {{}, {}, "its token was used by another one meanwhile, or expired"};
    return {used.front().text(0), "enrollment token", {}};
}

}  // namespace

// Within a write job; its last step.
void Service::Inside::approve(Session& session, const std::string& id, const std::string& group, const std::string& who,
                              Agreement agreement) {
    Open open = find_open(session, id).value();
    demand_group(session, group);
    if (const auto why_not = disguised(session, open)) throw ServiceError(409, "endorsement_key", *why_not);
    const auto present =
        session.one("SELECT id, state, tpm FROM endpoints WHERE ek_hash = $1 /*+ FOR UPDATE +*/", {open.ek_hash});
    open.endpoint = present ? present->text(0) : new_id(now());
    const Key request_key = key_of_request(open.csr);
    const Issued issued = authority->issue_client(request_key.get(), open.endpoint, now(), options.certificate_days);
    if (present) {
        replace_endpoint(session, open, group, now(), issued, kept_of(present->blob(2), agreement));
    } else {
        insert_endpoint(session, open, group, now(), issued);
    }
    keep_endorsement(session, open);
    session.execute("UPDATE enrollments SET state = 'approved', endpoint = $1, certificate = $2 WHERE id = $3",
                    {open.endpoint, issued.pem, id});
    const nlohmann::json detail{{"endpoint", open.endpoint}, {"group", group},
                                {"ek_hash", open.ek_hash},   {"source", open.source},
                                {"hostname", open.hostname}, {"replaces", bool(present)}};
    if (present && present->integer(1) != static_cast<std::int64_t>(State::kNew)) {
        record_change(session,
                      {open.endpoint, open.hostname, group, static_cast<State>(present->integer(1)), State::kNew,
                       "enrolled again", ""},
                      who);
    }
    append_audit(session, now(), {who, "endpoint.approve", id, detail.dump()});
}

void Service::Inside::drop_old_enrollments(Session& session) {
    drop_expired(session, now());
    session.execute("DELETE FROM enrollment_tokens WHERE expires < $1", {now()});
    const std::string why = "nobody approved it within " + std::to_string(options.waiting_days) + " days: enroll again";
    const Rows forgotten = session.query(
        "UPDATE enrollments SET state = 'rejected', reason = $1 WHERE state = 'waiting' AND time < $2 "
        "RETURNING id, hostname, ek_hash",
        {why, now() - Seconds{options.waiting_days} * 86'400});
    for (const Row& row : forgotten) {
        const nlohmann::json detail{{"hostname", row.text(1)}, {"ek_hash", row.text(2)}, {"reason", why}};
        append_audit(session, now(), {"system", "enrollment.expire", row.text(0), detail.dump()});
    }
    // Those that were decided are in the audit log.
    session.execute("DELETE FROM enrollments WHERE state IN ('approved', 'rejected') AND time < $1",
                    {now() - Seconds{options.history_days} * 86'400});
}

protocol::EnrollChallenge Service::enroll(const protocol::EnrollRequest& request) {
    demand_sizes(request);
    const Seconds now = inside_->now();
    (void)key_of_request(request.csr);
    std::vector<verifier::Finding> findings = checked_attestation_key(request);
    const verifier::EndorsementVerdict endorsement = verifier::verify_endorsement(
        {request.ek_certificate, request.ek_chain, request.ek_public}, *inside_->trust().store, now);
    findings.insert(findings.begin(), endorsement.findings.begin(), endorsement.findings.end());

    const Buffer secret = random_bytes(protocol::kActivationSecretSize);
    protocol::EnrollChallenge challenge;
    challenge.id = new_id(now);
    challenge.expires_s = inside_->options.enrollment_lifetime_s;
    try {
        const verifier::AttestationKey key(request.ak_public);
        verifier::Credential credential = verifier::make_credential(request.ek_public, key.name(), secret);
        challenge.credential_blob = std::move(credential.blob);
        challenge.secret = std::move(credential.secret);
    } catch (const host::ToolError& error) {
        throw ServiceError(422, "endorsement_key", std::string("endorsement key refused: ") + error.what());
    }

    const std::string ek_hash = host::hex(verifier::endorsement_hash(request.ek_public));
    const std::string hostname = clean_text(request.hostname, 1012);
    const bool endorsed = endorsement.accepted();
    const Buffer token_hash = [&] {
        if (request.token.empty()) return Buffer{};
        const Sha256Digest hash = sha256(host::text_bytes(request.token));
        return Buffer(hash.begin(), hash.end());
    }();
    inside_->database->write([&](Session& session) {
        if (!token_hash.empty() &&
            !session.one("SELECT 1 FROM enrollment_tokens WHERE hash = $1 AND expires > $2", {token_hash, now})) {
            throw ServiceError(403, "enrollment_token", "token: unknown, used or expired; ask for a new one");
        }
        drop_expired(session, now);
        // Strangers can fill the queue; who was announced is let in all the same.
        const bool announced =
            !token_hash.empty() || session.one("SELECT 1 FROM registered WHERE ek_hash = $1", {ek_hash});
        if (!announced && open_enrollments(session) >= inside_->options.most_open_enrollments)
            throw ServiceError(503, "too_many_enrollments", "too many enrollments are open; try again later", 60);
        session.execute(
            "INSERT INTO enrollments (id, state, time, expires, hostname, source, ek_hash, ek_public, "
            "ak_public, csr, "
            "vendor, manufacturer, model, endorsed, findings, reason, secret_hash, attempts, token_hash, "
            "endpoint, "
            "certificate, endorsement) VALUES ($1, 'challenged', $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, "
            "$12, "
            "$13, $14, $15, $16, 0, $17, '', '', $18)",
            {challenge.id, now, now + challenge.expires_s, hostname, request.source, ek_hash, request.ek_public,
             request.ak_public, request.csr, endorsed ? clean_text(endorsement.vendor, 256) : "",
             clean_text(endorsement.manufacturer, 256), clean_text(endorsement.model, 256), endorsed,
             findings_json(findings), first_failure(endorsement.findings), sha256(secret), token_hash,
             endorsed ? endorsement_json(request.ek_certificate, request.ek_chain) : ""});
    });
    return challenge;
}

protocol::EnrollStatus Service::activate(const std::string& id, Bytes secret) {
    const Seconds now = inside_->now();
    protocol::EnrollStatus status;
    bool wrong = false;
    bool fresh = false;
    inside_->database->write([&](Session& session) {
        wrong = false;
        std::optional<Open> open = find_open(session, id);
        if (!open || (open->state == "challenged" && open->expires < now))
            throw ServiceError(404, "enrollment",
                               "enrollment " + clean_text(id, 64) + ": unknown or expired; enroll again");
        if (open->attempts >= kMostAttempts)
            throw ServiceError(403, "activation", "too many wrong secrets; enroll again");
        wrong = !knows_secret(*open, secret);
        if (wrong) {
            session.execute("UPDATE enrollments SET attempts = attempts + 1 WHERE id = $1", {id});
            return;
        }
        fresh = open->state == "challenged";
        if (fresh) {
            // A later one by the same TPM takes the place of those that wait.
            session.execute(
                "UPDATE enrollments SET state = 'rejected', reason = 'the same TPM enrolled again' "
                "WHERE ek_hash = $1 AND state = 'waiting' AND id <> $2",
                {open->ek_hash, id});
            const Automatic by = automatic(session, *open, now);
            set_state(session, *open, "waiting", by.why_not);
            if (!by.group.empty()) {
                inside_->approve(session, id, by.group, by.by, by.agreement);
                open = find_open(session, id);
            } else {
                const nlohmann::json detail{
                    {"ek_hash", open->ek_hash}, {"hostname", open->hostname}, {"reason", by.why_not}};
                append_audit(session, now, {"system", "enrollment.waiting", id, detail.dump()});
            }
        }
        status = status_of(*open);
    });
    if (wrong) throw ServiceError(403, "activation", "the secret is not the one of the challenge");
    if (fresh) ++inside_->totals.enrollments;
    return status;
}

protocol::EnrollStatus Service::enrollment_status(const std::string& id, Bytes secret) {
    // As activate(), so that secrets cannot be tried here without being counted.
    const auto open = inside_->read(
        [&](Session& session) { return session.one("SELECT state FROM enrollments WHERE id = $1", {id}); });
    if (open && open->text(0) == "challenged")
        throw ServiceError(409, "enrollment", "the challenge is not answered yet");
    return activate(id, secret);
}

Page<Enrollment> Service::enrollments(const Principal& by, const std::string& state, const std::string& cursor,
                                      unsigned limit) {
    demand_role(by, Role::kReadOnly);
    const unsigned size = page_size(limit);
    static const std::string select = std::string("SELECT ") + kEnrollmentColumns + " FROM enrollments WHERE ";
    static const std::string of_state = select + "state = $1 AND id > $2 ORDER BY enrollments.id LIMIT $3";
    static const std::string of_all = select + "id > $1 ORDER BY enrollments.id LIMIT $2";
    const Rows rows = inside_->read([&](Session& session) {
        return state.empty() ? session.query(of_all, {cursor, size + 1})
                             : session.query(of_state, {state, cursor, size + 1});
    });
    Page<Enrollment> page;
    for (const Row& row : rows) page.rows.push_back(enrollment_of(row));
    if (page.rows.size() > size) {
        page.rows.pop_back();
        page.next = page.rows.back().id;
    }
    return page;
}

Enrollment Service::enrollment(const Principal& by, const std::string& id) {
    demand_role(by, Role::kReadOnly);
    static const std::string select = std::string("SELECT ") + kEnrollmentColumns + " FROM enrollments WHERE id = $1";
    const auto row = inside_->read([&](Session& session) { return session.one(select, {id}); });
    if (!row) not_found("enrollment " + clean_text(id, 64));
    return enrollment_of(*row);
}

namespace {

void demand_waiting(const std::optional<Open>& open, const std::string& id) {
    if (!open) not_found("enrollment " + clean_text(id, 64));
    if (open->state != "waiting")
        throw ServiceError(409, "enrollment_state", "enrollment " + id + " is " + open->state + ", not waiting");
}

}  // namespace

void Service::approve(const Principal& by, const std::string& id, const std::string& group) {
    demand_role(by, Role::kOperator);
    inside_->database->write([&](Session& session) {
        demand_waiting(find_open(session, id), id);
        inside_->approve(session, id, group.empty() ? kDefaultGroup : group, by.name, Agreement::kNow);
    });
}

void Service::reject(const Principal& by, const std::string& id, const std::string& reason) {
    demand_role(by, Role::kOperator);
    const std::string why = clean_text(reason, 1024);
    const nlohmann::json detail{{"reason", why}};
    inside_->write({by.name, "enrollment.reject", clean_text(id, 64), detail.dump()}, [&](Session& session) {
        std::optional<Open> open = find_open(session, id);
        demand_waiting(open, id);
        set_state(session, *open, "rejected", why);
    });
}

std::string Service::create_enrollment_token(const Principal& by, const std::string& group, Seconds lifetime_s) {
    demand_role(by, Role::kOperator);
    constexpr Seconds most = 90 * 86'400;
    if (lifetime_s <= 0 || lifetime_s > most)
        throw ServiceError(400, "lifetime", "lifetime_s: must be 1 to " + std::to_string(most));
    std::string text = "ge_" + verifier::base64url(random_bytes(32));
    const nlohmann::json detail{{"group", group}, {"lifetime_s", lifetime_s}};
    inside_->write({by.name, "enrollment_token.create", clean_text(group, 64), detail.dump()}, [&](Session& session) {
        demand_group(session, group);
        session.execute("INSERT INTO enrollment_tokens (hash, group_name, expires) VALUES ($1, $2, $3)",
                        {sha256(host::text_bytes(text)), group, inside_->now() + lifetime_s});
    });
    return text;
}

void Service::register_endorsement(const Principal& by, const std::string& ek_hash, const std::string& group) {
    demand_role(by, Role::kOperator);
    const std::string hash = lower_case(ek_hash);
    if (hash.size() != 64 || hash.find_first_not_of("0123456789abcdef") != std::string::npos)
        throw ServiceError(400, "ek_hash", "ek_hash: must be 64 hexadecimal digits");
    const nlohmann::json detail{{"group", group}};
    inside_->write({by.name, "endorsement.register", hash, detail.dump()}, [&](Session& session) {
        demand_group(session, group);
        session.execute(
            "INSERT INTO registered (ek_hash, group_name) VALUES ($1, $2) "
            "ON CONFLICT (ek_hash) DO UPDATE SET group_name = excluded.group_name",
            {hash, group});
    });
}

}  // namespace gatehouse::server

#include "attestation/server/service.hpp"

#include <chrono>

#include "attestation/server/inside.hpp"
#include "attestation/server/migrations.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::server {
namespace {

constexpr std::string_view kTokenPrefix = "gh_";
constexpr std::size_t kTokenSize = 32;
constexpr unsigned kServerDays = 365;
constexpr Seconds kTokenUseStep = 60;  // last_used is not written more often

struct NewToken {
    std::string text;
    Sha256Digest hash;
};
NewToken new_token() {
    const std::string text = std::string(kTokenPrefix) + verifier::base64url(random_bytes(kTokenSize));
    return {text, sha256(host::text_bytes(text))};
}

void insert_token(Session& session, const Sha256Digest& hash, const std::string& name, Role role, Seconds now,
                  Seconds expires) {
    session.execute("INSERT INTO tokens (hash, name, role, created, expires, last_used) VALUES ($1, $2, $3, $4, $5, 0)",
                    {hash, name, static_cast<std::int64_t>(role), now, expires});
}

}  // namespace

// Keys and certificate of one server are made together, as one secret, so that processes that start at once
// cannot mix theirs: u16 length || key || certificate.
Service::Inside::Inside(const ServiceOptions& given)
    : options(given), sealer(given.directory), database(Database::open(given.database)) {
    migrate(*database);
    const Buffer both = shared_secret(*database, sealer, "authority", [this] {
        const CertificateAuthority::Made made = CertificateAuthority::make(options.issuer + " CA", now());
        Buffer bytes(4 + made.key.size() + made.certificate.size());
        Writer writer(bytes, Endian::kBig);
        writer.sized(made.key);
        writer.sized(made.certificate);
        return bytes;
    });
    Reader reader(both, Endian::kBig);
    const Bytes key_der = reader.sized();
    const Bytes certificate_der = reader.sized();
    authority = std::make_unique<CertificateAuthority>(CertificateAuthority::load(key_der, certificate_der));
    result_key =
        key_from_der(shared_secret(*database, sealer, "result key", [] { return key_to_der(new_key().get()); }));
    nonce_key = shared_secret(*database, sealer, "nonce key", [] { return random_bytes(32); });
}

Seconds Service::Inside::now() const {
    if (options.clock) return options.clock();
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

void Service::Inside::write(const AuditNote& note, const Database::Job& job) {
    database->write([&](Session& session) {
        job(session);
        append_audit(session, now(), note);
    });
}

Service::Service(const ServiceOptions& options) : inside_(std::make_unique<Inside>(options)) {}
Service::~Service() = default;

// --- set-up

std::optional<std::string> Service::first_admin_token() {
    const NewToken token = new_token();
    bool first = false;
    inside_->database->write([&](Session& session) {
        // Noted apart from the tokens: who revokes the last one does not get another by a restart.
        first = session.execute(
                    "INSERT INTO settings (name, value) VALUES ('first token', 1) "
                    "ON CONFLICT (name) DO NOTHING") == 1;
        if (!first) return;
        insert_token(session, token.hash, "first-admin", Role::kAdmin, inside_->now(), 0);
        append_audit(session, inside_->now(), {"system", "token.create", "first-admin", R"({"role":"admin"})"});
    });
    if (!first) return std::nullopt;
    return token.text;
}

std::string Service::ca_certificate() const { return inside_->authority->pem(); }

Service::KeyPair Service::server_certificate(const std::vector<std::string>& names) {
    const Key key = new_key();
    const Issued issued = inside_->authority->issue_server(key.get(), names, inside_->now(), kServerDays);
    return {issued.pem + ca_certificate(), private_pem(key.get())};
}

std::string Service::result_key() const { return public_pem(inside_->result_key.get()); }

// --- tokens

std::optional<Principal> Service::authenticate(std::string_view token) {
    if (!token.starts_with(kTokenPrefix) || token.size() > 128) return std::nullopt;
    // The look-up is by the hash: what its time tells of the hash tells nothing of the token.
    return inside_->principal_of(sha256(host::text_bytes(token)));
}

std::optional<Principal> Service::authenticate_certificate(Bytes certificate_der) {
    return inside_->principal_of(sha256(certificate_der));
}

std::optional<Principal> Service::Inside::principal_of(const Sha256Digest& hash) {
    const auto row = read([&](Session& session) {
        return session.one("SELECT name, role, expires, last_used FROM tokens WHERE hash = $1", {hash});
    });
    if (!row || (row->integer(2) != 0 && row->integer(2) <= now())) return std::nullopt;
    if (now() - row->integer(3) >= kTokenUseStep) {
        database->write([&](Session& session) {
            session.execute("UPDATE tokens SET last_used = $1 WHERE hash = $2", {now(), hash});
        });
    }
    return Principal{row->text(0), static_cast<Role>(row->integer(1))};
}

void Service::Inside::add_token(const Principal& by, const std::string& name, Role role, Seconds expires,
                                const Sha256Digest& hash) {
    const std::string detail = std::string(R"({"role":")") + name_of(role) + "\"}";
    write({by.name, "token.create", name, detail}, [&](Session& session) {
        if (session.one("SELECT 1 FROM tokens WHERE name = $1", {name}))
            throw ServiceError(409, "exists", "token \"" + name + "\": there is one of that name; revoke it first");
        insert_token(session, hash, name, role, now(), expires);
    });
}

std::string Service::create_token(const Principal& by, const std::string& name, Role role, Seconds lifetime_s) {
    demand_role(by, Role::kAdmin);
    demand_name(name, "token name");
    if (lifetime_s < 0) throw ServiceError(400, "lifetime", "lifetime_s: must not be negative");
    const NewToken token = new_token();
    inside_->add_token(by, name, role, lifetime_s == 0 ? 0 : inside_->now() + lifetime_s, token.hash);
    return token.text;
}

std::string Service::create_certificate(const Principal& by, const std::string& name, Role role, Seconds lifetime_s,
                                        const std::string& csr) {
    constexpr Seconds kDay = 86400, kMostDays = 825;
    demand_role(by, Role::kAdmin);
    demand_name(name, "token name");
    if (lifetime_s < 0 || lifetime_s > kMostDays * kDay)
        throw ServiceError(400, "lifetime", "lifetime_s: a certificate is good for 825 days at most");
    if (lifetime_s == 0) lifetime_s = inside_->options.certificate_days * kDay;
    const Key key = key_of_request(csr);
    const Seconds now = inside_->now();
    const auto days = static_cast<unsigned>((lifetime_s + kDay - 1) / kDay);
    const Issued issued = inside_->authority->issue_client(key.get(), name, now, days);
    inside_->add_token(by, name, role, now + lifetime_s, issued.hash);
    return issued.pem;
}

std::vector<Service::Token> Service::tokens(const Principal& by) {
    demand_role(by, Role::kAdmin);
    const Rows rows = inside_->read([](Session& session) {
        return session.query("SELECT name, role, created, expires, last_used FROM tokens ORDER BY name");
    });
    std::vector<Token> all;
    for (const Row& row : rows) {
        all.push_back({row.text(0), static_cast<Role>(row.integer(1)), row.integer(2), row.integer(3), row.integer(4)});
    }
    return all;
}

void Service::revoke_token(const Principal& by, const std::string& name) {
    demand_role(by, Role::kAdmin);
    inside_->write({by.name, "token.revoke", clean_text(name, 64)}, [&](Session& session) {
        if (session.execute("DELETE FROM tokens WHERE name = $1", {name}) == 0) not_found("token \"" + name + "\"");
    });
}

// --- certificates of endpoints

std::optional<std::string> Service::endpoint_of_certificate(Bytes certificate_der) {
    const Sha256Digest hash = sha256(certificate_der);
    const auto present = inside_->read([&](Session& session) {
        return session.one("SELECT id FROM endpoints WHERE certificate = $1 AND state <> $2",
                           {hash, static_cast<std::int64_t>(State::kRetired)});
    });
    if (present) return present->text(0);
    const auto renewed = inside_->read([&](Session& session) {
        return session.one("SELECT id FROM endpoints WHERE next_certificate = $1 AND state <> $2",
                           {hash, static_cast<std::int64_t>(State::kRetired)});
    });
    if (!renewed) return std::nullopt;
    // The endpoint has the new one: from now on the old one is superseded.
    inside_->database->write([&](Session& session) {
        session.execute(
            "UPDATE endpoints SET certificate = $1, next_certificate = $2 WHERE id = $3 AND next_certificate "
            "= $1",
            {hash, Bytes(), renewed->text(0)});
    });
    return renewed->text(0);
}

std::string Service::renew_certificate(const std::string& endpoint, const std::string& csr) {
    const Key key = key_of_request(csr);
    const Issued issued =
        inside_->authority->issue_client(key.get(), endpoint, inside_->now(), inside_->options.certificate_days);
    inside_->write({endpoint_name(endpoint), "certificate.renew", endpoint}, [&](Session& session) {
        const std::int64_t changed =
            session.execute("UPDATE endpoints SET next_certificate = $1 WHERE id = $2 AND state <> $3",
                            {issued.hash, endpoint, static_cast<std::int64_t>(State::kRetired)});
        if (changed == 0) not_found(endpoint_name(endpoint));
    });
    return issued.pem;
}

// --- audit

Page<AuditEntry> Service::audit(const Principal& by, const std::string& cursor, unsigned limit) {
    demand_role(by, Role::kReadOnly);
    const unsigned size = page_size(limit);
    std::int64_t before = std::numeric_limits<std::int64_t>::max();
    if (!cursor.empty()) before = number_of_cursor(cursor);
    Page<AuditEntry> page;
    page.rows = inside_->read([&](Session& session) { return audit_before(session, before, size); });
    if (page.rows.size() == size && page.rows.back().number > 1) page.next = std::to_string(page.rows.back().number);
    return page;
}

std::shared_ptr<void> Service::audit_turn() {
    constexpr unsigned kMostTurns = 2, kRetryAfter = 10;
    std::atomic<unsigned>& taken = inside_->audit_turns;
    if (taken.fetch_add(1) >= kMostTurns) {
        --taken;
        throw ServiceError(503, "busy", "the audit log is being read whole by others; try again later", kRetryAfter);
    }
    return {&taken, [](std::atomic<unsigned>* turns) { --*turns; }};
}

Service::AuditCheck Service::verify_audit() { return check_audit(*inside_->database); }

void Service::export_audit(const std::function<void(const AuditEntry&)>& each) {
    for (std::int64_t after = 0;;) {
        const auto batch = inside_->read([&](Session& session) { return audit_after(session, after, 1000); });
        if (batch.empty()) return;
        for (const AuditEntry& entry : batch) each(entry);
        after = batch.back().number;
    }
}

void Service::note(const std::string& who, const std::string& action, const std::string& subject,
                   const std::string& detail_json) {
    inside_->write(
        {clean_text(who, 256), clean_text(action, 64), clean_text(subject, 256), clean_text(detail_json, 4096)},
        [](Session&) {});
}

// --- house-keeping

void Service::tick() {
    inside_->mark_stale();
    inside_->check_endorsements();
    inside_->deliver();
    constexpr Seconds sweep_every = 60;
    const Seconds now = inside_->now();
    Seconds last = inside_->last_sweep.load();
    if (now - last < sweep_every || !inside_->last_sweep.compare_exchange_strong(last, now)) return;
    inside_->database->write([this](Session& session) {
        inside_->drop_old_enrollments(session);
        inside_->drop_old(session);
    });
}

void Service::backup(const std::string& path) {
    inside_->database->backup(path);
    note("system", "database.backup", path, "{}");
}

bool Service::healthy() {
    try {
        return inside_->read([](Session& session) { return audit_length(session); }) >= 0;
    } catch (const std::exception&) {
        return false;
    }
}

Service::Totals Service::totals() const {
    const auto& all = inside_->totals;
    return {all.attestations, all.accepted, all.rejected, all.enrollments, all.delivered, all.failed};
}

}  // namespace gatehouse::server

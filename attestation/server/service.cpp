#include "attestation/server/service.hpp"

#include <chrono>

#include "attestation/server/database/administration.hpp"
#include "attestation/server/database/migrations.hpp"
#include "attestation/server/inside.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::server {
namespace {

constexpr std::string_view kTokenPrefix = "gh_";
constexpr std::size_t kTokenSize = 32;
constexpr unsigned kServerDays = 365;
constexpr Seconds kTokenUseStep = 60;  // last_used is not written more often

constexpr unsigned kRoomSeconds = 60;  // until somebody may have made room
constexpr unsigned kAwaySeconds = 5;   // until a database may have started again

// Tells who asks that there is no room, and that nothing was written; or that the database is away.
class DatabaseOfService final : public Database {
  public:
    explicit DatabaseOfService(std::unique_ptr<Database> under) : under_(std::move(under)) {}
    void write(const Job& job) override {
        told([&] { under_->write(job); });
    }
    void read(const Job& job) override {
        told([&] { under_->read(job); });
    }
    void backup(const std::string& path) override { under_->backup(path); }

  private:
    template <typename Step>
    static void told(Step step) {
        try {
            step();
        } catch (const DatabaseFull&) {
            std::throw_with_nested(ServiceError(
                507, "disk_full",
                "the server's disk is full, and nothing of this was written; make room there, and try again",
                kRoomSeconds));
        } catch (const DatabaseAway&) {
            std::throw_with_nested(ServiceError(
                503, "database_away",
                "the server's database cannot be reached, and whether this was written is not known; try again",
                kAwaySeconds));
        }
    }
    std::unique_ptr<Database> under_;
};

struct NewToken {
    std::string text;
    Sha256Digest hash;
};
Database& migrated(Database& database) {
    migrate(database);
    return database;
}

NewToken new_token() {
    const std::string text = std::string(kTokenPrefix) + verifier::base64url(random_bytes(kTokenSize));
    return {text, sha256(host::text_bytes(text))};
}

}  // namespace

// Keys and certificate of one server are made together, as one secret, so that processes that start at once
// cannot mix theirs: u16 length || key || certificate.
Service::Inside::Inside(const ServiceOptions& given)
    : options(given),
      sealer(given.directory),
      database(std::make_unique<DatabaseOfService>(Database::open(given.database))),
      result_keys(migrated(*database), sealer) {
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
    nonce_key = shared_secret(*database, sealer, "nonce key", [] { return random_bytes(32); });
    refresh_connection_keys();
}

// What another server has put in place of it is noticed at the next call. One after the other: what was read first may not
// be put in place last.
void Service::Inside::refresh_connection_keys() {
    const std::lock_guard one_refresh(connection_refresh_mutex);
    auto fresh = std::make_shared<const ConnectionKeys>(
        shared_secret(*database, sealer, kConnectionSecret, [] { return random_bytes(32); }));
    const std::lock_guard lock(connection_keys_mutex);
    connection_keys = std::move(fresh);
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
        first = take_first_token(session);
        if (!first) return;
        add_token(session, token.hash, {.name = "first-admin", .role = Role::kAdmin, .created = inside_->now()});
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

// --- tokens

std::optional<Principal> Service::authenticate(std::string_view token) {
    if (!token.starts_with(kTokenPrefix) || token.size() > 128) return std::nullopt;
    // The look-up is by the hash: what its time tells of the hash tells nothing of the token.
    return inside_->principal_of(sha256(host::text_bytes(token)));
}

std::optional<Principal> Service::authenticate_certificate(const Sha256Digest& certificate) {
    return inside_->principal_of(certificate);
}

std::optional<Principal> Service::Inside::principal_of(const Sha256Digest& hash) {
    const auto token = read([&](Session& session) { return find_token(session, hash); });
    if (!token || (token->expires != 0 && token->expires <= now())) return std::nullopt;
    if (now() - token->last_used >= kTokenUseStep)
        database->write([&](Session& session) { use_token(session, hash, now()); });
    return Principal{token->name, token->role};
}

void Service::Inside::add_token(const Principal& by, const std::string& name, Role role, Seconds expires,
                                const Sha256Digest& hash) {
    const std::string detail = std::string(R"({"role":")") + name_of(role) + "\"}";
    write({by.name, "token.create", name, detail}, [&](Session& session) {
        if (has_token_named(session, name))
            throw ServiceError(409, "exists", "token \"" + name + "\": there is one of that name; revoke it first");
        server::add_token(session, hash, {.name = name, .role = role, .created = now(), .expires = expires});
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

std::vector<Token> Service::tokens(const Principal& by) {
    demand_role(by, Role::kAdmin);
    return inside_->read([](Session& session) { return list_tokens(session); });
}

void Service::revoke_token(const Principal& by, const std::string& name) {
    demand_role(by, Role::kAdmin);
    inside_->write({by.name, "token.revoke", clean_text(name, 64)}, [&](Session& session) {
        if (!remove_token(session, name)) not_found("token \"" + name + "\"");
    });
}

// --- certificates of endpoints

std::optional<std::string> Service::endpoint_of_certificate(const Sha256Digest& certificate) {
    if (auto present = inside_->read([&](Session& session) { return id_of_certificate(session, certificate); }))
        return present;
    auto renewed = inside_->read([&](Session& session) { return id_of_next_certificate(session, certificate); });
    if (!renewed) return std::nullopt;
    // The endpoint has the new one: from now on the old one is superseded.
    inside_->database->write([&](Session& session) { use_next_certificate(session, *renewed, certificate); });
    return renewed;
}

bool Service::is_of_retired(const Sha256Digest& certificate) {
    return inside_->read([&](Session& session) { return is_certificate_of_retired(session, certificate); });
}

std::shared_ptr<const ConnectionKeys> Service::connection_keys() const {
    const std::lock_guard lock(inside_->connection_keys_mutex);
    return inside_->connection_keys;
}

void Service::rotate_connection_keys(const Principal& by) {
    demand_role(by, Role::kAdmin);
    Buffer fresh = random_bytes(32);
    const Buffer sealed = inside_->sealer.seal(kConnectionSecret, fresh);
    const std::string name = host::hex(ConnectionKeys(std::move(fresh)).secret_name());
    inside_->write({by.name, "connection_keys.rotate", name},
                   [&](Session& session) { replace_secret(session, kConnectionSecret, sealed); });
    inside_->refresh_connection_keys();
}

Seconds Service::now() const { return inside_->now(); }

std::string Service::renew_certificate(const std::string& endpoint, const std::string& csr) {
    const Key key = key_of_request(csr);
    const Issued issued =
        inside_->authority->issue_client(key.get(), endpoint, inside_->now(), inside_->options.certificate_days);
    inside_->write({endpoint_name(endpoint), "certificate.renew", endpoint}, [&](Session& session) {
        if (!set_next_certificate(session, endpoint, issued.hash)) not_found(endpoint_name(endpoint));
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

void Service::note(const std::string& who, AuditAction action, const std::string& subject,
                   const std::string& detail_json) {
    inside_->write({clean_text(who, 256), action, clean_text(subject, 256), clean_text(detail_json, 4096)},
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
    inside_->result_keys.refresh();
    inside_->refresh_connection_keys();
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
    return {all.attestations, all.accepted,   all.rejected,       all.enrollments, all.delivered,
            all.failed,       all.crls_taken, all.crls_unchanged, all.crls_failed};
}

}  // namespace gatehouse::server

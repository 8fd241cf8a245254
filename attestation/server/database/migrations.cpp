#include "attestation/server/database/migrations.hpp"

#include <array>

#include "attestation/server/database/record.hpp"
#include "attestation/verifier/endorsement.hpp"

namespace gatehouse::server {

namespace {
struct KeysOfEndpoint {
    std::string id, ek_key;
    Buffer ak_public;
};
}  // namespace

template <>
inline constexpr auto kColumns<KeysOfEndpoint> =
    std::tuple{Column{"id", &KeysOfEndpoint::id}, Column{"ek_key", &KeysOfEndpoint::ek_key},
               Column{"ak_public", &KeysOfEndpoint::ak_public}};

namespace {

struct Migration {
    const char* both;
    const char* sqlite;
    const char* postgresql;
    void (*then)(Session& session) = nullptr;
};

// What is read or written by the thousand (endpoints) is apart from what is large (evidence, logs) and from
// what is written seldom (history, outcomes), so that counting and listing touch narrow rows only.
constexpr const char* kTables = R"sql(
CREATE TABLE settings (          -- 'assignments', 'vendors': counted up when these change, so that every process knows
    name {text} PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO settings (name, value) VALUES ('assignments', 0), ('vendors', 0);

CREATE TABLE secrets (           -- sealed under the key of the server's directory
    name {text} PRIMARY KEY,
    value {blob} NOT NULL
);

CREATE TABLE tokens (
    hash {blob} PRIMARY KEY,     -- SHA-256 of the text
    name {text} NOT NULL UNIQUE,
    role BIGINT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,     -- 0: never
    last_used BIGINT NOT NULL
);
CREATE TABLE enrollment_tokens (
    hash {blob} PRIMARY KEY,
    group_name {text} NOT NULL,
    expires BIGINT NOT NULL
);

CREATE TABLE groups (name {text} PRIMARY KEY);
INSERT INTO groups (name) VALUES ('default');

CREATE TABLE registered (        -- endorsement keys that are approved when they come
    ek_hash {text} PRIMARY KEY,
    group_name {text} NOT NULL
);
CREATE TABLE vendors (
    name {text} PRIMARY KEY,
    content {text} NOT NULL      -- {"roots": [base64...], "intermediates", "revocations", "require_crl"}
);

CREATE TABLE enrollments (
    id {text} PRIMARY KEY,
    state {text} NOT NULL,       -- challenged, waiting, approved, rejected
    time BIGINT NOT NULL,
    expires BIGINT NOT NULL,     -- of the challenge
    hostname {text} NOT NULL,
    source {text} NOT NULL,
    ek_hash {text} NOT NULL,
    ek_public {blob} NOT NULL,
    ak_public {blob} NOT NULL,
    csr {text} NOT NULL,
    vendor {text} NOT NULL,
    manufacturer {text} NOT NULL,
    model {text} NOT NULL,
    endorsed BIGINT NOT NULL,
    findings {text} NOT NULL,
    reason {text} NOT NULL,
    secret_hash {blob} NOT NULL,
    attempts BIGINT NOT NULL,
    token_hash {blob} NOT NULL,  -- of the one-time token; empty: came without
    endpoint {text} NOT NULL,    -- once approved
    certificate {text} NOT NULL
);
CREATE INDEX enrollments_by_state ON enrollments (state, id);
CREATE INDEX enrollments_by_key ON enrollments (ek_hash);

CREATE TABLE endpoints (
    id {text} PRIMARY KEY,
    hostname {text} NOT NULL,
    search {text} NOT NULL,      -- lower-case hostname, id and EK hash
    group_name {text} NOT NULL,
    source {text} NOT NULL,
    state BIGINT NOT NULL,       -- State; kStale only once it was noticed
    ek_hash {text} NOT NULL UNIQUE,
    vendor {text} NOT NULL,
    manufacturer {text} NOT NULL,
    model {text} NOT NULL,
    ak_public {blob} NOT NULL,
    enrolled BIGINT NOT NULL,
    since BIGINT NOT NULL,       -- in this state since
    last_seen BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    reason {text} NOT NULL,
    policy {text} NOT NULL,      -- "name:version" of the last verdict
    tpm {blob} NOT NULL,         -- verifier::TpmState
    last_nonce BIGINT NOT NULL,  -- the newest used one's time of issue, microseconds
    wanted BIGINT NOT NULL,
    log_hash {blob} NOT NULL,
    outcomes {text} NOT NULL,    -- "name:version+" or "-", each policy that was tried last
    run BIGINT NOT NULL,         -- row of history that the last verdict belongs to
    run_length BIGINT NOT NULL,  -- how many verdicts that row stands for
    certificate {blob} NOT NULL, -- SHA-256 of the DER
    next_certificate {blob} NOT NULL  -- issued, not used yet
) {without rowid};
CREATE INDEX endpoints_by_state ON endpoints (state, id);
CREATE INDEX endpoints_by_lease ON endpoints (state, lease_until);
CREATE INDEX endpoints_by_group ON endpoints (group_name, id);
CREATE INDEX endpoints_by_certificate ON endpoints (certificate);
CREATE INDEX endpoints_by_next_certificate ON endpoints (next_certificate);

CREATE TABLE evidence (          -- of the last attestation of each endpoint
    endpoint {text} PRIMARY KEY,
    number BIGINT NOT NULL,
    time BIGINT NOT NULL,
    state BIGINT NOT NULL,
    policy {text} NOT NULL,
    reason {text} NOT NULL,
    source {text} NOT NULL,
    nonce {blob} NOT NULL,
    quote {blob} NOT NULL,
    signature {blob} NOT NULL,
    claims {blob} NOT NULL,
    pcr_values {blob} NOT NULL,
    tpm_before {blob} NOT NULL,  -- what was known of the TPM then
    result {text} NOT NULL
) {without rowid};
CREATE TABLE event_logs (        -- the same in every attestation of a boot, so written once a boot
    endpoint {text} PRIMARY KEY,
    log {blob} NOT NULL
) {without rowid};

CREATE TABLE history (           -- one row for each run of attestations with the same outcome
    number {integer key},
    endpoint {text} NOT NULL,
    time BIGINT NOT NULL,        -- of the first
    until BIGINT NOT NULL,       -- of the last; the present run's is in endpoints (since migration 8: all ones here)
    length BIGINT NOT NULL,
    state BIGINT NOT NULL,
    policy {text} NOT NULL,
    reason {text} NOT NULL,
    result {text} NOT NULL,      -- of the first
    verdict {text} NOT NULL
);
CREATE INDEX history_by_endpoint ON history (endpoint, number);
CREATE INDEX history_by_time ON history (until);

CREATE TABLE hours (             -- verdicts by hour; in shards, so that writers do not wait for one row
    hour BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    trusted BIGINT NOT NULL,
    unmeasured BIGINT NOT NULL,
    untrusted BIGINT NOT NULL,
    PRIMARY KEY (hour, shard)
) {without rowid};

CREATE TABLE policy_authorities (
    name {text} PRIMARY KEY,
    public_key {text} NOT NULL
);
CREATE TABLE policies (
    name {text} NOT NULL,
    version BIGINT NOT NULL,
    address {text} NOT NULL,
    added BIGINT NOT NULL,
    json {text} NOT NULL,
    jws {text} NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE TABLE assignments (
    group_name {text} NOT NULL REFERENCES groups (name),
    policy {text} NOT NULL,
    version BIGINT NOT NULL,
    stage BIGINT NOT NULL,
    PRIMARY KEY (group_name, policy, version),
    FOREIGN KEY (policy, version) REFERENCES policies (name, version)
);
CREATE TABLE outcomes (          -- of each policy that was tried on an endpoint's last evidence
    group_name {text} NOT NULL,
    policy {text} NOT NULL,
    version BIGINT NOT NULL,
    endpoint {text} NOT NULL,
    ok BIGINT NOT NULL,
    PRIMARY KEY (group_name, policy, version, endpoint)
) {without rowid};
CREATE INDEX outcomes_by_endpoint ON outcomes (endpoint);

CREATE TABLE actions (
    name {text} PRIMARY KEY,
    kind {text} NOT NULL,
    target {text} NOT NULL,
    secret {blob} NOT NULL       -- sealed
);
CREATE TABLE outbox (            -- events that an action is still to be told of
    number {integer key},
    action {text} NOT NULL,
    event {text} NOT NULL,
    created BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    due BIGINT NOT NULL,
    claim {text} NOT NULL,       -- of the process that delivers it just now
    claimed_until BIGINT NOT NULL
);
CREATE INDEX outbox_by_due ON outbox (due);

CREATE TABLE escrow (
    endpoint {text} NOT NULL,
    name {text} NOT NULL,
    time BIGINT NOT NULL,
    blob {blob} NOT NULL,
    PRIMARY KEY (endpoint, name)
);

CREATE TABLE audit (
    number BIGINT PRIMARY KEY,
    time BIGINT NOT NULL,
    who {text} NOT NULL,
    action {text} NOT NULL,
    subject {text} NOT NULL,
    detail {text} NOT NULL,
    hash {blob} NOT NULL
);
CREATE TABLE audit_head (        -- one row, locked by whoever appends
    number BIGINT NOT NULL,
    hash {blob} NOT NULL
);
)sql";

std::string key_hash(Bytes public_area) {
    try {
        return host::hex(verifier::endorsement_key_hash(public_area));
    } catch (const host::ToolError&) {
        return "";  // not a key: no TPM shows it again
    }
}

// Of two endpoints with one key the older one has it: a newer one of the same TPM keeps its own EK.
void add_keys_of_endpoints(Session& session) {
    constexpr unsigned at_once = 1000;
    std::string after;
    for (;;) {
        const auto all =
            select<KeysOfEndpoint>(session, "FROM endpoints WHERE id > $1 ORDER BY id LIMIT $2", {after, at_once});
        for (const KeysOfEndpoint& one : all) {
            for (const std::string& key : {one.ek_key, key_hash(one.ak_public)}) {
                if (key.empty()) continue;
                session.execute("INSERT INTO tpm_keys (key_hash, endpoint) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                                {key, one.id});
            }
        }
        if (all.size() < at_once) return;
        after = all.back().id;
    }
}

constexpr std::array kMigrations{
    Migration{kTables,
              R"sql(
INSERT INTO audit_head (number, hash) VALUES (0, X'');
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
)sql",
              R"sql(
INSERT INTO audit_head (number, hash) VALUES (0, '');
CREATE FUNCTION gatehouse_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$;
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION gatehouse_audit_is_append_only();
)sql"},
    // The EK alone, beside its public area (ek_hash); '' of endpoints that were enrolled before.
    Migration{R"sql(
ALTER TABLE endpoints ADD COLUMN ek_key {text} NOT NULL DEFAULT '';
CREATE UNIQUE INDEX endpoints_by_ek_key ON endpoints (ek_key) WHERE ek_key <> '';
)sql",
              "", ""},
    // The wishes of the last seconds, of all endpoints, at once. `wanted` is when evidence was asked for, 0
    // if it is not.
    Migration{R"sql(
CREATE INDEX endpoints_by_wish ON endpoints (wanted) WHERE wanted > 0;
)sql",
              "", ""},
    // Why a policy refused an endpoint's last evidence; '' until the next evidence of those that were judged
    // before. `ok` leads the index, so that SQLite takes it in place of the primary key.
    Migration{R"sql(
ALTER TABLE outcomes ADD COLUMN reason {text} NOT NULL DEFAULT '';
CREATE INDEX outcomes_refused ON outcomes (ok, group_name, policy, version, endpoint) WHERE ok = 0;
)sql",
              "", ""},
    // EK certificates are kept, and checked again when the vendors change: `endorsement_checked` is the
    // number of settings 'vendors' that an endpoint was checked with last; all ones if no vendor vouched for
    // it. Of those that were enrolled before only the vendor's name is known.
    Migration{R"sql(
ALTER TABLE enrollments ADD COLUMN endorsement {text} NOT NULL DEFAULT '';
CREATE TABLE endorsements (
    endpoint {text} PRIMARY KEY,
    time BIGINT NOT NULL,        -- when it was accepted
    content {text} NOT NULL      -- {"certificate": base64, "chain": [base64...]}
) {without rowid};
ALTER TABLE endpoints ADD COLUMN endorsement_fault {text} NOT NULL DEFAULT '';
ALTER TABLE endpoints ADD COLUMN endorsement_checked BIGINT NOT NULL DEFAULT 9223372036854775807;
UPDATE endpoints SET endorsement_checked = -1 WHERE vendor <> '';
CREATE INDEX endpoints_by_check ON endpoints (endorsement_checked);
)sql",
              "", ""},
    // One TPM is one endpoint: every key that an endpoint's TPM has shown, EK or attestation key, by the SHA-256 of its
    // SubjectPublicKeyInfo.
    Migration{R"sql(
CREATE TABLE tpm_keys (
    key_hash {text} PRIMARY KEY,
    endpoint {text} NOT NULL
) {without rowid};
ALTER TABLE enrollments ADD COLUMN ek_key {text} NOT NULL DEFAULT '';
ALTER TABLE enrollments ADD COLUMN ak_key {text} NOT NULL DEFAULT '';
)sql",
              "", "", add_keys_of_endpoints},
    // Keys of the same TPM whatever EK it shows (verifier::TpmIdentity) are in tpm_keys, too. What vouches for each EK of
    // an endpoint is kept and checked for itself: a fault of one is not shed by showing another. endpoints' column
    // endorsement_fault has the first fault that no operator has overruled.
    Migration{R"sql(
ALTER TABLE enrollments ADD COLUMN ecc_key {text} NOT NULL DEFAULT '';
ALTER TABLE enrollments ADD COLUMN storage_root {text} NOT NULL DEFAULT '';
CREATE TABLE ek_endorsements (
    endpoint {text} NOT NULL,
    ek_hash {text} NOT NULL,
    vendor {text} NOT NULL,
    time BIGINT NOT NULL,        -- when it was accepted
    content {text} NOT NULL,     -- as in endorsements; empty: not kept by an older program
    checked BIGINT NOT NULL,     -- the number of settings 'vendors' that it was checked with last
    fault {text} NOT NULL,
    overruled {text} NOT NULL,   -- the fault that an operator let it in with
    PRIMARY KEY (endpoint, ek_hash)
) {without rowid};
INSERT INTO ek_endorsements (endpoint, ek_hash, vendor, time, content, checked, fault, overruled)
    SELECT e.id, e.ek_hash, e.vendor, COALESCE(s.time, 0), COALESCE(s.content, ''), e.endorsement_checked,
        e.endorsement_fault, ''
    FROM endpoints e LEFT JOIN endorsements s ON s.endpoint = e.id
    WHERE e.endorsement_checked <> 9223372036854775807;
CREATE INDEX ek_endorsements_by_check ON ek_endorsements (checked);
DROP TABLE endorsements;
DROP INDEX endpoints_by_check;
ALTER TABLE endpoints DROP COLUMN endorsement_checked;
)sql",
              "", ""},
    // Present runs are never old: the sweep, each minute, does not read past all of them to find what is.
    Migration{R"sql(
UPDATE history SET until = 9223372036854775807 WHERE number IN (SELECT run FROM endpoints WHERE run <> 0 AND state <> 5);
)sql",
              "", ""},
    // CRLs that the server fetches, beside those that vendors were given with; and for each endpoint how old the CRLs are
    // that its EK certificate depends on, as of its last check.
    Migration{R"sql(
CREATE TABLE crls (
    scope {text} PRIMARY KEY,    -- of issuer, its key's identifier and issuing distribution point
    url {text} NOT NULL,
    issuer {text} NOT NULL,
    number {text} NOT NULL,      -- hexadecimal
    this_update BIGINT NOT NULL,
    next_update BIGINT NOT NULL, -- 0: it does not say
    fetched BIGINT NOT NULL,
    content {blob} NOT NULL
);
CREATE TABLE crl_sources (
    url {text} PRIMARY KEY,
    origin BIGINT NOT NULL,      -- CrlOrigin
    vendor {text} NOT NULL,
    seen BIGINT NOT NULL,
    due BIGINT NOT NULL,
    claim {text} NOT NULL,
    claimed_until BIGINT NOT NULL,
    tag {text} NOT NULL,
    modified {text} NOT NULL,
    scope {text} NOT NULL,
    tried BIGINT NOT NULL,
    fetched BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    fault {text} NOT NULL
);
ALTER TABLE endpoints ADD COLUMN crl_oldest BIGINT NOT NULL DEFAULT 0;
ALTER TABLE endpoints ADD COLUMN crl_end BIGINT NOT NULL DEFAULT 0;
ALTER TABLE endpoints ADD COLUMN crl_gap {text} NOT NULL DEFAULT '';
UPDATE ek_endorsements SET checked = -1;
)sql",
              "", ""},
};

struct Word {
    std::string_view word, sqlite, postgresql;
};
constexpr std::array kWords{
    Word{"{integer key}", "INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"},
    Word{"{blob}", "BLOB", "BYTEA"},
    Word{"{text}", "TEXT", "TEXT COLLATE \"C\""},
    Word{"{without rowid}", "WITHOUT ROWID", ""},
};

std::string spelled(std::string text, bool postgresql) {
    for (const Word& word : kWords) {
        const std::string_view by = postgresql ? word.postgresql : word.sqlite;
        for (std::size_t at = 0; (at = text.find(word.word, at)) != std::string::npos; at += by.size())
            text.replace(at, word.word.size(), by);
    }
    return text;
}

void migrate_locked(Session& session) {
    // SQLite's transaction is the lock; PostgreSQL's number is "GHmigrat".
    session.script("/*+ SELECT pg_advisory_xact_lock(5136475674490593652) +*/");
    session.script("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)");
    const std::int64_t present = value<std::int64_t>(session, "SELECT version FROM schema_version").value_or(0);
    const auto newest = static_cast<std::int64_t>(kMigrations.size());
    if (present > newest) {
        throw host::ToolError("the database has schema version " + std::to_string(present) + ", this program knows " +
                              std::to_string(newest) + ": use the newer program that made it");
    }
    if (present == newest) return;
    for (std::int64_t i = present; i < newest; ++i) {
        const Migration& step = kMigrations[static_cast<std::size_t>(i)];
        session.script(spelled(step.both, session.is_postgresql()));
        session.script(spelled(session.is_postgresql() ? step.postgresql : step.sqlite, session.is_postgresql()));
        if (step.then != nullptr) step.then(session);
    }
    session.execute("DELETE FROM schema_version");
    insert(session, "schema_version", {{"version", newest}});
}

}  // namespace

void migrate(Database& database) { database.write(migrate_locked); }

}  // namespace gatehouse::server

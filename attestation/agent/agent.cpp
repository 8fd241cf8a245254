#include "attestation/agent/agent.hpp"

#include <ctime>

#include "attestation/agent/client_key.hpp"
#include "attestation/agent/schedule.hpp"
#include "attestation/agent/server_client.hpp"
#include "hypervisor/base/hash.hpp"
#include "keyvault/host_support/escrow_blob.hpp"

namespace gatehouse::agent {
namespace {

constexpr const char* kIdentity = "identity.pem";
constexpr const char* kPendingKey = "pending.pem";
constexpr const char* kCa = "ca.pem";
constexpr const char* kConnectionKey = "connection-key.json";
constexpr std::time_t kLeastLeft = 600;  // s: a connection key with less is not used any more

std::string read_text(const std::string& path) {
    constexpr std::size_t kLimit = 1 << 20;
    const host::Buffer bytes = host::read_file(path, kLimit);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The server does not know this enrollment, or not with this secret: it has expired, or was taken up already.
bool is_gone(const Refused& refused) {
    return refused.status() == 401 || refused.status() == 403 || refused.status() == 404 || refused.status() == 409 ||
           refused.status() == 410;
}

}  // namespace

Agent::Agent(Config config, std::string token)
    : config_(std::move(config)), token_(std::move(token)), directory_(config_.state) {}
Agent::~Agent() = default;

std::string Agent::ca() {
    if (!config_.ca_file.empty()) return read_text(config_.ca_file);
    if (auto known = directory_.read(kCa)) return std::move(*known);
    if (config_.ca_pin.empty()) {
        throw host::ToolError("CA: not known; give --ca FILE, or --ca-pin with what the server printed at its start",
                              host::ExitCode::kUsage);
    }
    std::string found = fetch_pinned_ca(config_.server, config_.ca_pin);
    directory_.write(kCa, found);
    return found;
}

std::string Agent::token() const {
    if (!token_.empty() || config_.token_file.empty()) return token_;
    std::string token = read_text(config_.token_file);
    token.erase(token.find_last_not_of(" \t\r\n") + 1);
    return token;
}

ServerClient Agent::connect() { return ServerClient({.url = config_.server, .ca = ca(), .identity = {}}); }

// Which server, by which CA: with a connection key nobody shows a certificate, so a key that was made under others would
// open a connection to who has no part in these.
std::string Agent::server_id(const std::string& ca) const {
    return host::hex(sha256(host::text_bytes(config_.server + "\n" + ca)));
}

// What is not to be used, or not to be read, is as if it were not there: the certificate does the same.
std::optional<protocol::ConnectionKey> Agent::connection_key(const std::string& server) const {
    const auto text = directory_.read(kConnectionKey);
    if (!text) return std::nullopt;
    auto key = kept_connection_key(*text, server);
    if (key && key->ends - std::time(nullptr) <= kLeastLeft) key.reset();
    return key;
}

// Of a connection that the certificate has opened, and for the CA that it was opened by. Only speed depends on it.
void Agent::keep_connection_key(ServerClient& server) {
    if (server.by_key()) return;
    try {
        directory_.write(kConnectionKey, to_keep(server.connection_key(), connection_server_));
    } catch (const host::ToolError&) {
        directory_.remove(kConnectionKey);  // of a server that gives out none, or is away by now
    }
}

// Another CA file is another server, to an agent that runs for months, too: it, and its key, are left at once.
ServerClient& Agent::connection() {
    std::string ca = this->ca(), server = server_id(ca);
    if (connection_ && connection_server_ == server) return *connection_;
    connection_.reset();
    auto identity = directory_.read(kIdentity);
    if (!identity) throw host::ToolError("not enrolled; run `attestation-agent enroll`");
    connection_ = std::make_unique<ServerClient>(ConnectionOptions{
        .url = config_.server, .ca = std::move(ca), .identity = std::move(*identity), .key = connection_key(server)});
    connection_server_ = std::move(server);
    return *connection_;
}

EvidenceSource& Agent::source() {
    if (!source_) source_ = open_source(config_.source, directory_.path(), config_.firmware_log);
    return *source_;
}

protocol::EnrollStatus Agent::enroll(bool again) {
    const host::File lock = directory_.lock();
    State state = directory_.state();
    if (!state.endpoint_id.empty() && !state.pending && !again) {
        return {.state = "approved", .endpoint_id = state.endpoint_id, .certificate = {}, .reason = {}};
    }
    ServerClient server = connect();
    if (state.pending) {
        try {
            return continue_enrollment(state, server);
        } catch (const Refused& refused) {
            if (!is_gone(refused)) throw;
            state.pending.reset();
        }
    }
    start_enrollment(state, server, again);
    return continue_enrollment(state, server);
}

void Agent::start_enrollment(State& state, ServerClient& server, bool again) {
    // The key of one that is enrolled is not given up without being told to.
    const bool may_replace = again || state.endpoint_id.empty();
    Identity identity =
        source().identity(may_replace ? EvidenceSource::LostKey::kReplace : EvidenceSource::LostKey::kKeep);
    const std::string key = make_private_key();
    const protocol::EnrollChallenge challenge =
        server.enroll({.hostname = config_.hostname,
                       .source = source().name(),
                       .ek_certificate = std::move(identity.ek_certificate),
                       .ek_chain = std::move(identity.ek_chain),
                       .ek_public = std::move(identity.ek_public),
                       .ak_public = std::move(identity.ak_public),
                       .csr = certification_request(key),
                       .token = token(),
                       .identity_keys = std::move(identity.proof.keys),
                       .identity_attest = std::move(identity.proof.attest),
                       .identity_signature = std::move(identity.proof.signature)});
    state.pending = PendingEnrollment{challenge.id, challenge.credential_blob, challenge.secret, false};
    directory_.write(kPendingKey, key);
    directory_.save(state);
}

protocol::EnrollStatus Agent::continue_enrollment(State& state, ServerClient& server) {
    PendingEnrollment& pending = *state.pending;
    const host::Buffer secret = source().activate(pending.credential_blob, pending.encrypted_secret);
    protocol::EnrollStatus status;
    if (pending.activated) {
        status = server.enrollment_status(pending.id, secret);
    } else {
        try {
            status = server.activate(pending.id, secret);
        } catch (const Refused& refused) {
            // Perhaps an answer that never came: then the server knows the secret already.
            if (!is_gone(refused)) throw;
            status = server.enrollment_status(pending.id, secret);
        }
        pending.activated = true;
        directory_.save(state);
    }
    if (status.state == "approved") finish_enrollment(state, status);
    if (status.state == "rejected") {
        state.pending.reset();
        state.trouble = "enrollment rejected: " + status.reason;
        directory_.save(state);
    }
    return status;
}

void Agent::finish_enrollment(State& state, const protocol::EnrollStatus& status) {
    const auto key = directory_.read(kPendingKey);
    if (!key) throw host::ToolError("enrollment: its private key is gone; enroll again");
    if (!belongs(status.certificate, *key)) {
        throw host::ToolError("enrollment: the server's certificate is of another key");
    }
    directory_.remove(kConnectionKey);
    directory_.write(kIdentity, *key + status.certificate);
    state.endpoint_id = status.endpoint_id;
    state.pending.reset();
    state.last.reset();
    state.trouble.clear();
    directory_.save(state);
    directory_.remove(kPendingKey);
    connection_.reset();
}

protocol::AttestAnswer Agent::attest_now(State& state) {
    ServerClient& server = connection();
    const protocol::NonceAnswer nonce = server.nonce();
    protocol::AttestAnswer answer = server.attest(source().evidence(nonce.nonce));
    state.last = LastAttestation{.time = std::time(nullptr),
                                 .verdict = answer.verdict,
                                 .lease_until = answer.lease_until,
                                 .failures = answer.failures};
    state.trouble.clear();
    directory_.save(state);
    keep_connection_key(server);
    return answer;
}

protocol::AttestAnswer Agent::attest() {
    const host::File lock = directory_.lock();
    State state = directory_.state();
    try {
        return attest_now(state);
    } catch (const std::exception& error) {
        connection_.reset();
        if (state.trouble != error.what()) {
            state.trouble = error.what();
            directory_.save(state);
        }
        throw;
    }
}

bool Agent::renew_if_due() {
    const host::File lock = directory_.lock();
    const auto identity = directory_.read(kIdentity);
    if (!identity) return false;
    const Validity validity = validity_of(*identity);
    if (!renewal_due(validity.from, validity.until, std::time(nullptr))) return false;
    const std::string key = make_private_key();
    const std::string certificate = connection().renew_certificate(certification_request(key));
    if (!belongs(certificate, key)) throw host::ToolError("renewal: the server's certificate is of another key");
    directory_.remove(kConnectionKey);
    directory_.write(kIdentity, key + certificate);
    connection_.reset();
    return true;
}

Sha256Digest Agent::put_escrow(const std::string& name, Bytes blob, const std::string& item, bool any_vault) {
    const Sha256Digest of = host::escrow_vault(blob, item);
    const host::File lock = directory_.lock();
    if (!any_vault) {
        const auto own = source().vault();
        if (own && *own != of) {
            throw host::ToolError(item + ": is of vault " + host::hex(of) + ", and this machine's is " +
                                  host::hex(*own) + "; --any-vault keeps it all the same");
        }
    }
    connection().put_escrow({.name = name, .blob = {blob.begin(), blob.end()}});
    return of;
}

}  // namespace gatehouse::agent

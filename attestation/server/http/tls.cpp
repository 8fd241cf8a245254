#include "attestation/server/http/tls.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>
#include <ctime>

#include "hypervisor/base/bytes.hpp"
#include "keyvault/host_support/authority.hpp"

namespace gatehouse::http {
namespace {

using BioPointer = std::unique_ptr<BIO, decltype(&BIO_free)>;
using X509Pointer = std::unique_ptr<X509, decltype(&X509_free)>;
using KeyPointer = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

[[noreturn]] void fail(const std::string& what) {
    const unsigned long code = ERR_peek_last_error();
    const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
    ERR_clear_error();
    throw host::ToolError("TLS: " + what + (reason == nullptr ? "" : std::string(": ") + reason));
}

BioPointer bio_of(const std::string& text) {
    return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free};
}

X509Pointer next_certificate(BIO* from) {
    X509Pointer certificate(PEM_read_bio_X509(from, nullptr, host::no_pass_phrase, nullptr), X509_free);
    if (certificate == nullptr) ERR_clear_error();
    return certificate;
}

void use_certificate(SSL_CTX* context, const TlsFiles& files) {
    const BioPointer chain = bio_of(files.certificate);
    const X509Pointer leaf = next_certificate(chain.get());
    if (leaf == nullptr) fail("the server's certificate is not PEM");
    if (SSL_CTX_use_certificate(context, leaf.get()) != 1) fail("the server's certificate cannot be used");
    while (X509Pointer issuer = next_certificate(chain.get())) {
        if (SSL_CTX_add1_chain_cert(context, issuer.get()) != 1) fail("the server's certificate chain cannot be used");
    }
    const BioPointer text = bio_of(files.key);
    const KeyPointer key(PEM_read_bio_PrivateKey(text.get(), nullptr, host::no_pass_phrase, nullptr), EVP_PKEY_free);
    if (key == nullptr) fail("the server's key is not PEM, or has a pass phrase");
    if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
        fail("the server's key is not that of its certificate");
    }
}

void use_client_ca(SSL_CTX* context, const std::string& pem) {
    const BioPointer text = bio_of(pem);
    X509_STORE* const store = SSL_CTX_get_cert_store(context);
    bool any = false;
    while (X509Pointer ca = next_certificate(text.get())) {
        if (X509_STORE_add_cert(store, ca.get()) != 1 || SSL_CTX_add_client_CA(context, ca.get()) != 1) {
            fail("the CA of client certificates cannot be used");
        }
        any = true;
    }
    if (!any) fail("the CA of client certificates is not PEM");
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_CLIENT_ONCE, nullptr);
    SSL_CTX_set_verify_depth(context, 2);
}

int select_protocol(SSL*, const unsigned char** out, unsigned char* out_length, const unsigned char* in,
                    unsigned in_length, void*) {
    static constexpr unsigned char kOurs[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
    unsigned char* chosen = nullptr;
    const int found = SSL_select_next_proto(&chosen, out_length, kOurs, sizeof kOurs, in, in_length);
    *out = chosen;
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

// --- connection keys

constexpr unsigned char kCipher[] = {0x13, 0x02};  // TLS_AES_256_GCM_SHA384; RFC 8446, B.4
// certificate || u64 end || secret
constexpr std::size_t kNoteSize = sizeof(Sha256Digest) + sizeof(std::uint64_t) + sizeof(server::ConnectionSecretName);

// Where a context keeps its FindConnectionKey, which goes with it.
int finder_index() {
    static const int index = SSL_CTX_get_ex_new_index(
        0, nullptr, nullptr, nullptr,
        [](void*, void* finder, CRYPTO_EX_DATA*, int, long, void*) { delete static_cast<FindConnectionKey*>(finder); });
    return index;
}

// The session of a connection key, with a note of what it stands for.
SSL_SESSION* make_session(SSL* connection, const server::KnownConnectionKey& known) {
    std::unique_ptr<SSL_SESSION, decltype(&SSL_SESSION_free)> session(SSL_SESSION_new(), SSL_SESSION_free);
    std::array<std::byte, kNoteSize> note{};
    Writer writer(note, Endian::kBig);
    writer.bytes(known.certificate);
    writer.u64(static_cast<std::uint64_t>(known.ends));
    writer.bytes(known.secret);
    const bool is_made = session != nullptr &&
                         SSL_SESSION_set1_master_key(session.get(), raw(Bytes(known.key)), known.key.size()) == 1 &&
                         SSL_SESSION_set_cipher(session.get(), SSL_CIPHER_find(connection, kCipher)) == 1 &&
                         SSL_SESSION_set_protocol_version(session.get(), TLS1_3_VERSION) == 1 &&
                         SSL_SESSION_set1_ticket_appdata(session.get(), note.data(), note.size()) == 1;
    return is_made ? session.release() : nullptr;
}

// OpenSSL's SSL_psk_find_session_cb_func. No session: the handshake goes on with certificates.
int find_session(SSL* connection, const unsigned char* identity, std::size_t size, SSL_SESSION** session) {
    *session = nullptr;
    const auto* const find =
        static_cast<const FindConnectionKey*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(connection), finder_index()));
    const auto known = (*find)(std::as_bytes(std::span(identity, size)));
    if (!known) return 1;
    *session = make_session(connection, *known);
    return *session == nullptr ? 0 : 1;
}

void use_connection_keys(SSL_CTX* context, const FindConnectionKey& find) {
    static constexpr unsigned char kName[] = "gatehouse";
    auto owned = std::make_unique<FindConnectionKey>(find);
    if (SSL_CTX_set_session_id_context(context, kName, sizeof kName - 1) != 1 ||
        SSL_CTX_set_ex_data(context, finder_index(), owned.get()) != 1) {
        fail("no connection keys");
    }
    (void)owned.release();
    SSL_CTX_set_psk_find_session_callback(context, find_session);
}

// No tickets are given out, so a session that is not new is one of find_session().
void read_connection_key(const SSL* connection, Peer& peer) {
    void* data = nullptr;
    std::size_t size = 0;
    if (SSL_SESSION_get0_ticket_appdata(SSL_get0_session(connection), &data, &size) != 1 || size != kNoteSize) return;
    Reader note(std::as_bytes(std::span(static_cast<const unsigned char*>(data), size)), Endian::kBig);
    copy_bytes(peer.certificate.emplace(), note.bytes(sizeof(Sha256Digest)));
    peer.certificate_ends = static_cast<Seconds>(note.u64());
    copy_bytes(peer.connection_secret.emplace(), note.bytes(sizeof(server::ConnectionSecretName)));
}

}  // namespace

std::shared_ptr<SSL_CTX> make_tls_context(const TlsFiles& files) {
    std::shared_ptr<SSL_CTX> context(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
    if (context == nullptr) fail("no context");
    SSL_CTX* const raw_context = context.get();
    if (SSL_CTX_set_min_proto_version(raw_context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(raw_context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set1_groups_list(raw_context, "X25519:P-256:P-384") != 1) {
        fail("this OpenSSL has no TLS 1.3");
    }
    SSL_CTX_set_options(raw_context, SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    // An idle connection holds no record buffers. No session is resumed by a ticket: it would hold the client's
    // certificate, and reading that takes longer than the signatures that it saves. Connection keys name it instead.
    SSL_CTX_set_mode(raw_context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(raw_context, 1);
    SSL_CTX_set_session_cache_mode(raw_context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(raw_context, 0);
    SSL_CTX_set_alpn_select_cb(raw_context, select_protocol, nullptr);
    use_certificate(raw_context, files);
    use_client_ca(raw_context, files.client_ca);
    if (files.find_key) use_connection_keys(raw_context, files.find_key);
    return context;
}

void read_client_certificate(const SSL* session, Peer& peer) {
    if (SSL_session_reused(session) == 1) return read_connection_key(session, peer);
    const X509* const certificate = SSL_get0_peer_certificate(session);
    if (certificate == nullptr || SSL_get_verify_result(session) != X509_V_OK) return;
    const int size = i2d_X509(certificate, nullptr);
    if (size <= 0) return;
    Buffer der(static_cast<std::size_t>(size));
    unsigned char* out = raw(MutableBytes(der));
    i2d_X509(certificate, &out);
    peer.certificate = sha256(der);
    std::tm parts{};
    peer.certificate_ends =
        ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &parts) == 1 ? static_cast<Seconds>(timegm(&parts)) : 0;
}

}  // namespace gatehouse::http

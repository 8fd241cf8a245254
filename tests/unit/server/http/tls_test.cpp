// The TLS side, client and server in memory.
#include "attestation/server/http/tls.hpp"

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <ctime>

#include "attestation/agent/tls_stream.hpp"
#include "attestation/server/authority.hpp"

namespace gatehouse::http {
namespace {

using server::CertificateAuthority;

constexpr Seconds kDay = 86400;

CertificateAuthority make_authority(const char* name, Seconds now) {
    const auto made = CertificateAuthority::make(name, now);
    return CertificateAuthority::load(made.key, made.certificate);
}

struct Outcome {
    bool done = false;
    Peer peer;
};

class Tls : public testing::Test {
  protected:
    Tls() {
        const auto issued = ours_.issue_server(server_key_.get(), {"localhost"}, now_, 30);
        files_ = {issued.pem, server::private_pem(server_key_.get()), ours_.pem()};
        client_ = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_session_cache_mode(client_, SSL_SESS_CACHE_CLIENT);
        SSL_CTX_sess_set_new_cb(client_, [](SSL* tls, SSL_SESSION*) {
            ++static_cast<Tls*>(SSL_get_app_data(tls))->tickets_;
            return 0;
        });
    }
    ~Tls() override { SSL_CTX_free(client_); }

    void use_client_certificate(const std::string& pem) {
        BIO* const bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
        X509* const certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
        BIO_free(bio);
        ASSERT_NE(certificate, nullptr);
        EXPECT_EQ(SSL_CTX_use_certificate(client_, certificate), 1);
        X509_free(certificate);
        EXPECT_EQ(SSL_CTX_use_PrivateKey(client_, client_key_.get()), 1);
    }

    Outcome connect(const std::shared_ptr<SSL_CTX>& context) {
        Outcome outcome;
        SSL* const server = SSL_new(context.get());
        SSL* const client = SSL_new(client_);
        BIO *near = nullptr, *far = nullptr;
        BIO_new_bio_pair(&near, 65536, &far, 65536);
        SSL_set_bio(server, near, near);
        SSL_set_bio(client, far, far);
        SSL_set_accept_state(server);
        SSL_set_connect_state(client);
        SSL_set_app_data(client, this);
        int at_server = 0, at_client = 0;
        for (int i = 0; i < 20 && (at_server != 1 || at_client != 1); ++i) {
            ERR_clear_error();
            if (at_client != 1) at_client = SSL_do_handshake(client);
            if (at_server != 1) at_server = SSL_do_handshake(server);
        }
        char byte = 0;
        (void)SSL_read(client, &byte, 1);  // takes a ticket, if there is one
        outcome.done = at_server == 1 && at_client == 1;
        if (outcome.done) read_client_certificate(server, outcome.peer);
        SSL_shutdown(client);
        SSL_free(server);
        SSL_free(client);
        ERR_clear_error();
        return outcome;
    }

    const Seconds now_ = std::time(nullptr);
    server::Key server_key_ = server::new_key(), client_key_ = server::new_key();
    CertificateAuthority ours_ = make_authority("ours", now_ - 100 * kDay);
    TlsFiles files_;
    SSL_CTX* client_ = nullptr;
    int tickets_ = 0;
};

TEST_F(Tls, AClientCertificateIsOptional) {
    const Outcome outcome = connect(make_tls_context(files_));
    EXPECT_TRUE(outcome.done);
    EXPECT_FALSE(outcome.peer.certificate);
}

TEST_F(Tls, OurCertificateIsSeenWithItsEnd) {
    use_client_certificate(ours_.issue_client(client_key_.get(), "ENDPOINT", now_, 10).pem);
    const Outcome outcome = connect(make_tls_context(files_));
    EXPECT_TRUE(outcome.done);
    EXPECT_TRUE(outcome.peer.certificate);
    EXPECT_FALSE(outcome.peer.connection_secret);
    EXPECT_GT(outcome.peer.certificate_ends, now_ + 9 * kDay);
    EXPECT_LE(outcome.peer.certificate_ends, now_ + 10 * kDay);
}

TEST_F(Tls, AnExpiredCertificateIsRefused) {
    use_client_certificate(ours_.issue_client(client_key_.get(), "ENDPOINT", now_ - 50 * kDay, 10).pem);
    EXPECT_FALSE(connect(make_tls_context(files_)).done);
}

TEST_F(Tls, ACertificateOfAnotherCaIsRefused) {
    const auto other = make_authority("ours", now_ - kDay);
    use_client_certificate(other.issue_client(client_key_.get(), "ENDPOINT", now_, 10).pem);
    EXPECT_FALSE(connect(make_tls_context(files_)).done);
}

TEST_F(Tls, AServersCertificateIsNoClients) {
    use_client_certificate(ours_.issue_server(client_key_.get(), {"localhost"}, now_, 10).pem);
    EXPECT_FALSE(connect(make_tls_context(files_)).done);
}

TEST_F(Tls, OlderVersionsAreRefused) {
    SSL_CTX_set_max_proto_version(client_, TLS1_2_VERSION);
    EXPECT_FALSE(connect(make_tls_context(files_)).done);
}

TEST_F(Tls, NoTicketsAreGiven) {
    use_client_certificate(ours_.issue_client(client_key_.get(), "ENDPOINT", now_, 10).pem);
    ASSERT_TRUE(connect(make_tls_context(files_)).done);
    EXPECT_EQ(tickets_, 0);
}

// --- connection keys

struct WithKeys : Tls {
    WithKeys() {
        files_.find_key = [this](Bytes identity) { return keys_.find(identity, now_); };
        mine_ = keys_.issue(sha256(literal_bytes("certificate")), now_ + kDay, now_);
    }
    // As the agent connects.
    Outcome connect_with(const protocol::ConnectionKey& key, const std::string& identity = "") {
        const agent::TlsContext context(ours_.pem(), identity, agent::TlsContext::Verify::kServer, key);
        SSL_CTX_free(client_);
        client_ = context.get();
        SSL_CTX_up_ref(client_);
        Outcome outcome = connect(make_tls_context(files_));
        SSL_CTX_set_app_data(client_, nullptr);
        return outcome;
    }
    [[nodiscard]] std::string client_identity() {
        return server::private_pem(client_key_.get()) + ours_.issue_client(client_key_.get(), "ENDPOINT", now_, 10).pem;
    }

    server::ConnectionKeys keys_{Buffer(32, std::byte{7})};
    protocol::ConnectionKey mine_;
};

TEST_F(WithKeys, AKeyStandsForItsCertificate) {
    const Outcome outcome = connect_with(mine_, client_identity());
    ASSERT_TRUE(outcome.done);
    EXPECT_EQ(outcome.peer.connection_secret, keys_.secret_name());
    EXPECT_EQ(outcome.peer.certificate, sha256(literal_bytes("certificate")));
    EXPECT_EQ(outcome.peer.certificate_ends, now_ + kDay);
    EXPECT_EQ(tickets_, 0);
}

TEST_F(WithKeys, AnIdentityWithoutItsKeyOpensNothing) {
    mine_.key.front() ^= std::byte{1};
    EXPECT_FALSE(connect_with(mine_, client_identity()).done);
}

TEST_F(WithKeys, AnIdentityThatNamesAnotherCertificateOpensNothing) {
    mine_.identity.back() ^= std::byte{1};
    EXPECT_FALSE(connect_with(mine_, client_identity()).done);
}

TEST_F(WithKeys, AKeyThatIsNotKnownLeavesItToTheCertificates) {
    const server::ConnectionKeys others{Buffer(32, std::byte{8})};
    const auto unknown = others.issue(sha256(literal_bytes("certificate")), now_ + kDay, now_);
    const auto ended = keys_.issue(sha256(literal_bytes("certificate")), now_, now_);
    for (const protocol::ConnectionKey& key : {unknown, ended}) {
        const Outcome outcome = connect_with(key, client_identity());
        ASSERT_TRUE(outcome.done);
        EXPECT_TRUE(outcome.peer.certificate);
        EXPECT_FALSE(outcome.peer.connection_secret);
        EXPECT_NE(outcome.peer.certificate, sha256(literal_bytes("certificate")));
        // And to nobody without one.
        EXPECT_FALSE(connect_with(key).peer.certificate);
    }
}

TEST_F(WithKeys, WithoutKeysAtTheServerTheCertificatesDecide) {
    files_.find_key = nullptr;
    const Outcome outcome = connect_with(mine_, client_identity());
    ASSERT_TRUE(outcome.done);
    EXPECT_FALSE(outcome.peer.connection_secret);
}

TEST_F(WithKeys, OtherCiphersLeaveItToTheCertificates) {
    const agent::TlsContext context(ours_.pem(), client_identity(), agent::TlsContext::Verify::kServer, mine_);
    ASSERT_EQ(SSL_CTX_set_ciphersuites(context.get(), "TLS_CHACHA20_POLY1305_SHA256"), 1);
    SSL_CTX_free(client_);
    client_ = context.get();
    SSL_CTX_up_ref(client_);
    const Outcome outcome = connect(make_tls_context(files_));
    ASSERT_TRUE(outcome.done);
    EXPECT_FALSE(outcome.peer.connection_secret);
    EXPECT_TRUE(outcome.peer.certificate);
}

TEST_F(Tls, FilesThatDoNotFitAreNamed) {
    TlsFiles other_key = files_, no_certificate = files_, no_ca = files_;
    other_key.key = server::private_pem(client_key_.get());
    no_certificate.certificate = "text";
    no_ca.client_ca = "";
    for (const TlsFiles& files : {other_key, no_certificate, no_ca}) {
        EXPECT_THROW((void)make_tls_context(files), host::ToolError);
    }
}

}  // namespace
}  // namespace gatehouse::http

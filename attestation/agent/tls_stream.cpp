#include "attestation/agent/tls_stream.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <memory>

#include "keyvault/host_support/authority.hpp"

namespace gatehouse::agent {
namespace {

using host::ToolError;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using PrivateKey = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

Bio memory(const std::string& text) { return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free}; }

std::string openssl_reason() {
    const unsigned long code = ERR_peek_last_error();
    ERR_clear_error();
    const char* const reason = code == 0 ? nullptr : ERR_reason_error_string(code);
    return reason == nullptr ? "connection lost" : reason;
}

std::string text_of(const std::tm& time) {
    std::array<char, 64> text{};
    return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &time)};
}

std::string text_of(const ASN1_TIME* time) {
    std::tm parts{};
    return ASN1_TIME_to_tm(time, &parts) == 1 ? text_of(parts) : "an unreadable date";
}

std::string clock_text() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    return "the clock of this machine shows " + text_of(parts);
}

// When the certificate is valid, and what time it is here.
std::string dates_text(const X509* certificate) {
    return "valid from " + text_of(X509_get0_notBefore(certificate)) + " to " +
           text_of(X509_get0_notAfter(certificate)) + "; " + clock_text();
}

// Why a certificate of the server's path is not accepted.
std::string verdict_text(long verdict) {
    std::string text = X509_verify_cert_error_string(verdict);
    if (verdict != X509_V_ERR_CERT_NOT_YET_VALID && verdict != X509_V_ERR_CERT_HAS_EXPIRED) return text;
    return text + "; " + clock_text() +
           ": if that is wrong, set it; if not, the server's clock is, or its certificate is";
}

// The alert, if it is one about the certificate that was shown to the server.
std::string alert_text(SSL* ssl) {
    const int reason = ERR_GET_REASON(ERR_peek_last_error());
    const X509* const own = ssl == nullptr ? nullptr : SSL_get_certificate(ssl);
    const bool is_about_dates =
        reason == SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED || reason == SSL_R_SSLV3_ALERT_BAD_CERTIFICATE;
    std::string text = openssl_reason();
    if (!is_about_dates || own == nullptr) return text;
    return text + ": the server does not take the certificate of this endpoint, " + dates_text(own) +
           ". If that is within, the server's clock is wrong; else, `attestation-agent enroll --again` gets a new one";
}

void trust(SSL_CTX* context, const std::string& pem) {
    const Bio bio = memory(pem);
    int count = 0;
    for (;; ++count) {
        const Certificate one(PEM_read_bio_X509(bio.get(), nullptr, host::no_pass_phrase, nullptr), X509_free);
        if (!one) break;
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), one.get());
    }
    ERR_clear_error();
    if (count == 0) throw ToolError("CA file: no PEM certificate in it");
}

void use_identity(SSL_CTX* context, const std::string& pem) {
    const PrivateKey key(PEM_read_bio_PrivateKey(memory(pem).get(), nullptr, host::no_pass_phrase, nullptr),
                         EVP_PKEY_free);
    const Certificate certificate(PEM_read_bio_X509(memory(pem).get(), nullptr, host::no_pass_phrase, nullptr),
                                  X509_free);
    if (!key || !certificate || SSL_CTX_use_certificate(context, certificate.get()) != 1 ||
        SSL_CTX_use_PrivateKey(context, key.get()) != 1) {
        ERR_clear_error();
        throw ToolError("client identity: no PEM private key with its certificate");
    }
}

// OpenSSL's SSL_psk_use_session_cb_func. `hash`: what the cipher has to go with, if that is known already.
int use_key(SSL* connection, const EVP_MD* hash, const unsigned char** identity, std::size_t* size,
            SSL_SESSION** session) {
    static constexpr unsigned char kCipher[] = {0x13, 0x02};  // TLS_AES_256_GCM_SHA384; RFC 8446, B.4
    *session = nullptr;
    const auto* const context = static_cast<const TlsContext*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(connection)));
    const protocol::ConnectionKey& key = *context->key();
    const SSL_CIPHER* const cipher = SSL_CIPHER_find(connection, kCipher);
    if (hash != nullptr && SSL_CIPHER_get_handshake_digest(cipher) != hash) return 1;
    std::unique_ptr<SSL_SESSION, decltype(&SSL_SESSION_free)> made(SSL_SESSION_new(), SSL_SESSION_free);
    if (made == nullptr || SSL_SESSION_set1_master_key(made.get(), raw(Bytes(key.key)), key.key.size()) != 1 ||
        SSL_SESSION_set_cipher(made.get(), cipher) != 1 ||
        SSL_SESSION_set_protocol_version(made.get(), TLS1_3_VERSION) != 1) {
        return 0;
    }
    *identity = raw(Bytes(key.identity));
    *size = key.identity.size();
    *session = made.release();
    return 1;
}

bool is_address(const std::string& host) {
    std::array<unsigned char, sizeof(in6_addr)> ignored{};
    return inet_pton(AF_INET, host.c_str(), ignored.data()) == 1 ||
           inet_pton(AF_INET6, host.c_str(), ignored.data()) == 1;
}

// Whether `events` came before the deadline.
bool wait_on(int descriptor, short events, Clock::time_point deadline) {
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
        pollfd one{descriptor, events, 0};
        const int result = poll(&one, 1, static_cast<int>(std::clamp<long>(left, 0, 3'600'000)));
        if (result > 0) return true;
        if (result == 0) return false;
        if (errno != EINTR) return false;
    }
}

}  // namespace

std::string ServerAddress::text() const {
    return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + port;
}

ServerAddress parse_server_url(const std::string& url) {
    const auto wrong = [&](const char* why) {
        return ToolError("server: " + url + ": " + why + "; it should be https://HOST[:PORT]", host::ExitCode::kUsage);
    };
    constexpr std::string_view kScheme = "https://";
    if (!url.starts_with(kScheme)) throw wrong("not https");
    std::string_view rest = std::string_view(url).substr(kScheme.size());
    if (rest.ends_with('/')) rest.remove_suffix(1);
    ServerAddress address{.host = {}, .port = "443"};
    if (rest.starts_with('[')) {
        const std::size_t end = rest.find(']');
        if (end == std::string_view::npos) throw wrong("no closing bracket");
        address.host = rest.substr(1, end - 1);
        rest.remove_prefix(end + 1);
    } else {
        address.host = rest.substr(0, rest.find(':'));
        rest.remove_prefix(address.host.size());
    }
    if (address.host.empty() || address.host.find_first_of("/@?# \r\n") != std::string::npos) throw wrong("no host");
    if (!rest.empty()) {
        unsigned port = 0;
        const auto [end, error] = std::from_chars(rest.data() + 1, rest.data() + rest.size(), port);
        if (rest.front() != ':' || error != std::errc() || end != rest.data() + rest.size() || port == 0 ||
            port > 65535) {
            throw wrong("no port number after the host");
        }
        address.port = rest.substr(1);
    }
    return address;
}

TlsContext::TlsContext(const std::string& ca, const std::string& identity, Verify verify,
                       std::optional<protocol::ConnectionKey> key)
    : context_(SSL_CTX_new(TLS_client_method())), verifies_(verify == Verify::kServer), key_(std::move(key)) {
    if (context_ == nullptr) throw ToolError("TLS: " + openssl_reason());
    try {
        SSL_CTX_set_min_proto_version(context_, TLS1_3_VERSION);
        SSL_CTX_set_mode(context_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_AUTO_RETRY);
        SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_OFF);
        if (verifies_) trust(context_, ca);
        SSL_CTX_set_verify(context_, verifies_ ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
        if (!identity.empty()) use_identity(context_, identity);
        if (key_) {
            SSL_CTX_set_app_data(context_, this);
            SSL_CTX_set_psk_use_session_callback(context_, use_key);
        }
    } catch (...) {
        SSL_CTX_free(context_);
        throw;
    }
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

TlsStream::TlsStream(const TlsContext& context, const ServerAddress& address, Clock::time_point deadline)
    : address_(address) {
    connect(deadline);
    try {
        handshake(context, deadline);
    } catch (...) {
        SSL_free(ssl_);
        throw;
    }
}

TlsStream::~TlsStream() {
    SSL_shutdown(ssl_);  // our close_notify, if the socket takes it now
    ERR_clear_error();
    SSL_free(ssl_);
}

void TlsStream::fail(const std::string& what) const { throw ToolError(address_.text() + ": " + what); }

void TlsStream::connect(Clock::time_point deadline) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int code = getaddrinfo(address_.host.c_str(), address_.port.c_str(), &hints, &found); code != 0) {
        fail(std::string("cannot be found: ") + gai_strerror(code));
    }
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, freeaddrinfo);
    std::string why = "no address";
    for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
        host::File candidate(socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        int error = candidate.get() < 0 ? errno : 0;
        if (error == 0 && ::connect(candidate.get(), one->ai_addr, one->ai_addrlen) != 0) error = errno;
        if (error == EINPROGRESS) {
            socklen_t size = sizeof(error);
            if (!wait_on(candidate.get(), POLLOUT, deadline)) {
                error = ETIMEDOUT;
            } else {
                getsockopt(candidate.get(), SOL_SOCKET, SO_ERROR, &error, &size);
            }
        }
        if (error == 0) {
            const int on = 1;
            setsockopt(candidate.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
            socket_ = std::move(candidate);
            return;
        }
        why = std::strerror(error);
    }
    fail("cannot be reached: " + why);
}

void TlsStream::handshake(const TlsContext& context, Clock::time_point deadline) {
    ssl_ = SSL_new(context.get());
    if (ssl_ == nullptr || SSL_set_fd(ssl_, socket_.get()) != 1) fail("TLS: " + openssl_reason());
    const char* const host = address_.host.c_str();
    const bool by_address = is_address(address_.host);
    const bool is_set = by_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_), host) == 1
                                   : SSL_set_tlsext_host_name(ssl_, host) == 1 && SSL_set1_host(ssl_, host) == 1;
    if (!is_set) fail("TLS: " + openssl_reason());
    for (;;) {
        ERR_clear_error();
        const int result = SSL_connect(ssl_);
        if (result == 1) return;
        if (const long verdict = SSL_get_verify_result(ssl_); context.verifies() && verdict != X509_V_OK) {
            ERR_clear_error();
            fail("its certificate is not accepted: " + verdict_text(verdict));
        }
        try {
            wait_for(result, "TLS handshake", deadline);
        } catch (const TimedOut&) {
            throw;
        } catch (const ToolError& error) {
            throw HandshakeFailed(error.what());
        }
    }
}

bool TlsStream::by_key() const { return SSL_session_reused(ssl_) == 1; }

void TlsStream::wait_for(int result, const char* what, Clock::time_point deadline) {
    const int error = SSL_get_error(ssl_, result);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        if (wait_on(socket_.get(), error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline)) return;
        throw TimedOut(address_.text() + ": " + what + ": no answer in time");
    }
    fail(std::string(what) + ": " + alert_text(ssl_));
}

void TlsStream::write(std::string_view bytes, Clock::time_point deadline) {
    while (!bytes.empty()) {
        std::size_t written = 0;
        ERR_clear_error();
        const int result = SSL_write_ex(ssl_, bytes.data(), bytes.size(), &written);
        if (result == 1) {
            bytes.remove_prefix(written);
        } else {
            wait_for(result, "sending", deadline);
        }
    }
}

std::size_t TlsStream::read(char* to, std::size_t size, Clock::time_point deadline) {
    for (;;) {
        // Also of a server that always has a byte more, so that there is nothing to wait for.
        if (Clock::now() >= deadline) throw TimedOut(address_.text() + ": receiving: no whole answer in time");
        std::size_t received = 0;
        ERR_clear_error();
        const int result = SSL_read_ex(ssl_, to, size, &received);
        if (result == 1) return received;
        if (SSL_get_error(ssl_, result) == SSL_ERROR_ZERO_RETURN) return 0;
        wait_for(result, "receiving", deadline);
    }
}

std::vector<host::Buffer> TlsStream::peer_chain() const {
    std::vector<host::Buffer> chain;
    const STACK_OF(X509)* const shown = SSL_get_peer_cert_chain(ssl_);
    for (int i = 0; shown != nullptr && i < sk_X509_num(shown); ++i) {
        unsigned char* der = nullptr;
        const int size = i2d_X509(sk_X509_value(shown, i), &der);
        if (size <= 0) continue;
        const Bytes bytes = std::as_bytes(std::span(der, static_cast<std::size_t>(size)));
        chain.emplace_back(bytes.begin(), bytes.end());
        OPENSSL_free(der);
    }
    return chain;
}

}  // namespace gatehouse::agent

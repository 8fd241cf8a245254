#include "attestation/agent/server_client.hpp"

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <nlohmann/json.hpp>

#include "attestation/agent/http_answer.hpp"
#include "attestation/agent/tls_stream.hpp"
#include "attestation/verifier/token.hpp"
#include "hypervisor/base/hash.hpp"
#include "keyvault/host_support/authority.hpp"

namespace gatehouse::agent {

using host::ToolError;

struct HttpsConnection::Inside {
    explicit Inside(ConnectionOptions with)
        : options(std::move(with)), address(parse_server_url(options.url)), context(make_context(options.key)) {}

    [[nodiscard]] std::unique_ptr<const TlsContext> make_context(std::optional<protocol::ConnectionKey> key) const {
        return std::make_unique<const TlsContext>(
            options.ca, options.identity, options.verify ? TlsContext::Verify::kServer : TlsContext::Verify::kNothing,
            std::move(key));
    }
    void give_key_up() {
        stream.reset();
        context = make_context(std::nullopt);
    }

    [[nodiscard]] Clock::time_point deadline(const Question& question) const {
        return Clock::now() + std::chrono::seconds(question.timeout_s == 0 ? options.timeout_s : question.timeout_s);
    }
    [[nodiscard]] std::string request_text(const Question& question) const;
    // nullopt if a connection that was kept turned out to be closed before anything was answered.
    [[nodiscard]] std::optional<Answer> try_ask(const std::string& text, const Question& question);
    // On a new connection if the one that was kept is closed.
    [[nodiscard]] Answer ask(const std::string& text, const Question& question);

    ConnectionOptions options;
    ServerAddress address;
    std::unique_ptr<const TlsContext> context;
    std::unique_ptr<TlsStream> stream;
};

std::string HttpsConnection::Inside::request_text(const Question& question) const {
    std::string text;
    text.reserve(256 + question.body.size());
    text.append(question.method).append(" ").append(question.path).append(" HTTP/1.1\r\nHost: ").append(address.text());
    text.append("\r\nAccept: application/json\r\n");
    if (!question.authorization.empty()) {
        text.append("Authorization: ").append(question.authorization).append("\r\n");
    }
    if (question.method != "GET") {
        text.append("Content-Type: application/json\r\nContent-Length: ");
        text.append(std::to_string(question.body.size())).append("\r\n");
    }
    return text.append("\r\n").append(question.body);
}

std::optional<HttpsConnection::Answer> HttpsConnection::Inside::try_ask(const std::string& text,
                                                                        const Question& question) {
    const bool kept = stream != nullptr;
    const auto until = deadline(question);
    if (!kept) stream = std::make_unique<TlsStream>(*context, address, until);
    HttpAnswer parser(options.answer_limit);
    bool begun = false;
    try {
        stream->write(text, until);
        std::array<char, 16384> buffer{};
        while (!parser.done()) {
            const std::size_t size = stream->read(buffer.data(), buffer.size(), until);
            if (size == 0 && !begun && kept) {
                stream.reset();
                return std::nullopt;
            }
            begun = begun || size != 0;
            size == 0 ? parser.end() : parser.take({buffer.data(), size});
        }
    } catch (const ToolError&) {
        stream.reset();
        if (kept && !begun && Clock::now() < until) return std::nullopt;
        throw;
    }
    if (!parser.keep_alive()) stream.reset();
    return Answer{parser.status(), parser.retry_after(), parser.take_body()};
}

HttpsConnection::HttpsConnection(ConnectionOptions options) : inside_(std::make_unique<Inside>(std::move(options))) {}
HttpsConnection::~HttpsConnection() = default;
HttpsConnection::HttpsConnection(HttpsConnection&&) noexcept = default;
HttpsConnection& HttpsConnection::operator=(HttpsConnection&&) noexcept = default;

HttpsConnection::Answer HttpsConnection::Inside::ask(const std::string& text, const Question& question) {
    auto answer = try_ask(text, question);
    if (!answer) answer = try_ask(text, question);
    if (!answer) throw ToolError(address.text() + ": the server closes every connection");
    return std::move(*answer);
}

HttpsConnection::Answer HttpsConnection::ask(const Question& question) {
    constexpr unsigned kUnauthorized = 401;
    const std::string text = inside_->request_text(question);
    if (inside_->context->key()) {
        try {
            Answer answer = inside_->ask(text, question);
            if (answer.status != kUnauthorized) return answer;
        } catch (const HandshakeFailed&) {
            // With the certificate, below.
        }
        inside_->give_key_up();
    }
    return inside_->ask(text, question);
}

bool HttpsConnection::by_key() const { return inside_->stream != nullptr && inside_->stream->by_key(); }

void HttpsConnection::close() { inside_->stream.reset(); }

namespace {

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;

bool is_pinned(Bytes der, Bytes pin) { return equal_bytes(sha256(der), pin); }

std::string to_pem(Bytes der) {
    const unsigned char* at = raw(der);
    const Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())), X509_free);
    const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
    char* text = nullptr;
    if (!certificate || PEM_write_bio_X509(bio.get(), certificate.get()) != 1) throw ToolError("CA: not a certificate");
    const long size = BIO_get_mem_data(bio.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

// DER of the first certificate of a PEM text; empty if there is none.
host::Buffer first_certificate(const std::string& pem) {
    const Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), BIO_free);
    const Certificate one(PEM_read_bio_X509(bio.get(), nullptr, host::no_pass_phrase, nullptr), X509_free);
    unsigned char* der = nullptr;
    const int size = one ? i2d_X509(one.get(), &der) : 0;
    if (size <= 0) return {};
    const Bytes bytes = std::as_bytes(std::span(der, static_cast<std::size_t>(size)));
    host::Buffer copy(bytes.begin(), bytes.end());
    OPENSSL_free(der);
    return copy;
}

}  // namespace

std::string fetch_pinned_ca(const std::string& url, const std::string& pin_hex, unsigned timeout_s) {
    const host::Buffer pin = host::from_hex(pin_hex, "CA pin");
    if (pin.size() != 32)
        throw ToolError("CA pin: not a SHA-256 digest (64 hexadecimal digits)", host::ExitCode::kUsage);
    const TlsContext context("", "", TlsContext::Verify::kNothing);
    {
        const TlsStream stream(context, parse_server_url(url), Clock::now() + std::chrono::seconds(timeout_s));
        for (const host::Buffer& der : stream.peer_chain()) {
            if (is_pinned(der, pin)) return to_pem(der);
        }
    }
    HttpsConnection connection(
        {.url = url, .ca = {}, .identity = {}, .timeout_s = timeout_s, .answer_limit = 65536, .verify = false});
    const auto answer = connection.ask({.method = "GET", .path = "/v1/ca"});
    const host::Buffer der = answer.status == 200 ? first_certificate(answer.body) : host::Buffer{};
    if (der.empty() || !is_pinned(der, pin)) {
        throw ToolError(url + ": shows no CA certificate with SHA-256 " + pin_hex +
                        "; compare the pin with what the server printed at its start");
    }
    return to_pem(der);
}

namespace {

std::string enrollment_authorization(Bytes secret) { return "Enrollment " + verifier::base64(secret); }

protocol::EnrollStatus status_of(const std::string& body) {
    auto status = protocol::parse<protocol::EnrollStatus>(body);
    status.reason = host::one_line(status.reason);
    return status;
}

[[noreturn]] void throw_refused(const HttpsConnection::Answer& answer) {
    std::string code = "status_" + std::to_string(answer.status);
    std::string message = "the server answered with status " + std::to_string(answer.status);
    const auto json = nlohmann::json::parse(answer.body, nullptr, false);
    if (json.is_object() && json.contains("error") && json["error"].is_object()) {
        const auto& error = json["error"];
        if (error.contains("code") && error["code"].is_string()) code = error["code"];
        if (error.contains("message") && error["message"].is_string()) {
            message = "the server answered: " + host::one_line(error["message"].get<std::string>());
        }
    }
    throw Refused(answer.status, code, message, answer.retry_after);
}

}  // namespace

std::string ServerClient::call(const HttpsConnection::Question& question) {
    HttpsConnection::Answer answer = connection_.ask(question);
    if (answer.status < 200 || answer.status > 299) throw_refused(answer);
    return std::move(answer.body);
}

protocol::EnrollChallenge ServerClient::enroll(const protocol::EnrollRequest& request) {
    const std::string body = protocol::to_json(request);
    return protocol::parse<protocol::EnrollChallenge>(
        call({.method = "POST", .path = "/v1/enrollments", .body = body}));
}

protocol::EnrollStatus ServerClient::activate(const std::string& id, Bytes secret) {
    const std::string path = "/v1/enrollments/" + id + "/activation";
    const std::string body = protocol::to_json(protocol::ActivationRequest{{secret.begin(), secret.end()}});
    return status_of(call({.method = "POST", .path = path, .body = body}));
}

protocol::EnrollStatus ServerClient::enrollment_status(const std::string& id, Bytes secret) {
    const std::string path = "/v1/enrollments/" + id;
    const std::string authorization = enrollment_authorization(secret);
    return status_of(call({.method = "GET", .path = path, .authorization = authorization}));
}

protocol::NonceAnswer ServerClient::nonce() {
    return protocol::parse<protocol::NonceAnswer>(
        call({.method = "POST", .path = "/v1/attestations/nonce", .body = "{}"}));
}

protocol::AttestAnswer ServerClient::attest(const protocol::AttestRequest& request) {
    const std::string body = protocol::to_json(request);
    auto answer =
        protocol::parse<protocol::AttestAnswer>(call({.method = "POST", .path = "/v1/attestations", .body = body}));
    for (std::string& failure : answer.failures) failure = host::one_line(failure);
    return answer;
}

bool ServerClient::wanted(unsigned timeout_s) {
    try {
        return !call({.method = "GET", .path = "/v1/attestations/wanted", .timeout_s = timeout_s}).empty();
    } catch (const TimedOut&) {
        return false;
    }
}

std::string ServerClient::renew_certificate(const std::string& csr) {
    const std::string request = nlohmann::json{{"csr", csr}}.dump();
    const auto answer =
        nlohmann::json::parse(call({.method = "POST", .path = "/v1/certificate", .body = request}), nullptr, false);
    if (!answer.is_object() || !answer.contains("certificate") || !answer["certificate"].is_string()) {
        throw ToolError("renewal: the server's answer has no certificate");
    }
    return answer["certificate"];
}

protocol::ConnectionKey ServerClient::connection_key() {
    return protocol::parse<protocol::ConnectionKey>(
        call({.method = "POST", .path = "/v1/connection-key", .body = "{}"}));
}

void ServerClient::put_escrow(const protocol::EscrowRequest& request) {
    const std::string body = protocol::to_json(request);
    (void)call({.method = "PUT", .path = "/v1/escrow", .body = body});
}

}  // namespace gatehouse::agent

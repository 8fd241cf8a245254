// The attestation server as its endpoints see it: HTTPS (TLS 1.3, HTTP/1.1, keep-alive), blocking, with
// time-outs and limits on every answer. One object is one connection; not thread-safe.
//
// Errors: Refused if the server answered with an error, host::ToolError if it could not be reached, could not
// prove that it is the server, or answered with what is no answer.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "attestation/protocol/messages.hpp"

namespace gatehouse::agent {

class Refused : public host::ToolError {
  public:
    Refused(unsigned status, std::string code, const std::string& message, unsigned retry_after)
        : host::ToolError(message), status_(status), code_(std::move(code)), retry_after_(retry_after) {}
    [[nodiscard]] unsigned status() const { return status_; }
    [[nodiscard]] const std::string& code() const { return code_; }
    // Seconds; 0: the server did not say.
    [[nodiscard]] unsigned retry_after() const { return retry_after_; }

  private:
    unsigned status_;
    std::string code_;
    unsigned retry_after_;
};

struct ConnectionOptions {
    std::string url;          // "https://HOST[:PORT]", IPv6 addresses in brackets; port 443 if none is given
    std::string ca;           // PEM: who may have certified the server
    std::string identity;     // PEM: private key and client certificate; empty: none
    unsigned timeout_s = 30;  // for connecting, and for each answer
    std::size_t answer_limit = protocol::kMaxBody;
    bool verify = true;                               // false: believes any server, for fetch_pinned_ca() alone
    std::optional<protocol::ConnectionKey> key = {};  // opens the connection in place of the certificate
};

class HttpsConnection {
  public:
    explicit HttpsConnection(ConnectionOptions options);
    ~HttpsConnection();
    HttpsConnection(HttpsConnection&&) noexcept;
    HttpsConnection& operator=(HttpsConnection&&) noexcept;

    struct Answer {
        unsigned status = 0;
        unsigned retry_after = 0;
        std::string body;
    };
    struct Question {
        std::string_view method;
        std::string_view path;
        std::string_view body = {};
        std::string_view authorization = {};
        unsigned timeout_s = 0;  // 0: that of the options
    };
    // Connects if need be. A connection that was kept and has been closed by the server in the meantime is
    // replaced once. So is one that a connection key has opened, or failed to open, if the server does not take the
    // key: by one with the certificate, and the key is given up.
    [[nodiscard]] Answer ask(const Question& question);
    void close();
    // Whether the connection that there is was opened by the key.
    [[nodiscard]] bool by_key() const;

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

// The certificate (PEM) with this SHA-256 (hex, of its DER) that a server shows in its chain or gives at
// /v1/ca: the first contact by a pin. The server proves nothing by it and learns nothing; it is verified by
// this certificate afterwards.
[[nodiscard]] std::string fetch_pinned_ca(const std::string& url, const std::string& pin_hex, unsigned timeout_s = 30);

// Texts for people in its answers are host::one_line().
class ServerClient {
  public:
    explicit ServerClient(ConnectionOptions options) : connection_(std::move(options)) {}

    [[nodiscard]] protocol::EnrollChallenge enroll(const protocol::EnrollRequest& request);
    [[nodiscard]] protocol::EnrollStatus activate(const std::string& id, Bytes secret);
    [[nodiscard]] protocol::EnrollStatus enrollment_status(const std::string& id, Bytes secret);

    // The rest needs the client certificate.
    [[nodiscard]] protocol::NonceAnswer nonce();
    [[nodiscard]] protocol::AttestAnswer attest(const protocol::AttestRequest& request);
    // Whether evidence is wanted now. The server answers when it is, or after about 50 s; waits `timeout_s`
    // at most, and closes the connection if they pass without an answer.
    [[nodiscard]] bool wanted(unsigned timeout_s);
    // PEM, for a PEM certification request.
    [[nodiscard]] std::string renew_certificate(const std::string& csr);
    [[nodiscard]] protocol::ConnectionKey connection_key();
    void put_escrow(const protocol::EscrowRequest& request);

    [[nodiscard]] bool by_key() const { return connection_.by_key(); }
    void close() { connection_.close(); }

  private:
    [[nodiscard]] std::string call(const HttpsConnection::Question& question);

    HttpsConnection connection_;
};

}  // namespace gatehouse::agent

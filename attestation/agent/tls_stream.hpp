// A TLS 1.3 connection as a client, with a deadline for everything.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attestation/protocol/messages.hpp"
#include "keyvault/host_support/support.hpp"

struct ssl_st;
struct ssl_ctx_st;
struct x509_st;

namespace gatehouse::agent {

struct ServerAddress {
    std::string host;  // name, IPv4 or IPv6 address (no brackets)
    std::string port;
    [[nodiscard]] std::string text() const;  // "host:port", as Host has it
};
// ToolError (usage) naming what is wrong.
[[nodiscard]] ServerAddress parse_server_url(const std::string& url);

using Clock = std::chrono::steady_clock;

// How connections are made: whom to believe, and who we are. PEM. ToolError if either is not what it should
// be: a CA file without a certificate in it is an error, never a connection that believes everybody.
//
// With a connection key neither side shows a certificate: each proves that it has the key. A server that does not know
// it (any more) goes on with certificates, so both may be given.
class TlsContext {
  public:
    enum class Verify : bool { kNothing, kServer };
    TlsContext(const std::string& ca, const std::string& identity, Verify verify = Verify::kServer,
               std::optional<protocol::ConnectionKey> key = std::nullopt);
    ~TlsContext();
    TlsContext(const TlsContext&) = delete;
    TlsContext& operator=(const TlsContext&) = delete;
    [[nodiscard]] ssl_ctx_st* get() const { return context_; }
    [[nodiscard]] bool verifies() const { return verifies_; }

    [[nodiscard]] const std::optional<protocol::ConnectionKey>& key() const { return key_; }

  private:
    ssl_ctx_st* context_;
    bool verifies_;
    std::optional<protocol::ConnectionKey> key_;
};

// The deadline passed.
class TimedOut : public host::ToolError {
  public:
    using host::ToolError::ToolError;
};

// The server was reached, and the handshake failed.
class HandshakeFailed : public host::ToolError {
  public:
    using host::ToolError::ToolError;
};

// Errors: ToolError naming the server, and what to do where that is known.
class TlsStream {
  public:
    TlsStream(const TlsContext& context, const ServerAddress& address, Clock::time_point deadline);
    ~TlsStream();
    TlsStream(const TlsStream&) = delete;
    TlsStream& operator=(const TlsStream&) = delete;

    void write(std::string_view bytes, Clock::time_point deadline);
    // At least one byte; 0 if the server has closed the connection.
    [[nodiscard]] std::size_t read(char* to, std::size_t size, Clock::time_point deadline);
    // Whether the connection key has opened it.
    [[nodiscard]] bool by_key() const;
    // DER of what the server showed.
    [[nodiscard]] std::vector<host::Buffer> peer_chain() const;

  private:
    void connect(Clock::time_point deadline);
    void handshake(const TlsContext& context, Clock::time_point deadline);
    // Waits until the connection can go on after an unfinished call; throws for a failed one.
    void wait_for(int result, const char* what, Clock::time_point deadline);
    [[noreturn]] void fail(const std::string& what) const;

    ServerAddress address_;
    host::File socket_;
    ssl_st* ssl_ = nullptr;
};

}  // namespace gatehouse::agent

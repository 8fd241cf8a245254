// The server: sockets, TLS and HTTP/1.1 in front of an Application.
//
// A few threads run the connections (Asio, one coroutine each), a pool of workers runs the application, which
// blocks. An idle connection costs a socket, an OpenSSL session without buffers and a coroutine frame.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "attestation/server/http/application.hpp"
#include "attestation/server/http/tls.hpp"

namespace gatehouse::http {

struct ServerOptions {
    using Duration = std::chrono::milliseconds;

    std::string address = "127.0.0.1";
    std::uint16_t port = 8443;            // 0: any free one
    unsigned loops = 2;                   // threads for connections
    unsigned workers = 64;                // threads for calls
    std::size_t queue = 4096;             // requests that wait for a worker; more are answered 503
    std::size_t max_connections = 20000;  // at that, one of the peer with the most is closed for each that comes

    // Each for the whole, not from byte to byte: who trickles does not stay.
    Duration handshake{10'000};
    Duration head{10'000};    // from the first byte of a request to the end of its header
    Duration body{30'000};    // from there to its end
    Duration idle{75'000};    // between requests
    Duration answer{30'000};  // to take an answer, or a piece of a streamed one
    Duration long_poll{50'000};
    Duration stop{20'000};  // for requests that are being answered when the server stops
};

class Server {
  public:
    // Listens; accepts nothing before start(). ToolError naming the address that cannot be had.
    Server(Application& application, const ServerOptions& options, const TlsFiles& tls);
    ~Server();

    [[nodiscard]] std::uint16_t port() const;
    void start();
    // New connections use these from now on. ToolError, and everything stays as it was.
    void replace_tls(const TlsFiles& tls);
    // Answers long polls whose evidence is wanted. To be called about once a second.
    void tick();
    // Accepts no more, closes what is idle, waits for requests that are being answered. False if some had to
    // be cut off.
    bool stop();

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace gatehouse::http

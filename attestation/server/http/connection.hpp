// Inside of the server: what connections share, and one connection. Only server.cpp and connection.cpp
// include this.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <mutex>
#include <unordered_map>
#include <unordered_set>

#include "attestation/server/http/server.hpp"
#include "attestation/server/http/wire.hpp"
#include "attestation/server/http/worker_pool.hpp"

namespace gatehouse::http {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

class Connection;

// Requests that wait for their endpoint's evidence to be wanted; one for each endpoint, a later one takes the
// place.
class Waiters {
  public:
    using Wake = std::function<void(bool wanted)>;  // called once, from any thread
    void add(const std::string& endpoint, Clock::time_point until, Wake wake);
    void scan(Application& application);  // does not throw
    void release();                       // all, and all that come later

  private:
    struct Waiter {
        Clock::time_point until;
        Wake wake;
    };
    std::mutex mutex_;
    std::unordered_map<std::string, Waiter> waiters_;
    bool released_ = false;
};

// What all connections share.
struct Core {
    Core(Application& an_application, const ServerOptions& some_options, const TlsFiles& files)
        : application(an_application),
          options(some_options),
          tls(make_tls_context(files)),
          workers(std::make_unique<WorkerPool>(options.workers, options.queue, an_application.metrics().queue)) {}

    [[nodiscard]] std::shared_ptr<SSL_CTX> tls_context() {
        const std::scoped_lock lock(tls_mutex);
        return tls;
    }

    Application& application;
    const ServerOptions options;
    std::mutex tls_mutex;
    std::shared_ptr<SSL_CTX> tls;
    std::atomic<bool> stopping{false};
    Waiters waiters;
    std::unique_ptr<WorkerPool> workers;
};

// One thread's connections. All of it is touched by that thread alone.
struct Loop {
    Loop() : work(asio::make_work_guard(context)), sweeper(context) {}
    std::unordered_set<Connection*> connections;            // outlives the context, whose end ends connections
    std::unordered_map<std::string, std::size_t> networks;  // how many of them each network has
    asio::io_context context{1};
    asio::executor_work_guard<asio::io_context::executor_type> work;
    asio::steady_timer sweeper;
    std::array<char, 16384> scratch;  // what is read lands here first, so that idle connections have no buffer
};

class Connection {
  public:
    Connection(Core& core, Loop& loop, asio::ip::tcp::socket socket);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // The whole life of a connection, which `connection` is kept by.
    static asio::awaitable<void> run(std::shared_ptr<Connection> connection);

    // Called on the loop's thread:
    [[nodiscard]] Clock::time_point deadline() const { return deadline_; }
    [[nodiscard]] bool is_idle() const { return phase_ == Phase::kHandshake || phase_ == Phase::kIdle; }
    [[nodiscard]] bool waits_for_client() const {
        return is_idle() || phase_ == Phase::kHead || phase_ == Phase::kBody;
    }
    [[nodiscard]] std::size_t of_its_network() const { return of_network_; }  // connections of the loop
    void expire();  // its time is over: what it waits for ends

  private:
    enum class Phase : std::uint8_t { kHandshake, kIdle, kHead, kBody, kCall, kAnswer, kClosing };

    void enter(Phase phase, ServerOptions::Duration time);
    void enter(Phase phase);  // no limit
    [[nodiscard]] asio::awaitable<bool> wait(int tls_error);
    [[nodiscard]] asio::awaitable<bool> handshake();
    [[nodiscard]] asio::awaitable<bool> read_some();
    [[nodiscard]] asio::awaitable<bool> write(std::string_view bytes);
    [[nodiscard]] asio::awaitable<std::unique_ptr<RequestReader>> read_head();
    [[nodiscard]] asio::awaitable<bool> read_body(RequestReader& reader, std::size_t most);
    [[nodiscard]] asio::awaitable<bool> serve_one();
    [[nodiscard]] asio::awaitable<bool> serve(RequestReader& reader);
    [[nodiscard]] asio::awaitable<Response> call(Request& request);
    [[nodiscard]] asio::awaitable<bool> wait_for_wish(const std::string& endpoint);
    [[nodiscard]] asio::awaitable<bool> answer(const Request& request, Response response, bool close);
    [[nodiscard]] asio::awaitable<bool> answer_stream(Response& response);
    [[nodiscard]] asio::awaitable<void> refuse(HttpError error);
    [[nodiscard]] asio::awaitable<void> close();

    Core& core_;
    Loop& loop_;
    asio::ip::tcp::socket socket_;
    std::shared_ptr<SSL_CTX> context_;
    std::unique_ptr<SSL, decltype(&SSL_free)> tls_{nullptr, SSL_free};
    std::shared_ptr<Peer> peer_;
    std::size_t& of_network_;
    std::string in_;  // what has been read and not used
    Clock::time_point deadline_ = Clock::time_point::max();
    Phase phase_ = Phase::kHandshake;
    bool expired_ = false;
    bool unread_ = false;  // the client may still be sending what nobody will read
};

}  // namespace gatehouse::http

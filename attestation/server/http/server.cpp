#include "attestation/server/http/server.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <future>
#include <thread>
#include <tuple>

#include "attestation/server/http/connection.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::http {
namespace {

namespace ip = asio::ip;

constexpr std::chrono::milliseconds kSweep{200};
constexpr std::chrono::milliseconds kAcceptAgain{100};  // after running out of descriptors
constexpr int kBacklog = 4096;

}  // namespace

struct Server::Inside {
    Inside(Application& application, const ServerOptions& options, const TlsFiles& tls)
        : core(application, options, tls) {
        for (unsigned i = 0; i < std::max(1u, options.loops); ++i) loops.push_back(std::make_unique<Loop>());
        acceptor.emplace(loops.front()->context);
        listen();
    }

    // Jobs that still run come back to the loops, so the workers go first.
    ~Inside() { core.workers.reset(); }

    void listen();
    asio::awaitable<void> accept();
    asio::awaitable<void> sweep(Loop& loop);
    void adopt(Loop& loop, ip::tcp::socket socket);
    bool evict(Loop& loop);
    // Runs `body` on each loop's thread, and waits.
    void on_each_loop(const std::function<void(Loop&)>& body);
    bool wait_until_empty(Clock::time_point until);

    Core core;
    std::vector<std::unique_ptr<Loop>> loops;
    std::optional<ip::tcp::acceptor> acceptor;
    std::vector<std::thread> threads;
};

void Server::Inside::listen() {
    const ServerOptions& options = core.options;
    try {
        const ip::tcp::endpoint endpoint(ip::make_address(options.address), options.port);
        acceptor->open(endpoint.protocol());
        acceptor->set_option(asio::socket_base::reuse_address(true));
        acceptor->bind(endpoint);
        acceptor->listen(kBacklog);
    } catch (const boost::system::system_error& error) {
        throw host::ToolError("cannot listen on " + options.address + ":" + std::to_string(options.port) + ": " +
                              error.code().message() + "; give another --listen ADDRESS:PORT");
    }
}

// Of the loop's connections that wait for their client, closes one of the network that has the most: an idle
// one if it has any, the one that is nearest to its time. So a single peer gets in its own way only.
bool Server::Inside::evict(Loop& loop) {
    const auto rank = [](const Connection& one) {
        return std::tuple(one.of_its_network(), one.is_idle(), -one.deadline().time_since_epoch());
    };
    Connection* chosen = nullptr;
    for (Connection* const one : loop.connections) {
        if (!one->waits_for_client() || one->deadline() == Clock::time_point::max()) continue;
        if (chosen == nullptr || rank(*one) > rank(*chosen)) chosen = one;
    }
    if (chosen != nullptr) chosen->expire();
    return chosen != nullptr;
}

void Server::Inside::adopt(Loop& loop, ip::tcp::socket socket) {
    Metrics& metrics = core.application.metrics();
    metrics.connections_total.fetch_add(1, std::memory_order_relaxed);
    if (core.stopping) return;
    if (static_cast<std::size_t>(metrics.connections.load()) >= core.options.max_connections) {
        metrics.connections_refused.fetch_add(1, std::memory_order_relaxed);
        if (!evict(loop)) return;
    }
    auto connection = std::make_shared<Connection>(core, loop, std::move(socket));
    asio::co_spawn(loop.context, Connection::run(std::move(connection)), [this](const std::exception_ptr& fault) {
        if (!fault) return;
        try {
            std::rethrow_exception(fault);
        } catch (const std::exception& error) {
            core.application.log().write(Level::kError, "a connection failed", {{"error", error.what()}});
        }
    });
}

asio::awaitable<void> Server::Inside::accept() {
    for (std::size_t turn = 0;; ++turn) {
        Loop& loop = *loops[turn % loops.size()];
        ip::tcp::socket socket(loop.context);
        boost::system::error_code error;
        co_await acceptor->async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
        if (core.stopping || error == asio::error::operation_aborted) co_return;
        if (error) {
            core.application.log().write(Level::kWarning, "cannot accept a connection", {{"error", error.message()}});
            asio::steady_timer pause(acceptor->get_executor(), kAcceptAgain);
            co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        asio::post(loop.context,
                   [this, &loop, accepted = std::move(socket)]() mutable { adopt(loop, std::move(accepted)); });
    }
}

asio::awaitable<void> Server::Inside::sweep(Loop& loop) {
    while (true) {
        loop.sweeper.expires_after(kSweep);
        boost::system::error_code error;
        co_await loop.sweeper.async_wait(asio::redirect_error(asio::use_awaitable, error));
        if (error) co_return;
        const auto now = Clock::now();
        for (Connection* const one : loop.connections) {
            if (one->deadline() <= now) one->expire();
        }
    }
}

void Server::Inside::on_each_loop(const std::function<void(Loop&)>& body) {
    for (const auto& loop : loops) {
        std::promise<void> done;
        asio::post(loop->context, [&] {
            body(*loop);
            done.set_value();
        });
        done.get_future().wait();
    }
}

bool Server::Inside::wait_until_empty(Clock::time_point until) {
    while (core.application.metrics().connections.load() > 0) {
        if (Clock::now() >= until) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return true;
}

Server::Server(Application& application, const ServerOptions& options, const TlsFiles& tls)
    : inside_(std::make_unique<Inside>(application, options, tls)) {}

Server::~Server() {
    try {
        if (!inside_->threads.empty()) (void)stop();
    } catch (...) {
        std::terminate();  // its threads still run
    }
}

std::uint16_t Server::port() const { return inside_->acceptor->local_endpoint().port(); }

void Server::start() {
    asio::co_spawn(inside_->loops.front()->context, inside_->accept(), asio::detached);
    for (const auto& loop : inside_->loops) {
        asio::co_spawn(loop->context, inside_->sweep(*loop), asio::detached);
        inside_->threads.emplace_back([&context = loop->context] { context.run(); });
    }
}

void Server::replace_tls(const TlsFiles& tls) {
    auto context = make_tls_context(tls);
    const std::scoped_lock lock(inside_->core.tls_mutex);
    inside_->core.tls = std::move(context);
}

void Server::tick() { inside_->core.waiters.scan(inside_->core.application); }

bool Server::stop() {
    Inside& inside = *inside_;
    if (inside.threads.empty()) return true;
    inside.core.stopping = true;
    asio::post(inside.loops.front()->context, [&] {
        boost::system::error_code ignored;
        inside.acceptor->close(ignored);
    });
    inside.core.waiters.release();
    const auto expire = [&](bool all) {
        inside.on_each_loop([all](Loop& loop) {
            for (Connection* const one : loop.connections) {
                if (all || one->is_idle()) one->expire();
            }
        });
    };
    expire(false);
    const bool clean = inside.wait_until_empty(Clock::now() + inside.core.options.stop);
    if (!clean) {
        expire(true);
        (void)inside.wait_until_empty(Clock::now() + std::chrono::seconds(2));
    }
    for (const auto& loop : inside.loops) {
        loop->work.reset();
        loop->context.stop();
    }
    for (std::thread& thread : inside.threads) thread.join();
    inside.threads.clear();
    return clean;
}

}  // namespace gatehouse::http

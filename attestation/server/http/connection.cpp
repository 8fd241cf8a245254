#include "attestation/server/http/connection.hpp"

#include <openssl/err.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <future>

namespace gatehouse::http {
namespace {

namespace ip = asio::ip;

constexpr ServerOptions::Duration kLinger{2'000};
constexpr std::size_t kMostLingering = 4u << 20;
constexpr std::size_t kMostPieces = 64u << 10;  // chunk headers and extensions, without data

std::shared_ptr<Peer> peer_of(const ip::tcp::socket& socket) {
    auto peer = std::make_shared<Peer>();
    boost::system::error_code error;
    ip::address address = socket.remote_endpoint(error).address();
    if (address.is_v6() && address.to_v6().is_v4_mapped()) {
        address = ip::make_address_v4(ip::v4_mapped, address.to_v6());
    }
    peer->address = address.to_string();
    peer->network = peer->address;
    peer->loopback = address.is_loopback();
    if (address.is_v6()) {
        auto bytes = address.to_v6().to_bytes();
        std::fill(bytes.begin() + 8, bytes.end(), static_cast<unsigned char>(0));
        peer->network = ip::address_v6(bytes).to_string() + "/64";
    }
    return peer;
}

// In this file no co_await stands to the right of && or ||: GCC 12 evaluates it whatever is on the left.

// Runs `call` on a worker and comes back to `executor` with its answer; 503 if the workers are behind.
template <typename Call>
asio::awaitable<Response> on_worker(Core& core, asio::any_io_executor executor, Call call) {
    const auto start = [&core, executor](auto handler, Call a_call) {
        auto shared = std::make_shared<decltype(handler)>(std::move(handler));
        const auto finish = [shared, executor](Response response) {
            asio::post(executor, [shared, answer = std::move(response)]() mutable { (*shared)(std::move(answer)); });
        };
        std::function<void()> job = [finish, work = std::move(a_call)]() mutable { finish(work()); };
        if (core.workers->submit(job)) return;
        core.application.metrics().queue_refused.fetch_add(1, std::memory_order_relaxed);
        finish(error_response(503, "busy", "the server is busy: try again", 1));
    };
    return asio::async_initiate<const asio::use_awaitable_t<>&, void(Response)>(start, asio::use_awaitable,
                                                                                std::move(call));
}

struct ClientGone {};

}  // namespace

void Waiters::add(const std::string& endpoint, Clock::time_point until, Wake wake) {
    Wake before;
    {
        const std::scoped_lock lock(mutex_);
        if (released_) {
            before = std::move(wake);
        } else {
            Waiter& waiter = waiters_[endpoint];
            before = std::move(waiter.wake);
            waiter = {until, std::move(wake)};
        }
    }
    if (before) before(false);
}

void Waiters::scan(Application& application) {
    std::vector<std::string> wanted;
    // The lock, which loops take, is not held over a question to the database, which may be slow. While that
    // does not answer, nobody is wanted; that it does not is said by house-keeping.
    try {
        wanted = application.take_wishes([this](const std::string& endpoint) {
            const std::scoped_lock lock(mutex_);
            return waiters_.contains(endpoint);
        });
    } catch (const std::exception&) {}
    std::vector<std::pair<Wake, bool>> ready;
    const auto now = Clock::now();
    {
        const std::scoped_lock lock(mutex_);
        for (const std::string& endpoint : wanted) {
            const auto found = waiters_.find(endpoint);
            if (found == waiters_.end()) continue;
            ready.emplace_back(std::move(found->second.wake), true);
            waiters_.erase(found);
        }
        for (auto each = waiters_.begin(); each != waiters_.end();) {
            if (each->second.until > now) {
                ++each;
                continue;
            }
            ready.emplace_back(std::move(each->second.wake), false);
            each = waiters_.erase(each);
        }
    }
    for (auto& [wake, is_wanted] : ready) wake(is_wanted);
}

void Waiters::release() {
    std::unordered_map<std::string, Waiter> all;
    {
        const std::scoped_lock lock(mutex_);
        released_ = true;
        all.swap(waiters_);
    }
    for (auto& [endpoint, waiter] : all) waiter.wake(false);
}

Connection::Connection(Core& core, Loop& loop, ip::tcp::socket socket)
    : core_(core),
      loop_(loop),
      socket_(std::move(socket)),
      context_(core.tls_context()),
      peer_(peer_of(socket_)),
      of_network_(loop.networks[peer_->network]) {
    loop_.connections.insert(this);
    ++of_network_;
    core_.application.metrics().connections.fetch_add(1);
}

Connection::~Connection() {
    loop_.connections.erase(this);
    if (--of_network_ == 0) loop_.networks.erase(peer_->network);
    core_.application.metrics().connections.fetch_sub(1);
}

void Connection::enter(Phase phase, ServerOptions::Duration time) {
    phase_ = phase;
    deadline_ = Clock::now() + time;
}

void Connection::enter(Phase phase) {
    phase_ = phase;
    deadline_ = Clock::time_point::max();
}

void Connection::expire() {
    expired_ = true;
    deadline_ = Clock::time_point::max();
    boost::system::error_code ignored;
    socket_.cancel(ignored);
}

// After a call of OpenSSL that did not get through: waits for what it needs. False: the connection is at its
// end.
asio::awaitable<bool> Connection::wait(int tls_error) {
    const bool reads = tls_error == SSL_ERROR_WANT_READ;
    if (expired_ || (!reads && tls_error != SSL_ERROR_WANT_WRITE)) co_return false;
    boost::system::error_code error;
    co_await socket_.async_wait(reads ? ip::tcp::socket::wait_read : ip::tcp::socket::wait_write,
                                asio::redirect_error(asio::use_awaitable, error));
    co_return !error && !expired_;
}

asio::awaitable<bool> Connection::handshake() {
    enter(Phase::kHandshake, core_.options.handshake);
    boost::system::error_code error;
    socket_.non_blocking(true, error);
    socket_.set_option(ip::tcp::no_delay(true), error);
    socket_.set_option(asio::socket_base::keep_alive(true), error);
    tls_.reset(SSL_new(context_.get()));
    if (tls_ == nullptr || SSL_set_fd(tls_.get(), socket_.native_handle()) != 1) co_return false;
    SSL_set_accept_state(tls_.get());
    while (true) {
        ERR_clear_error();
        const int done = SSL_do_handshake(tls_.get());
        if (done == 1) break;
        const int tls_error = SSL_get_error(tls_.get(), done);
        if (!co_await wait(tls_error)) {
            core_.application.metrics().handshakes_failed.fetch_add(1, std::memory_order_relaxed);
            co_return false;
        }
    }
    read_client_certificate(tls_.get(), *peer_);
    if (peer_->connection_secret) core_.application.metrics().opened_by_key.fetch_add(1, std::memory_order_relaxed);
    co_return true;
}

asio::awaitable<bool> Connection::read_some() {
    while (true) {
        ERR_clear_error();
        std::size_t count = 0;
        const int done = SSL_read_ex(tls_.get(), loop_.scratch.data(), loop_.scratch.size(), &count);
        if (done == 1) {
            in_.append(loop_.scratch.data(), count);
            co_return true;
        }
        const int tls_error = SSL_get_error(tls_.get(), done);
        if (in_.empty()) std::string().swap(in_);
        if (!co_await wait(tls_error)) co_return false;
    }
}

asio::awaitable<bool> Connection::write(std::string_view bytes) {
    while (!bytes.empty()) {
        ERR_clear_error();
        std::size_t count = 0;
        const int done = SSL_write_ex(tls_.get(), bytes.data(), bytes.size(), &count);
        if (done == 1) {
            bytes.remove_prefix(count);
            continue;
        }
        if (!co_await wait(SSL_get_error(tls_.get(), done))) co_return false;
    }
    co_return true;
}

// Null at the end of the connection.
asio::awaitable<std::unique_ptr<RequestReader>> Connection::read_head() {
    enter(Phase::kIdle, core_.options.idle);
    while (in_.empty()) {
        if (core_.stopping) co_return nullptr;
        if (!co_await read_some()) co_return nullptr;
    }
    enter(Phase::kHead, core_.options.head);
    std::size_t length = 0;
    while ((length = head_length(in_)) == 0) {
        if (co_await read_some()) continue;
        if (expired_) throw HttpError{408, "too_slow", "the header took too long"};
        co_return nullptr;
    }
    auto reader = std::make_unique<RequestReader>(std::string_view(in_).substr(0, length));
    in_.erase(0, length);
    reader->request().peer = peer_;
    co_return reader;
}

asio::awaitable<bool> Connection::read_body(RequestReader& reader, std::size_t most) {
    reader.limit_body(most);
    if (reader.is_done()) co_return true;
    enter(Phase::kBody, core_.options.body);
    if (in_.empty() && reader.expects_continue()) {
        if (!co_await write("HTTP/1.1 100 Continue\r\n\r\n")) co_return false;
    }
    std::size_t overhead = 0;
    while (true) {
        const std::size_t taken = reader.put(in_);
        overhead += taken < 1024 ? taken : 0;
        in_.erase(0, taken);
        if (reader.is_done()) break;
        if (in_.size() > kMostPieces || overhead > most + kMostPieces) {
            throw HttpError{400, "bad_request", "more framing than body"};
        }
        if (co_await read_some()) continue;
        if (expired_) throw HttpError{408, "too_slow", "the body took too long"};
        co_return false;
    }
    reader.finish();
    co_return true;
}

asio::awaitable<bool> Connection::wait_for_wish(const std::string& endpoint) {
    const auto until = Clock::now() + core_.options.long_poll;
    const auto start = [&](auto handler) {
        auto shared = std::make_shared<decltype(handler)>(std::move(handler));
        core_.waiters.add(endpoint, until, [shared, executor = socket_.get_executor()](bool wanted) {
            asio::post(executor, [shared, wanted] { (*shared)(wanted); });
        });
    };
    co_return co_await asio::async_initiate<const asio::use_awaitable_t<>&, void(bool)>(start, asio::use_awaitable);
}

asio::awaitable<Response> Connection::call(Request& request) {
    enter(Phase::kCall);
    Response response =
        co_await on_worker(core_, socket_.get_executor(), [&] { return core_.application.handle(request); });
    if (response.wait_for_endpoint.empty()) co_return response;
    const std::string endpoint = response.wait_for_endpoint;
    const bool wanted = co_await wait_for_wish(endpoint);
    Response news;
    news.status = wanted ? 200 : 204;
    if (wanted) news.body = "{\"attest\":true}";
    if (!wanted) news.content_type.clear();
    co_return news;
}

asio::awaitable<bool> Connection::answer_stream(Response& response) {
    const auto executor = socket_.get_executor();
    const auto sink = [this, executor](std::string_view piece) {
        char size[24];
        std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
        std::string chunk(size);
        chunk.append(piece).append("\r\n");
        std::promise<bool> written;
        const auto send = [&]() -> asio::awaitable<bool> {
            enter(Phase::kAnswer, core_.options.answer);
            const bool ok = co_await write(chunk);
            enter(Phase::kCall);
            co_return ok;
        };
        asio::co_spawn(executor, send,
                       [&written](const std::exception_ptr& error, bool ok) { written.set_value(!error && ok); });
        if (!written.get_future().get()) throw ClientGone{};
    };
    enter(Phase::kCall);
    const Response outcome = co_await on_worker(core_, executor, [this, &response, &sink] {
        Response done;
        try {
            response.stream(sink);
        } catch (const ClientGone&) {
            done.status = 0;
        } catch (const std::exception& error) {
            core_.application.log().write(Level::kError, "a streamed answer broke off", {{"error", error.what()}});
            done.status = 0;
        }
        return done;
    });
    enter(Phase::kAnswer, core_.options.answer);
    // Without the last chunk the client can tell that the rest is missing.
    if (outcome.status != 200) co_return false;
    co_return co_await write("0\r\n\r\n");
}

asio::awaitable<bool> Connection::answer(const Request& request, Response response, bool close) {
    enter(Phase::kAnswer, core_.options.answer);
    const bool streams = response.stream && !request.is_head();
    std::string bytes = response_head(response, streams ? std::nullopt : std::optional(response.body.size()), close);
    if (!request.is_head()) bytes += response.body;
    if (!co_await write(bytes)) co_return false;
    if (!streams) co_return true;
    co_return co_await answer_stream(response);
}

// True: the connection goes on.
asio::awaitable<bool> Connection::serve(RequestReader& reader) {
    Request& request = reader.request();
    const auto begun = Clock::now();
    auto admission = core_.application.admit(request);
    unread_ = !reader.is_done();
    Response response;
    if (admission.refusal) {
        response = std::move(*admission.refusal);
    } else {
        std::optional<HttpError> error;
        try {
            if (!co_await read_body(reader, admission.max_body)) co_return false;
            unread_ = false;
        } catch (HttpError& thrown) {
            error = std::move(thrown);
        }
        if (error) {
            response = error_response(error->status, error->code, error->message);
            response.close = true;
        } else {
            response = co_await call(request);
        }
    }
    // A body that was not read is not skipped either: what follows it could be anything.
    const bool close = response.close || unread_ || core_.stopping || !reader.keep_alive();
    const bool timed_out = response.status == 408;
    const Response brief = status_only(response.status);
    expired_ = false;
    const bool sent = co_await answer(request, std::move(response), close);
    core_.application.finished(request, brief, Clock::now() - begun);
    if (timed_out) core_.application.metrics().connections_timed_out.fetch_add(1);
    co_return sent && !close;
}

asio::awaitable<void> Connection::refuse(HttpError error) {
    const bool slow = error.status == 408;
    if (slow) core_.application.metrics().connections_timed_out.fetch_add(1);
    expired_ = false;
    unread_ = true;
    Request request;
    request.peer = peer_;
    const Response brief = status_only(error.status);
    (void)co_await answer(request, error_response(error.status, error.code, error.message), true);
    core_.application.finished(request, brief, std::chrono::nanoseconds(0));
}

asio::awaitable<bool> Connection::serve_one() {
    std::optional<HttpError> error;
    try {
        const auto reader = co_await read_head();
        if (reader == nullptr) co_return false;
        co_return co_await serve(*reader);
    } catch (HttpError& thrown) {
        error = std::move(thrown);
    }
    co_await refuse(std::move(*error));
    co_return false;
}

// A client that is still sending would lose our answer to a reset: what it sends is read for a while and
// dropped.
asio::awaitable<void> Connection::close() {
    expired_ = false;
    enter(Phase::kClosing, kLinger);
    ERR_clear_error();
    if (SSL_is_init_finished(tls_.get()) == 1) SSL_shutdown(tls_.get());
    boost::system::error_code error;
    socket_.shutdown(ip::tcp::socket::shutdown_send, error);
    for (std::size_t dropped = 0; unread_ && !error && dropped < kMostLingering;) {
        co_await socket_.async_wait(ip::tcp::socket::wait_read, asio::redirect_error(asio::use_awaitable, error));
        if (error || expired_) break;
        const auto count = socket_.read_some(asio::buffer(loop_.scratch), error);
        dropped += count;
    }
    socket_.close(error);
}

asio::awaitable<void> Connection::run(std::shared_ptr<Connection> connection) {
    Connection& self = *connection;
    const bool secured = co_await self.handshake();
    // The client is to read the alert that says why, so this end too is a slow one.
    self.unread_ = !secured;
    if (!secured && self.expired_) co_return;
    for (bool more = secured; more;) more = co_await self.serve_one();
    co_await self.close();
}

}  // namespace gatehouse::http

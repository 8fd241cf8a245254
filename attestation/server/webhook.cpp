#include "attestation/server/webhook.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <chrono>

#include "attestation/server/service.hpp"

namespace gatehouse::server {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;

constexpr std::chrono::seconds kPatience{10};
constexpr std::size_t kMostAnswer = 64 * 1024;

[[noreturn]] void refuse(const std::string& why) { throw ServiceError(400, "url", "webhook URL: " + why); }

bool is_loopback(const std::string& host) {
    boost::system::error_code error;
    const net::ip::address address = net::ip::make_address(host, error);
    return error ? host == "localhost" : address.is_loopback();
}

using Request = http::request<http::string_body>;

template <typename Stream>
net::awaitable<unsigned> exchange(Stream& stream, const Request& request) {
    co_await http::async_write(stream, request, net::use_awaitable);
    beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(kMostAnswer);
    co_await http::async_read_header(stream, buffer, parser, net::use_awaitable);
    co_return parser.get().result_int();  // the body is of no interest
}

net::awaitable<unsigned> post(const Url& url, const Request& request) {
    const auto executor = co_await net::this_coro::executor;
    net::ip::tcp::resolver resolver(executor);
    const auto places = co_await resolver.async_resolve(url.host, url.port, net::use_awaitable);
    if (!url.tls) {
        // Not by its name alone: a name may be anybody's.
        for (const auto& place : places) {
            if (!place.endpoint().address().is_loopback()) throw std::runtime_error("http to another host");
        }
        beast::tcp_stream stream(executor);
        stream.expires_after(kPatience);
        co_await stream.async_connect(places, net::use_awaitable);
        co_return co_await exchange(stream, request);
    }
    net::ssl::context context(net::ssl::context::tls_client);
    context.set_default_verify_paths();
    context.set_verify_mode(net::ssl::verify_peer);
    SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
    beast::ssl_stream<beast::tcp_stream> stream(executor, context);
    stream.set_verify_callback(net::ssl::host_name_verification(url.host));
    if (SSL_set_tlsext_host_name(stream.native_handle(), url.host.c_str()) != 1)
        throw std::runtime_error("TLS: host name");
    beast::get_lowest_layer(stream).expires_after(kPatience);
    co_await beast::get_lowest_layer(stream).async_connect(places, net::use_awaitable);
    co_await stream.async_handshake(net::ssl::stream_base::client, net::use_awaitable);
    co_return co_await exchange(stream, request);
}

}  // namespace

Url parse_webhook_url(const std::string& url) {
    if (!url.starts_with("https://") && !url.starts_with("http://"))
        refuse("must begin with https:// (http:// to this host only)");
    Url parsed;
    try {
        parsed = parse_url(url);
    } catch (const std::invalid_argument& error) {
        refuse(error.what());
    }
    if (!parsed.tls && !is_loopback(parsed.host)) refuse("http:// goes to this host only (127.0.0.1, ::1, localhost)");
    return parsed;
}

std::string post_webhook(const Url& url, const std::vector<std::pair<std::string, std::string>>& headers,
                         const std::string& body) {
    Request request(http::verb::post, url.path, 11);
    request.set(http::field::host, url.authority);
    request.set(http::field::user_agent, "gatehouse");
    request.set(http::field::content_type, "application/json");
    request.set(http::field::connection, "close");
    for (const auto& [name, value] : headers) request.set(name, value);
    request.body() = body;
    request.prepare_payload();

    unsigned status = 0;
    std::string fault = "no answer";
    net::io_context context;
    net::co_spawn(context, post(url, request), [&](const std::exception_ptr& error, unsigned got) {
        status = got;
        fault.clear();
        if (!error) return;
        try {
            std::rethrow_exception(error);
        } catch (const std::exception& failure) {
            fault = failure.what();
        }
    });
    context.run_for(2 * kPatience);
    if (!fault.empty()) return fault;
    return status / 100 == 2 ? "" : "answered with status " + std::to_string(status);
}

}  // namespace gatehouse::server

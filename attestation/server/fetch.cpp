#include "attestation/server/fetch.hpp"

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cstdint>
#include <optional>
#include <stdexcept>

#include "attestation/server/database/text.hpp"
#include "attestation/server/url.hpp"

namespace gatehouse::server {
namespace {

namespace net = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using Clock = std::chrono::steady_clock;
using Request = http::request<http::empty_body>;
using Response = http::response<http::vector_body<std::uint8_t>>;

constexpr unsigned kMostRedirects = 3;
constexpr std::uint32_t kMostHeader = 16 * 1024;
// Of what Beast takes only whole and limits by nothing else: the line before a chunk with its extensions, and the fields
// after the last one.
constexpr std::size_t kMostWaiting = 2 * kMostHeader;
constexpr std::size_t kMostValidator = 256;
constexpr std::chrono::milliseconds kStopStep{100};

[[noreturn]] void fail(const std::string& why) { throw std::runtime_error(why); }

struct Block4 {
    std::uint32_t first;
    unsigned bits;
};
// IANA IPv4 Special-Purpose Address Registry, multicast, and what a cloud has put elsewhere.
constexpr std::array kSpecial4{
    Block4{0x00000000, 8},   // 0.0.0.0/8      this network
    Block4{0x0a000000, 8},   // 10.0.0.0/8     private
    Block4{0x64400000, 10},  // 100.64.0.0/10  shared
    Block4{0x7f000000, 8},   // 127.0.0.0/8    loopback
    Block4{0xa9fe0000, 16},  // 169.254.0.0/16 link-local; clouds' metadata
    Block4{0xa83f8110, 32},  // 168.63.129.16  a cloud's metadata (Azure), public by its number alone
    Block4{0xac100000, 12},  // 172.16.0.0/12  private
    Block4{0xc0000000, 24},  // 192.0.0.0/24   protocols
    Block4{0xc0000200, 24},  // 192.0.2.0/24   documentation
    Block4{0xc0586300, 24},  // 192.88.99.0/24 6to4 relays
    Block4{0xc0a80000, 16},  // 192.168.0.0/16 private
    Block4{0xc6120000, 15},  // 198.18.0.0/15  benchmarks
    Block4{0xc6336400, 24},  // 198.51.100.0/24 documentation
    Block4{0xcb007100, 24},  // 203.0.113.0/24 documentation
    Block4{0xe0000000, 3},   // 224.0.0.0/3    multicast, reserved, broadcast
};

bool is_public(const net::ip::address_v4& address) {
    const std::uint32_t value = address.to_uint();
    return std::ranges::none_of(
        kSpecial4, [value](const Block4& block) { return (value ^ block.first) >> (32 - block.bits) == 0; });
}

// Of 2000::/3 alone is anything given out; in it lie protocols (2001::/23, Teredo among them), documentation (2001:db8::/32,
// 3fff::/20) and 6to4 (2002::/16), which stands for an IPv4 address. Mapped and translated ones lie outside.
bool is_public(const net::ip::address_v6& address) {
    const auto bytes = address.to_bytes();
    const std::uint32_t front = std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 |
                                std::uint32_t{bytes[2]} << 8 | std::uint32_t{bytes[3]};
    if (front >> 29 != 1) return false;
    return front >> 9 != 0x20010000u >> 9 && front != 0x20010db8 && front >> 16 != 0x2002 && front >> 12 != 0x3fff0;
}

bool is_public(const net::ip::address& address) {
    return address.is_v4() ? is_public(address.to_v4()) : is_public(address.to_v6());
}

void demand_public(const net::ip::address& address, const std::string& host) {
    if (is_public(address)) return;
    const std::string text = address.to_string();
    fail(
        (host == text ? text : host + " is " + text + ", which") +
        " is not an address of the public internet; the server's settings allow others by private_addresses under [crl]");
}

Url fetchable(const std::string& url) {
    Url parsed = parse_url(url);
    if (parsed.tls) throw std::invalid_argument("only http:// is fetched; a CRL is signed");
    return parsed;
}

// One exchange: what it is sent to, what was asked.
struct Exchange {
    Url url;
    std::optional<Url> proxy;
    Validators known;
    const FetchRules* rules = nullptr;
    Clock::time_point end;
};

// The addresses to connect to, each looked at.
net::awaitable<net::ip::tcp::resolver::results_type> places_of(const Exchange& exchange) {
    net::ip::tcp::resolver resolver(co_await net::this_coro::executor);
    const Url& next = exchange.proxy ? *exchange.proxy : exchange.url;
    auto places = co_await resolver.async_resolve(next.host, next.port, net::use_awaitable);
    if (exchange.proxy || exchange.rules->private_addresses) co_return places;
    // All of them: a name with one address outside and one inside is not a good one.
    for (const auto& place : places) demand_public(place.endpoint().address(), next.host);
    co_return places;
}

net::awaitable<Response> get(const Exchange& exchange) {
    const Url& url = exchange.url;
    Request request(http::verb::get, exchange.proxy ? "http://" + url.authority + url.path : url.path, 11);
    request.set(http::field::host, url.authority);
    request.set(http::field::user_agent, "gatehouse");
    request.set(http::field::accept, "application/pkix-crl, */*;q=0.1");
    request.set(http::field::accept_encoding, "identity");
    request.set(http::field::connection, "close");
    if (!exchange.known.tag.empty()) request.set(http::field::if_none_match, exchange.known.tag);
    if (!exchange.known.modified.empty()) request.set(http::field::if_modified_since, exchange.known.modified);

    const auto places = co_await places_of(exchange);
    beast::tcp_stream stream(co_await net::this_coro::executor);
    stream.expires_at(exchange.end);
    // By addresses: no name is looked up again.
    (void)co_await stream.async_connect(places, net::use_awaitable);
    co_await http::async_write(stream, request, net::use_awaitable);
    beast::flat_buffer buffer(kMostWaiting);
    http::response_parser<http::vector_body<std::uint8_t>> parser;
    parser.body_limit(exchange.rules->most_bytes);
    parser.header_limit(kMostHeader);
    co_await http::async_read(stream, buffer, parser, net::use_awaitable);
    co_return parser.release();
}

// An address in the URL is refused before anything is sent, to a proxy as well.
void demand_address(const Url& url, const FetchRules& rules) {
    if (rules.private_addresses) return;
    boost::system::error_code error;
    const net::ip::address address = net::ip::make_address(url.host, error);
    if (!error) demand_public(address, url.host);
    // What resolvers take for an address though it is not written as one: 127.1, 0x7f000001, 2130706433.
    const std::string_view last = std::string_view(url.host).substr(url.host.rfind('.') + 1);
    const bool numeric = last.starts_with("0x") || last.starts_with("0X") ||
                         last.find_first_not_of("0123456789") == std::string_view::npos;
    if (error && numeric) fail(url.host + " is neither an address nor a name");
    const std::string name = lower_case(url.host);
    if (name == "localhost" || name.ends_with(".localhost")) fail(url.host + " is this host");
}

std::string redirect_of(const Response& response, const Url& from) {
    std::string to(response[http::field::location]);
    if (to.starts_with("//")) return "http:" + to;
    if (to.starts_with('/')) return "http://" + from.authority + to;
    return to;
}

std::string validator_of(const Response& response, http::field name) {
    std::string text(response[name]);
    const bool plain = std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
    return plain && text.size() <= kMostValidator ? text : "";
}

Fetched taken(Response&& response) {
    Fetched out{
        .fault = {},
        .changed = true,
        .body = {},
        .validators = {validator_of(response, http::field::etag), validator_of(response, http::field::last_modified)}};
    const std::string coding(response[http::field::content_encoding]);
    if (!coding.empty() && coding != "identity") fail("answered compressed, which was not asked for");
    const auto bytes = std::as_bytes(std::span(response.body()));
    out.body.assign(bytes.begin(), bytes.end());
    if (out.body.empty()) fail("answered with nothing");
    return out;
}

net::awaitable<Fetched> follow(std::string url, const Validators& known, const FetchRules& rules) {
    Exchange exchange{.url = {}, .proxy = {}, .known = known, .rules = &rules, .end = Clock::now() + rules.patience};
    if (!rules.proxy.empty()) exchange.proxy = fetchable(rules.proxy);
    for (unsigned redirects = 0;; ++redirects) {
        exchange.url = fetchable(url);
        demand_address(exchange.url, rules);
        Response response = co_await get(exchange);
        const unsigned status = response.result_int();
        if (status == 200) co_return taken(std::move(response));
        if (status == 304 && !(known.tag.empty() && known.modified.empty()))
            co_return Fetched{.fault = {}, .changed = false, .body = {}, .validators = known};
        const bool redirect = status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
        if (!redirect) fail("answered with status " + std::to_string(status));
        if (redirects == kMostRedirects) fail("redirects more than " + std::to_string(kMostRedirects) + " times");
        const std::string before = url;
        url = redirect_of(response, exchange.url);
        try {
            (void)fetchable(url);
        } catch (const std::invalid_argument& error) {
            fail("redirects to a URL that " + std::string(error.what()));
        }
    }
}

std::string fault_text(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const boost::system::system_error& failure) {
        if (failure.code() == http::error::body_limit || failure.code() == http::error::buffer_overflow)
            return "larger than the settings allow";
        if (failure.code() == beast::error::timeout) return "took too long";
        return failure.code().message();
    } catch (const std::exception& failure) {
        return failure.what();
    }
}

}  // namespace

Fetched fetch(const std::string& url, const Validators& known, const FetchRules& rules, const std::stop_token& stop) {
    Fetched out;
    bool done = false;
    const auto end = Clock::now() + rules.patience;
    net::io_context context;  // last: what runs in it refers to the others
    net::co_spawn(context, follow(url, known, rules), [&](const std::exception_ptr& error, Fetched got) {
        done = true;
        out = std::move(got);
        if (error) out.fault = fault_text(error);
    });
    while (!done && !stop.stop_requested() && Clock::now() < end + kStopStep) context.run_for(kStopStep);
    if (done) return out;
    Fetched none;
    none.fault = stop.stop_requested() ? "the server ends" : "took too long";
    return none;
}

bool is_public_address(const std::string& address) {
    boost::system::error_code error;
    const net::ip::address parsed = net::ip::make_address(address, error);
    return !error && is_public(parsed);
}

void demand_fetchable(const std::string& url) { (void)fetchable(url); }

}  // namespace gatehouse::server

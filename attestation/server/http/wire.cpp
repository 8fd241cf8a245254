#include "attestation/server/http/wire.hpp"

#include <algorithm>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <ctime>
#include <functional>

#include "attestation/server/http/target.hpp"

namespace gatehouse::http {
namespace {

namespace beast = boost::beast;

constexpr std::size_t kMaxFields = 64;

[[noreturn]] void refuse(const std::string& message) { throw HttpError{400, "bad_request", message}; }

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out) {
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
    }
    return out;
}

// What Beast is lenient about.
void check_lines(std::string_view head) {
    std::size_t lines = 0;
    while (!head.empty()) {
        const auto line = head.substr(0, head.find('\r'));
        if (head.substr(line.size(), 2) != "\r\n") refuse("a line does not end with CR LF");
        head.remove_prefix(line.size() + 2);
        for (const char c : line) {
            const auto byte = static_cast<unsigned char>(c);
            if ((byte < 0x20 && c != '\t') || byte == 0x7f) refuse("control character in the header");
        }
        if (line.empty()) break;
        if (line.front() == ' ' || line.front() == '\t') refuse("folded header line");
        if (++lines > kMaxFields + 1) throw HttpError{431, "header_too_large", "more than 64 header fields"};
    }
    if (!head.empty()) refuse("malformed header");
}

void check_framing(const Request& request) {
    std::size_t hosts = 0, lengths = 0, codings = 0;
    for (const auto& [name, value] : request.headers) {
        if (name == "host") ++hosts;
        if (name == "content-length") {
            ++lengths;
            const bool digits = !value.empty() && value.size() <= 15 &&
                                std::ranges::all_of(value, [](char c) { return c >= '0' && c <= '9'; });
            if (!digits) refuse("Content-Length is not a number");
        }
        if (name == "transfer-encoding") {
            ++codings;
            if (lower(value) != "chunked") throw HttpError{501, "bad_coding", "Transfer-Encoding: only chunked"};
        }
    }
    if (hosts != 1 || !is_host(request.header("host"))) refuse("one Host field is needed: a name or an address");
    if (lengths + codings > 1) refuse("more than one Content-Length or Transfer-Encoding");
}

HttpError error_of(const beast::error_code& error) {
    if (error == beast::http::error::body_limit) {
        return {413, "body_too_large", "the body is longer than this path takes"};
    }
    if (error == beast::http::error::header_limit) return {431, "header_too_large", "the header is too long"};
    return {400, "bad_request", "malformed request: " + error.message()};
}

}  // namespace

std::size_t head_length(std::string_view bytes) {
    const auto end = bytes.substr(0, kMaxHead).find("\r\n\r\n");
    if (end != std::string::npos) return end + 4;
    // A head with bare line feeds would never end, and be waited for.
    if (const auto feed = bytes.find('\n'); feed != std::string::npos && (feed == 0 || bytes[feed - 1] != '\r')) {
        refuse("a line does not end with CR LF");
    }
    if (bytes.size() >= kMaxHead) {
        throw HttpError{431, "header_too_large", "the header is longer than " + std::to_string(kMaxHead) + " bytes"};
    }
    return 0;
}

struct RequestReader::Inside {
    // Beast takes line feeds and anything else between quotes, where others see the end of the line.
    std::function<void(std::uint64_t, beast::string_view, beast::error_code&)> refuse_extensions =
        [](std::uint64_t, beast::string_view extensions, beast::error_code& error) {
            if (!extensions.empty()) error = beast::http::error::bad_chunk_extension;
        };
    beast::http::request_parser<beast::http::string_body> parser;
    Request request;
};

RequestReader::RequestReader(std::string_view head) : inside_(std::make_unique<Inside>()) {
    check_lines(head);
    auto& parser = inside_->parser;
    parser.header_limit(static_cast<std::uint32_t>(kMaxHead) + 1);
    parser.body_limit(boost::none);
    parser.on_chunk_header(inside_->refuse_extensions);
    beast::error_code error;
    parser.put(boost::asio::buffer(head.data(), head.size()), error);
    if (error && error != beast::http::error::need_more) throw error_of(error);
    if (!parser.is_header_done()) refuse("malformed header");
    const auto& message = parser.get();
    if (message.version() != 11) throw HttpError{505, "bad_version", "send HTTP/1.1"};
    Request& request = inside_->request;
    request.method = std::string(message.method_string());
    request.target = std::string(message.target());
    for (const auto& field : message) {
        request.headers.emplace_back(lower(field.name_string()), std::string(field.value()));
    }
    check_framing(request);
}

RequestReader::~RequestReader() = default;

Request& RequestReader::request() { return inside_->request; }
bool RequestReader::keep_alive() const { return inside_->parser.get().keep_alive(); }
bool RequestReader::expects_continue() const { return lower(inside_->request.header("expect")) == "100-continue"; }

void RequestReader::limit_body(std::size_t most) {
    const auto announced = inside_->parser.content_length();
    if (announced && *announced > most) throw error_of(beast::http::error::body_limit);
    inside_->parser.body_limit(most);
}

std::size_t RequestReader::put(std::string_view bytes) {
    beast::error_code error;
    std::size_t taken = 0;
    // What is left of a chunked body never is shorter than its end, "0 CR LF CR LF". Beast must not see less:
    // it asserts that whoever has shown it a last chunk's line shows it five bytes from then on.
    const std::size_t least = inside_->parser.chunked() ? 5 : 1;
    while (taken + least <= bytes.size() && !inside_->parser.is_done()) {
        const auto rest = bytes.substr(taken);
        const auto some = inside_->parser.put(boost::asio::buffer(rest.data(), rest.size()), error);
        if (error && error != beast::http::error::need_more) throw error_of(error);
        taken += some;
        if (some == 0) break;
    }
    return taken;
}

bool RequestReader::is_done() const { return inside_->parser.is_done(); }
void RequestReader::finish() { inside_->request.body = std::move(inside_->parser.get().body()); }

std::string http_date(std::int64_t seconds) {
    const auto time = static_cast<std::time_t>(seconds);
    std::tm parts{};
    gmtime_r(&time, &parts);
    char text[64];
    return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts)};
}

std::string response_head(const Response& response, std::optional<std::size_t> length, bool close) {
    thread_local std::int64_t dated = -1;
    thread_local std::string date;
    if (const std::int64_t now = std::time(nullptr); now != dated) {
        dated = now;
        date = http_date(now);
    }
    std::string out;
    out.reserve(512 + (length ? *length : 0));
    out.append("HTTP/1.1 ").append(std::to_string(response.status)).append(" ").append(reason_of(response.status));
    out.append("\r\nDate: ").append(date);
    out.append("\r\nStrict-Transport-Security: max-age=31536000\r\nX-Content-Type-Options: nosniff");
    bool has_cache_control = false;
    for (const auto& [name, value] : response.headers) {
        if (value.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) continue;
        out.append("\r\n").append(name).append(": ").append(value);
        has_cache_control = has_cache_control || lower(name) == "cache-control";
    }
    if (!has_cache_control) out.append("\r\nCache-Control: no-store");
    if (!response.content_type.empty()) out.append("\r\nContent-Type: ").append(response.content_type);
    if (!length) {
        out.append("\r\nTransfer-Encoding: chunked");
    } else if (response.status != 204 && response.status != 304) {
        out.append("\r\nContent-Length: ").append(std::to_string(*length));
    }
    if (close) out.append("\r\nConnection: close");
    return out.append("\r\n\r\n");
}

}  // namespace gatehouse::http

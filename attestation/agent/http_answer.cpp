#include "attestation/agent/http_answer.hpp"

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <charconv>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::agent {

namespace http = boost::beast::http;
using host::ToolError;

struct HttpAnswer::Inside {
    http::response_parser<http::string_body> parser;
    std::string waiting;  // what the parser wants more of before it takes it

    static void check(const boost::beast::error_code& error) {
        if (error) throw ToolError("the server's answer: " + error.message());
    }
};

// Of the header; and of what the parser takes only whole, of which it limits nothing else: the line before a
// chunk with its extensions, and the fields after the last one.
constexpr std::uint32_t kHeaderLimit = 16384;

HttpAnswer::HttpAnswer(std::size_t limit) : inside_(std::make_unique<Inside>()) {
    inside_->parser.header_limit(kHeaderLimit);
    inside_->parser.body_limit(limit);
    inside_->parser.eager(true);
}
HttpAnswer::~HttpAnswer() = default;

void HttpAnswer::take(std::string_view bytes) {
    std::string& waiting = inside_->waiting;
    waiting.append(bytes);
    while (!waiting.empty()) {
        if (done()) throw ToolError("the server's answer: bytes after its end");
        boost::beast::error_code error;
        const std::size_t used = inside_->parser.put(boost::asio::buffer(waiting), error);
        waiting.erase(0, used);
        if (error != http::error::need_more) Inside::check(error);
        if (error || used == 0) break;
    }
    if (waiting.size() > kHeaderLimit) throw ToolError("the server's answer: a line without an end");
}

void HttpAnswer::end() {
    boost::beast::error_code error;
    if (inside_->parser.got_some()) inside_->parser.put_eof(error);
    Inside::check(error);
    if (!done()) throw ToolError("the server closed the connection without an answer");
}

bool HttpAnswer::done() const { return inside_->parser.is_done(); }
unsigned HttpAnswer::status() const { return inside_->parser.get().result_int(); }
bool HttpAnswer::keep_alive() const { return inside_->parser.get().keep_alive(); }
std::string HttpAnswer::take_body() { return std::move(inside_->parser.get().body()); }

unsigned HttpAnswer::retry_after() const {
    const auto text = inside_->parser.get()[http::field::retry_after];
    unsigned seconds = 0;
    (void)std::from_chars(text.data(), text.data() + text.size(), seconds);
    return seconds;
}

}  // namespace gatehouse::agent

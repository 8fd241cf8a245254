// Requests as the server's connections read them. The first byte says how large the pieces are in which the
// rest arrives: where a request ends, and what it says, must not depend on that.
#include "attestation/server/http/target.hpp"
#include "attestation/server/http/wire.hpp"
#include "keyvault/host_support/text.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace gatehouse;
using namespace gatehouse::http;

namespace {

constexpr std::size_t kMostBody = 4096;

struct Outcome {
    enum { kIncomplete, kRefused, kRead } kind = kIncomplete;
    Request request;
    std::size_t end = 0;  // where the next request begins
};

// What one connection does: Connection::read_head() and read_body().
Outcome read_in_pieces(std::string_view bytes, std::size_t piece) {
    Outcome outcome;
    std::string in;
    std::size_t arrived = 0;
    const auto more = [&] {
        const auto part = bytes.substr(arrived, piece);
        in += part;
        arrived += part.size();
        return !part.empty();
    };
    try {
        std::size_t length = 0;
        while ((length = head_length(in)) == 0) {
            if (!more()) return outcome;
        }
        fuzz::require(length <= in.size() && length <= kMaxHead);
        RequestReader reader(std::string_view(in).substr(0, length));
        in.erase(0, length);
        reader.limit_body(kMostBody);
        while (!reader.is_done()) {
            const std::size_t taken = reader.put(in);
            fuzz::require(taken <= in.size());
            in.erase(0, taken);
            if (!reader.is_done() && !more()) return outcome;
        }
        reader.finish();
        outcome = {Outcome::kRead, reader.request(), arrived - in.size()};
    } catch (const HttpError& error) {
        fuzz::require(error.status >= 400 && error.status < 600 && !error.message.empty());
        outcome.kind = Outcome::kRefused;
    }
    return outcome;
}

void read_contents(const Request& request) {
    fuzz::require(request.body.size() <= kMostBody && is_host(request.header("host")));
    for (const auto& [name, value] : request.headers) {
        fuzz::require(!name.empty() && value.find_first_of(std::string_view("\r\n\0", 3)) == value.npos);
    }
    (void)parse_cookies(request.header("cookie"));
    try {
        for (const std::string& segment : parse_target(request.target).segments) {
            fuzz::require(!segment.empty() && segment != "." && segment != ".." && host::is_utf8(segment) &&
                          segment.find('/') == segment.npos);
        }
    } catch (const HttpError&) {}
    try {
        for (const auto& [name, value] : parse_form(request.body))
            fuzz::require(host::is_utf8(name) && host::is_utf8(value));
    } catch (const HttpError&) {}
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view bytes = fuzz::input_text(data + 1, size - 1);
    const Outcome whole = read_in_pieces(bytes, bytes.size());
    const Outcome pieces = read_in_pieces(bytes, data[0] % 64u + 1);
    // What cannot become a request may be refused sooner or later.
    fuzz::require((whole.kind == Outcome::kRead) == (pieces.kind == Outcome::kRead) && whole.end == pieces.end);
    if (whole.kind != Outcome::kRead) return 0;
    fuzz::require(whole.request.method == pieces.request.method && whole.request.target == pieces.request.target &&
                  whole.request.headers == pieces.request.headers && whole.request.body == pieces.request.body);
    read_contents(whole.request);
    return 0;
}

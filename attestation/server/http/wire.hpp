// HTTP/1.1 on the wire, without a socket: bytes to a Request, a Response to bytes. RFC 9110, RFC 9112.
//
// Stricter than the RFCs, because a proxy in front and this server must never differ on where a request ends:
// HTTP/1.1 only, one Host, at most one Content-Length, no Content-Length beside Transfer-Encoding, no other
// coding than one "chunked", no extensions of chunks, no folded lines, no bare CR or LF, no space before a
// colon, no control characters.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "attestation/server/http/message.hpp"

namespace gatehouse::http {

inline constexpr std::size_t kMaxHead = 16u << 10;  // request line and fields

// Length of the head at the front of `bytes` with its empty line; 0 if it is not there yet. HttpError 431 if
// it is longer than kMaxHead, or is sure to become it.
[[nodiscard]] std::size_t head_length(std::string_view bytes);

// One request out of a stream of bytes.
class RequestReader {
  public:
    // `head`: exactly the head, as head_length() says. HttpError 400, 501 or 505.
    explicit RequestReader(std::string_view head);
    ~RequestReader();

    // Method, target and headers; the body once is_done().
    [[nodiscard]] Request& request();
    [[nodiscard]] bool keep_alive() const;
    [[nodiscard]] bool expects_continue() const;

    // To be called before put(). HttpError 413 if the body is announced to be longer.
    void limit_body(std::size_t most);
    // Takes from the front of `bytes`; returns how many it took. HttpError 400, 413.
    std::size_t put(std::string_view bytes);
    [[nodiscard]] bool is_done() const;
    void finish();  // moves the body into request()

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

// Status line and fields, with what every answer has. `length`: of the body; nullopt: chunked. A field value
// that would break out of its line is left out.
[[nodiscard]] std::string response_head(const Response& response, std::optional<std::size_t> length, bool close);

// "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7).
[[nodiscard]] std::string http_date(std::int64_t seconds);

}  // namespace gatehouse::http

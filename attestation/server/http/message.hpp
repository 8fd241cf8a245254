// A request and its answer as plain values: what the routes are written against and tested with, no socket
// near.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attestation/server/connection_keys.hpp"
#include "attestation/server/database/records.hpp"

namespace gatehouse::http {

using server::Buffer;
using server::Seconds;

// Who is at the other end of a connection. The same object for all requests of it.
struct Peer {
    std::string address;  // "192.0.2.7", "2001:db8::1"
    std::string network;  // what rate limits count by: the address, or the /64 of an IPv6 address
    bool loopback = false;
    // SHA-256 of the client certificate's DER, which the TLS layer has verified, or whose connection key it has.
    std::optional<Sha256Digest> certificate;
    Seconds certificate_ends = 0;  // its notAfter, or the key's: a connection may outlive either
    // Of which secret its connection key was made; nullopt: the certificate itself was shown, or none.
    std::optional<server::ConnectionSecretName> connection_secret;
};

struct Route;

struct Request {
    std::string method;                                        // as it came: "GET"
    std::string target;                                        // as it came: "/v1/endpoints?limit=5"
    std::vector<std::pair<std::string, std::string>> headers;  // names in lower case, in order
    std::string body;
    std::shared_ptr<const Peer> peer;

    // Filled by Application::admit():
    std::string path;                          // decoded
    std::vector<std::string> parameters;       // of the route's pattern, in order, decoded
    std::map<std::string, std::string> query;  // decoded; a name that comes twice is refused
    const Route* route = nullptr;              // null: the web page

    // The first field of that name; empty if there is none.
    [[nodiscard]] std::string_view header(std::string_view name) const;
    [[nodiscard]] bool has_header(std::string_view name) const;
    [[nodiscard]] bool is_head() const { return method == "HEAD"; }
};

struct Response {
    unsigned status = 200;
    std::string content_type = "application/json";
    std::string body;
    std::vector<std::pair<std::string, std::string>> headers;
    bool close = false;  // end the connection after it

    // Instead of `body`: called on a worker with a sink that takes the body piece by piece, and throws if the
    // client is gone or too slow.
    std::function<void(const std::function<void(std::string_view)>&)> stream;
    // Instead of an answer now: wait until evidence of this endpoint is wanted (200), or some time has passed
    // (204).
    std::string wait_for_endpoint;
};

[[nodiscard]] std::string_view reason_of(unsigned status);  // "Not Found"

// The consistent error body. `retry_after`: seconds, 0 for none.
[[nodiscard]] Response error_response(unsigned status, std::string_view code, std::string_view message,
                                      unsigned retry_after = 0);

[[nodiscard]] inline Response status_only(unsigned status) {
    Response response;
    response.status = status;
    return response;
}

// Thrown by handlers; becomes error_response().
struct HttpError : std::exception {
    HttpError(unsigned number, std::string name, std::string text, unsigned seconds = 0)
        : status(number), code(std::move(name)), message(std::move(text)), retry_after(seconds) {}
    const char* what() const noexcept override { return message.c_str(); }

    unsigned status;
    std::string code;
    std::string message;
    unsigned retry_after;
};

}  // namespace gatehouse::http

// The web page: server-rendered HTML, htmx for parts of pages, and a script of 50 lines that says what went wrong
// with one (assets/problem.js); all works without them.
//
// Knows no HTTP library: a request comes as plain values, an answer goes as plain values, and the HTTP layer
// adds what every answer has (Server, Date, Strict-Transport-Security). All that an endpoint controls is
// escaped where it is written.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "attestation/server/service.hpp"

namespace gatehouse::web {

struct Request {
    std::string method;                          // "GET", "POST", "HEAD"
    std::string path;                            // decoded, without the query: "/endpoints/01J..."
    std::map<std::string, std::string> query;    // decoded
    std::map<std::string, std::string> form;     // of an application/x-www-form-urlencoded body
    std::map<std::string, std::string> headers;  // names in lower case
    std::map<std::string, std::string> cookies;
    std::string peer;     // address, for the log
    std::string network;  // what attempts are counted by: the address, or the /64 of an IPv6 address
    std::optional<server::Principal>
        certificate_principal;  // of a client certificate of an operator, where there is one
};

struct Response {
    unsigned status = 200;
    std::string content_type = "text/html; charset=utf-8";
    std::string body;
    std::vector<std::pair<std::string, std::string>> headers;  // Set-Cookie, Location, Content-Security-Policy, ...
};

// Sessions are kept in memory (sessions.hpp): a restart logs everybody out.
class Pages {
  public:
    using Clock = std::function<server::Seconds()>;
    explicit Pages(server::Service& service, Clock clock = {});  // default: the system's
    ~Pages();
    // Every path that does not begin with /v1, /healthz or /metrics. Thread-safe, blocking. The answer to
    // HEAD has its body, for the HTTP layer to leave out. ServiceErrors become pages; anything else that is
    // thrown is a fault of the server, and the HTTP layer's to answer (500).
    [[nodiscard]] Response handle(const Request& request);

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace gatehouse::web

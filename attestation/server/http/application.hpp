// What happens between a request and its answer: which route it is for, whether the peer may and how often,
// the call, and how its errors look.
//
// In two steps, so that little is spent on a request that is refused: admit() looks at the header alone and
// does not block; handle() sees the whole request and blocks.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "attestation/server/http/limits.hpp"
#include "attestation/server/http/message.hpp"
#include "attestation/server/http/metrics.hpp"
#include "attestation/server/http/server_log.hpp"
#include "attestation/server/service.hpp"
#include "attestation/web/pages.hpp"

namespace gatehouse::http {

struct ApplicationOptions {
    // By the peer's address (IPv6: its /64).
    Rate anonymous{50, 200};  // requests to public routes, and ones without credentials
    Rate enrollment{5, 50};   // enrollments begun
    Rate pages{100, 400};     // requests to the web page
    Rate failures{0.2, 10};   // tokens that fail
    // By the endpoint.
    Rate endpoint{1, 50};
    // For all together: entries of the audit log that the anonymous can cause.
    Rate notes{5, 50};
    bool open_metrics_on_loopback = true;
    std::function<Seconds()> clock;  // tests; default: the system's
};

class Application {
  public:
    Application(server::Service& service, web::Pages& pages, Log& log, ApplicationOptions options = {});
    ~Application();

    struct Admission {
        std::optional<Response> refusal;  // the answer, already; the body need not be read
        std::size_t max_body = 0;
    };
    // Fills path, parameters, query and route of the request. Does not throw.
    [[nodiscard]] Admission admit(Request& request);
    // Does not throw.
    [[nodiscard]] Response handle(Request& request);
    // Counts and logs. Does not block.
    void finished(const Request& request, const Response& response, std::chrono::nanoseconds took);

    // A refusal from the layer below (malformed request and so on), with what every answer has.
    [[nodiscard]] Metrics& metrics();
    [[nodiscard]] Log& log();
    // Service::take_wishes(), for long polls. Asks the database: it may block, and throw.
    [[nodiscard]] std::vector<std::string> take_wishes(const std::function<bool(const std::string&)>& waits);

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace gatehouse::http

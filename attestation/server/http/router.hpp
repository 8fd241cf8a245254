// The table of routes, and which of them a request is for.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/server/http/message.hpp"
#include "attestation/server/service.hpp"

namespace gatehouse::http {

// Who may call. Each role includes those before it.
enum class Access : std::uint8_t {
    kPublic,
    kEnrollment,  // the enrolling endpoint by "Authorization: Enrollment ...", or an operator by token
    kEndpoint,    // an enrolled endpoint by its client certificate
    kMetrics,     // as kReadOnly; nobody in particular on the loopback interface, unless that is switched off
    kReadOnly,
    kOperator,
    kAdmin,
};
[[nodiscard]] const char* name_of(Access access);  // as in the OpenAPI file's x-access: "public", "read-only", ...

enum class BodyKind : std::uint8_t { kNone, kJson, kOptionalJson, kJws };

// What a handler works with. It may block; it answers, or throws HttpError, server::ServiceError or
// protocol::MessageError.
struct Call {
    server::Service& service;
    const Request& request;
    server::Principal by;  // of the token
    std::string endpoint;  // of the client certificate
    [[nodiscard]] const std::string& parameter(std::size_t i) const { return request.parameters.at(i); }
    [[nodiscard]] std::string query(const std::string& name) const;  // empty if absent
    [[nodiscard]] unsigned query_number(const std::string& name, unsigned default_value, unsigned most) const;
};

struct Route {
    const char* method;
    const char* pattern;    // "/v1/endpoints/{id}"
    const char* operation;  // operationId of the OpenAPI file
    Access access;
    BodyKind body;
    std::size_t max_body;  // bytes
    std::vector<const char*> query;
    Response (*handler)(Call& call);  // null: answered by the application itself
};

inline constexpr std::size_t kSmallBody = 16u << 10;
inline constexpr std::size_t kMediumBody = 256u << 10;
inline constexpr std::size_t kLargeBody = 16u << 20;  // what administrators alone may send

// All routes. The index of a route in it is its number in the metrics.
[[nodiscard]] std::span<const Route> routes();

struct Match {
    const Route* route = nullptr;
    std::vector<std::string> parameters;
    std::string allow;  // methods of this path if there is no route: "GET, HEAD, OPTIONS"; empty: no such path
};
[[nodiscard]] Match match_route(std::string_view method, std::span<const std::string> segments);

// Each room of routes.
[[nodiscard]] std::vector<Route> endpoint_routes();        // what an endpoint's agent calls
[[nodiscard]] std::vector<Route> public_routes();          // health, keys, revocations, this interface's description
[[nodiscard]] std::vector<Route> fleet_routes();           // endpoints, enrollments, counts
[[nodiscard]] std::vector<Route> policy_routes();          // policies, authorities, groups, assignments
[[nodiscard]] std::vector<Route> administration_routes();  // tokens, vendors, endorsements, actions, audit

}  // namespace gatehouse::http

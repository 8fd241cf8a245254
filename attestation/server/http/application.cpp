#include "attestation/server/http/application.hpp"

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "attestation/server/http/body.hpp"
#include "attestation/server/http/router.hpp"
#include "attestation/server/http/target.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::http {
namespace {

using server::Principal;
using server::Role;

constexpr std::size_t kMaxPageBody = 16u << 10;  // of who has no session: the log-in form
constexpr std::size_t kMaxToken = 256;

std::vector<std::string> metric_names() {
    std::vector<std::string> names;
    for (const Route& route : routes()) names.emplace_back(route.operation);
    names.emplace_back("page");
    names.emplace_back("none");
    return names;
}

// "application/json; charset=utf-8" is application/json; another character set is not.
bool is_media_type(std::string_view field, std::string_view wanted) {
    std::string text;
    for (const char c : field) {
        if (c != ' ' && c != '\t' && c != '"') text.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
    }
    return text == wanted || text == std::string(wanted) + ";charset=utf-8";
}

std::optional<std::string_view> credentials(const Request& request, std::string_view scheme) {
    const std::string_view field = request.header("authorization");
    if (field.size() <= scheme.size() || field[scheme.size()] != ' ') return std::nullopt;
    const auto same = [](char a, char b) { return (a | 0x20) == (b | 0x20); };
    if (!std::ranges::equal(field.substr(0, scheme.size()), scheme, same)) return std::nullopt;
    return field.substr(scheme.size() + 1);
}

Role least_role(Access access) {
    if (access == Access::kAdmin) return Role::kAdmin;
    return access == Access::kOperator ? Role::kOperator : Role::kReadOnly;
}

HttpError unauthorized(const char* code, const char* message) { return {401, code, message}; }

void check_query(const Route& route, const Request& request) {
    for (const auto& [name, value] : request.query) {
        const auto same = [&name = name](const char* one) { return name == one; };
        if (std::ranges::any_of(route.query, same)) continue;
        std::string known;
        for (const char* one : route.query) known.append(known.empty() ? "" : ", ").append(one);
        throw HttpError{400, "bad_query",
                        known.empty() ? "this path takes no query parameters"
                                      : "unknown query parameter; this path takes: " + known};
    }
}

void check_content(const Route& route, const Request& request) {
    if (route.body == BodyKind::kNone) return;
    if (request.has_header("content-encoding")) {
        throw HttpError{415, "bad_encoding", "send the body without Content-Encoding"};
    }
    const std::string_view type = request.header("content-type");
    if (type.empty() && route.body == BodyKind::kOptionalJson) return;
    const char* wanted = route.body == BodyKind::kJws ? "application/jose" : "application/json";
    if (!is_media_type(type, wanted)) {
        throw HttpError{415, "bad_content_type", std::string("send the body as Content-Type: ") + wanted};
    }
}

void count_against(RateLimiter& limiter, const std::string& key) {
    if (const unsigned wait = limiter.take(key); wait != 0) {
        throw HttpError{429, "too_many_requests", "too many requests: wait, then try again", wait};
    }
}

// What an error was thrown for, which is for the log alone; empty: for nothing else.
std::string cause_of(const std::exception& error) {
    try {
        std::rethrow_if_nested(error);
        return {};
    } catch (const std::exception& cause) {
        return cause.what();
    }
}

}  // namespace

struct Application::Inside {
    Inside(server::Service& a_service, web::Pages& some_pages, Log& a_log, ApplicationOptions an_options)
        : service(a_service),
          pages(some_pages),
          log(a_log),
          options(std::move(an_options)),
          metrics(metric_names()),
          anonymous(options.anonymous),
          enrollment(options.enrollment),
          page_requests(options.pages),
          failures(options.failures),
          endpoint(options.endpoint),
          notes(options.notes) {
        if (!options.clock) options.clock = [] { return static_cast<Seconds>(std::time(nullptr)); };
    }

    void admit(Request& request, Admission& admission);
    void admit_page(const Request& request, Admission& admission);
    void admit_access(const Route& route, const Request& request);
    Response handle(Request& request);
    Response handle_page(const Request& request);
    std::optional<Principal> principal_of_certificate(const Peer& peer);
    Principal authenticate(const Request& request, Access access);
    [[noreturn]] void refuse_token(const Request& request);
    std::string endpoint_of(const Request& request);
    void note(const std::string& who, server::AuditAction action, const Request& request);
    // Runs `body`; what it throws becomes an answer.
    template <typename Body>
    Response answer_of(const Request& request, Body&& body);
    Response fault(const Request& request, const char* what);

    server::Service& service;
    web::Pages& pages;
    Log& log;
    ApplicationOptions options;
    Metrics metrics;
    RateLimiter anonymous, enrollment, page_requests, failures, endpoint, notes;
};

Application::Application(server::Service& service, web::Pages& pages, Log& log, ApplicationOptions options)
    : inside_(std::make_unique<Inside>(service, pages, log, std::move(options))) {}
Application::~Application() = default;
Metrics& Application::metrics() { return inside_->metrics; }
Log& Application::log() { return inside_->log; }
std::vector<std::string> Application::take_wishes(const std::function<bool(const std::string&)>& waits) {
    return inside_->service.take_wishes(waits);
}

void Application::Inside::note(const std::string& who, server::AuditAction action, const Request& request) {
    if (notes.take("") != 0) return;
    const nlohmann::json detail = {{"peer", request.peer->address}, {"method", request.method}};
    service.note(who, action, request.path, detail.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
}

void Application::Inside::refuse_token(const Request& request) {
    metrics.tokens_refused.fetch_add(1, std::memory_order_relaxed);
    // A valid token is never refused for others' failures from the same address; who fails too often is no
    // longer recorded, and has to make a new connection for each attempt.
    if (const unsigned wait = failures.take(request.peer->network); wait != 0) {
        throw HttpError{429, "too_many_failures", "too many failed attempts: wait, then try again", wait};
    }
    note("anonymous", "token.refused", request);
    throw unauthorized("bad_token", "the token is unknown, expired or revoked");
}

Principal Application::Inside::authenticate(const Request& request, Access access) {
    const bool open = access == Access::kMetrics && options.open_metrics_on_loopback && request.peer->loopback;
    const auto token = credentials(request, "Bearer");
    if (!token && open) return {.name = "system", .role = Role::kReadOnly};
    if (!token) throw unauthorized("no_token", "send Authorization: Bearer TOKEN");
    auto who = token->size() <= kMaxToken && token->starts_with("gh_") ? service.authenticate(*token) : std::nullopt;
    if (!who) refuse_token(request);
    if (who->role < least_role(access)) {
        note(who->name, "access.denied", request);
        throw HttpError{403, "forbidden", std::string("this needs a token of role ") + name_of(least_role(access))};
    }
    return *who;
}

std::string Application::Inside::endpoint_of(const Request& request) {
    const Peer& peer = *request.peer;
    if (peer.certificate_ends <= options.clock()) {
        throw unauthorized("certificate_expired", "the client certificate has expired: enroll again");
    }
    if (peer.connection_secret && *peer.connection_secret != service.connection_keys()->secret_name()) {
        count_against(anonymous, peer.network);
        throw unauthorized("connection_key_refused",
                           "connection keys have been replaced: connect with the certificate");
    }
    auto id = service.endpoint_of_certificate(*peer.certificate);
    if (!id) {
        count_against(anonymous, peer.network);
        if (service.is_of_retired(*peer.certificate))
            throw unauthorized("retired",
                               "this endpoint was retired; if it is to come back: attestation-agent enroll --again");
        throw unauthorized("certificate_refused",
                           "the client certificate is not the present one of an endpoint: enroll again");
    }
    count_against(endpoint, *id);
    return *id;
}

void Application::Inside::admit_access(const Route& route, const Request& request) {
    const Peer& peer = *request.peer;
    const bool has_token = credentials(request, "Bearer").has_value();
    switch (route.access) {
        case Access::kEndpoint:
            if (peer.certificate) return;
            count_against(anonymous, peer.network);
            throw unauthorized("no_certificate", "this needs the client certificate of an enrolled endpoint");
        case Access::kPublic:  // a token is not looked at there, so it does not help either
            count_against(anonymous, peer.network);
            if (std::string_view(route.operation) == "enroll") count_against(enrollment, peer.network);
            return;
        case Access::kEnrollment:
            if (!has_token) count_against(anonymous, peer.network);
            return;
        default:
            if (has_token) return;
            if (route.access == Access::kMetrics && options.open_metrics_on_loopback && peer.loopback) return;
            count_against(anonymous, peer.network);
            throw unauthorized("no_token", "send Authorization: Bearer TOKEN");
    }
}

void Application::Inside::admit_page(const Request& request, Admission& admission) {
    if (request.method == "OPTIONS") {
        admission.refusal = no_content();
        admission.refusal->headers.emplace_back("Allow", "GET, HEAD, POST, OPTIONS");
        return;
    }
    if (request.method != "GET" && request.method != "HEAD" && request.method != "POST") {
        admission.refusal = error_response(405, "bad_method", "this path takes: GET, HEAD, POST");
        admission.refusal->headers.emplace_back("Allow", "GET, HEAD, POST, OPTIONS");
        return;
    }
    count_against(page_requests, request.peer->network);
    if (request.method != "POST") return;
    admission.max_body = request.has_header("cookie") ? protocol::kMaxBody : kMaxPageBody;
    if (!is_media_type(request.header("content-type"), "application/x-www-form-urlencoded")) {
        throw HttpError{415, "bad_content_type", "send the form as application/x-www-form-urlencoded"};
    }
}

void Application::Inside::admit(Request& request, Admission& admission) {
    Target target = parse_target(request.target);
    request.path = std::move(target.path);
    request.query = std::move(target.query);
    const std::string first = target.segments.empty() ? std::string() : target.segments.front();
    if (first != "v1" && first != "healthz" && first != "metrics" && first != ".well-known") {
        return admit_page(request, admission);
    }

    Match match = match_route(request.method, target.segments);
    request.parameters = std::move(match.parameters);
    request.route = match.route;
    if (match.route == nullptr) {
        count_against(anonymous, request.peer->network);
        if (match.allow.empty()) throw HttpError{404, "no_such_path", "there is no such path; see /v1/openapi.json"};
        const bool asks = request.method == "OPTIONS";
        admission.refusal = asks ? no_content() : error_response(405, "bad_method", "this path takes: " + match.allow);
        admission.refusal->headers.emplace_back("Allow", match.allow);
        return;
    }
    admit_access(*match.route, request);
    check_query(*match.route, request);
    check_content(*match.route, request);
    admission.max_body = match.route->max_body;
}

// An operator's; nullopt for an endpoint's, and without one.
std::optional<Principal> Application::Inside::principal_of_certificate(const Peer& peer) {
    if (!peer.certificate || peer.connection_secret || peer.certificate_ends <= options.clock()) return std::nullopt;
    return service.authenticate_certificate(*peer.certificate);
}

Response Application::Inside::handle_page(const Request& request) {
    web::Request page{.method = request.method,
                      .path = request.path,
                      .query = request.query,
                      .form = parse_form(request.body),
                      .headers = {},
                      .cookies = {},
                      .peer = request.peer->address,
                      .network = request.peer->network,
                      .certificate_principal = principal_of_certificate(*request.peer)};
    for (const auto& [name, value] : request.headers) page.headers.emplace(name, value);
    page.cookies = parse_cookies(request.header("cookie"));
    web::Response answer = pages.handle(page);
    Response response;
    response.status = answer.status;
    response.content_type = std::move(answer.content_type);
    response.body = std::move(answer.body);
    response.headers = std::move(answer.headers);
    return response;
}

Response Application::Inside::handle(Request& request) {
    if (request.route == nullptr) return handle_page(request);
    const Route& route = *request.route;
    Call call{.service = service, .request = request, .by = {}, .endpoint = {}};
    switch (route.access) {
        case Access::kPublic: break;
        case Access::kEnrollment:
            if (!credentials(request, "Enrollment")) call.by = authenticate(request, Access::kReadOnly);
            break;
        case Access::kEndpoint: call.endpoint = endpoint_of(request); break;
        default: call.by = authenticate(request, route.access);
    }
    const bool is_json = route.body == BodyKind::kJson || route.body == BodyKind::kOptionalJson;
    if (is_json && is_too_deep(request.body)) {
        throw HttpError{400, "bad_body", "the body nests deeper than " + std::to_string(kMaxDepth) + " levels"};
    }
    if (std::string_view(route.operation) == "metrics") {
        Response answer;
        answer.content_type = "text/plain; version=0.0.4; charset=utf-8";
        answer.body = metrics.text(service.totals(), service.counts(call.by), service.crl_health(), service.healthy());
        return answer;
    }
    return route.handler(call);
}

Response Application::Inside::fault(const Request& request, const char* what) {
    log.write(Level::kError, "a request failed", {{"method", request.method}, {"path", request.path}, {"error", what}});
    return error_response(500, "internal", "the server failed on this request; its log says why");
}

template <typename Body>
Response Application::Inside::answer_of(const Request& request, Body&& body) {
    try {
        return body();
    } catch (const HttpError& error) {
        Response answer = error_response(error.status, error.code, error.message, error.retry_after);
        if (error.status == 401) answer.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"gatehouse\"");
        if (error.code == "too_many_failures") answer.close = true;
        return answer;
    } catch (const server::ServiceError& error) {
        if (const std::string cause = cause_of(error); !cause.empty())
            log.write(Level::kError, error.code(),
                      {{"method", request.method}, {"path", request.path}, {"error", cause}});
        return error_response(error.status(), error.code(), error.what(), error.retry_after());
    } catch (const protocol::MessageError& error) {
        return error_response(400, "bad_body", error.what());
    } catch (const std::exception& error) {
        return fault(request, error.what());
    }
}

Application::Admission Application::admit(Request& request) {
    Admission admission;
    Response refusal = inside_->answer_of(request, [&] {
        inside_->admit(request, admission);
        return admission.refusal ? std::move(*admission.refusal) : status_only(0);
    });
    if (refusal.status != 0) {
        admission.refusal = std::move(refusal);
    } else {
        admission.refusal.reset();
    }
    return admission;
}

Response Application::handle(Request& request) {
    return inside_->answer_of(request, [&] { return inside_->handle(request); });
}

void Application::finished(const Request& request, const Response& response, std::chrono::nanoseconds took) {
    const auto all = routes();
    const bool is_page = request.route == nullptr && !request.path.empty() && !request.path.starts_with("/v1");
    const std::size_t number = request.route != nullptr ? static_cast<std::size_t>(request.route - all.data())
                               : is_page                ? all.size()
                                                        : all.size() + 1;
    inside_->metrics.count(number, response.status, took);
    if (response.status == 429) inside_->metrics.rate_limited.fetch_add(1, std::memory_order_relaxed);
    const bool reads = request.method == "GET" || request.method == "HEAD";
    const bool is_routine = reads || (request.route != nullptr && request.route->access == Access::kEndpoint);
    const Level level = response.status < 400 && !is_routine ? Level::kInfo : Level::kDebug;
    if (!inside_->log.wants(level)) return;
    const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(took).count();
    inside_->log.write(level, "request",
                       {{"peer", request.peer->address},
                        {"method", request.method},
                        {"path", request.path},
                        {"status", std::to_string(response.status)},
                        {"ms", std::to_string(milliseconds)}});
}

}  // namespace gatehouse::http

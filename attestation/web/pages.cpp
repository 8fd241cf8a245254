#include "attestation/web/pages.hpp"

#include <charconv>
#include <ctime>

#include "attestation/web/assets.hpp"
#include "attestation/web/log_in.hpp"
#include "attestation/web/parts.hpp"
#include "attestation/web/routes.hpp"

namespace gatehouse::web {
namespace {

constexpr Seconds kThemeLifetime = 365 * 86400;
constexpr const char* kNotOurs =
    "This form did not come from a page of this session. Go back, reload the page and try again.";

// On every answer, assets too. Browsers are told to load nothing from elsewhere and to run nothing but the
// script that is served here.
void add_headers(Response& response, bool keep) {
    auto& all = response.headers;
    all.emplace_back("Content-Security-Policy",
                     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
                     "form-action 'self'; frame-ancestors 'none'; base-uri 'none'");
    all.emplace_back("X-Content-Type-Options", "nosniff");
    all.emplace_back("X-Frame-Options", "DENY");
    // Not "no-referrer": a browser would then send "Origin: null" with our own forms.
    all.emplace_back("Referrer-Policy", "same-origin");
    all.emplace_back("Cross-Origin-Opener-Policy", "same-origin");
    all.emplace_back("Cross-Origin-Resource-Policy", "same-origin");
    all.emplace_back("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()");
    all.emplace_back("Cache-Control", keep ? "public, max-age=31536000, immutable" : "no-store");
    if (!keep) all.emplace_back("Vary", "HX-Request");
}

Response answer_asset(const Request& request, const Asset& asset) {
    Response response;
    response.content_type = asset.type;
    const std::string tag = "\"" + std::string(asset.hash) + "\"";
    response.headers.emplace_back("ETag", tag);
    const auto known = request.headers.find("if-none-match");
    if (known != request.headers.end() && known->second.find(tag) != std::string::npos) {
        response.status = 304;
        return response;
    }
    response.body = asset.content;
    return response;
}

// The page that asked for a part of itself, by htmx's "HX-Current-URL: https://host/endpoints?q=a".
Url page_around(const Request& request) {
    const auto found = request.headers.find("hx-current-url");
    if (found == request.headers.end()) return Url("/");
    std::string_view text = found->second;
    text = text.substr(0, text.find('#'));
    const std::size_t host = text.find("://");
    const std::size_t path = host == std::string::npos ? std::string::npos : text.find('/', host + 3);
    return Url::from_browser(path == std::string::npos ? "/" : text.substr(path));
}

}  // namespace

struct Pages::Inside {
    Inside(server::Service& a_service, Clock a_clock)
        : service(a_service), clock(std::move(a_clock)), door(a_service, sessions) {
        if (!clock) clock = [] { return static_cast<Seconds>(std::time(nullptr)); };
    }

    Response answer(const Request& request);
    Response answer_stranger(const Request& request);
    Response answer_post(Context& context, const Match& match);
    Response set_theme(const Context& context);

    server::Service& service;
    Clock clock;
    Sessions sessions;
    Door door;
};

Pages::Pages(server::Service& service, Clock clock) : inside_(std::make_unique<Inside>(service, std::move(clock))) {}
Pages::~Pages() = default;

// Nobody's request: a browser is led to the log-in page, and back to where it wanted to go; from a part of a
// page, to the page that it was to be a part of.
Response Pages::Inside::answer_stranger(const Request& request) {
    const bool is_partial = request.headers.contains("hx-request");
    Url next("/");
    if (is_partial) {
        next = page_around(request);
    } else if (request.method != "POST") {
        next = Url::of_path(request.path);
        for (const auto& [name, value] : request.query) next = next.with(name, value);
    }
    const Url url = Url("/log-in").with("next", next.text() == "/" ? "" : next.text());
    if (!is_partial) return redirect(url);
    Response response;
    response.status = 401;
    response.headers.emplace_back("HX-Redirect", url.text());
    return response;
}

Response Pages::Inside::set_theme(const Context& context) {
    const std::string theme = context.field("theme");
    Response response = redirect(Url::of_path(context.field("back")));
    const bool chosen = theme == "light" || theme == "dark";
    response.headers.push_back(cookie(kThemeCookie, chosen ? theme : "", kThemeLifetime));
    return response;
}

Response Pages::Inside::answer_post(Context& context, const Match& match) {
    if (is_foreign(context.request) || !same_text(context.field("csrf"), context.session.csrf)) {
        door.note(context.request, context.by.name, "form.refused");
        return error_page(context, 403, kNotOurs);
    }
    if (context.request.path == "/log-out") return door.log_out(context.request, context.by.name);
    if (context.request.path == "/theme") return set_theme(context);
    if (match.route == nullptr) return error_page(context, match.other_method ? 405 : 404, "There is no such form.");
    return match.route->handler(context);
}

Response Pages::Inside::answer(const Request& request) {
    const Seconds now = clock();
    const bool is_post = request.method == "POST";
    if (request.path == "/log-in") {
        if (is_post) return door.log_in(request, now);
        const auto next = request.query.find("next");
        return door.form(request, next == request.query.end() ? "/" : next->second);
    }
    Context context{.service = service,
                    .sessions = sessions,
                    .request = request,
                    .by = {},
                    .session = {},
                    .theme = theme_of(request),
                    .now = now,
                    .parts = {},
                    .refused = {}};
    // A page that renews itself does not keep a session alive.
    const bool is_use = !request.query.contains("live");
    if (!door.enter(context, is_use)) return answer_stranger(request);
    Match match = match_route(request.method, request.path);
    context.parts = std::move(match.parts);
    try {
        if (match.route != nullptr && !context.may(match.route->role)) {
            return error_page(context, 403,
                              std::string("This needs the role ") + server::name_of(match.route->role) +
                                  ", and you are logged in as " + server::name_of(context.by.role) + ".");
        }
        if (is_post) {
            return answer_post(context, match);
        }
        if (match.route == nullptr)
            return error_page(context, match.other_method ? 405 : 404, "There is no such page.");
        return match.route->handler(context);
    } catch (const server::ServiceError& error) {
        Response response = error_page(context, error.status(), error.what());
        if (error.retry_after() != 0) response.headers.emplace_back("Retry-After", std::to_string(error.retry_after()));
        return response;
    }
}

Response Pages::handle(const Request& request) {
    constexpr std::string_view prefix = "/assets/";
    const Asset* asset = nullptr;
    if (request.path.starts_with(prefix)) asset = find_asset(std::string_view(request.path).substr(prefix.size()));
    Response response;
    if (request.method != "GET" && request.method != "HEAD" && request.method != "POST") {
        response.status = 405;
        response.headers.emplace_back("Allow", "GET, HEAD, POST");
    } else if (asset != nullptr && request.method != "POST") {
        response = answer_asset(request, *asset);
    } else {
        response = inside_->answer(request);
    }
    add_headers(response, asset != nullptr && (response.status == 200 || response.status == 304));
    return response;
}

Response act(Context& context, const char* form, Handler page, const std::function<Done()>& action) {
    try {
        Done done = action();
        context.sessions.leave_notice(cookie_of(context.request, kSessionCookie), std::move(done.notice));
        return redirect(done.next);
    } catch (const server::ServiceError& error) {
        if (error.status() >= 500) throw;
        context.refused = {form, error.what()};
        Response response = page(context);
        if (response.status == 200) response.status = error.status();
        return response;
    }
}

Response redirect(const Url& url) {
    Response response;
    response.status = 303;
    response.headers.emplace_back("Location", url.text());
    return response;
}

std::uint64_t number_of(const std::string& text, const char* item) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size())
        throw server::ServiceError(400, "number", std::string(item) + ": must be a number");
    return number;
}

}  // namespace gatehouse::web

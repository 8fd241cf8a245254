#include "attestation/web/log_in.hpp"

#include <nlohmann/json.hpp>

#include "attestation/verifier/token.hpp"
#include "attestation/web/parts.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::web {
namespace {

constexpr std::size_t kLongestToken = 256;
constexpr std::size_t kLongestName = 64;  // of a session, a form

std::string header_of(const Request& request, const char* name) {
    const auto found = request.headers.find(name);
    return found == request.headers.end() ? std::string() : found->second;
}

std::string field_of(const Request& request, const char* name) {
    const auto found = request.form.find(name);
    return found == request.form.end() ? std::string() : found->second;
}

}  // namespace

bool same_text(std::string_view a, std::string_view b) {
    return equal_secret(host::text_bytes(a), host::text_bytes(b));
}

std::pair<std::string, std::string> cookie(const char* name, const std::string& value, Seconds lifetime) {
    std::string text = std::string(name) + "=" + value + "; Path=/; Secure; HttpOnly; SameSite=Strict";
    if (value.empty()) {
        text += "; Max-Age=0";
    } else if (lifetime != 0) {
        text += "; Max-Age=" + std::to_string(lifetime);
    }
    return {"Set-Cookie", text};
}

std::string cookie_of(const Request& request, const char* name) {
    const auto found = request.cookies.find(name);
    return found == request.cookies.end() || found->second.size() > kLongestName ? std::string() : found->second;
}

Theme theme_of(const Request& request) {
    const std::string name = cookie_of(request, kThemeCookie);
    return name == "light" ? Theme::kLight : name == "dark" ? Theme::kDark : Theme::kSystem;
}

bool is_foreign(const Request& request) {
    const std::string site = header_of(request, "sec-fetch-site");
    if (!site.empty() && site != "same-origin") return true;
    const std::string origin = header_of(request, "origin");
    return !origin.empty() && origin != "https://" + header_of(request, "host");
}

Door::Door(server::Service& service, Sessions& sessions) : service_(service), sessions_(sessions) {}

std::string Door::form_token(const std::string& cookie_value) const {
    return verifier::base64url(hmac_sha256(host::text_bytes(form_key_), {host::text_bytes(cookie_value)}));
}

void Door::note(const Request& request, const std::string& who, server::AuditAction action) {
    const nlohmann::json detail{{"peer", request.peer}};
    service_.note(who, action, "web page", detail.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
}

Response Door::form(const Request& request, const std::string& next, std::string_view error, unsigned status) {
    std::string name = cookie_of(request, kFormCookie);
    const bool is_new = name.empty();
    if (is_new) name = random_name();
    const std::string back = Url::from_browser(next).text();
    Html out;
    if (!error.empty()) out.put("<p class=\"error\" role=\"alert\" id=\"log-in-error\">{}</p>", error);
    const auto hidden =
        piece("<input type=\"hidden\" name=\"csrf\" value=\"{}\"><input type=\"hidden\" name=\"next\" value=\"{}\">",
              form_token(name), back);
    out.put(
        "<form method=\"post\" action=\"/log-in\" class=\"stacked\">{}<label for=\"token\">Token</label>"
        "<input id=\"token\" name=\"token\" type=\"password\" autocomplete=\"current-password\" required autofocus "
        "spellcheck=\"false\" aria-describedby=\"token-hint\">"
        "<p class=\"hint\" id=\"token-hint\">The server printed the first administrator's token at its first start; "
        "an administrator makes others under Tokens.</p><button class=\"main\">Log in</button></form>",
        hidden);
    if (request.certificate_principal) {
        out.put(
            "<form method=\"post\" action=\"/log-in\" class=\"stacked\">{}<button name=\"with\" "
            "value=\"certificate\">Continue as <bdi>{}</bdi> (client certificate)</button></form>",
            hidden, request.certificate_principal->name);
    }
    Response response = bare_page(theme_of(request), "Log in", out);
    response.status = status;
    if (is_new) response.headers.push_back(cookie(kFormCookie, name));
    return response;
}

Response Door::begin(const Request& request, const server::Principal& who, const SecretText& token,
                     std::string certificate, Seconds now) {
    // Whatever session the browser came with is over: the new one has a name that nobody else can know.
    if (const std::string old = cookie_of(request, kSessionCookie); !old.empty()) sessions_.end(old);
    const std::string name = sessions_.begin(token, std::move(certificate), now);
    note(request, who.name, "session.begin");
    Response response = redirect(Url::from_browser(field_of(request, "next")));
    response.headers.push_back(cookie(kSessionCookie, name));
    response.headers.push_back(cookie(kFormCookie, ""));
    return response;
}

Response Door::log_in(const Request& request, Seconds now) {
    const std::string next = field_of(request, "next");
    const std::string form_name = cookie_of(request, kFormCookie);
    if (is_foreign(request) || form_name.empty() || !same_text(field_of(request, "csrf"), form_token(form_name)))
        return form(request, next, "This form is out of date. Please try again.", 403);
    if (const Seconds wait = failures_.wait(request.network, now); wait != 0) {
        Response response = form(request, next, "Too many attempts. Please wait a little, then try again.", 429);
        response.headers.emplace_back("Retry-After", std::to_string(wait));
        return response;
    }
    if (field_of(request, "with") == "certificate" && request.certificate_principal)
        return begin(request, *request.certificate_principal, {}, request.certificate_principal->name, now);

    std::string text = field_of(request, "token");
    const auto is_blank = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
    std::erase_if(text, is_blank);  // as copied from a terminal
    const SecretText token(std::move(text));
    const std::optional<server::Principal> who =
        token.reveal().size() > kLongestToken ? std::nullopt : service_.authenticate(token.reveal());
    if (who) return begin(request, *who, token, "", now);
    failures_.failed(request.network, now);
    note(request, "anonymous", "session.refused");
    return form(request, next, "That token is not valid.", 401);
}

Response Door::log_out(const Request& request, const std::string& who) {
    sessions_.end(cookie_of(request, kSessionCookie));
    note(request, who, "session.end");
    Response response = redirect(Url("/log-in"));
    response.headers.push_back(cookie(kSessionCookie, ""));
    return response;
}

bool Door::enter(Context& context, bool is_use) {
    const std::string name = cookie_of(context.request, kSessionCookie);
    if (name.empty()) return false;
    const bool shows = context.request.method == "GET" && !context.is_partial();
    std::optional<Session> session = sessions_.find(name, context.now, is_use, shows);
    if (!session) return false;
    std::optional<server::Principal> who;
    if (!session->certificate.empty()) {
        who = context.request.certificate_principal;
        if (who && who->name != session->certificate) who.reset();
    } else {
        who = context.service.authenticate(session->token.reveal());
    }
    if (!who) {
        sessions_.end(name);
        return false;
    }
    context.by = std::move(*who);
    context.session = std::move(*session);
    return true;
}

}  // namespace gatehouse::web

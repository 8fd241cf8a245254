// Logging in and out, and whether a form is one of ours.
//
// OWASP ASVS 4.0.3: 2.2.1 (attempts are limited), 3.2.1 (a new session at log-in), 3.3 (times, log-out), 3.4
// (cookies), 4.2.2 (CSRF), 7.1 and 7.2 (what is logged), 13.2.3.
#pragma once

#include "attestation/web/context.hpp"

namespace gatehouse::web {

inline constexpr const char* kSessionCookie = "__Host-gatehouse";
inline constexpr const char* kFormCookie = "__Host-gatehouse-form";  // of the log-in form, before there is a session
inline constexpr const char* kThemeCookie = "__Host-gatehouse-theme";

// A Set-Cookie header; an empty value ends the cookie.
[[nodiscard]] std::pair<std::string, std::string> cookie(const char* name, const std::string& value,
                                                         Seconds lifetime = 0);
[[nodiscard]] std::string cookie_of(const Request& request, const char* name);
[[nodiscard]] Theme theme_of(const Request& request);
[[nodiscard]] bool same_text(std::string_view a, std::string_view b);  // in constant time

// Whether the browser says that another site made the request (Sec-Fetch-Site, Origin).
[[nodiscard]] bool is_foreign(const Request& request);

class Door {
  public:
    Door(server::Service& service, Sessions& sessions);

    [[nodiscard]] Response form(const Request& request, const std::string& next, std::string_view error = "",
                                unsigned status = 200);
    [[nodiscard]] Response log_in(const Request& request, Seconds now);
    [[nodiscard]] Response log_out(const Request& request, const std::string& who);
    // Whom the request's session belongs to, if its token or certificate is still good; `context` gets
    // session and principal.
    [[nodiscard]] bool enter(Context& context, bool is_use);
    void note(const Request& request, const std::string& who, server::AuditAction action);

  private:
    [[nodiscard]] std::string form_token(const std::string& cookie_value) const;
    [[nodiscard]] Response begin(const Request& request, const server::Principal& who, const SecretText& token,
                                 std::string certificate, Seconds now);

    server::Service& service_;
    Sessions& sessions_;
    FailureLimit failures_;
    std::string form_key_ = random_name();
};

}  // namespace gatehouse::web

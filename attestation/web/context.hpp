// One request on its way through a page: who asks, what came with it, and what a form that failed had in it.
#pragma once

#include <functional>
#include <vector>

#include "attestation/web/html.hpp"
#include "attestation/web/pages.hpp"
#include "attestation/web/sessions.hpp"

namespace gatehouse::web {

enum class Theme : std::uint8_t { kSystem, kLight, kDark };

// A form that was refused: the page that it is on is shown again, with the reason beside it and with what had
// been filled in.
struct Refused {
    std::string form;
    std::string reason;
};

struct Context {
    server::Service& service;
    Sessions& sessions;
    const Request& request;
    server::Principal by;
    Session session;
    Theme theme = Theme::kSystem;
    Seconds now = 0;
    std::vector<std::string> parts;  // of the path, where the route has "*"
    Refused refused;

    [[nodiscard]] bool may(server::Role role) const { return by.role >= role; }
    // Of the query, of the form; empty if it is not there.
    [[nodiscard]] std::string query(const std::string& name) const { return find(request.query, name); }
    [[nodiscard]] std::string field(const std::string& name) const { return find(request.form, name); }
    // What a field of `form` is to hold: what was filled in, if the form was refused.
    [[nodiscard]] std::string kept(const std::string& form, const std::string& name) const {
        return refused.form == form ? field(name) : std::string();
    }
    // Asked for by a part of a page.
    [[nodiscard]] bool is_partial() const { return request.headers.contains("hx-request"); }

  private:
    [[nodiscard]] static std::string find(const std::map<std::string, std::string>& all, const std::string& name) {
        const auto found = all.find(name);
        return found == all.end() ? std::string() : found->second;
    }
};

using Handler = Response (*)(Context&);

struct Done {
    Url next;
    Notice notice;
};
// The answer to a form: does `action` and goes on to the page it names (303), or shows `page` again with what
// was wrong beside `form`.
[[nodiscard]] Response act(Context& context, const char* form, Handler page, const std::function<Done()>& action);

[[nodiscard]] Response redirect(const Url& url);

// A number in a form or a path; ServiceError (400) naming the item.
[[nodiscard]] std::uint64_t number_of(const std::string& text, const char* item);

// --- the pages; the routes are in routes.cpp

[[nodiscard]] Response overview_page(Context& context);

[[nodiscard]] Response endpoints_page(Context& context);
[[nodiscard]] Response endpoint_page(Context& context);
[[nodiscard]] Response retire_page(Context& context);
[[nodiscard]] Response attest_endpoint(Context& context);
[[nodiscard]] Response move_endpoint(Context& context);
[[nodiscard]] Response retire_endpoint(Context& context);

[[nodiscard]] Response enrollments_page(Context& context);
[[nodiscard]] Response enrollment_page(Context& context);
[[nodiscard]] Response approve_enrollment(Context& context);
[[nodiscard]] Response reject_enrollment(Context& context);
[[nodiscard]] Response create_enrollment_token(Context& context);
[[nodiscard]] Response register_endorsement(Context& context);

[[nodiscard]] Response policies_page(Context& context);
[[nodiscard]] Response policy_page(Context& context);
[[nodiscard]] Response assignment_page(Context& context);
[[nodiscard]] Response assign_policy(Context& context);
[[nodiscard]] Response unassign_policy(Context& context);
[[nodiscard]] Response upload_policy(Context& context);

[[nodiscard]] Response audit_page(Context& context);
[[nodiscard]] Response verify_audit(Context& context);

[[nodiscard]] Response tokens_page(Context& context);
[[nodiscard]] Response create_token(Context& context);
[[nodiscard]] Response revoke_token_page(Context& context);
[[nodiscard]] Response revoke_token(Context& context);

[[nodiscard]] Response settings_page(Context& context);
[[nodiscard]] Response create_group(Context& context);
[[nodiscard]] Response add_authority(Context& context);
[[nodiscard]] Response add_vendor(Context& context);
[[nodiscard]] Response remove_authority_page(Context& context);
[[nodiscard]] Response remove_authority(Context& context);
[[nodiscard]] Response remove_vendor_page(Context& context);
[[nodiscard]] Response remove_vendor(Context& context);
[[nodiscard]] Response add_action(Context& context);
[[nodiscard]] Response remove_action(Context& context);

}  // namespace gatehouse::web

// Tokens: who may ask.
#include "attestation/web/parts.hpp"

namespace gatehouse::web {
namespace {

const std::vector<Choice>& lifetimes() {
    static const std::vector<Choice> all{{"86400", "1 day"},
                                         {"2592000", "30 days"},
                                         {"7776000", "90 days"},
                                         {"31536000", "1 year"},
                                         {"0", "without end"}};
    return all;
}

const std::vector<Choice>& roles() {
    static const std::vector<Choice> all{{"read-only", "read-only: sees everything, changes nothing"},
                                         {"operator", "operator: enrollments, groups, policies"},
                                         {"admin", "admin: tokens, vendors, authorities, actions, too"}};
    return all;
}

}  // namespace

Response tokens_page(Context& context) {
    Html out;
    out.put(
        "<section class=\"card\" aria-labelledby=\"tokens\"><h2 id=\"tokens\">Tokens</h2>"
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"tokens\"><table><thead><tr>"
        "<th scope=\"col\">Name</th><th scope=\"col\">Role</th><th scope=\"col\" class=\"wide\">Made</th>"
        "<th scope=\"col\">Expires</th><th scope=\"col\" class=\"wide\">Last used</th>"
        "<th scope=\"col\">Change</th></tr></thead><tbody>");
    for (const auto& one : context.service.tokens(context.by)) {
        out.put(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"wide\">{}</td><td>{}</td><td class=\"wide\">{}</td>"
            "<td class=\"buttons\"><a class=\"button\" href=\"{}\">Revoke…</a></td></tr>",
            one.name, server::name_of(one.role), moment(one.created, context.now), moment(one.expires, context.now),
            moment(one.last_used, context.now), Url("/tokens/{}/revoke", one.name));
    }
    out.put("</tbody></table></div></section>");
    const std::string role = context.kept("token", "role"), lifetime = context.kept("token", "lifetime");
    out.put(
        "<section class=\"card narrow\" aria-labelledby=\"new-token\"><h2 id=\"new-token\">Make a token</h2>{}"
        "<label for=\"name\">Name</label>"
        "<input id=\"name\" name=\"name\" required maxlength=\"64\" value=\"{}\" aria-describedby=\"name-hint\">"
        "<p class=\"hint\" id=\"name-hint\">a-z 0-9 . _ -; it stands in the audit log</p>"
        "<label for=\"role\">Role</label><select id=\"role\" name=\"role\">{}</select>"
        "<label for=\"lifetime\">Good for</label><select id=\"lifetime\" name=\"lifetime\">{}</select>"
        "<button class=\"main\">Make a token</button></form>"
        "<p class=\"hint\">To log in with a client certificate instead: "
        "<code>attestation-server token create NAME --role ROLE --csr FILE</code></p></section>",
        open_form(context, "token", Url("/tokens")), context.kept("token", "name"), options(roles(), role),
        options(lifetimes(), lifetime.empty() ? "7776000" : lifetime));
    return whole_page(context, Section::kTokens, "Tokens", out);
}

Response create_token(Context& context) {
    return act(context, "token", tokens_page, [&] {
        const auto role = server::role_of(context.field("role"));
        if (!role) throw server::ServiceError(400, "role", "Choose a role.");
        const auto lifetime =
            std::min<std::uint64_t>(number_of(context.field("lifetime"), "Good for"), 10ull * 365 * 86400);
        const std::string token =
            context.service.create_token(context.by, context.field("name"), *role, static_cast<Seconds>(lifetime));
        return Done{Url("/tokens"), {"The token " + context.field("name") + ":", token}};
    });
}

Response revoke_token_page(Context& context) {
    const std::string& name = context.parts[0];
    return whole_page(
        context, Section::kTokens, "Revoke " + name,
        piece("<section class=\"card narrow\">"
              "<p>Whoever uses the token {} is refused from now on, and is logged out of this page.</p>{}{}"
              "<div class=\"joined\"><button class=\"danger\">Revoke</button>"
              "<a class=\"button\" href=\"/tokens\">Cancel</a></div></form></section>",
              code(name),
              name == context.by.name ? piece("<p class=\"error\">It is the one that you are logged in with.</p>")
                                      : Html(),
              open_form(context, "revoke", Url("/tokens/{}/revoke", name))));
}

Response revoke_token(Context& context) {
    return act(context, "revoke", revoke_token_page, [&] {
        context.service.revoke_token(context.by, context.parts[0]);
        return Done{Url("/tokens"), {"The token " + context.parts[0] + " is revoked.", ""}};
    });
}

}  // namespace gatehouse::web

// Endpoints that want in: review, approve, reject; and what approves them beforehand.
#include <array>

#include "attestation/web/endpoint_evidence.hpp"

namespace gatehouse::web {
namespace {

using server::Enrollment;
using server::Role;

constexpr unsigned kRows = 50;

const std::vector<Choice>& lifetimes() {
    static const std::vector<Choice> all{
        {"3600", "1 hour"}, {"86400", "1 day"}, {"604800", "7 days"}, {"2592000", "30 days"}};
    return all;
}

Html enrollment_badge(const std::string& state) {
    if (state == "waiting") return piece("<span class=\"badge state-unmeasured\">waiting</span>");
    if (state == "approved") return piece("<span class=\"badge state-trusted\">approved</span>");
    if (state == "rejected") return piece("<span class=\"badge state-untrusted\">rejected</span>");
    return piece("<span class=\"badge state-new\">{}</span>", state);
}

Html tabs(const std::string& present) {
    struct Tab {
        const char* name;
        const char* label;
    };
    Html out;
    out.put("<nav class=\"tabs\" aria-label=\"State\"><ul>");
    for (const Tab& tab : {Tab{"waiting", "Waiting"}, Tab{"challenged", "Proving their TPM"},
                           Tab{"approved", "Approved"}, Tab{"rejected", "Rejected"}}) {
        out.put("<li><a href=\"{}\"{}>{}</a></li>", Url("/enrollments").with("state", tab.name),
                Flag("aria-current=\"page\"").when(present == tab.name), tab.label);
    }
    return out.put("</ul></nav>");
}

Html enrollment_table(const Context& context, const std::vector<Enrollment>& all) {
    Html out;
    out.put(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Enrollments\"><table><thead><tr>"
        "<th scope=\"col\">Endpoint</th><th scope=\"col\">EK certificate</th><th scope=\"col\" class=\"wide\">TPM</th>"
        "<th scope=\"col\" class=\"wide\">EK hash</th><th scope=\"col\" class=\"wide\">Came, UTC</th>"
        "<th scope=\"col\">Note</th></tr></thead><tbody>");
    for (const Enrollment& one : all) {
        out.put(
            "<tr><th scope=\"row\"><a href=\"{}\">{}</a></th><td>{}</td><td class=\"wide\">{}</td>"
            "<td class=\"wide\">{}</td><td class=\"wide\">{}</td><td class=\"reason\">{}{}</td></tr>",
            Url("/enrollments/{}", one.id), foreign(one.hostname),
            one.endorsed ? mark(true, "accepted") : mark(false, "not accepted"),
            foreign_or(tpm_name(one.manufacturer, one.model), "not known"), code(one.ek_hash.substr(0, 16) + "…"),
            brief(one.time, context.now), foreign(one.reason),
            one.replaces.empty() ? Html() : piece(" <span class=\"badge state-unmeasured\">re-enrolls</span>"));
    }
    return out.put("</tbody></table></div>");
}

Html nothing(const std::string& state) {
    if (state != "waiting") return empty_state("None", piece("No enrollment is in this state."));
    return empty_state(
        "No enrollment waits",
        piece("An endpoint enrolls with <code>attestation-agent enroll</code>, proves that it holds its TPM, "
              "and then waits here unless a token or a registered EK hash approves it."));
}

Html groups_of(const Context& context, const char* form) {
    const std::string kept = context.kept(form, "group");
    return options(choices_of(context.service.groups(context.by)), kept.empty() ? "default" : kept);
}

Html beforehand(const Context& context) {
    Html out;
    if (!context.may(Role::kOperator)) return out;
    const std::string lifetime = context.kept("enrollment-token", "lifetime");
    out.put(
        "<div class=\"two even\"><section class=\"card\" aria-labelledby=\"token-title\">"
        "<h2 id=\"token-title\">Enrollment token</h2>"
        "<p class=\"hint\">Approves one endpoint into a group by itself.</p>{}<label for=\"token-group\">Group</label>"
        "<select id=\"token-group\" name=\"group\">{}</select><label for=\"token-lifetime\">Good for</label>"
        "<select id=\"token-lifetime\" name=\"lifetime\">{}</select><button>Make a token</button></form></section>",
        open_form(context, "enrollment-token", Url("/enrollments/token")), groups_of(context, "enrollment-token"),
        options(lifetimes(), lifetime.empty() ? "86400" : lifetime));
    out.put(
        "<section class=\"card\" aria-labelledby=\"register-title\"><h2 id=\"register-title\">Register an EK hash</h2>"
        "<p class=\"hint\">An endpoint with this endorsement key is approved when it comes.</p>{}"
        "<label for=\"ek-hash\">EK hash (SHA-256, 64 hexadecimal digits)</label>"
        "<input id=\"ek-hash\" name=\"ek_hash\" required maxlength=\"64\" spellcheck=\"false\" class=\"mono\" "
        "value=\"{}\"><label for=\"register-group\">Group</label>"
        "<select id=\"register-group\" name=\"group\">{}</select><button>Register</button></form></section></div>",
        open_form(context, "register", Url("/enrollments/register")), context.kept("register", "ek_hash"),
        groups_of(context, "register"));
    return out;
}

Html decision(const Context& context, const Enrollment& one) {
    Html out;
    if (one.state != "waiting" || !context.may(Role::kOperator)) return out;
    out.put("<section class=\"card\" aria-labelledby=\"approve-title\"><h2 id=\"approve-title\">Approve</h2>{}",
            open_form(context, "approve", Url("/enrollments/{}/approve", one.id)));
    if (!one.endorsed) {
        out.put(
            "<p class=\"hint\">No trusted vendor vouches for this TPM. Approve it only if you know the EK hash to be "
            "that of the machine.</p>");
    }
    if (!one.replaces.empty()) {
        out.put(
            "<p class=\"hint\">It replaces "
            "<a href=\"{}\">an endpoint with the same TPM</a>, whose key is then void; the history stays.</p>",
            Url("/endpoints/{}", one.replaces));
    }
    out.put(
        "<label for=\"approve-group\">Group</label><select id=\"approve-group\" name=\"group\">{}</select>"
        "<button class=\"main\">Approve</button></form></section>",
        groups_of(context, "approve"));
    return out.put(
        "<section class=\"card\" aria-labelledby=\"reject-title\"><h2 id=\"reject-title\">Reject</h2>{}"
        "<label for=\"reject-reason\">Reason, told to the endpoint</label>"
        "<input id=\"reject-reason\" name=\"reason\" required maxlength=\"1024\" value=\"{}\">"
        "<button class=\"danger\">Reject</button></form></section>",
        open_form(context, "reject", Url("/enrollments/{}/reject", one.id)), context.kept("reject", "reason"));
}

}  // namespace

Response enrollments_page(Context& context) {
    constexpr std::array known{"waiting", "challenged", "approved", "rejected"};
    std::string state = context.query("state");
    if (std::ranges::find(known, state) == known.end()) state = "waiting";
    const auto page = context.service.enrollments(context.by, state, context.query("cursor"), kRows);
    Html out;
    out.put("<div class=\"panel\">{}", tabs(state));
    out.add(page.rows.empty() ? nothing(state) : enrollment_table(context, page.rows));
    if (!page.next.empty()) {
        out.put(
            "<nav class=\"pager\" aria-label=\"Pages\">"
            "<a class=\"button\" rel=\"next\" href=\"{}\">Next page</a></nav>",
            Url("/enrollments").with("state", state).with("cursor", page.next));
    }
    out.put("</div>{}", beforehand(context));
    return whole_page(context, Section::kEnrollments, "Enrollments", out);
}

Response enrollment_page(Context& context) {
    const Enrollment one = context.service.enrollment(context.by, context.parts[0]);
    Html out;
    out.put("<div class=\"columns\"><div class=\"main-column\">");
    if (!one.reason.empty()) out.put("<p class=\"lead\"><strong>{}</strong></p>", foreign(one.reason));
    out.put(
        "<section class=\"card\" aria-labelledby=\"findings\">"
        "<h2 id=\"findings\">Findings on its keys</h2>{}</section>",
        findings_table(one.findings));
    out.put(
        "<section class=\"card\" aria-labelledby=\"identity\"><h2 id=\"identity\">Identity</h2><dl><dt>Hostname</dt>"
        "<dd>{}</dd><dt>EK hash</dt><dd>{}</dd><dt>Vendor</dt><dd>{}</dd><dt>Manufacturer</dt><dd>{}</dd>"
        "<dt>Model</dt><dd>{}</dd><dt>Evidence by</dt><dd>{}</dd><dt>Came</dt><dd>{}</dd></dl></section>",
        foreign(one.hostname), code(one.ek_hash),
        one.vendor.empty() ? piece("<span class=\"quiet\">none that is trusted</span>") : foreign(one.vendor),
        foreign_or(manufacturer_name(one.manufacturer), "not known"), foreign_or(one.model, "not known"),
        one.source == "hypervisor" ? "the measured hypervisor" : "a TPM alone", moment(one.time, context.now));
    out.put("</div><div class=\"side-column\">{}</div></div>", decision(context, one));
    return whole_page(context, Section::kEnrollments, one.hostname, out, enrollment_badge(one.state));
}

Response approve_enrollment(Context& context) {
    return act(context, "approve", enrollment_page, [&] {
        const std::string hostname = context.service.enrollment(context.by, context.parts[0]).hostname;
        context.service.approve(context.by, context.parts[0], context.field("group"));
        return Done{Url("/enrollments"),
                    {hostname + " is approved into the group " + context.field("group") + ".", ""}};
    });
}

Response reject_enrollment(Context& context) {
    return act(context, "reject", enrollment_page, [&] {
        if (context.field("reason").empty()) throw server::ServiceError(400, "reason", "Say why.");
        context.service.reject(context.by, context.parts[0], context.field("reason"));
        return Done{Url("/enrollments"), {"Rejected.", ""}};
    });
}

Response create_enrollment_token(Context& context) {
    return act(context, "enrollment-token", enrollments_page, [&] {
        const auto lifetime = static_cast<Seconds>(
            std::min<std::uint64_t>(number_of(context.field("lifetime"), "Good for"), 365 * 86400));
        const std::string token = context.service.create_enrollment_token(context.by, context.field("group"), lifetime);
        return Done{Url("/enrollments"), {"Enrollment token for the group " + context.field("group") + ":", token}};
    });
}

Response register_endorsement(Context& context) {
    return act(context, "register", enrollments_page, [&] {
        context.service.register_endorsement(context.by, context.field("ek_hash"), context.field("group"));
        return Done{Url("/enrollments"), {"The EK hash is registered.", ""}};
    });
}

}  // namespace gatehouse::web

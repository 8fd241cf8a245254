// The audit log, and whether it is whole.
#include "attestation/web/parts.hpp"
#include "attestation/web/verdict_view.hpp"

namespace gatehouse::web {
namespace {

constexpr unsigned kRows = 50;

Html verify_card(const Context& context, const Html& outcome) {
    return piece(
        "<section class=\"card\" id=\"verification\" aria-labelledby=\"verify-title\">"
        "<h2 id=\"verify-title\">Chain of hashes</h2>"
        "<p class=\"hint\">Each entry's hash covers the one before it: a changed, missing or reordered entry breaks "
        "the chain. Keep the head elsewhere to notice an end that was cut off.</p>{}"
        "<button>Verify the whole log</button></form><div role=\"status\">{}</div></section>",
        open_form(context, "verify", Url("/audit/verify")), outcome);
}

Html subject_of(const server::AuditEntry& entry) {
    if (entry.action.starts_with("endpoint.") && entry.subject.size() == 26)
        return piece("<a href=\"{}\">{}</a>", Url("/endpoints/{}", entry.subject), code(entry.subject));
    return foreign(entry.subject);
}

Response page_with(Context& context, const Html& outcome) {
    const std::string cursor = context.query("cursor");
    const auto page = context.service.audit(context.by, cursor, kRows);
    Html out;
    out.add(verify_card(context, outcome));
    out.put(
        "<section class=\"card\" aria-labelledby=\"entries\"><h2 id=\"entries\">Entries, newest first</h2>"
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"entries\"><table class=\"audit\">"
        "<thead><tr><th scope=\"col\" class=\"number\">No.</th><th scope=\"col\">Time, UTC</th>"
        "<th scope=\"col\">Who</th><th scope=\"col\">What</th><th scope=\"col\">Subject</th>"
        "<th scope=\"col\" class=\"wide\">Detail</th><th scope=\"col\" class=\"wide\">Hash</th></tr></thead><tbody>");
    for (const server::AuditEntry& entry : page.rows) {
        out.put(
            "<tr><th scope=\"row\" class=\"number\">{}</th><td>{}</td><td>{}</td><td class=\"type\">{}</td><td>{}</td>"
            "<td class=\"wide\">{}</td><td class=\"wide\"><code title=\"{}\">{}…</code></td></tr>",
            entry.number, brief(entry.time, context.now), foreign(entry.who), entry.action, subject_of(entry),
            foreign(flat(entry.detail)), entry.hash, entry.hash.substr(0, 12));
    }
    out.put("</tbody></table></div><nav class=\"pager\" aria-label=\"Pages\">");
    if (!cursor.empty()) out.put("<a class=\"button\" href=\"/audit\">Newest</a>");
    if (!page.next.empty())
        out.put("<a class=\"button\" rel=\"next\" href=\"{}\">Older</a>", Url("/audit").with("cursor", page.next));
    out.put(
        "</nav><p class=\"hint\">The whole log: "
        "<code>attestation-server audit export</code>, or the REST interface.</p></section>");
    return whole_page(context, Section::kAudit, "Audit log", out);
}

}  // namespace

Response audit_page(Context& context) { return page_with(context, {}); }

Response verify_audit(Context& context) {
    const auto turn = context.service.audit_turn();
    const auto check = context.service.verify_audit();
    Html outcome;
    if (check.ok) {
        outcome.put("<p>{} Good: {} entries, head {}</p>", mark(true, "good"), grouped(check.entries),
                    code(check.head));
    } else {
        outcome.put("<p class=\"error\" role=\"alert\">{} Broken: {}</p>", mark(false, "broken"), check.fault);
    }
    return page_with(context, outcome);
}

}  // namespace gatehouse::web

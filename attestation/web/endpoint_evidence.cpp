#include "attestation/web/endpoint_evidence.hpp"

#include <algorithm>

#include "attestation/verifier/event_log.hpp"

namespace gatehouse::web {
namespace {

constexpr std::size_t kEventsAtOnce = 120;
constexpr std::size_t kAround = 12;  // events shown before and after one that fails

Html share(const char* what, unsigned judged, unsigned all) {
    return piece(
        "<dt>{}</dt><dd><span class=\"figure-small\">{} of {}</span> "
        "<meter min=\"0\" max=\"{}\" value=\"{}\" aria-label=\"{} compared with the policy\"></meter></dd>",
        what, judged, all, std::max(all, 1u), judged, what);
}

Html coverage_card(const VerdictView& view) {
    Html out;
    out.put(
        "<section class=\"card\" aria-labelledby=\"coverage\"><h2 id=\"coverage\">Coverage</h2>"
        "<p class=\"hint\">How much of the evidence the policy judged. What it does not judge is taken on trust.</p>"
        "<dl>{}{}</dl>",
        share("PCRs", view.coverage.pcrs_judged, view.coverage.pcrs),
        share("Events", view.coverage.events_judged, view.coverage.events));
    if (!view.quirks.empty()) {
        out.put("<h3>Quirks of the log</h3><ul class=\"plain-list\">");
        for (const std::string& quirk : view.quirks) out.put("<li>{}</li>", foreign(quirk));
        out.put("</ul>");
    }
    return out.put("</section>");
}

Html claims_card(const VerdictView& view) {
    Html out;
    out.put("<section class=\"card\" aria-labelledby=\"claims\"><h2 id=\"claims\">Claims of the hypervisor</h2>");
    if (view.claims.empty()) {
        return out.put(
            "<p class=\"quiet\">None: this evidence is by a TPM alone, and nothing vouches for the software that "
            "asked it.</p></section>");
    }
    out.put("<dl>");
    for (const auto& [name, value] : view.claims) {
        if (value.size() > 24) {
            out.put("<dt>{}</dt><dd>{}</dd>", name, code(value));
        } else {
            out.put("<dt>{}</dt><dd>{}</dd>", name, value);
        }
    }
    if (view.vault_pinned_by.empty()) {
        out.put("<dt>whose vault</dt><dd>{}</dd>", mark(false, "not pinned: some vault was opened, nobody says whose"));
    } else {
        out.put("<dt>whose vault</dt><dd>as the {} says</dd>", view.vault_pinned_by);
    }
    return out.put("</dl></section>");
}

Html tables_card(const VerdictView& view) {
    Html out;
    if (view.tables.empty()) return out;
    out.put(
        "<section class=\"card\" aria-labelledby=\"tables\"><h2 id=\"tables\">ACPI tables of the machine</h2>"
        "<ul class=\"plain-list\">");
    for (const VerdictView::Table& one : view.tables) {
        const char* const what = one.ok ? "as approved" : one.logged ? "differs" : "missing";
        out.put("<li>{} {}</li>", mark(one.ok, what), foreign(one.name));
    }
    return out.put("</ul></section>");
}

Html pcr_table(const VerdictView& view) {
    Html out;
    out.put("<section class=\"card\" aria-labelledby=\"pcrs\"><h2 id=\"pcrs\">PCRs, SHA-256</h2>");
    if (view.pcrs.empty()) return out.put("<p class=\"quiet\">The evidence shows none.</p></section>");
    out.put(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"pcrs\"><table class=\"pcrs\"><thead>"
        "<tr><th scope=\"col\">PCR</th><th scope=\"col\">Expected by the policy</th><th scope=\"col\">Found</th>"
        "<th scope=\"col\">Result</th></tr></thead><tbody>");
    for (const VerdictView::Pcr& one : view.pcrs) {
        const Html expected =
            one.expected.empty() ? piece("<span class=\"quiet\">not in the policy</span>") : code(one.expected);
        Html result = piece("<span class=\"quiet\">not judged</span>");
        if (!one.expected.empty()) result = one.differs() ? mark(false, "differs") : mark(true, "equal");
        out.put("<tr class=\"{}\"><th scope=\"row\" class=\"number\">{}</th><td>{}</td><td>{}</td><td>{}</td></tr>",
                one.differs() ? "failing" : "", one.pcr, expected, code(one.found), result);
    }
    return out.put("</tbody></table></div></section>");
}

std::string hexadecimal(std::int64_t number) {
    std::string digits;
    for (auto rest = static_cast<std::uint64_t>(number); rest != 0 || digits.empty(); rest /= 16)
        digits.insert(digits.begin(), "0123456789abcdef"[rest % 16]);
    return digits;
}

// An event belongs if what it says is part of what was quoted. Of some only the digest is, of some nothing.
Html event_result(const VerdictView::Event& event) {
    if (event.hashed == "differs") return mark(false, "contradicts itself");
    if (!event.ok) return mark(false, "does not belong");
    if (event.name_is_covered()) return mark(true, "belongs");
    if (event.hashed == "nothing") return piece("<span class=\"quiet\">extends nothing</span>");
    if (event.hashed == "not quoted") return piece("<span class=\"quiet\">not quoted: nothing vouches for it</span>");
    if (event.hashed == "value alone")
        return piece("{} <span class=\"quiet\">its value; the name is in no digest</span>",
                     mark(true, "value belongs"));
    if (event.hashed.empty())
        return piece("{} <span class=\"quiet\">not known whether the name is in it</span>",
                     mark(true, "digest belongs"));
    return piece("{} <span class=\"quiet\">its digest; the name is in none</span>", mark(true, "digest belongs"));
}

void event_row(Html& out, const VerdictView::Event& event, bool is_first_failure) {
    out.put(
        "<tr class=\"{}\"{}><th scope=\"row\" class=\"number\">{}</th><td class=\"number wide\">0x{}</td>"
        "<td class=\"number\">{}</td><td class=\"wide\"><span class=\"type\">{}</span></td><td>{}</td><td>{}</td>"
        "<td>{}</td></tr>",
        event.ok ? "" : "failing", Flag("id=\"failing-event\"").when(is_first_failure), event.number,
        hexadecimal(event.offset), event.pcr,
        verifier::event_type_name(static_cast<verifier::LogEventType>(event.type)), foreign(event.name),
        code(event.digest), event_result(event));
}

// Which events are shown of a long log: its first ones, and those around each one that fails.
std::vector<bool> shown_events(const VerdictView& view, bool all) {
    std::vector<bool> shown(view.events.size(), all || view.events.size() <= kEventsAtOnce);
    if (all) return shown;
    for (std::size_t i = 0; i < shown.size(); ++i) {
        if (i < kAround) shown[i] = true;
        if (view.events[i].ok) continue;
        for (std::size_t k = i < kAround ? 0 : i - kAround; k < std::min(shown.size(), i + kAround + 1); ++k)
            shown[k] = true;
    }
    return shown;
}

Html event_table(const VerdictView& view, const Url& page, bool all_events) {
    Html out;
    out.put(
        "<section class=\"card\" aria-labelledby=\"events\"><div class=\"card-head\"><h2 id=\"events\">Event log</h2>");
    const auto failed = std::ranges::count(view.events, false, &VerdictView::Event::ok);
    if (failed == 1) out.put("<a class=\"failing-link\" href=\"#failing-event\">To the event that does not belong</a>");
    if (failed > 1)
        out.put("<a class=\"failing-link\" href=\"#failing-event\">To the first of {} events that do not belong</a>",
                failed);
    out.put("</div>");
    if (view.events.empty()) return out.put("<p class=\"quiet\">The evidence came without an event log.</p></section>");
    const std::vector<bool> shown = shown_events(view, all_events);
    out.put(
        "<div class=\"scroll tall\" tabindex=\"0\" role=\"region\" aria-labelledby=\"events\"><table class=\"events\">"
        "<thead><tr><th scope=\"col\" class=\"number\">No.</th><th scope=\"col\" class=\"number wide\">Offset</th>"
        "<th scope=\"col\" class=\"number\">PCR</th><th scope=\"col\" class=\"wide\">Type</th>"
        "<th scope=\"col\">What the log calls it</th><th scope=\"col\">Digest, SHA-256</th>"
        "<th scope=\"col\">Result</th></tr></thead><tbody>");
    bool is_first = true, in_gap = false;
    for (std::size_t i = 0; i < view.events.size(); ++i) {
        if (!shown[i]) {
            if (!in_gap) out.put("<tr class=\"gap\"><td colspan=\"7\">…</td></tr>");
            in_gap = true;
            continue;
        }
        in_gap = false;
        event_row(out, view.events[i], !view.events[i].ok && is_first);
        is_first = is_first && view.events[i].ok;
    }
    out.put("</tbody></table></div>");
    if (std::ranges::count(shown, false) != 0) {
        out.put("<p><a href=\"{}\">Show all {} events</a></p>", page.with("events", "all").at("events"),
                view.events.size());
    }
    return out.put("</section>");
}

}  // namespace

Html findings_table(const std::vector<verifier::Finding>& findings) {
    Html out;
    out.put(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Findings\"><table class=\"findings\">"
        "<thead><tr><th scope=\"col\">Result</th><th scope=\"col\">Rule</th>"
        "<th scope=\"col\">Finding</th></tr></thead><tbody>");
    std::vector<verifier::Finding> sorted = findings;
    std::stable_partition(sorted.begin(), sorted.end(), [](const verifier::Finding& one) { return !one.ok; });
    for (const verifier::Finding& one : sorted) {
        out.put("<tr class=\"{}\"><td>{}</td><th scope=\"row\">{}</th><td>{}</td></tr>", one.ok ? "" : "failing",
                mark(one.ok, one.ok ? "holds" : "fails"), one.rule, foreign(one.detail));
    }
    return out.put("</tbody></table></div>");
}

Html verdict_parts(const VerdictView& view, const Url& page, bool all_events) {
    Html out;
    out.put("<section class=\"card\" aria-labelledby=\"findings\"><h2 id=\"findings\">Findings, rule by rule</h2>");
    if (view.findings.empty()) {
        out.put("<p class=\"quiet\">None are kept.</p>");
    } else {
        out.add(findings_table(view.findings));
    }
    out.put("</section>{}{}{}<div class=\"two even\">{}{}</div>", pcr_table(view), event_table(view, page, all_events),
            tables_card(view), coverage_card(view), claims_card(view));
    return out;
}

}  // namespace gatehouse::web

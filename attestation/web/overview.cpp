// The fleet at a glance.
#include <array>

#include "attestation/web/parts.hpp"
#include "attestation/web/time_line.hpp"

namespace gatehouse::web {
namespace {

using server::State;

constexpr unsigned kAttention = 8;  // rows
constexpr unsigned kWaiting = 5;

struct Tile {
    State state;
    std::int64_t count;
    const char* meaning;
};

std::array<Tile, 6> tiles_of(const server::Counts& counts) {
    return {{{State::kTrusted, counts.trusted, "verified, lease running"},
             {State::kUnmeasured, counts.unmeasured, "TPM only, no hypervisor"},
             {State::kUntrusted, counts.untrusted, "last evidence refused"},
             {State::kStale, counts.stale, "silent past its lease"},
             {State::kNew, counts.fresh, "no evidence yet"},
             {State::kRetired, counts.retired, "no longer in service"}}};
}

std::int64_t in_service(const server::Counts& counts) {
    return counts.trusted + counts.unmeasured + counts.untrusted + counts.stale + counts.fresh;
}

Html tiles(const server::Counts& counts) {
    Html out;
    out.put("<ul class=\"tiles\">");
    for (const Tile& tile : tiles_of(counts)) {
        const char* name = server::name_of(tile.state);
        out.put(
            "<li><a class=\"tile {}\" href=\"{}\">{}<span class=\"figure\">{}</span>"
            "<span class=\"hint\">{}</span></a></li>",
            tile.count == 0 ? "zero" : name, Url("/endpoints").with("state", name), state_badge(tile.state),
            grouped(tile.count), tile.meaning);
    }
    return out.put("</ul>");
}

// The shares of the fleet in service, as one bar; the tiles beside it say the same in figures.
Html shares(const server::Counts& counts) {
    const std::int64_t all = in_service(counts);
    Html out;
    if (all == 0) return out;
    out.put("<svg class=\"shares\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
    std::int64_t x = 0;
    for (const Tile& tile : tiles_of(counts)) {
        if (tile.state == State::kRetired || tile.count == 0) continue;
        const std::int64_t width = std::max<std::int64_t>(tile.count * 1000 / all, 4);
        out.put("<rect class=\"part-{}\" x=\"{}\" y=\"0\" width=\"{}\" height=\"10\"/>", server::name_of(tile.state), x,
                width);
        x += width;
    }
    return out.put("</svg>");
}

std::string verdict_of_fleet(const server::Counts& counts) {
    const std::int64_t all = in_service(counts);
    if (all == 0) return "No endpoints yet.";
    const std::int64_t attention = counts.untrusted + counts.stale;
    std::string text = grouped(counts.trusted) + " of " + grouped(all) + " endpoints in service are trusted";
    if (attention == 0) return text + "; none needs attention.";
    return text + "; " + grouped(attention) + (attention == 1 ? " needs" : " need") + " attention.";
}

void attention_rows(Context& context, State state, unsigned limit, Html& rows) {
    server::EndpointQuery query;
    query.state = state;
    query.limit = limit;
    for (const server::Endpoint& one : context.service.endpoints(context.by, query).rows) {
        rows.put(
            "<tr><td>{}</td><td><a href=\"{}\">{}</a></td><td class=\"reason\">{}</td><td class=\"wide\">{}</td></tr>",
            state_badge(one.state), Url("/endpoints/{}", one.id), foreign(one.hostname), foreign(one.reason),
            brief(one.last_seen, context.now));
    }
}

Html attention(Context& context, const server::Counts& counts) {
    Html rows, out;
    if (counts.untrusted != 0) attention_rows(context, State::kUntrusted, kAttention, rows);
    if (counts.stale != 0) attention_rows(context, State::kStale, kAttention, rows);
    out.put(
        "<section aria-labelledby=\"attention\" class=\"card\"><div class=\"card-head\">"
        "<h2 id=\"attention\">Needing attention</h2>");
    if (counts.untrusted > kAttention)
        out.put("<a href=\"/endpoints?state=untrusted\">All {} untrusted</a>", grouped(counts.untrusted));
    if (counts.stale > kAttention)
        out.put("<a href=\"/endpoints?state=stale\">All {} stale</a>", grouped(counts.stale));
    out.put("</div>");
    if (rows.empty()) {
        return out.put(
            "{}</section>",
            empty_state("Nothing needs attention",
                        piece("Endpoints whose evidence is refused, or who stay silent past their lease, are listed "
                              "here.")));
    }
    return out.put(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-labelledby=\"attention\"><table><thead><tr>"
        "<th scope=\"col\">State</th><th scope=\"col\">Endpoint</th><th scope=\"col\">Why</th>"
        "<th scope=\"col\" class=\"wide\">Last evidence, UTC</th></tr></thead>"
        "<tbody>{}</tbody></table></div></section>",
        rows);
}

Html waiting(Context& context, const server::Counts& counts) {
    Html out;
    out.put(
        "<section aria-labelledby=\"waiting\" class=\"card\"><div class=\"card-head\">"
        "<h2 id=\"waiting\">Enrollments waiting</h2>");
    if (counts.enrollments_waiting != 0)
        out.put("<a href=\"/enrollments\">Review all {}</a>", grouped(counts.enrollments_waiting));
    out.put("</div>");
    if (counts.enrollments_waiting == 0) {
        return out.put(
            "{}</section>",
            empty_state("No enrollment waits",
                        piece("An endpoint enrolls with "
                              "<code>attestation-agent enroll</code>. To have it approved by itself, make a token "
                              "under <a href=\"/enrollments\">Enrollments</a>.")));
    }
    out.put("<ul class=\"rows\">");
    for (const server::Enrollment& one : context.service.enrollments(context.by, "waiting", "", kWaiting).rows) {
        out.put("<li><a href=\"{}\">{}</a><span class=\"hint\">{}</span><span class=\"reason\">{}</span></li>",
                Url("/enrollments/{}", one.id), foreign(one.hostname), relative(one.time, context.now),
                foreign(one.reason));
    }
    return out.put("</ul></section>");
}

unsigned hours_of(const Context& context) { return context.query("hours") == "168" ? 168 : 48; }

Html time_line_card(Context& context) {
    const unsigned hours = hours_of(context);
    Html out;
    out.put(
        "<section aria-labelledby=\"time-line\" class=\"card\"><div class=\"card-head\">"
        "<h2 id=\"time-line\">Verdicts by hour</h2><ul class=\"legend\" aria-hidden=\"true\">"
        "<li class=\"state-trusted\">trusted</li><li class=\"state-unmeasured\">unmeasured</li>"
        "<li class=\"state-untrusted\">untrusted</li></ul><span class=\"switch\"><a href=\"/\"{}>2 days</a> "
        "<a href=\"/?hours=168\"{}>7 days</a></span></div>{}</section>",
        Flag("aria-current=\"true\"").when(hours == 48), Flag("aria-current=\"true\"").when(hours == 168),
        time_line_picture(context.service.time_line(context.by, hours)));
    return out;
}

}  // namespace

Response overview_page(Context& context) {
    const server::Counts counts = context.service.counts(context.by);
    Html live;
    const Url renew = Url("/").with("hours", hours_of(context) == 168 ? "168" : "").with("live", "1");
    live.put(
        "<div id=\"live\" hx-get=\"{}\" hx-trigger=\"every 20s\" hx-select=\"#live\" hx-swap=\"outerHTML\">"
        "<p class=\"lead\">{}</p>{}{}{}<div class=\"two\">{}{}</div><p class=\"hint as-of\">As of {}</p></div>",
        renew, verdict_of_fleet(counts), shares(counts), tiles(counts), time_line_card(context),
        attention(context, counts), waiting(context, counts), utc(context.now));
    if (context.is_partial()) {
        Response response;
        response.body = live.text();
        return response;
    }
    return whole_page(context, Section::kOverview, "Fleet overview", live);
}

}  // namespace gatehouse::web

// The list of endpoints: searched, filtered and paged on the server.
#include <array>

#include "attestation/web/parts.hpp"

namespace gatehouse::web {
namespace {

using server::State;

constexpr unsigned kRows = 50;

struct Filter {
    std::string search, state, group, cursor;
    [[nodiscard]] bool is_set() const { return !search.empty() || !state.empty() || !group.empty(); }
    [[nodiscard]] Url url() const {
        return Url("/endpoints").with("q", search).with("state", state).with("group", group);
    }
};

Html state_tabs(const server::Counts& counts, const Filter& filter) {
    struct Tab {
        const char* name;
        const char* label;
        std::int64_t count;
    };
    const std::int64_t all =
        counts.trusted + counts.unmeasured + counts.untrusted + counts.stale + counts.fresh + counts.retired;
    const std::array tabs{Tab{"", "All", all},
                          Tab{"trusted", "Trusted", counts.trusted},
                          Tab{"unmeasured", "Unmeasured", counts.unmeasured},
                          Tab{"untrusted", "Untrusted", counts.untrusted},
                          Tab{"stale", "Stale", counts.stale},
                          Tab{"new", "New", counts.fresh},
                          Tab{"retired", "Retired", counts.retired}};
    Html out;
    out.put("<nav class=\"tabs\" aria-label=\"State\"><ul>");
    for (const Tab& tab : tabs) {
        Filter other = filter;
        other.state = tab.name;
        out.put("<li><a href=\"{}\"{}>{} <span class=\"count\">{}</span></a></li>", other.url(),
                Flag("aria-current=\"page\"").when(filter.state == tab.name), tab.label, grouped(tab.count));
    }
    return out.put("</ul></nav>");
}

Html search_form(const Filter& filter, const std::vector<std::string>& groups) {
    std::vector<Choice> choices = choices_of(groups);
    choices.insert(choices.begin(), Choice{"", "All groups"});
    return piece(
        "<form class=\"filters\" role=\"search\" method=\"get\" action=\"/endpoints\" hx-get=\"/endpoints\" "
        "hx-trigger=\"input changed delay:250ms from:#q, change from:#group, submit\" hx-target=\"#results\" "
        "hx-select=\"#results\" hx-swap=\"outerHTML\" hx-push-url=\"true\" hx-sync=\"this:replace\"><div>"
        "<label for=\"q\">Search</label>"
        "<input id=\"q\" name=\"q\" type=\"search\" value=\"{}\" placeholder=\"hostname, id or EK hash\" "
        "maxlength=\"256\"></div><div><label for=\"group\">Group</label>"
        "<select id=\"group\" name=\"group\">{}</select></div><input type=\"hidden\" name=\"state\" value=\"{}\">"
        "<button>Search</button></form>",
        as_meant(filter.search), options(choices, filter.group), filter.state);
}

Html rows_of(const Context& context, const std::vector<server::Endpoint>& endpoints) {
    Html out;
    out.put(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Endpoints\"><table class=\"endpoints\">"
        "<thead><tr><th scope=\"col\">State</th><th scope=\"col\">Endpoint</th>"
        "<th scope=\"col\" class=\"wide\">Group</th><th scope=\"col\" class=\"wide\">TPM</th>"
        "<th scope=\"col\">Last evidence, UTC</th><th scope=\"col\" class=\"wide\">Lease ends</th>"
        "<th scope=\"col\" class=\"wide\">Why</th></tr></thead><tbody>");
    for (const server::Endpoint& one : endpoints) {
        const bool leased = one.state == State::kTrusted || one.state == State::kUnmeasured;
        out.put(
            "<tr><td>{}</td><th scope=\"row\"><a href=\"{}\">{}</a></th><td class=\"wide name\">{}</td>"
            "<td class=\"wide name\">{}</td><td>{}</td><td class=\"wide name\">{}</td>"
            "<td class=\"wide reason\">{}</td></tr>",
            state_badge(one.state), Url("/endpoints/{}", one.id), foreign(one.hostname), one.group,
            foreign(tpm_name(one.manufacturer, one.model)), brief(one.last_seen, context.now),
            leased ? relative(one.lease_until, context.now) : std::string("none"), foreign(one.reason));
    }
    return out.put("</tbody></table></div>");
}

Html nothing(const Filter& filter) {
    if (filter.is_set()) {
        return empty_state("No endpoint matches",
                           piece("Search looks for a part of the hostname, of the id or of the EK hash. "
                                 "<a href=\"/endpoints\">Show all endpoints</a>"));
    }
    return empty_state(
        "No endpoints yet",
        piece("An endpoint enrolls with <code>attestation-agent enroll</code> and appears here once it is "
              "approved under <a href=\"/enrollments\">Enrollments</a>."));
}

Html results(const Context& context, const Filter& filter, const server::Counts& counts,
             const server::Page<server::Endpoint>& page) {
    Html out;
    out.put("<div id=\"results\" class=\"panel\">{}", state_tabs(counts, filter));
    if (page.rows.empty()) return out.put("{}</div>", nothing(filter));
    out.add(rows_of(context, page.rows));
    out.put("<nav class=\"pager\" aria-label=\"Pages\"><p class=\"hint\" role=\"status\">{} endpoints shown{}</p>",
            page.rows.size(), page.next.empty() && filter.cursor.empty() ? "" : "; there are more");
    if (!filter.cursor.empty()) out.put("<a class=\"button\" href=\"{}\">First page</a>", filter.url());
    if (!page.next.empty())
        out.put("<a class=\"button\" rel=\"next\" href=\"{}\">Next page</a>", filter.url().with("cursor", page.next));
    return out.put("</nav></div>");
}

}  // namespace

Response endpoints_page(Context& context) {
    const Filter filter{context.query("q"), context.query("state"), context.query("group"), context.query("cursor")};
    server::EndpointQuery query;
    query.search = as_meant(filter.search);
    query.group = filter.group;
    query.cursor = filter.cursor;
    query.limit = kRows;
    if (!filter.state.empty()) {
        query.state = server::state_of(filter.state);
        if (!query.state) throw server::ServiceError(400, "state", "state: there is no state \"" + filter.state + "\"");
    }
    Html out;
    if (!context.is_partial()) out.add(search_form(filter, context.service.groups(context.by)));
    out.add(results(context, filter, context.service.counts(context.by), context.service.endpoints(context.by, query)));
    if (context.is_partial()) {
        Response response;
        response.body = out.text();
        return response;
    }
    return whole_page(context, Section::kEndpoints, "Endpoints", out);
}

}  // namespace gatehouse::web

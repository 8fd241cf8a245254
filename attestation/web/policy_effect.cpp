#include "attestation/web/policy_effect.hpp"

#include <algorithm>

namespace gatehouse::web {
namespace {

using server::Assignment;
using server::Stage;

constexpr unsigned kRows = 50;

std::string name_of(const Assignment& one) { return one.policy + ":" + std::to_string(one.version); }

// The one of the query's group; by default the first that refuses anything.
const Assignment& chosen(const Context& context, const std::vector<Assignment>& all) {
    const std::string group = context.query("group");
    if (group.empty()) {
        const auto refuses = std::ranges::find_if(all, [](const Assignment& one) { return one.would_fail != 0; });
        return refuses == all.end() ? all.front() : *refuses;
    }
    const auto found = std::ranges::find(all, group, &Assignment::group);
    if (found == all.end())
        throw server::ServiceError(404, "not_found", "This policy is not assigned to the group \"" + group + "\".");
    return *found;
}

Html search_form(const Context& context, const Assignment& one, const std::vector<Assignment>& all) {
    std::vector<Choice> groups;
    groups.reserve(all.size());
    for (const Assignment& each : all)
        groups.push_back({each.group, each.group + " (" + grouped(each.would_fail) + ")"});
    const Url url = url_of_policy(one.policy, one.version);
    return piece(
        "<form class=\"filters\" role=\"search\" method=\"get\" action=\"{}\" hx-get=\"{}\" hx-trigger=\"input "
        "changed delay:250ms from:#q, change from:#refused-group, submit\" hx-target=\"#refused\" "
        "hx-swap=\"outerHTML\" hx-push-url=\"true\" hx-sync=\"this:replace\"><div><label for=\"q\">Search</label>"
        "<input id=\"q\" name=\"q\" type=\"search\" value=\"{}\" placeholder=\"hostname, id or EK hash\" "
        "maxlength=\"256\"></div><div><label for=\"refused-group\">Group</label>"
        "<select id=\"refused-group\" name=\"group\">{}</select></div><button>Search</button></form>",
        url.at("effect"), url, context.query("q"), options(groups, one.group));
}

Html rows_of(const Context& context, const Assignment& one, const std::vector<server::Refusal>& rows) {
    Html out;
    out.put(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Refused endpoints\">"
        "<table class=\"endpoints refused\"><thead><tr><th scope=\"col\">Endpoint</th>"
        "<th scope=\"col\">First rule that fails</th><th scope=\"col\" class=\"wide\">State now</th>"
        "<th scope=\"col\" class=\"wide\">Evidence, UTC</th><th scope=\"col\">Compare</th></tr></thead><tbody>");
    for (const server::Refusal& row : rows) {
        const Url url = Url("/endpoints/{}", row.endpoint);
        out.put(
            "<tr><th scope=\"row\"><a href=\"{}\">{}</a></th><td class=\"reason\"><strong>{}</strong> {}</td>"
            "<td class=\"wide\">{}</td><td class=\"wide\">{}</td><td><a class=\"button\" href=\"{}\">Diff"
            "<span class=\"spoken\"> of {}</span></a></td></tr>",
            url, foreign(row.hostname), foreign_or(row.rule, "not known yet:"),
            foreign_or(row.detail, "its next evidence will tell"), state_badge(row.state),
            brief(row.last_seen, context.now), url.with("against", name_of(one)).at("explain"), foreign(row.hostname));
    }
    return out.put("</tbody></table></div>");
}

}  // namespace

Url url_of_policy(const std::string& name, std::uint64_t version) {
    return {"/policies/{}/{}", name, std::to_string(version)};
}

Url url_of_effect(const Assignment& one) {
    return url_of_policy(one.policy, one.version).with("group", one.group).at("effect");
}

Html refused_list(const Context& context, const std::vector<Assignment>& assignments) {
    const Assignment& one = chosen(context, assignments);
    server::RefusedQuery query{.group = one.group,
                               .policy = one.policy,
                               .version = one.version,
                               .search = context.query("q"),
                               .cursor = context.query("cursor"),
                               .limit = kRows};
    const auto page = context.service.refused(context.by, query);
    Html out;
    out.put("<div id=\"refused\">");
    if (page.rows.empty()) {
        return out.put(
            "{}</div>",
            query.search.empty()
                ? empty_state("It refuses no endpoint of this group",
                              piece("{} of {} have sent evidence since it was assigned.",
                                    grouped(one.would_pass + one.would_fail), grouped(one.covered)))
                : empty_state("No refused endpoint matches",
                              piece("Search looks for a part of the hostname, of the id or of the EK hash.")));
    }
    out.add(rows_of(context, one, page.rows));
    const Url first = url_of_policy(one.policy, one.version).with("group", one.group).with("q", query.search);
    out.put(
        "<nav class=\"pager\" aria-label=\"Pages of refused endpoints\">"
        "<p class=\"hint\" role=\"status\">{} shown of {} refused in {}</p>",
        page.rows.size(), grouped(one.would_fail), one.group);
    if (!query.cursor.empty()) out.put("<a class=\"button\" href=\"{}\">First page</a>", first.at("effect"));
    if (!page.next.empty())
        out.put("<a class=\"button\" rel=\"next\" href=\"{}\">Next page</a>",
                first.with("cursor", page.next).at("effect"));
    return out.put("</nav></div>");
}

Html effect_card(const Context& context, const std::vector<Assignment>& assignments) {
    const Assignment& one = chosen(context, assignments);
    Html out;
    return out.put(
        "<section class=\"card\" id=\"effect\" aria-labelledby=\"effect-title\"><h2 id=\"effect-title\">{}</h2>"
        "<p class=\"hint\">By the last evidence of each, as it was judged when it came. Mend these endpoints or the "
        "policy before you enforce it.</p>{}{}</section>",
        one.stage == Stage::kReport ? "What it would refuse" : "What it refuses",
        search_form(context, one, assignments), refused_list(context, assignments));
}

}  // namespace gatehouse::web

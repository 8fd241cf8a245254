// Policies: which versions there are, whom they cover, and what enforcing them would do.
#include <algorithm>

#include "attestation/web/policy_effect.hpp"
#include "attestation/web/verdict_view.hpp"

namespace gatehouse::web {
namespace {

using server::Assignment;
using server::PolicyVersion;
using server::Role;
using server::Stage;

std::string name_of(const Assignment& one) { return one.policy + ":" + std::to_string(one.version); }

Url change_url(const Assignment& one, const char* what) {
    return Url("/assignments/change")
        .with("group", one.group)
        .with("policy", one.policy)
        .with("version", std::to_string(one.version))
        .with("to", what);
}

// Of those that it covers: accepted, refused, not judged yet.
Html effect(const Assignment& one) {
    const std::int64_t unknown = std::max<std::int64_t>(0, one.covered - one.would_pass - one.would_fail);
    Html out;
    out.put(
        "<div class=\"effect\"><svg viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">"
        "<rect class=\"part-none\" width=\"1000\" height=\"10\"/>");
    if (one.covered != 0) {
        const std::int64_t pass = one.would_pass * 1000 / one.covered;
        const std::int64_t fail =
            one.would_fail == 0 ? 0 : std::max<std::int64_t>(one.would_fail * 1000 / one.covered, 8);
        out.put(
            "<rect class=\"part-trusted\" width=\"{}\" height=\"10\"/>"
            "<rect class=\"part-untrusted\" x=\"{}\" width=\"{}\" height=\"10\"/>",
            pass, std::min<std::int64_t>(pass, 1000 - fail), fail);
    }
    const char* would = one.stage == Stage::kReport ? "would " : "";
    const Html fail = one.would_fail == 0 ? piece("<strong class=\"quiet\">0 {}fail</strong>", would)
                                          : piece("<a class=\"bad-text\" href=\"{}\"><strong>{} {}fail</strong></a>",
                                                  url_of_effect(one), grouped(one.would_fail), would);
    return out.put("</svg><p>{} {}pass · {} · {} not judged yet</p></div>", grouped(one.would_pass), would, fail,
                   grouped(unknown));
}

Html assignment_rows(const Context& context, const std::vector<Assignment>& all) {
    const bool operates = context.may(Role::kOperator);
    Html out;
    out.put(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Assignments\"><table><thead><tr>"
        "<th scope=\"col\">Group</th><th scope=\"col\">Policy</th><th scope=\"col\">Stage</th>"
        "<th scope=\"col\" class=\"number\">Covers</th><th scope=\"col\">By the last evidence</th>{}</tr></thead>"
        "<tbody>",
        operates ? piece("<th scope=\"col\">Change</th>") : Html());
    for (const Assignment& one : all) {
        Html change;
        if (operates) {
            const bool report = one.stage == Stage::kReport;
            change.put(
                "<td class=\"buttons\"><a class=\"button\" href=\"{}\">{}</a> "
                "<a class=\"button\" href=\"{}\">Unassign…</a></td>",
                change_url(one, report ? "enforce" : "report"), report ? "Enforce…" : "Report only…",
                change_url(one, "none"));
        }
        out.put(
            "<tr><th scope=\"row\" class=\"name\"><a href=\"{}\">{}</a></th><td><a href=\"{}\">{}</a></td><td>{}</td>"
            "<td class=\"number\">{}</td><td>{}</td>{}</tr>",
            Url("/endpoints").with("group", one.group), one.group, url_of_policy(one.policy, one.version), name_of(one),
            stage_badge(one.stage), grouped(one.covered), effect(one), change);
    }
    return out.put("</tbody></table></div>");
}

Html assignments_card(const Context& context, const std::vector<Assignment>& all) {
    Html out;
    out.put(
        "<section class=\"card\" aria-labelledby=\"assignments\"><h2 id=\"assignments\">Who is judged by what</h2>");
    if (all.empty()) {
        return out.put("{}</section>",
                       empty_state("No policy is assigned",
                                   piece("Until a group has an enforced policy, none of its endpoints is trusted. "
                                         "Upload a signed policy, then assign it, first as report only.")));
    }
    return out.put(
        "<p class=\"hint\">Evidence is good if one enforced policy of its group accepts it. A policy that only "
        "reports is tried as well, with no effect.</p>{}</section>",
        assignment_rows(context, all));
}

Html versions_card(const Context& context, const std::vector<PolicyVersion>& policies,
                   const std::vector<Assignment>& assignments) {
    Html out;
    out.put("<section class=\"card\" aria-labelledby=\"versions\"><h2 id=\"versions\">Versions</h2>");
    if (policies.empty()) {
        return out.put(
            "{}</section>",
            empty_state("No policy yet", piece("An authority signs one with "
                                               "<code>policyctl sign-attestation-policy</code>; upload it below.")));
    }
    out.put(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Versions\"><table><thead><tr>"
        "<th scope=\"col\">Policy</th><th scope=\"col\">Groups</th><th scope=\"col\" class=\"wide\">Added</th>"
        "<th scope=\"col\" class=\"wide\">Address, SHA-256</th></tr></thead><tbody>");
    for (const PolicyVersion& one : policies) {
        Html groups;
        for (const Assignment& each : assignments) {
            if (each.policy != one.name || each.version != one.version) continue;
            groups.put("<span class=\"pair\">{} {}</span> ", each.group, stage_badge(each.stage));
        }
        if (groups.empty()) groups.put("<span class=\"quiet\">none</span>");
        out.put(
            "<tr><th scope=\"row\" class=\"name\"><a href=\"{}\">{}</a></th><td>{}</td><td class=\"wide\">{}</td>"
            "<td class=\"wide\">{}</td></tr>",
            url_of_policy(one.name, one.version), one.name + ":" + std::to_string(one.version), groups,
            moment(one.added, context.now), code(one.address));
    }
    return out.put("</tbody></table></div></section>");
}

Html assign_card(const Context& context, const std::vector<PolicyVersion>& policies) {
    Html out;
    if (!context.may(Role::kOperator) || policies.empty()) return out;
    std::vector<Choice> choices;
    for (const PolicyVersion& one : policies) {
        const std::string name = one.name + ":" + std::to_string(one.version);
        choices.push_back({name, name});
    }
    const std::vector<Choice> stages{{"report", "Report only: see what it would do"}, {"enforce", "Enforce"}};
    return out.put(
        "<section class=\"card\" aria-labelledby=\"assign-title\"><h2 id=\"assign-title\">Assign</h2>{}"
        "<label for=\"assign-policy\">Policy</label><select id=\"assign-policy\" name=\"policy\">{}</select>"
        "<label for=\"assign-group\">Group</label><select id=\"assign-group\" name=\"group\">{}</select>"
        "<label for=\"assign-stage\">Stage</label><select id=\"assign-stage\" name=\"stage\">{}</select>"
        "<button>Assign</button></form></section>",
        open_form(context, "assign", Url("/assignments/assign")), options(choices, context.kept("assign", "policy")),
        options(choices_of(context.service.groups(context.by)), context.kept("assign", "group")),
        options(stages, context.kept("assign", "stage")));
}

Html upload_card(const Context& context) {
    Html out;
    if (!context.may(Role::kOperator)) return out;
    return out.put(
        "<section class=\"card\" aria-labelledby=\"upload-title\">"
        "<h2 id=\"upload-title\">Upload a signed policy</h2>{}"
        "<label for=\"jws\">Signed policy (JWS, compact form)</label>"
        "<textarea id=\"jws\" name=\"jws\" rows=\"5\" required spellcheck=\"false\" class=\"mono\">{}</textarea>"
        "<p class=\"hint\">Accepted if a policy authority under "
        "<a href=\"/settings\">Settings</a> signed it. It has no effect until it is assigned.</p>"
        "<button>Upload</button></form></section>",
        open_form(context, "upload", Url("/policies")), Lines{context.kept("upload", "jws")});
}

struct Named {
    std::string policy;
    std::uint64_t version = 0;
};
// "laptops:7"
Named policy_of(const std::string& text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos) throw server::ServiceError(400, "policy", "Choose a policy.");
    return {text.substr(0, colon), number_of(text.substr(colon + 1), "version")};
}

}  // namespace

Response policies_page(Context& context) {
    const auto policies = context.service.policies(context.by);
    const auto assignments = context.service.assignments(context.by);
    Html out;
    out.put("{}{}<div class=\"two even\">{}{}</div>", assignments_card(context, assignments),
            versions_card(context, policies, assignments), assign_card(context, policies), upload_card(context));
    return whole_page(context, Section::kPolicies, "Policies", out);
}

Response policy_page(Context& context) {
    const PolicyVersion one =
        context.service.policy(context.by, context.parts[0], number_of(context.parts[1], "version"));
    auto assignments = context.service.assignments(context.by);
    std::erase_if(assignments,
                  [&](const Assignment& each) { return each.policy != one.name || each.version != one.version; });
    if (context.is_partial() && !assignments.empty()) {
        Response response;
        response.body = refused_list(context, assignments).text();
        return response;
    }
    Html out;
    out.put(
        "<section class=\"card\"><dl><dt>Added</dt><dd>{}</dd><dt>Address, SHA-256</dt><dd>{}</dd></dl></section>{}",
        moment(one.added, context.now), code(one.address), assignments_card(context, assignments));
    if (!assignments.empty()) out.add(effect_card(context, assignments));
    out.put(
        "<section class=\"card\" aria-labelledby=\"text\"><h2 id=\"text\">Text</h2><pre tabindex=\"0\">{}</pre>"
        "<details><summary>As signed (JWS)</summary><pre class=\"wrap\" tabindex=\"0\">{}</pre></details></section>",
        Lines{indented(one.json)}, one.jws);
    return whole_page(context, Section::kPolicies, one.name + ":" + std::to_string(one.version), out);
}

// What a change of an assignment would do, before it is made.
Response assignment_page(Context& context) {
    // Of the query; of the form, if it was refused.
    const auto value = [&](const char* name) {
        return context.request.method == "POST" ? context.field(name) : context.query(name);
    };
    const std::string group = value("group"), policy = value("policy"), to = value("to");
    const std::uint64_t version = number_of(value("version"), "version");
    const auto all = context.service.assignments(context.by);
    const auto found = std::ranges::find_if(all, [&](const Assignment& one) {
        return one.group == group && one.policy == policy && one.version == version;
    });
    if (found == all.end()) throw server::ServiceError(404, "not_found", "This policy is not assigned to this group.");
    const bool only_one =
        found->stage == Stage::kEnforce && std::ranges::count_if(all, [&](const Assignment& one) {
                                               return one.group == group && one.stage == Stage::kEnforce;
                                           }) == 1;
    const bool enforce = to == "enforce", remove = to == "none";
    Html out;
    out.put("<section class=\"card narrow\"><p>{} · group {}</p>{}", name_of(*found), group, effect(*found));
    if (enforce) {
        out.put(
            "<p>Enforcing it accepts evidence that it accepts, beside what the group's other enforced policies "
            "accept. It refuses nothing that another one accepts.</p>");
    } else {
        out.put(
            "<p>Endpoints that only this policy accepts become untrusted: their leases end in a few minutes, and they "
            "are asked for new evidence.</p>");
    }
    if (only_one) {
        out.put(
            "<p class=\"error\">It is the only enforced policy of the group: all of its {} endpoints will be "
            "untrusted.</p>",
            grouped(found->covered));
    }
    out.put(
        "{}<input type=\"hidden\" name=\"group\" value=\"{}\"><input type=\"hidden\" name=\"policy\" value=\"{}\">"
        "<input type=\"hidden\" name=\"version\" value=\"{}\"><input type=\"hidden\" name=\"stage\" value=\"{}\">"
        "<input type=\"hidden\" name=\"to\" value=\"{}\"><div class=\"joined\"><button class=\"{}\">{}</button>"
        "<a class=\"button\" href=\"/policies\">Cancel</a></div></form></section>",
        open_form(context, "change", remove ? Url("/assignments/unassign") : Url("/assignments/assign")), group, policy,
        version, enforce ? "enforce" : "report", to, enforce ? "main" : "danger",
        enforce  ? "Enforce"
        : remove ? "Unassign"
                 : "Report only");
    return whole_page(context, Section::kPolicies,
                      enforce  ? "Enforce a policy"
                      : remove ? "Unassign a policy"
                               : "Report only",
                      out);
}

Response assign_policy(Context& context) {
    const bool confirmed = !context.field("to").empty();
    return act(context, confirmed ? "change" : "assign", confirmed ? assignment_page : policies_page, [&] {
        const Named named = confirmed ? Named{context.field("policy"), number_of(context.field("version"), "version")}
                                      : policy_of(context.field("policy"));
        const bool enforce = context.field("stage") == "enforce";
        context.service.assign(context.by, context.field("group"), named.policy, named.version,
                               enforce ? Stage::kEnforce : Stage::kReport);
        return Done{Url("/policies"),
                    {named.policy + ":" + std::to_string(named.version) +
                         (enforce ? " is enforced in " : " reports in ") + context.field("group") + ".",
                     ""}};
    });
}

Response unassign_policy(Context& context) {
    return act(context, "change", assignment_page, [&] {
        context.service.unassign(context.by, context.field("group"), context.field("policy"),
                                 number_of(context.field("version"), "version"));
        return Done{Url("/policies"), {"Unassigned from " + context.field("group") + ".", ""}};
    });
}

Response upload_policy(Context& context) {
    return act(context, "upload", policies_page, [&] {
        std::string jws = context.field("jws");
        std::erase_if(jws, [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; });
        const PolicyVersion added = context.service.add_policy(context.by, jws);
        return Done{url_of_policy(added.name, added.version),
                    {"The policy is here. It has no effect until it is assigned to a group.", ""}};
    });
}

}  // namespace gatehouse::web

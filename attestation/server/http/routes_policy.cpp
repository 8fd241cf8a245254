// Policies, who may sign them, groups, and which policy is for which group.
#include <charconv>
#include <nlohmann/json.hpp>

#include "attestation/server/http/body.hpp"
#include "attestation/server/http/records_json.hpp"
#include "attestation/server/http/router.hpp"

namespace gatehouse::http {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxPolicy = 2u << 20;
constexpr unsigned kPage = 50, kMostPage = 500;
constexpr const char* kAssignment = "/v1/assignments/{group}/{policy}/{version}";
constexpr const char* kRefused = "/v1/assignments/{group}/{policy}/{version}/refused";

std::uint64_t version_of(const std::string& text) {
    std::uint64_t version = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
    if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
        throw HttpError{404, "no_such_policy", "a policy's version is a number"};
    }
    return version;
}

Response list_policies(Call& call) {
    json rows = json::array();
    for (const auto& policy : call.service.policies(call.by)) rows.push_back(to_json(policy, false));
    return json_response({{"items", std::move(rows)}});
}

Response get_policy(Call& call) {
    return json_response(to_json(call.service.policy(call.by, call.parameter(0), version_of(call.parameter(1))), true));
}

Response add_policy(Call& call) {
    std::string_view jws = call.request.body;
    while (!jws.empty() && (jws.back() == '\n' || jws.back() == '\r' || jws.back() == ' ')) jws.remove_suffix(1);
    const auto added = call.service.add_policy(call.by, std::string(jws));
    Response answer = json_response(to_json(added, false), 201);
    answer.headers.emplace_back("Location", "/v1/policies/" + added.name + "/" + std::to_string(added.version));
    return answer;
}

Response put_authority(Call& call) {
    const JsonBody body(call.request.body, {"public_key"});
    call.service.add_policy_authority(call.by, call.parameter(0), body.text("public_key"));
    return no_content();
}

Response delete_authority(Call& call) {
    call.service.remove_policy_authority(call.by, call.parameter(0));
    return no_content();
}

Response list_authorities(Call& call) { return json_response({{"names", call.service.policy_authorities(call.by)}}); }

Response list_groups(Call& call) { return json_response({{"names", call.service.groups(call.by)}}); }

Response put_group(Call& call) {
    const JsonBody body(call.request.body, {});
    try {
        call.service.create_group(call.by, call.parameter(0));
    } catch (const server::ServiceError& error) {
        if (error.status() != 409) throw;  // it is there already: a PUT is content with that
    }
    return no_content();
}

Response list_assignments(Call& call) {
    json rows = json::array();
    for (const auto& assignment : call.service.assignments(call.by)) rows.push_back(to_json(assignment));
    return json_response({{"items", std::move(rows)}});
}

Response list_refused(Call& call) {
    server::RefusedQuery query;
    query.group = call.parameter(0);
    query.policy = call.parameter(1);
    query.version = version_of(call.parameter(2));
    query.search = call.query("search");
    query.cursor = call.query("cursor");
    query.limit = call.query_number("limit", kPage, kMostPage);
    const auto page = call.service.refused(call.by, query);
    json rows = json::array();
    for (const auto& row : page.rows) rows.push_back(to_json(row));
    return json_response({{"items", std::move(rows)}, {"next", page.next.empty() ? json(nullptr) : json(page.next)}});
}

Response put_assignment(Call& call) {
    const JsonBody body(call.request.body, {"stage"});
    const std::string stage = body.text("stage");
    if (stage != "report" && stage != "enforce") {
        throw HttpError{400, "bad_body", "\"stage\" is \"report\" or \"enforce\""};
    }
    call.service.assign(call.by, call.parameter(0), call.parameter(1), version_of(call.parameter(2)),
                        stage == "enforce" ? server::Stage::kEnforce : server::Stage::kReport);
    return no_content();
}

Response delete_assignment(Call& call) {
    call.service.unassign(call.by, call.parameter(0), call.parameter(1), version_of(call.parameter(2)));
    return no_content();
}

}  // namespace

std::vector<Route> policy_routes() {
    using enum Access;
    using enum BodyKind;
    const std::vector<const char*> searched{"search", "cursor", "limit"};
    // clang-format off
    return {
        {"GET", "/v1/policies", "listPolicies", kReadOnly, kNone, 0, {}, list_policies},
        {"POST", "/v1/policies", "addPolicy", kOperator, kJws, kMaxPolicy, {}, add_policy},
        {"GET", "/v1/policies/{name}/{version}", "getPolicy", kReadOnly, kNone, 0, {}, get_policy},
        {"GET", "/v1/policy-authorities", "listPolicyAuthorities", kReadOnly, kNone, 0, {}, list_authorities},
        {"DELETE", "/v1/policy-authorities/{name}", "deletePolicyAuthority", kAdmin, kNone, 0, {}, delete_authority},
        {"PUT", "/v1/policy-authorities/{name}", "putPolicyAuthority", kAdmin, kJson, kSmallBody, {}, put_authority},
        {"GET", "/v1/groups", "listGroups", kReadOnly, kNone, 0, {}, list_groups},
        {"PUT", "/v1/groups/{name}", "putGroup", kOperator, kOptionalJson, kSmallBody, {}, put_group},
        {"GET", "/v1/assignments", "listAssignments", kReadOnly, kNone, 0, {}, list_assignments},
        {"GET", kRefused, "listRefused", kReadOnly, kNone, 0, searched, list_refused},
        {"PUT", kAssignment, "putAssignment", kOperator, kJson, kSmallBody, {}, put_assignment},
        {"DELETE", kAssignment, "deleteAssignment", kOperator, kNone, 0, {}, delete_assignment},
    };
    // clang-format on
}

}  // namespace gatehouse::http

// Endpoints and enrollments, as operators see them.
#include <charconv>
#include <nlohmann/json.hpp>

#include "attestation/server/http/accept.hpp"
#include "attestation/server/http/body.hpp"
#include "attestation/server/http/records_json.hpp"
#include "attestation/server/http/router.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::http {
namespace {

using nlohmann::json;

constexpr unsigned kPage = 50, kMostPage = 500;

template <typename Record, typename... More>
Response page_response(const server::Page<Record>& page, More... more) {
    json rows = json::array();
    for (const auto& row : page.rows) rows.push_back(to_json(row, more...));
    return json_response({{"items", std::move(rows)}, {"next", page.next.empty() ? json(nullptr) : json(page.next)}});
}

Response list_endpoints(Call& call) {
    server::EndpointQuery query;
    query.search = call.query("search");
    query.group = call.query("group");
    query.cursor = call.query("cursor");
    query.limit = call.query_number("limit", kPage, kMostPage);
    if (const auto state = call.query("state"); !state.empty()) {
        query.state = server::state_of(state);
        if (!query.state) {
            throw HttpError{400, "bad_query", "state: one of new, trusted, unmeasured, untrusted, stale, retired"};
        }
    }
    return page_response(call.service.endpoints(call.by, query));
}

Response endpoint_response(Call& call) {
    const server::Endpoint endpoint = call.service.endpoint(call.by, call.parameter(0));
    nlohmann::json out = to_json(endpoint);
    out["endorsements"] = nlohmann::json::array();
    for (const server::Endorsement& one : call.service.endorsements(call.by, endpoint.id))
        out["endorsements"].push_back(to_json(one));
    return json_response(out);
}

Response get_endpoint(Call& call) { return endpoint_response(call); }

Response change_endpoint(Call& call) {
    const JsonBody body(call.request.body, {"group"});
    call.service.move_to_group(call.by, call.parameter(0), body.text("group"));
    return endpoint_response(call);
}

Response retire(Call& call) {
    const JsonBody body(call.request.body, {"reason"});
    call.service.retire(call.by, call.parameter(0), body.text_or("reason", ""));
    return no_content();
}

Response attest_now(Call& call) {
    const JsonBody body(call.request.body, {});
    call.service.request_attestation(call.by, call.parameter(0));
    Response answer = json_response(json::object(), 202);
    return answer;
}

Response history(Call& call) {
    return page_response(call.service.history(call.by, call.parameter(0), call.query("cursor"),
                                              call.query_number("limit", kPage, kMostPage)),
                         false);
}

Response last_attestation(Call& call) {
    if (const auto wanted = wanted_result(call.request.header("accept"))) {
        const auto result = call.service.last_result(call.by, call.parameter(0), wanted->profile, wanted->form);
        if (!result) throw HttpError{404, "no_attestation", "this endpoint has sent no evidence yet"};
        Response answer;
        answer.content_type = formats::result_media_type(wanted->profile, wanted->form);
        answer.body.assign(reinterpret_cast<const char*>(result->data()), result->size());
        answer.headers.emplace_back("Vary", "Accept");
        return answer;
    }
    auto last = call.service.last_attestation(call.by, call.parameter(0));
    if (!last) throw HttpError{404, "no_attestation", "this endpoint has sent no evidence yet"};
    last->result.clear();
    try {
        const auto result = call.service.last_result(call.by, call.parameter(0), formats::ResultProfile::kGatehouse,
                                                     formats::ResultForm::kJwt);
        if (result) last->result.assign(reinterpret_cast<const char*>(result->data()), result->size());
    } catch (const server::ServiceError& error) {
        if (error.status() != 410) throw;  // else it is not true any more
    }
    return json_response(to_json(*last, true));
}

Response explain(Call& call) {
    const std::string policy = call.query("policy"), text = call.query("version");
    std::uint64_t version = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
    if (policy.empty() || text.empty() || error != std::errc() || end != text.data() + text.size()) {
        throw HttpError{400, "bad_query", "give policy=NAME and version=NUMBER"};
    }
    return json_response({{"differences", call.service.explain(call.by, call.parameter(0), policy, version)}});
}

Response escrow_names(Call& call) {
    return json_response({{"names", call.service.escrow_names(call.by, call.parameter(0))}});
}

Response get_escrow(Call& call) {
    const auto blob = call.service.get_escrow(call.by, call.parameter(0), call.parameter(1));
    return json_response({{"name", call.parameter(1)}, {"blob", verifier::base64(blob)}});
}

Response delete_escrow(Call& call) {
    call.service.remove_escrow(call.by, call.parameter(0), call.parameter(1));
    return no_content();
}

Response list_enrollments(Call& call) {
    return page_response(call.service.enrollments(call.by, call.query("state"), call.query("cursor"),
                                                  call.query_number("limit", kPage, kMostPage)));
}

// Two may ask: the enrolling endpoint, by the secret that it activated, and operators.
Response get_enrollment(Call& call) {
    if (!call.by.name.empty()) return json_response(to_json(call.service.enrollment(call.by, call.parameter(0))));
    const auto field = call.request.header("authorization");
    const auto secret = verifier::from_base64(field.substr(field.find(' ') + 1));
    if (!secret) throw HttpError{401, "bad_secret", "send Authorization: Enrollment BASE64(the activated secret)"};
    Response answer;
    answer.body = protocol::to_json(call.service.enrollment_status(call.parameter(0), *secret));
    return answer;
}

Response approve(Call& call) {
    const JsonBody body(call.request.body, {"group"});
    call.service.approve(call.by, call.parameter(0), body.text("group"));
    return json_response(to_json(call.service.enrollment(call.by, call.parameter(0))));
}

Response reject(Call& call) {
    const JsonBody body(call.request.body, {"reason"});
    call.service.reject(call.by, call.parameter(0), body.text_or("reason", ""));
    return no_content();
}

Response counts(Call& call) { return json_response(to_json(call.service.counts(call.by))); }

Response time_line(Call& call) {
    json points = json::array();
    for (const auto& point : call.service.time_line(call.by, call.query_number("hours", 24, 24 * 90))) {
        points.push_back({{"hour", point.hour},
                          {"trusted", point.trusted},
                          {"unmeasured", point.unmeasured},
                          {"untrusted", point.untrusted}});
    }
    return json_response({{"hours", std::move(points)}});
}

}  // namespace

std::vector<Route> fleet_routes() {
    using enum Access;
    using enum BodyKind;
    const std::vector<const char*> searched{"search", "state", "group", "cursor", "limit"};
    const std::vector<const char*> of_state{"state", "cursor", "limit"}, paged{"cursor", "limit"};
    // clang-format off
    return {
        {"GET", "/v1/endpoints", "listEndpoints", kReadOnly, kNone, 0, searched, list_endpoints},
        {"GET", "/v1/endpoints/{id}", "getEndpoint", kReadOnly, kNone, 0, {}, get_endpoint},
        {"PATCH", "/v1/endpoints/{id}", "changeEndpoint", kOperator, kJson, kSmallBody, {}, change_endpoint},
        {"POST", "/v1/endpoints/{id}/retire", "retireEndpoint", kOperator, kOptionalJson, kSmallBody, {}, retire},
        {"POST", "/v1/endpoints/{id}/attest-now", "attestNow", kOperator, kOptionalJson, kSmallBody, {}, attest_now},
        {"GET", "/v1/endpoints/{id}/attestations", "listAttestations", kReadOnly, kNone, 0, paged, history},
        {"GET", "/v1/endpoints/{id}/attestations/last", "lastAttestation", kReadOnly, kNone, 0, {}, last_attestation},
        {"GET", "/v1/endpoints/{id}/explain", "explain", kReadOnly, kNone, 0, {"policy", "version"}, explain},
        {"GET", "/v1/endpoints/{id}/escrow", "listEscrow", kOperator, kNone, 0, {}, escrow_names},
        {"GET", "/v1/endpoints/{id}/escrow/{name}", "getEscrow", kAdmin, kNone, 0, {}, get_escrow},
        {"DELETE", "/v1/endpoints/{id}/escrow/{name}", "deleteEscrow", kAdmin, kNone, 0, {}, delete_escrow},
        {"GET", "/v1/enrollments", "listEnrollments", kReadOnly, kNone, 0, of_state, list_enrollments},
        {"GET", "/v1/enrollments/{id}", "getEnrollment", kEnrollment, kNone, 0, {}, get_enrollment},
        {"POST", "/v1/enrollments/{id}/approve", "approveEnrollment", kOperator, kJson, kSmallBody, {}, approve},
        {"POST", "/v1/enrollments/{id}/reject", "rejectEnrollment", kOperator, kOptionalJson, kSmallBody, {}, reject},
        {"GET", "/v1/counts", "counts", kReadOnly, kNone, 0, {}, counts},
        {"GET", "/v1/time-line", "timeLine", kReadOnly, kNone, 0, {"hours"}, time_line},
    };
    // clang-format on
}

}  // namespace gatehouse::http

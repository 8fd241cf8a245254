// Tokens, vendors, endorsements, actions, the audit log.
#include <nlohmann/json.hpp>

#include "attestation/server/http/body.hpp"
#include "attestation/server/http/records_json.hpp"
#include "attestation/server/http/router.hpp"

namespace gatehouse::http {
namespace {

using nlohmann::json;

constexpr std::int64_t kMostLifetime = 10ll * 366 * 86400;
constexpr std::size_t kExportPiece = 64u << 10;

Response list_tokens(Call& call) {
    json rows = json::array();
    for (const auto& token : call.service.tokens(call.by)) rows.push_back(to_json(token));
    return json_response({{"items", std::move(rows)}});
}

Response create_token(Call& call) {
    const JsonBody body(call.request.body, {"name", "role", "lifetime_s"});
    const auto role = server::role_of(body.text("role"));
    if (!role) throw HttpError{400, "bad_body", "\"role\" is \"read-only\", \"operator\" or \"admin\""};
    const std::string name = body.text("name");
    const auto token = call.service.create_token(call.by, name, *role, body.number_or("lifetime_s", 0, kMostLifetime));
    return json_response({{"name", name}, {"role", name_of(*role)}, {"token", token}}, 201);
}

Response delete_token(Call& call) {
    call.service.revoke_token(call.by, call.parameter(0));
    return no_content();
}

Response make_enrollment_token(Call& call) {
    const JsonBody body(call.request.body, {"group", "lifetime_s"});
    const std::string group = body.text("group");
    const auto lifetime = body.number_or("lifetime_s", 86400, kMostLifetime);
    return json_response({{"group", group}, {"token", call.service.create_enrollment_token(call.by, group, lifetime)}},
                         201);
}

Response put_endorsement(Call& call) {
    const JsonBody body(call.request.body, {"group"});
    call.service.register_endorsement(call.by, call.parameter(0), body.text("group"));
    return no_content();
}

Response list_vendors(Call& call) { return json_response({{"names", call.service.vendors(call.by)}}); }

Response show_vendor(Call& call) {
    const auto vendor = call.service.vendor(call.by, call.parameter(0));
    json cas = json::array();
    for (const auto& one : vendor.cas) {
        cas.push_back({{"kind", one.root ? "root" : "intermediate"},
                       {"subject", one.subject},
                       {"sha256", one.sha256},
                       {"not_before", one.from},
                       {"not_after", one.to}});
    }
    return json_response({{"name", vendor.name}, {"require_crl", vendor.require_crl}, {"cas", std::move(cas)}});
}

Response put_vendor(Call& call) {
    const JsonBody body(call.request.body, {"roots", "intermediates", "revocations", "require_crl"});
    const auto all = [&body](const char* name) { return body.blobs(name, verifier::kMaxVendorItems); };
    const auto passed_over = call.service.add_vendor(call.by, {.name = call.parameter(0),
                                                               .roots = all("roots"),
                                                               .intermediates = all("intermediates"),
                                                               .revocations = all("revocations"),
                                                               .require_crl = body.flag_or("require_crl", false)});
    return passed_over.empty() ? no_content() : json_response({{"passed_over", passed_over}});
}

Response delete_vendor(Call& call) {
    call.service.remove_vendor(call.by, call.parameter(0));
    return no_content();
}

Response list_crls(Call& call) { return json_response(to_json(call.service.crls(call.by))); }

Response fetch_crls(Call& call) {
    call.service.hurry_crls(call.by);
    return no_content();
}

Response list_actions(Call& call) {
    json rows = json::array();
    for (const auto& action : call.service.actions(call.by)) {
        rows.push_back({{"name", action.name}, {"kind", action.kind}, {"target", action.target}});
    }
    return json_response({{"items", std::move(rows)}});
}

Response put_action(Call& call) {
    const JsonBody body(call.request.body, {"kind", "target", "secret"});
    call.service.add_action(call.by, {.name = call.parameter(0),
                                      .kind = body.text("kind"),
                                      .target = body.text("target"),
                                      .secret = body.text_or("secret", "")});
    return no_content();
}

Response delete_action(Call& call) {
    call.service.remove_action(call.by, call.parameter(0));
    return no_content();
}

Response rotate_result_key(Call& call) {
    return json_response({{"kid", call.service.rotate_result_key(call.by)}}, 201);
}

Response rotate_connection_keys(Call& call) {
    call.service.rotate_connection_keys(call.by);
    return no_content();
}

Response list_audit(Call& call) {
    const auto page = call.service.audit(call.by, call.query("cursor"), call.query_number("limit", 50, 500));
    json rows = json::array();
    for (const auto& entry : page.rows) rows.push_back(to_json(entry));
    return json_response({{"items", std::move(rows)}, {"next", page.next.empty() ? json(nullptr) : json(page.next)}});
}

Response verify_audit(Call& call) {
    const auto turn = call.service.audit_turn();
    return json_response(to_json(call.service.verify_audit()));
}

Response export_audit(Call& call) {
    Response answer;
    answer.content_type = "application/x-ndjson";
    answer.stream = [service = &call.service,
                     turn = call.service.audit_turn()](const std::function<void(std::string_view)>& sink) {
        std::string piece;
        service->export_audit([&](const server::AuditEntry& entry) {
            piece += to_json(entry).dump(-1, ' ', false, json::error_handler_t::replace);
            piece += '\n';
            if (piece.size() < kExportPiece) return;
            sink(piece);
            piece.clear();
        });
        if (!piece.empty()) sink(piece);
    };
    return answer;
}

}  // namespace

std::vector<Route> administration_routes() {
    using enum Access;
    using enum BodyKind;
    // clang-format off
    return {
        {"GET", "/v1/tokens", "listTokens", kAdmin, kNone, 0, {}, list_tokens},
        {"POST", "/v1/tokens", "createToken", kAdmin, kJson, kSmallBody, {}, create_token},
        {"DELETE", "/v1/tokens/{name}", "deleteToken", kAdmin, kNone, 0, {}, delete_token},
        {"POST", "/v1/enrollment-tokens", "createEnrollmentToken", kOperator, kJson, kSmallBody, {}, make_enrollment_token},
        {"PUT", "/v1/endorsements/{ek_hash}", "putEndorsement", kOperator, kJson, kSmallBody, {}, put_endorsement},
        {"GET", "/v1/vendors", "listVendors", kReadOnly, kNone, 0, {}, list_vendors},
        {"GET", "/v1/vendors/{name}", "getVendor", kReadOnly, kNone, 0, {}, show_vendor},
        {"PUT", "/v1/vendors/{name}", "putVendor", kAdmin, kJson, kLargeBody, {}, put_vendor},
        {"DELETE", "/v1/vendors/{name}", "deleteVendor", kAdmin, kNone, 0, {}, delete_vendor},
        {"GET", "/v1/crls", "listCrls", kReadOnly, kNone, 0, {}, list_crls},
        {"POST", "/v1/crls/fetch", "fetchCrls", kOperator, kOptionalJson, kSmallBody, {}, fetch_crls},
        {"GET", "/v1/actions", "listActions", kAdmin, kNone, 0, {}, list_actions},
        {"PUT", "/v1/actions/{name}", "putAction", kAdmin, kJson, kSmallBody, {}, put_action},
        {"DELETE", "/v1/actions/{name}", "deleteAction", kAdmin, kNone, 0, {}, delete_action},
        {"POST", "/v1/result-key/rotation", "rotateResultKey", kAdmin, kOptionalJson, kSmallBody, {}, rotate_result_key},
        {"POST", "/v1/connection-key/rotation", "rotateConnectionKeys", kAdmin, kOptionalJson, kSmallBody, {}, rotate_connection_keys},
        {"GET", "/v1/audit", "listAudit", kReadOnly, kNone, 0, {"cursor", "limit"}, list_audit},
        {"GET", "/v1/audit/verify", "verifyAudit", kReadOnly, kNone, 0, {}, verify_audit},
        {"GET", "/v1/audit/export", "exportAudit", kReadOnly, kNone, 0, {}, export_audit},
    };
    // clang-format on
}

}  // namespace gatehouse::http

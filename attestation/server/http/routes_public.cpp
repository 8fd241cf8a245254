// What anyone may read: health, keys, the revocation list, the description of this interface.
#include <nlohmann/json.hpp>

#include "attestation/server/http/body.hpp"
#include "attestation/server/http/openapi.hpp"
#include "attestation/server/http/router.hpp"

namespace gatehouse::http {
namespace {

constexpr const char* kPem = "application/x-pem-file";

Response healthz(Call& call) {
    const bool healthy = call.service.healthy();
    return json_response({{"status", healthy ? "ok" : "database does not answer"}}, healthy ? 200 : 503);
}

Response openapi(Call& call) {
    return cacheable(call.request, "application/vnd.oai.openapi+json", std::string(openapi_document()));
}

Response ca(Call& call) { return cacheable(call.request, kPem, call.service.ca_certificate()); }

Response result_key(Call& call) { return cacheable(call.request, kPem, call.service.result_key()); }

Response jwks(Call& call) { return cacheable(call.request, "application/jwk-set+json", call.service.result_jwks()); }

Response revocations(Call& call) {
    Response answer;
    answer.content_type = "application/jose";
    answer.body = call.service.revocation_list();
    return answer;
}

}  // namespace

std::vector<Route> public_routes() {
    using enum Access;
    using enum BodyKind;
    // clang-format off
    return {
        {"GET", "/healthz",         "health",      kPublic,  kNone, 0, {}, healthz},
        {"GET", "/metrics",         "metrics",     kMetrics, kNone, 0, {}, nullptr},
        {"GET", "/v1/openapi.json", "openapi",     kPublic,  kNone, 0, {}, openapi},
        {"GET", "/v1/ca",           "ca",          kPublic,  kNone, 0, {}, ca},
        {"GET", "/v1/result-key",   "resultKey",   kPublic,  kNone, 0, {}, result_key},
        {"GET", "/.well-known/jwks.json", "resultKeySet", kPublic, kNone, 0, {}, jwks},
        {"GET", "/v1/revocations",  "revocations", kPublic,  kNone, 0, {}, revocations},
    };
    // clang-format on
}

}  // namespace gatehouse::http

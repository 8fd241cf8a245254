// What an endpoint's agent calls: protocol/messages.hpp.
#include <nlohmann/json.hpp>

#include "attestation/protocol/messages.hpp"
#include "attestation/server/http/body.hpp"
#include "attestation/server/http/router.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::http {
namespace {

constexpr std::size_t kMaxEscrowBody = 96u << 10;  // 64 KiB in base64

Response text_response(std::string body, unsigned status = 200) {
    Response answer;
    answer.status = status;
    answer.body = std::move(body);
    return answer;
}

Response enroll(Call& call) {
    const auto request = protocol::parse<protocol::EnrollRequest>(call.request.body);
    return text_response(protocol::to_json(call.service.enroll(request)), 201);
}

Response activate(Call& call) {
    const auto request = protocol::parse<protocol::ActivationRequest>(call.request.body);
    return text_response(protocol::to_json(call.service.activate(call.parameter(0), request.secret)));
}

Response nonce(Call& call) { return text_response(protocol::to_json(call.service.nonce(call.endpoint))); }

Response attest(Call& call) {
    const auto request = protocol::parse<protocol::AttestRequest>(call.request.body);
    return text_response(protocol::to_json(call.service.attest(call.endpoint, request)));
}

Response wanted(Call& call) {
    if (call.service.wanted(call.endpoint)) return json_response({{"attest", true}});
    Response answer;
    answer.wait_for_endpoint = call.endpoint;
    return answer;
}

Response connection_key(Call& call) {
    const Peer& peer = *call.request.peer;
    const auto keys = call.service.connection_keys();
    // They may have been replaced since this request was let in: who came by one of before gets none of these.
    if (peer.connection_secret && *peer.connection_secret != keys->secret_name())
        throw HttpError{401, "connection_key_refused",
                        "connection keys have been replaced: connect with the certificate"};
    return text_response(protocol::to_json(keys->issue(*peer.certificate, peer.certificate_ends, call.service.now())));
}

Response renew_certificate(Call& call) {
    // Who has found a connection key does not get a certificate by it.
    if (call.request.peer->connection_secret) {
        throw HttpError{401, "certificate_needed", "this needs a connection that the client certificate has opened"};
    }
    const JsonBody body(call.request.body, {"csr"});
    return json_response({{"certificate", call.service.renew_certificate(call.endpoint, body.text("csr"))}});
}

Response put_escrow(Call& call) {
    call.service.put_escrow(call.endpoint, protocol::parse<protocol::EscrowRequest>(call.request.body));
    return no_content();
}

}  // namespace

std::vector<Route> endpoint_routes() {
    using enum Access;
    using enum BodyKind;
    // clang-format off
    return {
        {"POST", "/v1/attestations", "attest", kEndpoint, kJson, protocol::kMaxBody, {}, attest},
        {"POST", "/v1/attestations/nonce", "nonce", kEndpoint, kOptionalJson, kSmallBody, {}, nonce},
        {"GET",  "/v1/attestations/wanted", "wanted", kEndpoint, kNone, 0, {}, wanted},
        {"POST", "/v1/connection-key", "connectionKey", kEndpoint, kOptionalJson, kSmallBody, {}, connection_key},
        {"POST", "/v1/certificate", "renewCertificate", kEndpoint, kJson, kSmallBody, {}, renew_certificate},
        {"PUT",  "/v1/escrow", "putEscrow", kEndpoint, kJson, kMaxEscrowBody, {}, put_escrow},
        {"POST", "/v1/enrollments", "enroll", kPublic,   kJson, protocol::kMaxBody, {}, enroll},
        {"POST", "/v1/enrollments/{id}/activation", "activate", kPublic,   kJson, kSmallBody, {}, activate},
    };
    // clang-format on
}

}  // namespace gatehouse::http

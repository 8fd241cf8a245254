#include "attestation/protocol/messages.hpp"

#include <limits>

#include "attestation/protocol/fields.hpp"

namespace gatehouse::protocol {
namespace {

// Sizes in bytes, after base64. Generous: what they are for is that no field fills the memory.
constexpr Limits kId{1, 64};
constexpr Limits kHostname{1, 253};
constexpr Limits kCertificate{0, 16384};
constexpr Limits kPublicArea{1, 2048};
constexpr Limits kCredential{1, 2048};
constexpr Limits kSecret{1, 64};
constexpr Limits kNonce{16, 64};
constexpr Limits kConnectionIdentity{1, 256};
constexpr Limits kConnectionKey{32, 32};
constexpr Limits kQuote{0, 4096};
constexpr Limits kClaims{0, 4096};
constexpr Limits kPcrValues{0, 16384};
constexpr Limits kLog{0, kMaxBody};
constexpr Limits kBlob{1, 65536};
constexpr Limits kName{1, 64};
constexpr std::size_t kMaxChain = 256;
constexpr std::size_t kMaxFailures = kMaxElements;
constexpr std::size_t kMaxIdentityKeys = 2;
constexpr auto kIdentityKeys = "identity_keys";

constexpr std::uint64_t kMaxSeconds = std::numeric_limits<unsigned>::max();
constexpr std::uint64_t kMaxTime = 253'402'300'799;  // the last second of the year 9999

constexpr auto kHypervisor = "hypervisor";
constexpr auto kTpm = "tpm";

unsigned seconds(const Fields& fields, std::string_view name) {
    return static_cast<unsigned>(fields.number(name, kMaxSeconds));
}

bool is_name(std::string_view text) {
    return text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string_view::npos;
}

}  // namespace

std::string to_json(const EnrollRequest& message) {
    return FieldWriter()
        .text("hostname", message.hostname)
        .text("source", message.source)
        .binary("ek_certificate", message.ek_certificate)
        .binaries("ek_chain", message.ek_chain)
        .binary("ek_public", message.ek_public)
        .binary("ak_public", message.ak_public)
        .text("csr", message.csr)
        .text("token", message.token)
        .binaries("identity_keys", message.identity_keys)
        .binary("identity_attest", message.identity_attest)
        .binary("identity_signature", message.identity_signature)
        .finish();
}

template <>
EnrollRequest parse<EnrollRequest>(std::string_view body) {
    const Fields fields(body, "enrollment request");
    const auto optional = [&fields](std::string_view name) {
        return fields.has(name) ? fields.binary(name, kQuote) : Buffer{};
    };
    return {.hostname = fields.text("hostname", kHostname),
            .source = fields.one_of("source", {kHypervisor, kTpm}),
            .ek_certificate = fields.binary("ek_certificate", kCertificate),
            .ek_chain = fields.binaries("ek_chain", kMaxChain, kCertificate),
            .ek_public = fields.binary("ek_public", kPublicArea),
            .ak_public = fields.binary("ak_public", kPublicArea),
            .csr = fields.text("csr"),
            .token = fields.text("token"),
            .identity_keys = fields.has(kIdentityKeys) ? fields.binaries(kIdentityKeys, kMaxIdentityKeys, kPublicArea)
                                                       : std::vector<Buffer>{},
            .identity_attest = optional("identity_attest"),
            .identity_signature = optional("identity_signature")};
}

std::string to_json(const EnrollChallenge& message) {
    return FieldWriter()
        .text("id", message.id)
        .binary("credential_blob", message.credential_blob)
        .binary("secret", message.secret)
        .number("expires_s", message.expires_s)
        .finish();
}

template <>
EnrollChallenge parse<EnrollChallenge>(std::string_view body) {
    const Fields fields(body, "enrollment challenge");
    return {.id = fields.text("id", kId),
            .credential_blob = fields.binary("credential_blob", kCredential),
            .secret = fields.binary("secret", kCredential),
            .expires_s = seconds(fields, "expires_s")};
}

std::string to_json(const ActivationRequest& message) {
    return FieldWriter().binary("secret", message.secret).finish();
}

template <>
ActivationRequest parse<ActivationRequest>(std::string_view body) {
    const Fields fields(body, "activation request");
    return {.secret = fields.binary("secret", kSecret)};
}

std::string to_json(const EnrollStatus& message) {
    FieldWriter out;
    out.text("state", message.state);
    if (message.state == "approved") {
        out.text("endpoint_id", message.endpoint_id).text("certificate", message.certificate);
    }
    const bool is_told = message.state == "rejected" || (message.state == "waiting" && !message.reason.empty());
    if (is_told) out.text("reason", message.reason);
    return out.finish();
}

template <>
EnrollStatus parse<EnrollStatus>(std::string_view body) {
    const Fields fields(body, "enrollment status");
    EnrollStatus status{.state = fields.one_of("state", {"waiting", "approved", "rejected"}),
                        .endpoint_id = {},
                        .certificate = {},
                        .reason = {}};
    if (status.state == "approved") {
        status.endpoint_id = fields.text("endpoint_id", kId);
        status.certificate = fields.text("certificate", {1, kMaxText});
    }
    if (status.state == "rejected" || (status.state == "waiting" && fields.has("reason")))
        status.reason = fields.text("reason");
    return status;
}

std::string to_json(const NonceAnswer& message) {
    return FieldWriter().binary("nonce", message.nonce).number("expires_s", message.expires_s).finish();
}

template <>
NonceAnswer parse<NonceAnswer>(std::string_view body) {
    const Fields fields(body, "nonce");
    return {.nonce = fields.binary("nonce", kNonce), .expires_s = seconds(fields, "expires_s")};
}

std::string to_json(const AttestRequest& message) {
    return FieldWriter()
        .text("source", message.source)
        .binary("nonce", message.nonce)
        .binary("quote", message.quote)
        .binary("signature", message.signature)
        .binary("claims", message.claims)
        .binary("event_log", message.event_log)
        .binary("pcr_values", message.pcr_values)
        .finish();
}

template <>
AttestRequest parse<AttestRequest>(std::string_view body) {
    const Fields fields(body, "attestation request");
    return {.source = fields.one_of("source", {kHypervisor, kTpm}),
            .nonce = fields.binary("nonce", kNonce),
            .quote = fields.binary("quote", kQuote),
            .signature = fields.binary("signature", kQuote),
            .claims = fields.binary("claims", kClaims),
            .event_log = fields.binary("event_log", kLog),
            .pcr_values = fields.binary("pcr_values", kPcrValues)};
}

std::string to_json(const AttestAnswer& message) {
    // Whoever reads it refuses what is too long: a log with ten thousand faults must not make the answer unreadable.
    std::vector<std::string> failures;
    for (const auto& failure : message.failures) {
        if (failures.size() == kMaxFailures) break;
        failures.push_back(failure.substr(0, kMaxText / 4));
    }
    return FieldWriter()
        .text("verdict", message.verdict)
        .text("result", message.result)
        .number("lease_until", message.lease_until)
        .number("next_s", message.next_s)
        .binary("next_nonce", message.next_nonce)
        .texts("failures", failures)
        .finish();
}

template <>
AttestAnswer parse<AttestAnswer>(std::string_view body) {
    const Fields fields(body, "attestation answer");
    return {.verdict = fields.one_of("verdict", {"trusted", "unmeasured", "untrusted"}),
            .result = fields.text("result", {1, kMaxResult}),
            .lease_until = static_cast<long>(fields.number("lease_until", kMaxTime)),
            .next_s = seconds(fields, "next_s"),
            .next_nonce = fields.binary("next_nonce", {0, kNonce.most}),
            .failures = fields.texts("failures", kMaxFailures, {0, kMaxText})};
}

std::string to_json(const ConnectionKey& message) {
    return FieldWriter()
        .binary("identity", message.identity)
        .binary("key", message.key)
        .number("ends", message.ends)
        .finish();
}

template <>
ConnectionKey parse<ConnectionKey>(std::string_view body) {
    const Fields fields(body, "connection key");
    return {.identity = fields.binary("identity", kConnectionIdentity),
            .key = fields.binary("key", kConnectionKey),
            .ends = static_cast<long>(fields.number("ends", kMaxTime))};
}

std::string to_json(const EscrowRequest& message) {
    return FieldWriter().text("name", message.name).binary("blob", message.blob).finish();
}

template <>
EscrowRequest parse<EscrowRequest>(std::string_view body) {
    const Fields fields(body, "escrow request");
    EscrowRequest request{.name = fields.text("name", kName), .blob = fields.binary("blob", kBlob)};
    if (!is_name(request.name)) {
        throw MessageError("escrow request: 'name' may only have a to z, 0 to 9, '.', '_' and '-'");
    }
    return request;
}

}  // namespace gatehouse::protocol

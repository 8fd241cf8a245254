// What the agent and the server say to each other: JSON over HTTPS, one structure for each body, both
// directions parsed as hostile. Binary fields are base64 (RFC 4648, 4). An unknown member is ignored, a
// missing or ill-typed one is a MessageError that names it. Limits: kMaxBody for the whole body, kMaxText for
// each text field.
//
//   POST /v1/enrollments                 EnrollRequest -> 201 EnrollChallenge      no client certificate
//   POST /v1/enrollments/ID/activation   ActivationRequest -> EnrollStatus
//   GET  /v1/enrollments/ID              -> EnrollStatus
//                                        Authorization: Enrollment BASE64(the activated secret)
//
// with the client certificate that EnrollStatus brings:
//
//   POST /v1/attestations/nonce          {} -> NonceAnswer
//   POST /v1/attestations                AttestRequest -> AttestAnswer
//   GET  /v1/attestations/wanted         200 {"attest": true} as soon as an operator asks for evidence;
//                                        204 after 50 s
//   POST /v1/connection-key              {} -> ConnectionKey, by which later connections may be opened instead
//   POST /v1/certificate                 {"csr": PEM} -> {"certificate": PEM}: a new one before the old one ends; only
//                                        on a connection that the certificate itself has opened
//   PUT  /v1/escrow                      EscrowRequest -> 204; a recovery blob, opaque to the server
//
// Every error: status 4xx or 5xx, {"error": {"code": "short_name", "message": "what, where, what to do"}};
// 429 and 503 carry Retry-After in seconds.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::protocol {

using host::Buffer;

inline constexpr std::size_t kMaxBody = 2u << 20;  // a firmware's event log can be large
inline constexpr std::size_t kMaxText = 8192;
inline constexpr std::size_t kMaxResult = 262144;  // AttestAnswer::result
inline constexpr std::size_t kNonceSize = 32;
inline constexpr std::size_t kActivationSecretSize = 32;

class MessageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

struct EnrollRequest {
    std::string hostname;  // 1 to 253 characters, any: an endpoint may lie and may attack
    std::string source;    // "hypervisor" or "tpm"
    Buffer ek_certificate;
    std::vector<Buffer> ek_chain;
    Buffer ek_public;   // TPMT_PUBLIC; servers take TPM2B_PUBLIC as well, of either key
    Buffer ak_public;   // TPMT_PUBLIC
    std::string csr;    // PEM, PKCS #10; P-256; its subject is not used
    std::string token;  // one-time enrollment token, may be empty
    // Which TPM it is, whatever EK it shows (IdentityEvidence of verifier/tpm_identity.hpp). All empty, or not there, as
    // agents before this version send it: nothing is shown, and a token alone does not let in a TPM that is not known.
    std::vector<Buffer> identity_keys;
    Buffer identity_attest, identity_signature;
};
struct EnrollChallenge {
    std::string id;
    Buffer credential_blob;  // TPM2B_ID_OBJECT
    Buffer secret;           // TPM2B_ENCRYPTED_SECRET
    unsigned expires_s = 0;
};
struct ActivationRequest {
    Buffer secret;  // what TPM2_ActivateCredential gave
};
struct EnrollStatus {
    std::string state;        // "waiting" for an operator, "approved", "rejected"
    std::string endpoint_id;  // with "approved"
    std::string certificate;  // PEM, with "approved"
    std::string reason;       // with "rejected", and perhaps with "waiting": why nothing approved it by itself
};
struct NonceAnswer {
    Buffer nonce;
    unsigned expires_s = 0;
};
struct AttestRequest {
    std::string source;
    Buffer nonce;
    Buffer quote, signature, claims, event_log, pcr_values;  // verifier::Evidence
};
struct AttestAnswer {
    std::string verdict;                // "trusted", "unmeasured", "untrusted"
    std::string result;                 // EAT, JWS; at most kMaxResult
    long lease_until = 0;               // seconds since the epoch
    unsigned next_s = 0;                // when the server would like the next evidence
    Buffer next_nonce;                  // saves a round trip if the next evidence comes before it expires
    std::vector<std::string> failures;  // details of the findings that do not hold
};
// An external pre-shared key of TLS 1.3 (RFC 8446, 4.2.11) for TLS_AES_256_GCM_SHA384, with (EC)DHE.
struct ConnectionKey {
    Buffer identity;  // opaque to the client; goes over the network in clear
    Buffer key;       // 32 bytes
    long ends = 0;    // seconds since the epoch
};
struct EscrowRequest {
    std::string name;  // [a-z0-9._-]{1,64}
    Buffer blob;       // at most 64 KiB
};

[[nodiscard]] std::string to_json(const EnrollRequest& message);
[[nodiscard]] std::string to_json(const EnrollChallenge& message);
[[nodiscard]] std::string to_json(const ActivationRequest& message);
[[nodiscard]] std::string to_json(const EnrollStatus& message);
[[nodiscard]] std::string to_json(const NonceAnswer& message);
[[nodiscard]] std::string to_json(const AttestRequest& message);
[[nodiscard]] std::string to_json(const AttestAnswer& message);
[[nodiscard]] std::string to_json(const ConnectionKey& message);
[[nodiscard]] std::string to_json(const EscrowRequest& message);

// parse<EnrollRequest>(body) and so on; MessageError.
template <typename Message>
[[nodiscard]] Message parse(std::string_view body);

}  // namespace gatehouse::protocol

// Signed statements: JWS in compact form with ES256 (RFC 7515, RFC 7518 3.4), and the attestation result as
// an EAT (RFC 9711) with the AR4SI trust vector (draft-ietf-rats-ar4si).
//
//   {"iat": 1763870000, "exp": lease end, "iss": "server's name",
//    "ueid": base64url of 0x01 || SHA-256 of the EK's public area,
//    "eat_nonce": base64url, "eat_profile": "tag:gatehouse,2026:result",
//    "ear.verifier-id": {"developer": "tag:gatehouse,2026:verifier", "build": version},
//    "submods": {"gatehouse": {
//        "ear.status": "affirming"|"warning"|"contraindicated",
//        "ear.trustworthiness-vector": {"instance-identity": n, "configuration": n, "executables": n,
//                                       "hardware": n, "storage-opaque": n, "runtime-opaque": n},
//        "ear.appraisal-policy-id": "name:version:address"}},
//    "gatehouse.source": "hypervisor"|"tpm",
//    "gatehouse.findings": [{"rule", "ok", "detail"}...],
//    "gatehouse.coverage": {"events", "events_judged", "pcrs", "pcrs_judged"}}
//
// result.hpp makes it. A claim about which nothing is asserted is left out of the vector.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "keyvault/host_support/support.hpp"

struct evp_pkey_st;

namespace gatehouse::verifier {

[[nodiscard]] std::string base64(Bytes bytes);     // RFC 4648, 4, padded
[[nodiscard]] std::string base64url(Bytes bytes);  // RFC 4648, 5, no padding
// Strict: nothing but the alphabet, canonical last character; nullopt if not.
[[nodiscard]] std::optional<host::Buffer> from_base64(std::string_view text);
[[nodiscard]] std::optional<host::Buffer> from_base64url(std::string_view text);

// `type` is the header's typ. P-256 keys only (ToolError).
[[nodiscard]] std::string sign_jws(std::string_view payload, std::string_view type, evp_pkey_st* key);
// The payload if the header is exactly {"alg":"ES256","typ":type} (members in any order, no others) and the
// signature is the key's; nullopt otherwise.
[[nodiscard]] std::optional<std::string> verify_jws(std::string_view jws, std::string_view type, evp_pkey_st* key);

}  // namespace gatehouse::verifier

// JSON Web Keys (RFC 7517) and JWS whose header names the key (RFC 7515): what others' libraries look for. ES256 alone.
#pragma once

#include <openssl/evp.h>

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::formats {

// The key's thumbprint (RFC 7638), base64url. ToolError for a key that is not on P-256.
[[nodiscard]] std::string key_id(const EVP_PKEY* key);
// {"kty": "EC", "crv": "P-256", "x", "y", "use": "sig", "alg": "ES256", "kid"}
[[nodiscard]] nlohmann::json public_jwk(const EVP_PKEY* key);
// Compact form; header {"alg": "ES256", "kid": id, "typ": type}; `id` is key_id(key), which takes as long as a signature.
[[nodiscard]] std::string sign_jwt(std::string_view payload, std::string_view type, EVP_PKEY* key,
                                   const std::string& id);

// Whether `signature` (r || s) is the key's, ECDSA with SHA-256.
[[nodiscard]] bool verify_p256(Bytes message, Bytes signature, const EVP_PKEY* key);

}  // namespace gatehouse::formats

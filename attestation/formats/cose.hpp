// COSE_Sign1 (RFC 9052, section 4.2) with ES256 (RFC 9053, section 2.1), tagged 18.
#pragma once

#include <openssl/evp.h>

#include "attestation/formats/cbor.hpp"

namespace gatehouse::formats {

inline constexpr std::uint64_t kCoseSign1Tag = 18;

// Labels of header parameters.
inline constexpr std::int64_t kCoseAlgorithm = 1;
inline constexpr std::int64_t kCoseContentType = 3;
inline constexpr std::int64_t kCoseKeyId = 4;
inline constexpr std::int64_t kCoseEs256 = -7;

// A parameter of the protected header: its label and its value, encoded.
struct CoseParameter {
    std::int64_t label;
    Buffer value;
};

// The protected header has the algorithm, `parameters` in this order, which must be that of their labels' encodings, and
// the key's id (jose.hpp) as bytes. ToolError for a key that is not on P-256, or has no private part.
[[nodiscard]] Buffer sign_cose(Bytes payload, std::vector<CoseParameter> parameters, EVP_PKEY* key);

struct CoseSign1 {
    Buffer protected_header;  // the encoded map
    Buffer payload;
};
// Tagged or not. ToolError "WHAT: ..." if it is not a COSE_Sign1 with its payload inside, demands a critical header, or was
// not signed by `key` with ES256.
[[nodiscard]] CoseSign1 verify_cose(Bytes message, const EVP_PKEY* key, const std::string& what);

}  // namespace gatehouse::formats

// A TPM's public area as a key of OpenSSL's.
#pragma once

#include <openssl/evp.h>

#include "attestation/verifier/tpm_structures.hpp"
#include "keyvault/host_support/authority.hpp"

namespace gatehouse::verifier {

// RSA, or ECC on P-256, P-384 or P-521; null if it is of another kind, or no key (an even modulus is not
// noticed; a point that is not on the curve is).
[[nodiscard]] host::Key public_key(const PublicArea& area);

// "P-256" and so on, as OpenSSL calls it; null if it is not one of the three.
[[nodiscard]] const char* curve_name(Curve curve);
[[nodiscard]] std::size_t coordinate_size(Curve curve);  // bytes; 0 if it is not one of the three

// "RSA 2048", "ECC P-256".
[[nodiscard]] std::string describe_key(const EVP_PKEY* key);

// What is too weak about a key for what this verifier rests on it; empty if nothing is: RSA of 2,048 bits or
// more, P-256, P-384, P-521.
[[nodiscard]] std::string key_weakness(const EVP_PKEY* key);

}  // namespace gatehouse::verifier

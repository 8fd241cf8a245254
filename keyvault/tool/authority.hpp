// The policy authority's key, as OpenSSL keeps it (PEM) and as a TPM wants it.
//
// ECDSA on P-256, or RSASSA of 2,048 or 3,072 bits with exponent 65537; SHA-256.
#pragma once

#include <openssl/evp.h>

#include <memory>

#include "keyvault/tool/support.hpp"
#include "keyvault/tpm/types.hpp"

namespace gatehouse::host {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

// A PEM file's public key ("PUBLIC KEY", or that of a certificate) or private key ("PRIVATE KEY"; a pass
// phrase is asked for on the terminal). ToolError if there is none.
[[nodiscard]] Key read_public_key(const std::string& path);
[[nodiscard]] Key read_private_key(const std::string& path);

// The key as a marshalled TPMT_PUBLIC for LoadExternal; ToolError for a kind of key that TPMs do not have.
[[nodiscard]] tpm::PublicArea authority_public_area(const EVP_PKEY* key);

// TPMT_SIGNATURE over a SHA-256 digest.
[[nodiscard]] tpm::SignatureBlob sign_digest(EVP_PKEY* key, const Sha256Digest& digest);

// P-256 point (32-byte coordinates) as a key, and a key as "PUBLIC KEY" PEM.
[[nodiscard]] Key ecc_key(Bytes x, Bytes y);
[[nodiscard]] std::string public_key_pem(const EVP_PKEY* key);

}  // namespace gatehouse::host

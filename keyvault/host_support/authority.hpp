// The keys of the policy authority and of the enrollment authority, as OpenSSL keeps them (PEM) and as a TPM and a record
// want them.
//
// The policy authority's: ECDSA on P-256, or RSASSA of 2,048 or 3,072 bits with exponent 65537; SHA-256.
#pragma once

#include <openssl/evp.h>

#include <memory>

#include "keyvault/host_support/support.hpp"
#include "keyvault/tpm/types.hpp"

namespace gatehouse::host {

using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

// OpenSSL's pem_password_cb for PEM of others, and of what has no pass phrase: what is encrypted is not read. Without one
// OpenSSL asks for it on the terminal, and waits.
inline int no_pass_phrase(char*, int, int, void*) { return -1; }

// A PEM file's public key ("PUBLIC KEY", or that of a certificate) or private key ("PRIVATE KEY"; a pass
// phrase is asked for on the terminal). ToolError if there is none.
[[nodiscard]] Key read_public_key(const std::string& path);
[[nodiscard]] Key read_private_key(const std::string& path);

// The key as a marshalled TPMT_PUBLIC for LoadExternal; ToolError for a kind of key that TPMs do not have.
[[nodiscard]] tpm::PublicArea authority_public_area(const EVP_PKEY* key);

// The key of what a bundle says is such a TPMT_PUBLIC. ToolError unless authority_public_area() gives the same of it.
[[nodiscard]] Key authority_key(Bytes public_area);

// TPMT_SIGNATURE over a SHA-256 digest.
[[nodiscard]] tpm::SignatureBlob sign_digest(EVP_PKEY* key, const Sha256Digest& digest);
// Whether `signature`, hostile, is such a one of the key's: of the key's own kind, SHA-256, nothing behind it. ToolError for a
// key that is no authority's.
[[nodiscard]] bool verify_digest(EVP_PKEY* key, const Sha256Digest& digest, Bytes signature);

// The point of a key on P-256, 0x04 || X || Y; ToolError naming `item` for another kind of key.
[[nodiscard]] Buffer p256_point(const EVP_PKEY* key, const std::string& item);
// Its ECDSA signature over a SHA-256 digest: r || s, 32 bytes each.
[[nodiscard]] Buffer sign_p256(EVP_PKEY* key, const Sha256Digest& digest);

// P-256 point (32-byte coordinates) as a key, and a key as "PUBLIC KEY" PEM.
[[nodiscard]] Key ecc_key(Bytes x, Bytes y);
[[nodiscard]] std::string public_key_pem(const EVP_PKEY* key);

}  // namespace gatehouse::host

// Hashes by OpenSSL, several times as fast as hypervisor/base/hash.hpp (which is what measured code has),
// with nothing looked up and nothing allocated on the way.
#pragma once

#include "hypervisor/base/hash.hpp"

struct evp_md_st;  // EVP_MD

namespace gatehouse::verifier {

// OpenSSL's implementation of SHA-1, SHA-256, SHA-384 or SHA-512, fetched once; null for others.
[[nodiscard]] const evp_md_st* openssl_digest(HashAlgorithm algorithm);

// Hash of the parts one after the other; `algorithm` must satisfy can_hash().
[[nodiscard]] Digest quick_hash(HashAlgorithm algorithm, std::initializer_list<Bytes> parts);

}  // namespace gatehouse::verifier

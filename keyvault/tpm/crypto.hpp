// The key derivations and the cipher of TPM sessions. Internal to keyvault/tpm.
#pragma once

#include "hypervisor/base/hash.hpp"
#include "hypervisor/base/secret.hpp"
#include "keyvault/random.hpp"

namespace gatehouse::tpm {

// KDFa with HMAC-SHA-256 (Part 1, 11.4.10.2), 256 bits.
[[nodiscard]] Secret<kSha256Size> kdf_a(Bytes key, Bytes label, Bytes context_u, Bytes context_v);

inline constexpr std::size_t kCoordinateSize = 32;
using Coordinate = std::array<std::byte, kCoordinateSize>;
struct EccPoint {
    Coordinate x{};
    Coordinate y{};
};

// One-pass ECDH on P-256 with a fresh key: `ephemeral` is its public point, the result KDFe(Z.x, "SECRET",
// ephemeral.x, peer.x), 256 bits (Part 1, C.6 and 11.4.10.3). kBadValue if `peer` is not on the curve.
[[nodiscard]] Result<Secret<kSha256Size>> agree_secret(const EccPoint& peer, RandomSource& random, EccPoint& ephemeral);

// AES-128 in CFB mode with 128-bit segments; `in` and `out` are of the same length, and may be the same.
// `key_and_iv`: 16 bytes each.
void cfb_decrypt(std::span<const std::byte, 32> key_and_iv, Bytes in, MutableBytes out);

}  // namespace gatehouse::tpm

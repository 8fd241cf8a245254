// ECDSA signatures as OpenSSL takes them.
#pragma once

#include <array>

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::verifier {

inline constexpr std::size_t kMaxEcdsaNumber = 48;  // bytes of r and s: P-384's

// Dss-Sig-Value (RFC 3279, 2.2.3) in DER: one length byte suffices.
struct EcdsaDer {
    std::array<unsigned char, 2 + 2 * (3 + kMaxEcdsaNumber)> storage{};
    std::size_t size = 0;
};
// Of two big-endian numbers, with or without leading zeros, of at most kMaxEcdsaNumber bytes each.
[[nodiscard]] EcdsaDer ecdsa_der(Bytes r, Bytes s);

}  // namespace gatehouse::verifier

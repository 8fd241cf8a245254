// Key wrapping: AES-256-GCM (NIST SP 800-38D) with a random 96-bit nonce. Internal to keyvault/volume.
//
// BearSSL's bitsliced AES and carry-less multiplication in integers: constant in time on every CPU, no CPU
// feature is required, and keys of 32 and 64 bytes do not care for speed.
#pragma once

#include "keyvault/volume/header.hpp"

namespace gatehouse::volume {

using WrappingKey = Secret<32>;

// HKDF-SHA-256 without salt.
[[nodiscard]] WrappingKey derive_key(Bytes secret, Bytes label);

// AES-256-GCM of `data` in place. `associated` are authenticated, one after the other.
enum class Direction : std::uint8_t { kDecrypt = 0, kEncrypt = 1 };
[[nodiscard]] std::array<std::byte, 16> gcm(Direction direction, const WrappingKey& key, Bytes nonce,
                                            std::initializer_list<Bytes> associated, MutableBytes data);

// False, and `out` wiped, if it was not wrapped by this key with these associated data.
template <std::size_t N>
[[nodiscard]] bool unwrap(const WrappedKey<N>& wrapped, const WrappingKey& key, std::initializer_list<Bytes> associated,
                          Secret<N>& out) {
    copy_bytes(out.bytes(), wrapped.ciphertext);
    const auto tag = gcm(Direction::kDecrypt, key, wrapped.nonce, associated, out.bytes());
    if (equal_secret(tag, wrapped.tag)) return true;
    out.clear();
    return false;
}

}  // namespace gatehouse::volume

// Hashes by TPM algorithm identifier, HMAC and HKDF; BearSSL and sha_blocks.cpp do the work.
//
// Algorithm identifiers are those of the TCG Algorithm Registry, rev. 1.32, table 3. SM3_256 (0x0012) is known by
// its size but cannot be computed.
#pragma once

#include <bearssl/bearssl_hash.h>

#include "hypervisor/base/bytes.hpp"

namespace gatehouse {

enum class HashAlgorithm : std::uint16_t {
    kSha1 = 0x0004,
    kSha256 = 0x000b,
    kSha384 = 0x000c,
    kSha512 = 0x000d,
    kSm3_256 = 0x0012,
};

inline constexpr std::size_t kMaxDigestSize = 64;
inline constexpr std::size_t kSha256Size = 32;
using Sha256Digest = std::array<std::byte, kSha256Size>;

// Digest size in bytes; 0 for an identifier that is not known.
[[nodiscard]] std::size_t digest_size(HashAlgorithm algorithm);
// Whether Hash can compute it: SHA-1, SHA-256, SHA-384 and SHA-512.
[[nodiscard]] bool can_hash(HashAlgorithm algorithm);

// A digest of any supported algorithm.
struct Digest {
    HashAlgorithm algorithm = HashAlgorithm::kSha256;
    std::array<std::byte, kMaxDigestSize> storage{};
    [[nodiscard]] Bytes bytes() const { return Bytes(storage).first(digest_size(algorithm)); }
};

// A running hash; call update() any number of times, then finish() once.
class Hash {
  public:
    // `algorithm` must satisfy can_hash().
    explicit Hash(HashAlgorithm algorithm);
    Hash& update(Bytes data);
    [[nodiscard]] Digest finish() const;

  private:
    HashAlgorithm algorithm_;
    br_hash_compat_context context_;
};

// Whole blocks into the state of a SHA-256, eight words, if the processor has_sha_extensions(). Legacy SSE encodings, as
// BearSSL's. For Hash, which is the same with and without.
inline constexpr std::size_t kShaBlock = 64;
[[nodiscard]] bool has_sha_extensions();
void sha256_blocks(std::uint32_t* state, Bytes blocks);

[[nodiscard]] Digest hash(HashAlgorithm algorithm, Bytes data);
[[nodiscard]] Sha256Digest sha256(Bytes data);
// SHA-256 of the parts one after the other.
[[nodiscard]] Sha256Digest sha256(std::initializer_list<Bytes> parts);

// HMAC-SHA-256 (RFC 2104) of the parts one after the other.
[[nodiscard]] Sha256Digest hmac_sha256(Bytes key, std::initializer_list<Bytes> parts);

// HKDF-SHA-256 (RFC 5869). `out` is at most 8,160 bytes.
void hkdf_sha256(Bytes salt, Bytes secret, Bytes info, MutableBytes out);

}  // namespace gatehouse

// The manifest of a disk image: what its bytes are, chunk by chunk, which release that is, and until when it may be flashed;
// signed by the policy authority. Everything in it is hostile until its signature is checked, and its form is checked before.
//
// An image is cut into chunks, the last of which may be shorter. A chunk of zeros alone is not in the map; each other one is,
// with its SHA-256. There is one encoding only of what it says. Little-endian:
//
//     offset  size
//          0     8  magic "GHFLASHM"
//          8     4  version, 1
//         12     4  size of the whole, in bytes
//         16     4  size of a chunk, in bytes: a power of two, 4 KiB to 16 MiB
//         20     4  size of a sector, in bytes: 512 or 4,096, those of the disks for which the partition table is made
//         24     8  length of the image, in bytes: whole sectors
//         32    32  SHA-256 of the image
//         64     8  number of the release; 0: not said
//         72     8  end of validity, in seconds since 1970-01-01 UTC, itself no longer in it; 0: none
//         80     .  map: a bit for each chunk, from bit 0 of the first byte on; bits past the last chunk are 0
//          .   32m  SHA-256 of each of the m chunks in the map, in order
//          .   2+n  n, and the signature: TPMT_SIGNATURE (big-endian, as TPMs have it) over SHA-256 of all bytes before n
//
// The authority signs other things as well; none of them begins as this does: the messages of approvals have 72 bytes at most
// (policies/bundle/bundle.hpp), those of attestation policies are text.
#pragma once

#include <optional>
#include <vector>

#include "hypervisor/base/hash.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::flash {

inline constexpr std::uint32_t kManifestVersion = 1;
inline constexpr std::uint32_t kMinimumChunk = 4096;        // bytes
inline constexpr std::uint32_t kMaximumChunk = 16u << 20;   // bytes
inline constexpr std::uint32_t kDefaultChunk = 4u << 20;    // bytes
inline constexpr std::size_t kManifestHead = 80;            // bytes before the map
inline constexpr std::size_t kMaximumManifest = 16u << 20;  // bytes: some 2 TiB of data in default chunks
inline constexpr std::uint64_t kMaximumChunks = 1u << 20;   // bounds the memory before a signature is checked: 34 MiB

struct Manifest {
    std::uint32_t chunk_size = kDefaultChunk;
    std::uint32_t sector_size = 512;
    std::uint64_t length = 0;
    Sha256Digest image{};
    std::uint64_t release = 0;
    std::uint64_t expires = 0;
    std::vector<std::optional<Sha256Digest>> chunks;  // of each; none: zeros

    [[nodiscard]] std::uint64_t offset(std::size_t chunk) const { return std::uint64_t{chunk} * chunk_size; }
    [[nodiscard]] std::size_t size(std::size_t chunk) const {
        return static_cast<std::size_t>(std::min<std::uint64_t>(chunk_size, length - offset(chunk)));
    }
    [[nodiscard]] std::uint64_t mapped_bytes() const;
    bool operator==(const Manifest&) const = default;
};

// A parsed manifest, and what of the bytes is signed by what; views into those, which must outlive it.
struct SignedManifest {
    Manifest manifest;
    Bytes covered;
    Bytes signature;
};

// kTruncated, kTrailingBytes, kBadMagic, kBadVersion, kBadLength (detail: the size), kBadValue (a field outside of its domain).
// Does not check the signature.
[[nodiscard]] Result<SignedManifest> parse_manifest(Bytes bytes);
// The rules of its fields that parse_manifest() demands of all but the chunks: kBadValue with the field.
[[nodiscard]] Status check_form(const Manifest& manifest);
// All before the signature's length; `signature_size`, in bytes, counts in the size. `manifest` must be well-formed (panic).
[[nodiscard]] host::Buffer unsigned_bytes(const Manifest& manifest, std::size_t signature_size);

}  // namespace gatehouse::flash

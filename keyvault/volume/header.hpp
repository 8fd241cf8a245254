// The vault on disk: a header in two copies, and what is in it.
//
// The vault partition (at least 1 MiB) holds two copies of the header, at byte 0 and byte 524,288. A copy is
// at most 64 KiB, a multiple of 4,096 bytes, little-endian:
//
//     offset  size
//          0     8  magic "GHVAULT1"
//          8     4  version, 1
//         12     4  total length L, of the whole copy
//         16     8  generation
//         24    16  disk identity: GUID of the disk's GPT, as on disk
//         40     .  slots: TPM slot, recovery slot, each after a 4-byte "present"
//          .     .  body: geometry, regions, overlay sectors, attestation key, data key, re-encryption cursor
//          .     .  zeros
//       L-32    32  HMAC-SHA-256 over bytes 0 .. L-33
//
//     slot secret (TPM or recovery key) --HKDF--> slot key --unwraps--> KEK --HKDF--> MAC key
//                                                                           --HKDF--> DEK wrapping key
//
// Wrapping is AES-256-GCM with a random 96-bit nonce; its associated data name the purpose, the disk and, for
// a DEK, the epoch. HKDF's info strings are in header.cpp.
//
// An unauthenticated copy is read only as far as the slots; the rest of it is parsed after its MAC has been
// verified with a key that came out of one of the slots. There is no null cipher.
//
// A header is large (about 20 KiB): make it static, not on a small stack.
#pragma once

#include <optional>

#include "hypervisor/base/secret.hpp"
#include "keyvault/random.hpp"

namespace gatehouse::volume {

inline constexpr std::size_t kMinimumVaultSize = 1024 * 1024;
inline constexpr std::size_t kCopies = 2;
inline constexpr std::array<std::uint64_t, kCopies> kCopyOffset{0, 512 * 1024};
inline constexpr std::size_t kHeaderAlignment = 4096;
inline constexpr std::size_t kMaximumHeaderSize = 64 * 1024;

inline constexpr std::size_t kKekSize = 32;
inline constexpr std::size_t kSlotSecretSize = 32;
inline constexpr std::size_t kDekSize = 64;  // AES-256-XTS: data key, then tweak key
using Kek = Secret<kKekSize>;
using SlotSecret = Secret<kSlotSecretSize>;
using Dek = Secret<kDekSize>;
using Guid = std::array<std::byte, 16>;

template <std::size_t N>
struct WrappedKey {
    std::array<std::byte, 12> nonce{};
    std::array<std::byte, N> ciphertext{};
    std::array<std::byte, 16> tag{};
};

// At most N bytes.
template <std::size_t N>
struct Field {
    std::array<std::byte, N> storage{};
    std::uint16_t size = 0;
    [[nodiscard]] Bytes bytes() const { return Bytes(storage).first(size); }
    // kBadLength with the size if `from` is longer than N.
    [[nodiscard]] Status assign(Bytes from, const char* item) {
        if (from.size() > N) return {Error::kBadLength, item, from.size()};
        storage = {};
        copy_bytes(storage, from);
        size = static_cast<std::uint16_t>(from.size());
        return {};
    }
};

enum class SlotKind : std::uint8_t { kTpm, kRecovery };

struct TpmSlot {
    Field<512> sealed_public;                      // TPMT_PUBLIC
    Field<512> sealed_private;                     // contents of TPM2B_PRIVATE
    std::array<std::byte, 34> storage_root_key{};  // Name
    std::array<std::byte, 34> authority{};         // Name; for information
    WrappedKey<kKekSize> kek;
};
struct RecoverySlot {
    WrappedKey<kKekSize> kek;
};
struct Slots {
    std::optional<TpmSlot> tpm;
    std::optional<RecoverySlot> recovery;
};

// What the guest may do with a range of sectors. Sectors in no region are encrypted.
enum class RegionClass : std::uint32_t {
    kReadOnly = 1,  // plaintext on disk; the guest reads it, its writes are refused
    kHidden = 2,    // the hypervisor's alone (the vault partition)
    kOverlay = 3,   // the guest reads the overlay sectors instead of the disk; its writes are refused
};
struct Region {
    std::uint64_t first = 0;  // LBA
    std::uint64_t count = 0;  // logical sectors, at least 1
    RegionClass kind = RegionClass::kReadOnly;
};
inline constexpr std::size_t kMaximumRegions = 64;

// A sector that the guest sees in place of what is on the disk: GPT sectors edited to hide the vault.
inline constexpr std::size_t kMaximumOverlaySectors = 4;
inline constexpr std::size_t kMaximumSectorSize = 4096;
struct OverlaySector {
    std::uint64_t lba = 0;
    std::array<std::byte, kMaximumSectorSize> content{};  // the first sector_size bytes count
};

struct DataKey {
    std::uint32_t epoch = 1;  // at least 1: plaintext is epoch 0
    WrappedKey<kDekSize> key;
};

// Everything in a header but the keys themselves.
struct Header {
    std::uint64_t generation = 1;  // at least 1
    Guid disk{};
    Slots slots;

    std::uint32_t sector_size = 512;  // 512 or 4096
    std::uint64_t total_sectors = 0;
    // Sorted by `first`, disjoint, inside of the disk.
    std::array<Region, kMaximumRegions> regions{};
    std::uint32_t region_count = 0;
    // Sorted by `lba`: exactly the sectors of the kOverlay regions.
    std::array<OverlaySector, kMaximumOverlaySectors> overlay{};
    std::uint32_t overlay_count = 0;

    Field<512> attestation_key_public;   // TPMT_PUBLIC; empty if there is none
    Field<512> attestation_key_private;  // contents of TPM2B_PRIVATE

    DataKey data_key;

    [[nodiscard]] std::span<const Region> region_table() const { return std::span(regions).first(region_count); }
    [[nodiscard]] std::span<const OverlaySector> overlay_table() const {
        return std::span(overlay).first(overlay_count);
    }
};

struct Keys {
    Kek kek;
    Dek dek;
};

// --- Reading ---

// What can be said of a copy before anything is authenticated. `size` bytes of the copy are the header.
struct Preview {
    std::uint64_t generation = 0;
    std::size_t size = 0;
    Guid disk{};
    Slots slots;
};
// `copy` is what was read from the disk at one of kCopyOffset, at most kMaximumHeaderSize bytes.
// Errors: kBadMagic, kBadVersion, kBadLength, kTruncated, kBadValue.
[[nodiscard]] Status preview(Bytes copy, Preview& out);

// The copies that look like a header, the most recent generation first (copy 0 first in a tie). `count` 0:
// there is no vault here.
struct Candidates {
    std::array<std::size_t, kCopies> copy{};
    std::size_t count = 0;
};
[[nodiscard]] Candidates select_candidates(Bytes copy0, Bytes copy1);

// Opens a copy: slot secret -> KEK -> MAC -> everything else. On failure `header` and `keys` are not to be
// used.
// Errors:
//   kNotFound    "vault: no such slot"
//   kAuthFailed  "vault slot": the secret is not this slot's, or the slot was changed
//   kBadMac      "vault header"
//   kMismatch    "vault header: of another disk", if `disk` is given and is not the header's
//   kUnsupported "vault header: re-encryption in progress" (this version has none)
//   others       a header that was authentic and is nonsense; item names the field
[[nodiscard]] Status open_header(Bytes copy, SlotKind slot, const SlotSecret& secret, const Guid* disk, Header& header,
                                 Keys& keys);

// --- Writing ---

// Whether a header keeps the rules of the format, which open_header() and serialise() both demand.
[[nodiscard]] Status validate(const Header& header);

// Writes a whole copy and its MAC; returns its length. `out`: kMaximumHeaderSize bytes always suffice.
[[nodiscard]] Result<std::size_t> serialise(const Header& header, const Kek& kek, MutableBytes out);

// Wraps for `header.slots` and `header.data_key`.
[[nodiscard]] WrappedKey<kKekSize> wrap_kek(const Kek& kek, SlotKind slot, const SlotSecret& secret, const Guid& disk,
                                            RandomSource& random);
// kBadValue if both halves of the DEK are equal (FIPS 140-2 Implementation Guidance, A.9).
[[nodiscard]] Result<DataKey> wrap_dek(const Dek& dek, std::uint32_t epoch, const Kek& kek, const Guid& disk,
                                       RandomSource& random);

// The vault partition. Offsets are bytes from its start, multiples of 4,096.
class Store {
  public:
    virtual Status write(std::uint64_t offset, Bytes data) = 0;
    // Returns when everything written before is on stable media.
    virtual Status flush() = 0;

  protected:
    ~Store() = default;
};

// Puts `header` on disk as the next generation, in place of the older copy; `copy` is the number of the
// newest good copy, on success that of the new one, and header.generation the new generation. A power cut at
// any moment leaves the old header or the new one. `scratch`: kMaximumHeaderSize bytes.
[[nodiscard]] Status update(Store& store, Header& header, const Kek& kek, std::size_t& copy, MutableBytes scratch);

}  // namespace gatehouse::volume

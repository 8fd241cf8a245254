// The vault on disk: a header in two copies, and what is in it.
//
// The vault partition (at least 1 MiB) holds two copies of the header, at byte 0 and byte 524,288. A copy is
// at most 64 KiB, a multiple of 4,096 bytes, little-endian:
//
//     offset  size
//          0     8  magic "GHVAULT1"
//          8     4  version, 2
//         12     4  total length L, of the whole copy
//         16     8  generation
//         24    16  disk identity: GUID of the disk's GPT, as on disk
//         40    32  vault id: claimed, until open_header() has proven it
//         72     .  slots: TPM slot, recovery slot, member slot, each after a 4-byte "present"
//          .     .  body: geometry, regions, overlay sectors, attestation key, root secret, members, data key, cursor
//          .     .  zeros
//       L-32    32  HMAC-SHA-256 over bytes 0 .. L-33
//
//     slot secret (of the TPM, recovery key, or the boot vault's root) --HKDF--> slot key --unwraps--> KEK
//     KEK --HKDF--> MAC key
//     KEK --HKDF--> wrapping keys of DEK and root secret
//     root secret --SHA-256--> vault id
//
// Wrapping is AES-256-GCM with a random 96-bit nonce; its associated data name the purpose, the disk and, for
// a slot, the vault id, for a DEK, the epoch. The labels are in format.hpp.
//
// Anybody can make a vault, seal it to a public policy and write any vault id on it. What tells whose vault it is is
// the root secret: born with the vault, kept through every rotation of the other keys, known to nobody else; the vault
// id is its hash, so a pinned id can be claimed by all and proven by one. A *member* is a further disk of the same
// endpoint: its KEK is wrapped under the root of the boot vault as well, and the boot vault's header lists its id.
//
// An unauthenticated copy is read only as far as the slots; the rest of it is parsed after its MAC has been
// verified with a key that came out of one of the slots. There is no null cipher.
//
// The cursor tells how far sectors have been brought from one key epoch to the next. A state other than idle is
// written to both copies before the first sector changes, so that no copy says idle while the disk is of two kinds;
// what a window needs to be resumed is in the journal (journal.hpp).
//
// A header is large (about 20 KiB): make it static, not on a small stack. Copies are written by header_writer.hpp.
#pragma once

#include <optional>

#include "hypervisor/base/blob.hpp"
#include "hypervisor/base/hash.hpp"
#include "hypervisor/base/region.hpp"
#include "hypervisor/base/secret.hpp"

namespace gatehouse::volume {

// 618d37b5-40b8-4f5a-8355-a2a84f2a31e0, Gatehouse's own: the vault partition. There is one at most on a disk.
using Guid = std::array<std::byte, 16>;
inline constexpr Guid kVaultPartitionType{std::byte{0xb5}, std::byte{0x37}, std::byte{0x8d}, std::byte{0x61},
                                          std::byte{0xb8}, std::byte{0x40}, std::byte{0x5a}, std::byte{0x4f},
                                          std::byte{0x83}, std::byte{0x55}, std::byte{0xa2}, std::byte{0xa8},
                                          std::byte{0x4f}, std::byte{0x2a}, std::byte{0x31}, std::byte{0xe0}};
inline constexpr std::size_t kMinimumVaultSize = 1024 * 1024;
inline constexpr std::uint32_t kHeaderVersion = 2;
inline constexpr std::size_t kCopies = 2;
inline constexpr std::array<std::uint64_t, kCopies> kCopyOffset{0, 512 * 1024};
inline constexpr std::size_t kHeaderAlignment = 4096;
inline constexpr std::size_t kMaximumHeaderSize = 64 * 1024;

inline constexpr std::size_t kKekSize = 32;
inline constexpr std::size_t kSlotSecretSize = 32;
inline constexpr std::size_t kRootSize = 32;
inline constexpr std::size_t kDekSize = 64;  // AES-256-XTS: data key, then tweak key
using Kek = Secret<kKekSize>;
using SlotSecret = Secret<kSlotSecretSize>;
using Root = Secret<kRootSize>;
using VaultId = Sha256Digest;
using Dek = Secret<kDekSize>;

template <std::size_t N>
struct WrappedKey {
    std::array<std::byte, 12> nonce{};
    std::array<std::byte, N> ciphertext{};
    std::array<std::byte, 16> tag{};
};

enum class SlotKind : std::uint8_t { kTpm, kRecovery, kMember };

struct TpmSlot {
    Blob<512> sealed_public;                       // TPMT_PUBLIC
    Blob<512> sealed_private;                      // contents of TPM2B_PRIVATE
    std::array<std::byte, 34> storage_root_key{};  // Name; for information
    std::array<std::byte, 34> authority{};         // Name; for information
    WrappedKey<kKekSize> kek;
};
struct Slots {
    std::optional<TpmSlot> tpm;
    std::optional<WrappedKey<kKekSize>> recovery;
    std::optional<WrappedKey<kKekSize>> member;  // slot secret: the boot vault's root
};

// What the guest may do with ranges of sectors; those in no region are encrypted, none of a header says so. An overlay
// region is one sector, whose content is in the overlay table.
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

// How far the sectors that are to be encrypted have been brought to the data key's epoch.
enum class CursorState : std::uint32_t {
    kIdle = 0,         // all of them; the other fields are zero
    kEncrypting = 1,   // from plaintext (epoch 0): every one below `next`, those of the window in part
    kChangingKey = 2,  // the same, from the key of the epoch before
};
struct Cursor {
    CursorState state = CursorState::kIdle;
    std::uint32_t journal = 0;  // which of the two journals is the window's
    std::uint64_t next = 0;     // LBA
    std::uint64_t count = 0;    // sectors of the window, from `next`; 0: there is none
};

inline constexpr std::size_t kMaximumMembers = 7;

// Everything in a header but the keys themselves.
struct Header {
    std::uint64_t generation = 1;  // at least 1
    Guid disk{};
    VaultId vault_id{};
    Slots slots;

    std::uint32_t sector_size = 512;  // 512 or 4096
    std::uint64_t total_sectors = 0;
    // Sorted by `first`, disjoint, inside of the disk.
    std::array<Region, kMaximumRegions> regions{};
    std::uint32_t region_count = 0;
    // Those of the kOverlay regions, in their order.
    std::array<OverlaySector, kMaximumOverlaySectors> overlay{};
    std::uint32_t overlay_count = 0;

    Blob<512> attestation_key_public;   // TPMT_PUBLIC; empty if there is none
    Blob<512> attestation_key_private;  // contents of TPM2B_PRIVATE

    WrappedKey<kRootSize> root;
    // Of the vaults that are opened with this one's root: ascending, each once.
    std::array<VaultId, kMaximumMembers> members{};
    std::uint32_t member_count = 0;
    DataKey data_key;
    Cursor cursor;

    [[nodiscard]] std::span<const VaultId> member_table() const { return std::span(members).first(member_count); }
    [[nodiscard]] std::span<const Region> region_table() const { return std::span(regions).first(region_count); }
    [[nodiscard]] std::span<const OverlaySector> overlay_table() const {
        return std::span(overlay).first(overlay_count);
    }
};

struct Keys {
    Kek kek;
    Dek dek;
    Root root;
};

// SHA-256("gatehouse vault id v1" || root).
[[nodiscard]] VaultId vault_id(const Root& root);

// What can be said of a copy before anything is authenticated: generation, disk, vault id and slots; of
// `header` nothing else is changed. `copy` is what was read from the disk at one of kCopyOffset, at most
// kMaximumHeaderSize bytes. Errors: kBadMagic, kBadVersion, kBadLength, kTruncated, kBadValue.
[[nodiscard]] Status preview(Bytes copy, Header& header);

// The copies that look like a header, the most recent generation first (copy 0 first in a tie). `count` 0:
// there is no vault here.
struct Candidates {
    std::array<std::size_t, kCopies> copy{};
    std::size_t count = 0;
};
[[nodiscard]] Candidates select_candidates(Bytes copy0, Bytes copy1, std::uint32_t version = kHeaderVersion);

// Opens a copy: slot secret -> KEK -> MAC -> everything else. `slot` is the one that
// `secret` belongs to. On failure `keys` is wiped and `header` not to be used. A header
// whose cursor is not idle opens: what to do with it is the caller's. Errors:
//   kNotFound    "vault: no such slot"
//   kAuthFailed  "vault slot": the secret is not this slot's, or the slot, the disk's GUID or the vault id was changed
//   kBadMac      "vault header"
//   kMismatch    "vault header: of another disk", if `disk` is given and is not the header's
//   kMismatch    "vault header: vault id is not its root's"
//   others       a header that was authentic and is nonsense; item names the field
[[nodiscard]] Status open_header(Bytes copy, SlotKind slot, const SlotSecret& secret, const Guid* disk, Header& header,
                                 Keys& keys);

// Whether a header, whose tables are not longer than they can be, keeps the rules of the format, which open_header()
// and serialise() both demand.
[[nodiscard]] Status validate(const Header& header);

}  // namespace gatehouse::volume

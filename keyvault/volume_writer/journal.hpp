// The journal of encryption in place: what makes it possible to go on after a power cut, for tools.
//
// Sectors are encrypted in windows of at most 16 MiB, each in ascending order of LBA and inside
// of one range of sectors that are to be encrypted. A window may be on the disk in part when
// the power fails, and a sector does not show whether it is ciphertext already. So the journal
// holds a keyed MAC of what each sector of the window will be. In this order:
//
//     1. encrypt the window in memory; write its journal into the area that the cursor does not name; flush
//     2. update(): cursor = {kEncrypting, that area, window}; it flushes
//     3. write the window; flush
//
// and after the last window update() with an idle cursor. Before the first, both copies of the header have the cursor
// {kEncrypting, 0, first sector to be encrypted, no window}. To resume: read the window that the cursor names; a sector
// whose MAC is the journal's is ciphertext, every other one is still plaintext (disks write sectors whole); encrypt and
// write those, flush, go on with 1 behind the window.
//
// The newest copy of the header may be lost, and the other one, which opens then, names the window before. Its
// successor may have been under way: if the area that the cursor does not name holds a journal that begins where the
// next window does, then everything before is on the disk, and that window is taken up as if the cursor named it.
//
// The two journals lie in the vault partition behind the two copies of the header. A journal, little-endian:
//
//     offset  size
//          0     8  magic "GHJOURN1"
//          8     8  first sector of the window, LBA
//         16     8  number of sectors n
//         24    32  HMAC-SHA-256 over bytes 0 .. 23 and 4096 .. 4096 + 8n - 1
//         56     .  zeros
//       4096    8n  for each sector the first 8 bytes of HMAC-SHA-256(LBA || ciphertext)
//
// Both by HKDF(KEK, "gatehouse vault v2: journal"). 2^-64 is the chance that a plaintext sector is taken for
// ciphertext.
#pragma once

#include <bearssl/bearssl_hmac.h>

#include "keyvault/volume/header.hpp"

namespace gatehouse::volume {

inline constexpr std::size_t kWindowSize = 16 * 1024 * 1024;  // bytes
inline constexpr std::size_t kJournalHeadSize = 4096;
inline constexpr std::size_t kSectorMacSize = 8;
inline constexpr std::array<std::uint64_t, 2> kJournalOffset{64 * 1024, 576 * 1024};
inline constexpr std::size_t kJournalSize = 448 * 1024;
static_assert(kJournalHeadSize + kWindowSize / 512 * kSectorMacSize <= kJournalSize);
static_assert(kJournalOffset[0] + kJournalSize <= kCopyOffset[1] &&
              kJournalOffset[1] + kJournalSize <= kMinimumVaultSize);

class Journal {
  public:
    explicit Journal(const Kek& kek);
    ~Journal() { wipe(&key_, sizeof(key_)); }
    Journal(const Journal&) = delete;
    Journal& operator=(const Journal&) = delete;

    using SectorMac = std::array<std::byte, kSectorMacSize>;
    [[nodiscard]] SectorMac mac(std::uint64_t lba, Bytes ciphertext) const;

    // The journal of the window of `ciphertext`, which begins at `first`, for the vault partition; returns the size
    // written, a multiple of 4,096. kBadLength: not whole sectors, or more than kWindowSize. `out`: kJournalSize bytes.
    [[nodiscard]] Result<std::size_t> write(std::uint64_t first, Bytes ciphertext, std::size_t sector_size,
                                            MutableBytes out) const;

    // The MACs in a journal, one after the other, which must be that of this window.
    // `area`: kJournalSize bytes as read. kBadMac: it is not, or was changed.
    [[nodiscard]] Result<Bytes> read(std::uint64_t first, std::uint64_t count, Bytes area) const;
    // Of how many sectors the window is that begins at `first`, if this is its journal; errors as read().
    [[nodiscard]] Result<std::uint64_t> window(std::uint64_t first, Bytes area) const;

  private:
    [[nodiscard]] Sha256Digest hmac(Bytes first, Bytes second) const;
    br_hmac_key_context key_;
};

}  // namespace gatehouse::volume

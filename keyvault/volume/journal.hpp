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
// whose MAC is the journal's is ciphertext, every other one is still plaintext (disks write sectors whole), or of the epoch
// before (previous_key.hpp); encrypt and write those, flush, go on with 1 behind the window.
//
// The newest copy of the header may be lost, and the other one, which opens then, names the window before. Its
// successor may have been under way: if the area that the cursor does not name holds a journal that begins where the
// next window does, then everything before is on the disk, and that window is taken up as if the cursor named it.
//
// Of a change of keys nothing but the change itself touches what is to be converted. So a journal also tells what the first sector
// of its window was before, and what that of the window behind it is: one of another kind shows, before anything is written,
// that the vault is not of this disk's present (a copy put back after the change had ended, by which everything
// would be converted twice). Before the first window, a journal of no sector says that of the first one. The last window is one
// sector, so that no other can be in a window that nothing follows.
//
// The two journals lie in the vault partition behind the two copies of the header. A journal, little-endian:
//
//     offset  size
//          0     8  magic "GHJOURN2"
//          8     8  first sector of the window, LBA
//         16     8  number of sectors n
//         24    32  HMAC-SHA-256 over bytes 0 .. 23, 56 .. 79 and 4096 .. 4096 + 8n - 1
//         56     8  MAC of the window's first sector, as it was before; zeros if there is none
//         64     8  first sector of the window behind it, LBA; all ones if there is none
//         72     8  its MAC
//         80     .  zeros
//       4096    8n  for each sector the first 8 bytes of HMAC-SHA-256(LBA || ciphertext)
//
// Both by HKDF(KEK, "gatehouse vault v2: journal"), followed in the label by the epoch (4 bytes) if that is not 1: the
// journals of an earlier epoch, which may lie here still, are none of this one's. 2^-64 is the chance that a sector that is to
// be encrypted is taken for one that is. The release before wrote "GHJOURN1", without bytes 56 .. 79; it is read as well.
#pragma once

#include <bearssl/bearssl_hmac.h>

#include "hypervisor/base/extent.hpp"
#include "keyvault/volume/header.hpp"

namespace gatehouse::volume {

inline constexpr std::size_t kWindowSize = 16 * 1024 * 1024;  // bytes
inline constexpr std::size_t kJournalHeadSize = 4096;
inline constexpr std::size_t kSectorMacSize = 8;
inline constexpr std::array<std::uint64_t, 2> kJournalOffset{64 * 1024, 576 * 1024};
inline constexpr std::size_t kJournalSize = 444 * 1024;

class Journal {
  public:
    // `epoch`: that of the key with which the windows are encrypted.
    Journal(const Kek& kek, std::uint32_t epoch);
    ~Journal() { wipe(&key_, sizeof(key_)); }
    Journal(const Journal&) = delete;
    Journal& operator=(const Journal&) = delete;

    using SectorMac = std::array<std::byte, kSectorMacSize>;
    [[nodiscard]] SectorMac mac(std::uint64_t lba, Bytes ciphertext) const;

    // What sectors are that the change has not reached.
    struct Before {
        SectorMac first{};
        std::uint64_t next = ~std::uint64_t{0};  // LBA
        SectorMac next_mac{};
    };

    // The journal of the window of `ciphertext`, which begins at `first`, for the vault partition; returns the size
    // written, a multiple of 4,096. kBadLength: not whole sectors, or more than kWindowSize. `out`: kJournalSize bytes.
    [[nodiscard]] Result<std::size_t> write(std::uint64_t first, Bytes ciphertext, std::size_t sector_size,
                                            const Before& before, MutableBytes out) const;

    // The MACs in a journal, one after the other, which must be that of this window.
    // `area`: kJournalSize bytes as read. kBadMac: it is not, or was changed.
    [[nodiscard]] Result<Bytes> read(std::uint64_t first, std::uint64_t count, Bytes area) const;
    // What else is in a journal that read() accepts; nothing in one of the release before.
    [[nodiscard]] static std::optional<Before> before(Bytes area);
    // The sectors of the window whose journal this is, none if it is that of no window; errors as read().
    [[nodiscard]] Result<Extent> window(Bytes area) const;

  private:
    [[nodiscard]] Sha256Digest hmac(std::initializer_list<Bytes> parts) const;
    [[nodiscard]] Sha256Digest whole_hmac(Bytes area, Bytes macs) const;
    br_hmac_key_context key_;
};

}  // namespace gatehouse::volume

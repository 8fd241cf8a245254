// The disk key that a change of the disk key comes from.
//
// While the key of epoch n + 1 takes the place of that of epoch n, the header's cursor is kChangingKey, its data key is that of
// epoch n + 1, and every sector that is not encrypted with it yet, is with that of epoch n. That one lies in the
// vault partition behind each of the two journals, and is overwritten when the last sector has been changed. A record, 4,096 bytes, little-endian:
//
//     offset  size
//          0     8  magic "GHOLDKEY"
//          8     4  epoch n
//         12    92  the key, wrapped as the header's is (header.hpp): nonce, ciphertext, tag
//        104     .  zeros
//
// The tag covers key, epoch and disk, and the epoch must be the one before the header's: no other record is believed.
#pragma once

#include "keyvault/volume/journal.hpp"

namespace gatehouse::volume {

inline constexpr std::size_t kPreviousKeySize = 4096;
inline constexpr std::array<std::uint64_t, 2> kPreviousKeyOffset{kJournalOffset[0] + kJournalSize,
                                                                 kJournalOffset[1] + kJournalSize};

inline Bytes previous_key_magic() { return literal_bytes("GHOLDKEY"); }
// The key of the epoch before `header`'s. kBadMagic: no record; kMismatch: of another epoch (detail); kAuthFailed: not of
// this vault, or changed.
[[nodiscard]] Status read_previous_key(Bytes record, const Header& header, const Kek& kek, Dek& dek);

}  // namespace gatehouse::volume

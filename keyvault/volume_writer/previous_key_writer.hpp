// Writes the record of the key before (volume/previous_key.hpp).
#pragma once

#include "keyvault/volume/previous_key.hpp"

namespace gatehouse::volume {

// The vault holds it all, and none of it lies over another.
static_assert(kJournalHeadSize + kWindowSize / 512 * kSectorMacSize <= kJournalSize);
static_assert(kPreviousKeyOffset[0] + kPreviousKeySize <= kCopyOffset[1] &&
              kPreviousKeyOffset[1] + kPreviousKeySize <= kMinimumVaultSize);

// `out`: kPreviousKeySize bytes.
inline void write_previous_key(const DataKey& key, MutableBytes out) {
    Writer writer(out);
    writer.bytes(previous_key_magic());
    writer.u32(key.epoch);
    for (const Bytes part : {Bytes(key.key.nonce), Bytes(key.key.ciphertext), Bytes(key.key.tag)}) writer.bytes(part);
    writer.zeros(kPreviousKeySize - writer.offset());
}

// Whether there is a record, or what was one, at all.
[[nodiscard]] inline bool looks_like_previous_key(Bytes record) {
    return equal_bytes(record.first(previous_key_magic().size()), previous_key_magic());
}

}  // namespace gatehouse::volume

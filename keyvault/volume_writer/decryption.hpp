// A disk that is brought back to plaintext, by a tool.
//
// While that is under way, both copies of the header have the cursor kChangingKey, which no boot goes on with, and a data key
// of the epoch kPlaintextEpoch, which no key has that encrypts anything: it says where the change leads to. The key under
// that epoch is the one that every sector which the cursor does not call plaintext is still encrypted with. So the header
// alone, under its MAC, tells what is to be done, and a change of the disk key is never taken for this or this for one. The
// journal (journal.hpp) holds MACs of plaintext then. The last header has its cursor behind everything; it never
// becomes idle, since that would say that all is encrypted: the vault ends with it.
#pragma once

#include "keyvault/volume/conversion.hpp"

namespace gatehouse::volume {

[[nodiscard]] inline bool is_being_decrypted(const Header& header) {
    return header.cursor.state == CursorState::kChangingKey && header.data_key.epoch == kPlaintextEpoch;
}
// The epoch that the sectors below the cursor have been brought to: that of plaintext is 0.
[[nodiscard]] inline std::uint32_t epoch_of(const Header& header) {
    return is_being_decrypted(header) ? 0 : header.data_key.epoch;
}

}  // namespace gatehouse::volume

// Encryption of a disk in place, and back to plaintext, in windows, such that a cut at any moment loses nothing
// (volume/journal.hpp).
#pragma once

#include "keyvault/tool/layout.hpp"
#include "keyvault/tool/vault_store.hpp"
#include "keyvault/volume/journal.hpp"

namespace gatehouse::host {

// A vault that is being made: its authentic header and keys, and the number of the newest good copy.
struct OpenVault {
    volume::Header header;
    volume::Keys keys;
    std::size_t copy = 0;
};

// The newest copy of the header, once more in its place: after a flush that failed, in whatever run, it may be in the system's
// cache only, which shows it as if it were on the medium, and the other copy, which is on it, would be overwritten next. To
// be called, with the vault as it was opened, before anything is put in place of the other copy.
void write_again(VaultStore& store, const OpenVault& vault);
// A copy of the header as it goes to the disk.
[[nodiscard]] Buffer whole_copy(const OpenVault& vault);
// Puts the header in place of the older copy and then of the newer one, as the same generation.
void put_both_copies(VaultStore& store, OpenVault& vault);

// Puts a vault on the disk whose sectors are all to be encrypted with its disk key: both copies of the header, with a cursor
// that stands before the first of them. From the first flushed copy on, encrypt() can go on with it.
void begin_encryption(VaultStore& store, OpenVault& vault,
                      volume::CursorState state = volume::CursorState::kEncrypting);

// Before anything of a change to this epoch is written. ToolError if the vault holds a journal of a window of it: then that has
// gone on already, and a header of before was put back.
void demand_not_begun(const BlockDevice& disk, const VaultStore& store, const OpenVault& vault, std::uint32_t epoch);
// The same for a change of keys: the journal that says what the first of those sectors is comes first.
void begin_change(BlockDevice& disk, VaultStore& store, OpenVault& vault);

// The record of the key that is changed for another one (previous_key.hpp), before begin_encryption(); and its end.
void keep_previous_key(VaultStore& store, const volume::DataKey& key);
void forget_previous_key(VaultStore& store);

// Encrypts all that the cursor does not yet say is encrypted, from plaintext or from the key before, as its
// state says, and leaves both copies of the header with an idle cursor and no record of that key. A
// window that was cut is finished first. ToolError if the sectors that come next are not those that a change of keys left, or
// if the cursor stands before the first window and the journals tell of a later one: then nothing is written. Nothing but the
// vault is written if the cursor is idle already. After a flush that failed, what reads as written need not be on the medium:
// what is gone on from is written again. `window_size`: bytes, whole sectors, at most volume::kWindowSize. ToolError:
// demand_not_decrypted().
void encrypt(BlockDevice& disk, VaultStore& store, OpenVault& vault, std::size_t window_size = volume::kWindowSize);

// The other way (volume_writer/decryption.hpp): decrypts all that the cursor does not yet say is plaintext, and leaves both
// copies of the header with a cursor behind everything. The header is one that is_being_decrypted().
void decrypt(BlockDevice& disk, VaultStore& store, OpenVault& vault, std::size_t window_size = volume::kWindowSize);
// ToolError that says how to go on, of such a header.
void demand_not_decrypted(const BlockDevice& disk, const volume::Header& header);

// Reads every sector that is to be encrypted. What is begun after that ends only when each has been read and written.
void demand_readable(const BlockDevice& disk, const volume::Header& header, std::size_t window_size);

}  // namespace gatehouse::host

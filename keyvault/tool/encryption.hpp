// Encryption of a disk in place, in windows, such that a cut at any moment loses nothing (volume_writer/journal.hpp).
#pragma once

#include "keyvault/tool/layout.hpp"
#include "keyvault/tool/vault_store.hpp"
#include "keyvault/volume_writer/journal.hpp"

namespace gatehouse::host {

// A vault that is being made: its authentic header and keys, and the number of the newest good copy.
struct OpenVault {
    volume::Header header;
    volume::Keys keys;
    std::size_t copy = 0;
};

// Puts a new vault on the disk: both copies of its header, with a cursor that stands before the first sector to be
// encrypted. From the first flushed copy on, resume() can go on with it; before, nothing but the vault partition has changed.
void begin_encryption(VaultStore& store, OpenVault& vault);

// Encrypts all that the cursor does not yet say is encrypted, and leaves both copies of the header with an idle cursor. A
// window that was cut is finished first. Nothing but the two copies is written if the cursor is idle already. After a flush
// that failed, what reads as written need not be on the medium: what is gone on from is written again.
// `window_size`: bytes, whole sectors, at most volume::kWindowSize.
void encrypt(BlockDevice& disk, VaultStore& store, OpenVault& vault, std::size_t window_size = volume::kWindowSize);

}  // namespace gatehouse::host

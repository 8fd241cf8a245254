// Recovery keys: 32 random bytes as 64 hex digits in a file, or in an escrow blob (escrow.hpp); a slot secret of the vault.
#pragma once

#include "keyvault/tool/encryption.hpp"
#include "keyvault/tool/escrow.hpp"

namespace gatehouse::host {

// Makes the file (mode 0600), which must not exist yet, and flushes it to the medium.
void write_recovery_key(const std::string& path, const volume::SlotSecret& secret);
void read_recovery_key(const std::string& path, volume::SlotSecret& secret);
// Makes the file, if there is a path, and the blob, if one is wanted: both or, but for a cut, none.
void keep_recovery_key(const std::string& path, const EscrowFile& escrow, const volume::SlotSecret& secret,
                       const volume::VaultId& vault, RandomSource& random);

// Where one comes from: its file, or an escrow blob and the private key that opens it.
struct RecoverySource {
    RecoverySource() = default;
    RecoverySource(std::string path) : file(std::move(path)) {}  // NOLINT(google-explicit-constructor): any file is one
    [[nodiscard]] bool given() const { return !file.empty() || !escrow.empty(); }
    // As the command line has it.
    [[nodiscard]] std::string options() const;

    std::string file;
    std::string escrow;
    std::string private_key;  // PEM
};
// The blob must be of the disk's vault.
void read_recovery_key(const RecoverySource& source, const BlockDevice& disk, volume::SlotSecret& secret);

// Opens the newest authentic header of the disk with the key, which it gives back. ToolError if there is none: what it says of
// the reason ends with what to do.
volume::SlotSecret open_with_recovery_key(const BlockDevice& disk, const RecoverySource& source, OpenVault& vault);
void demand_opens(const BlockDevice& disk, const volume::SlotSecret& secret, OpenVault& vault);
// The same without an error that says what to do.
[[nodiscard]] Status open_with_recovery_key(const BlockDevice& disk, const volume::SlotSecret& secret,
                                            OpenVault& vault);

// `vault` was opened with a recovery key. ToolError if that is the older copy, and the newer one is good, by this vault's KEK,
// but not this key's: a change of the recovery key was cut between the two, and to go on from here would take it back.
void refuse_stale_copy(const BlockDevice& disk, const OpenVault& vault);

}  // namespace gatehouse::host

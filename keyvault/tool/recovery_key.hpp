// Recovery keys: 32 random bytes as 64 hex digits in a file, a slot secret of the vault.
#pragma once

#include "keyvault/tool/encryption.hpp"

namespace gatehouse::host {

// Makes the file (mode 0600), which must not exist yet, and flushes it to the medium.
void write_recovery_key(const std::string& path, const volume::SlotSecret& secret);
void read_recovery_key(const std::string& path, volume::SlotSecret& secret);

// Opens the newest authentic header of the disk with the key in a file. ToolError if there is none: what it says of the
// reason ends with what to do.
void open_with_recovery_key(const BlockDevice& disk, const std::string& key_file, OpenVault& vault);
// The same with the key itself.
[[nodiscard]] Status open_with_recovery_key(const BlockDevice& disk, const volume::SlotSecret& secret,
                                            OpenVault& vault);

}  // namespace gatehouse::host

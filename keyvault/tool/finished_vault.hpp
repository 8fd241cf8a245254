// The vault of a disk that is encrypted as a whole: what a rescue system can open.
#pragma once

#include "keyvault/tool/recovery_key.hpp"

namespace gatehouse::host {

// Where the disk has another size than its vault was made for, what is to be said of that; else nothing.
[[nodiscard]] std::string other_size(const BlockDevice& disk, const volume::Header& header);
// ToolError that says what to do, if it has; and, with how to go on with the same key, if it is encrypted in part.
void demand_same_size(const BlockDevice& disk, const volume::Header& header);
void demand_idle(const BlockDevice& disk, const volume::Header& header, const RecoverySource& source);

// Opens it with the key in a recovery key file. ToolError as open_with_recovery_key(), if the disk is of another size than
// its vault says, and, with how to go on, if it is encrypted in part.
void open_finished_vault(const BlockDevice& disk, const std::string& key_file, OpenVault& vault);

}  // namespace gatehouse::host

#include "keyvault/tool/finished_vault.hpp"

namespace gatehouse::host {

std::string other_size(const BlockDevice& disk, const volume::Header& header) {
    if (header.sector_size == disk.sector_size() && header.total_sectors == disk.total_sectors()) return {};
    return "the disk has " + std::to_string(disk.total_sectors()) + " sectors of " +
           std::to_string(disk.sector_size()) + " bytes, its vault is of a disk of another size, " +
           std::to_string(header.total_sectors) + " of " + std::to_string(header.sector_size);
}

void demand_same_size(const BlockDevice& disk, const volume::Header& header) {
    const std::string other = other_size(disk, header);
    if (!other.empty()) throw ToolError(disk.path() + ": " + other + "; bring it back to that size");
}

void demand_idle(const BlockDevice& disk, const volume::Header& header, const RecoverySource& source) {
    if (header.cursor.state == volume::CursorState::kIdle) return;
    demand_not_decrypted(disk, header);
    const bool changing = header.cursor.state == volume::CursorState::kChangingKey;
    throw ToolError(disk.path() + ": only " + std::to_string(percent_done(header)) + " % of it is encrypted" +
                    (changing ? " with its new key; go on with: sealed-key rotate dek " + disk.path()
                              : "; go on with: sealed-key provision " + disk.path() + " --resume") +
                    " " + source.options());
}

void open_finished_vault(const BlockDevice& disk, const std::string& key_file, OpenVault& vault) {
    open_with_recovery_key(disk, key_file, vault);
    demand_same_size(disk, vault.header);
    demand_idle(disk, vault.header, key_file);
}

}  // namespace gatehouse::host

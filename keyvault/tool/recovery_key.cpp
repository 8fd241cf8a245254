#include "keyvault/tool/recovery_key.hpp"

#include <algorithm>

namespace gatehouse::host {

void write_recovery_key(const std::string& path, const volume::SlotSecret& secret) {
    Secret<2 * volume::kSlotSecretSize + 1> text;
    write_hex(secret.bytes(), text.bytes());
    text.bytes().back() = std::byte{'\n'};
    try {
        create_file(path, text.bytes(), 0600);
    } catch (const ToolError& error) {
        throw ToolError(std::string(error.what()) + " (the recovery key; nothing has been written to the disk)");
    }
}

void read_recovery_key(const std::string& path, volume::SlotSecret& secret) {
    Buffer text = read_file(path, 256);
    std::string_view digits(reinterpret_cast<const char*>(text.data()), text.size());
    while (!digits.empty() && (digits.back() == '\n' || digits.back() == '\r')) digits.remove_suffix(1);
    Buffer bytes = from_hex(digits, path);
    const bool fits = bytes.size() == volume::SlotSecret::kSize;
    if (fits) copy_bytes(secret.bytes(), bytes);
    wipe(bytes);
    wipe(text);
    if (!fits) throw ToolError(path + ": a recovery key is 64 hex digits");
}

Status open_with_recovery_key(const BlockDevice& disk, const volume::SlotSecret& secret, OpenVault& vault) {
    const PartitionTables tables = read_partition_tables(disk);
    const HeaderCopies copies = read_header_copies(disk, tables.vault_entry());
    const volume::Candidates candidates = volume::select_candidates(copies[0], copies[1]);
    Status newest{Error::kNotFound, "vault header"};
    for (std::size_t i = 0; i < candidates.count; ++i) {
        vault.copy = candidates.copy[i];
        const Status opened = volume::open_header(copies[vault.copy], volume::SlotKind::kRecovery, secret,
                                                  &tables.primary.header.disk, vault.header, vault.keys);
        if (opened.ok()) return opened;
        if (i == 0) newest = opened;
    }
    return newest;
}

void open_with_recovery_key(const BlockDevice& disk, const std::string& key_file, OpenVault& vault) {
    volume::SlotSecret secret;
    read_recovery_key(key_file, secret);
    const Status opened = open_with_recovery_key(disk, secret, vault);
    if (opened.ok()) return;
    const HeaderCopies copies = read_header_copies(disk, read_partition_tables(disk).vault_entry());
    const auto any = [&](CopyKind kind) { return std::ranges::count(copies, kind, kind_of) != 0; };
    std::string what_to_do = "try the recovery key of this disk";
    if (!any(CopyKind::kHeader)) {
        what_to_do = any(CopyKind::kVersion1) ? "it is of the release before: sealed-key upgrade " + disk.path()
                                              : "there is no vault; sealed-key provision makes one";
    } else if (opened.failure().error == Error::kNotFound) {
        what_to_do = "it was made with --no-recovery-key";
    }
    throw ToolError(disk.path() + ": the recovery key does not open the vault: " + describe(opened.failure()) + " (" +
                    what_to_do + ")");
}

}  // namespace gatehouse::host

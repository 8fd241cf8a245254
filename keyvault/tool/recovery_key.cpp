#include "keyvault/tool/recovery_key.hpp"

#include <unistd.h>

#include <algorithm>

#include "keyvault/volume/format.hpp"

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
    Buffer text = read_line(path, 256);
    const std::string_view digits(reinterpret_cast<const char*>(text.data()), text.size());
    const bool fits = digits.size() == 2 * volume::SlotSecret::kSize &&
                      digits.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
    if (fits) {
        Buffer bytes = from_hex(digits, path);
        copy_bytes(secret.bytes(), bytes);
        wipe(bytes);
    }
    wipe(text);
    if (!fits) throw ToolError(path + ": is no recovery key, which is 64 hex digits");
}

void keep_recovery_key(const std::string& path, const EscrowFile& escrow, const volume::SlotSecret& secret,
                       const volume::VaultId& vault, RandomSource& random) {
    if (!path.empty()) write_recovery_key(path, secret);
    try {
        escrow.create(secret, vault, random);
    } catch (const ToolError& error) {
        if (!path.empty()) ::unlink(path.c_str());
        throw ToolError(std::string(error.what()) + " (the escrow blob; nothing has been written to the disk)",
                        error.code());
    }
}

std::string RecoverySource::options() const {
    return escrow.empty() ? "--recovery-key " + file : "--escrow " + escrow + " --escrow-private-key " + private_key;
}

void read_recovery_key(const RecoverySource& source, const BlockDevice& disk, volume::SlotSecret& secret) {
    if (source.escrow.empty()) return read_recovery_key(source.file, secret);
    std::vector<volume::VaultId> vaults;
    for (const Buffer& copy : read_header_copies(disk, read_partition_tables(disk).vault_entry())) {
        const auto header = std::make_unique<volume::Header>();
        if (volume::preview(copy, *header).ok()) vaults.push_back(header->vault_id);
    }
    open_escrow(source.escrow, source.private_key, vaults, secret);
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

void refuse_stale_copy(const BlockDevice& disk, const OpenVault& vault) {
    const HeaderCopies copies = read_header_copies(disk, read_partition_tables(disk).vault_entry());
    const volume::Candidates candidates = volume::select_candidates(copies[0], copies[1]);
    if (candidates.count == 0 || candidates.copy[0] == vault.copy) return;
    const Bytes newer = copies[candidates.copy[0]];
    const Result<Bytes> covered = volume::covered_bytes(newer);
    const bool good = covered.ok() && equal_secret(volume::header_mac(*covered, vault.keys.kek),
                                                   newer.subspan(covered->size(), volume::kMacSize));
    if (!good) return;  // damaged, or forged: it is made again
    throw ToolError(disk.path() +
                    ": the newer copy of its header has another recovery key; go on with: sealed-key rotate recovery " +
                    disk.path() +
                    " --recovery-key OLD --recovery-key-out NEW: the file that was made then, or, if it is "
                    "lost, another name");
}

volume::SlotSecret open_with_recovery_key(const BlockDevice& disk, const RecoverySource& source, OpenVault& vault) {
    volume::SlotSecret secret;
    read_recovery_key(source, disk, secret);
    demand_opens(disk, secret, vault);
    return secret;
}

void demand_opens(const BlockDevice& disk, const volume::SlotSecret& secret, OpenVault& vault) {
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

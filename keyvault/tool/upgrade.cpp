#include "keyvault/tool/upgrade.hpp"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/volume_writer/header_v1.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;

// The newest authentic copy of version 1. The disk's GUID is not compared: an upgrade that was cut has changed it already.
void open_old_vault(const BlockDevice& disk, const HeaderCopies& copies, const volume::SlotSecret& secret,
                    OpenVault& vault) {
    const volume::Candidates candidates = volume::select_candidates_v1(copies[0], copies[1]);
    Status newest{Error::kNotFound, "vault header of version 1"};
    for (std::size_t i = 0; i < candidates.count; ++i) {
        vault.copy = candidates.copy[i];
        const Status opened = volume::open_header_v1(copies[vault.copy], secret, nullptr, vault.header, vault.keys);
        if (opened.ok()) return;
        if (i == 0) newest = opened;
    }
    throw ToolError(disk.path() + ": the recovery key does not open the old vault: " + describe(newest.failure()));
}

bool same_extents(const volume::Header& one, const volume::Header& other) {
    return std::ranges::equal(encrypted_extents(one), encrypted_extents(other), [](const Extent& a, const Extent& b) {
        return a.first == b.first && a.count == b.count;
    });
}

// Lays the vault out for the disk as it is; what is encrypted must be what was.
void lay_out_again(const BlockDevice& disk, const PartitionTables& tables, OpenVault& vault) {
    const auto old = std::make_unique<volume::Header>(vault.header);
    lay_out(disk, tables, vault.header);
    if (vault.header.sector_size != old->sector_size || vault.header.total_sectors != old->total_sectors ||
        !same_extents(vault.header, *old)) {
        throw ToolError(disk.path() + ": its partitions are not those that its vault was made for");
    }
}

json report(const UpgradeRequest& request, const Endpoint& endpoint, BundleFit fit, const volume::Header& header,
            std::chrono::steady_clock::time_point start) {
    json result = vault_json(header);
    add_sealing(result, request.sealing, endpoint, fit, request.disk);
    result["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

// The old copy stays until a new one is on the medium.
void replace_vault(BlockDevice& disk, const PartitionTables& tables, OpenVault& vault) {
    write_partition_tables(disk, tables);
    VaultStore store(disk, tables.vault_entry());
    put_both_copies(store, vault);
    vault.copy = 0;
}

}  // namespace

void convert_vault(BlockDevice& disk, const volume::SlotSecret& recovery, RandomSource& random, const VaultMaker& make,
                   OpenVault& vault) {
    PartitionTables tables = read_partition_tables(disk);
    open_old_vault(disk, read_header_copies(disk, tables.vault_entry()), recovery, vault);
    renew_identity(tables, random);
    lay_out_again(disk, tables, vault);
    ++vault.header.generation;
    make(vault);
    replace_vault(disk, tables, vault);
}

void finish_conversion(BlockDevice& disk, const OpenVault& vault) {
    const PartitionTables tables = read_partition_tables(disk);
    const HeaderCopies copies = read_header_copies(disk, tables.vault_entry());
    const std::size_t other = 1 - vault.copy;
    if (kind_of(copies[other]) == CopyKind::kHeader) return;
    VaultStore store(disk, tables.vault_entry());
    store.put_copy(vault.copy, copies[vault.copy]);
    store.put_copy(other, copies[vault.copy]);
}

json upgrade(const UpgradeRequest& request) {
    const auto start = std::chrono::steady_clock::now();
    EndpointTpm tpm(request.sealing.tcti, request.sealing.owner_password);
    Disk disk(request.disk, Disk::Access::kWrite);
    volume::SlotSecret recovery;
    read_recovery_key(request.recovery_key, recovery);
    Endpoint endpoint(tpm, request.sealing);
    endpoint.counter = tpm.require_rollback_counter(request.sealing.counter_index);

    const auto vault = std::make_unique<OpenVault>();
    const bool converted = open_with_recovery_key(disk, recovery, *vault).ok();  // cut in between, or done long ago
    const BundleFit fit = check_bundle(disk, request.sealing, endpoint, converted ? &vault->header.vault_id : nullptr);
    if (converted) {
        demand_not_decrypted(disk, vault->header);
        finish_conversion(disk, *vault);
        return report(request, endpoint, fit, vault->header, start);
    }
    EndpointRandom random(tpm);
    const VaultMaker make = [&](OpenVault& made) { make_vault(tpm, endpoint, random, &recovery, made); };
    try {
        convert_vault(disk, recovery, random, make, *vault);
    } catch (const ToolError& error) {
        throw ToolError(std::string(error.what()) + "; give the same command again to go on", error.code());
    }
    return report(request, endpoint, fit, vault->header, start);
}

}  // namespace gatehouse::host

#include "keyvault/tool/decryption.hpp"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>

#include "keyvault/tool/finished_vault.hpp"
#include "keyvault/tool/vault_maker.hpp"
#include "keyvault/tool/vault_wipe.hpp"
#include "keyvault/volume_writer/decryption.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;

// A run that was cut at its very end has left no header, and no way to tell that from a disk without a vault.
void demand_vault(const Disk& disk, const PartitionTables& tables) {
    const HeaderCopies copies = read_header_copies(disk, tables.vault_entry());
    if (std::ranges::any_of(copies, [](const Buffer& copy) { return kind_of(copy) != CopyKind::kNone; })) return;
    throw ToolError(disk.path() +
                    ": there is no vault. If a decrypt was cut while it overwrote it, the disk is plaintext, and "
                    "sealed-key erase " +
                    disk.path() + " ends that");
}

// What the partition table calls the vault is overwritten in the end: it must be what the header calls so.
void demand_same_place(const Disk& disk, const volume::GptEntry& vault, const volume::Header& header) {
    const bool same = std::ranges::any_of(header.region_table(), [&](const Region& region) {
        return region.kind == RegionClass::kHidden && region.first == vault.first && region.count == vault.count();
    });
    if (same) return;
    throw ToolError(
        disk.path() +
        ": its partition table has the vault partition at another place, or of another size, than its vault "
        "was made for; bring that table back");
}

void demand_no_members(const Disk& disk, const volume::Header& header) {
    if (header.member_count == 0) return;
    throw ToolError(
        disk.path() + ": its vault opens " + std::to_string(header.member_count) +
        " more disk(s); of each, sealed-key decrypt it, if it is to be read, and then sealed-key remove-disk " +
        disk.path() + " --vault-id ID, the first of which is " + hex(header.members[0]));
}

std::uint64_t encrypted_bytes(const volume::Header& header) {
    std::uint64_t sectors = 0;
    for (const Extent& extent : encrypted_extents(header)) sectors += extent.count;
    return sectors * header.sector_size;
}

json plan_json(const volume::Header& header, bool under_way) {
    const std::string sectors =
        under_way ? "every sector that is not plaintext yet: " + std::to_string(percent_done(header)) +
                        " % are, by a decryption that was interrupted"
                  : "every encrypted sector of the disk becomes plaintext";
    return {{"plan",
             {{"rotates", "decrypt"},
              {"changes", {sectors, "the vault, which is overwritten at the end"}},
              {"can_lock_out",
               {"the disk does not boot from its beginning on, nor afterwards as it is: the hypervisor finds no vault",
                "after a cut the same command goes on, with the recovery key alone"}},
              {"way_back", {"it goes forward only; afterwards sealed-key provision makes another vault"}}}}};
}

void announce(const Disk& disk, const volume::Header& header, bool under_way) {
    std::cerr << "This brings " << one_line(disk.path()) << ", disk " << guid_text(header.disk) << ", vault\n  "
              << hex(header.vault_id) << ",\n  "
              << (under_way ? "of which " + std::to_string(percent_done(header)) + " % are plaintext, " : "")
              << "back to plaintext: whoever has the disk reads it. Then its vault is destroyed.\n";
}

json notes_on(const DecryptRequest& request, const volume::Header& header) {
    json notes = json::array();
    if (header.slots.member) {
        notes.push_back("it was a member: sealed-key remove-disk BOOT_DISK --recovery-key FILE --vault-id " +
                        hex(header.vault_id) + " takes it off the boot disk's list");
    } else {
        notes.push_back(
            "the hypervisor on its boot partition finds no vault and starts nothing: the disk needs another way to "
            "boot");
        notes.push_back("the TPM keeps what it has for the vault: sealed-key erase " + request.disk +
                        " --tcti TCTI removes it");
    }
    notes.push_back("a copy of the vault that is put back would garble the disk: destroy it, and the recovery key");
    return notes;
}

// What fails says how to go on.
void with_advice(const std::string& advice, const std::function<void()>& step) try {
    step();
} catch (const ToolError& error) {
    throw ToolError(std::string(error.what()) + "; " + advice, error.code());
}

}  // namespace

void bring_to_plaintext(BlockDevice& disk, VaultStore& store, OpenVault& vault, RandomSource& random,
                        std::size_t window_size) {
    if (!volume::is_being_decrypted(vault.header)) {
        demand_not_begun(disk, store, vault, volume::kPlaintextEpoch);
        demand_readable(disk, vault.header, window_size);
        write_again(store, vault);
        vault.header.data_key =
            expect(volume::wrap_dek(vault.keys.dek, volume::kPlaintextEpoch, vault.keys.kek, vault.header.disk, random),
                   "disk key");
        ++vault.header.generation;
        begin_change(disk, store, vault);
    }
    decrypt(disk, store, vault, window_size);
}

json decrypt(const DecryptRequest& request, const Ask& ask) {
    const auto start = std::chrono::steady_clock::now();
    Disk disk(request.disk, request.plan ? Disk::Access::kRead : Disk::Access::kWrite);
    const PartitionTables tables = read_partition_tables(disk);
    demand_vault(disk, tables);
    const auto vault = std::make_unique<OpenVault>();
    const volume::Header& header = vault->header;
    open_with_recovery_key(disk, request.recovery_key, *vault);
    demand_same_size(disk, header);
    refuse_stale_copy(disk, *vault);
    const bool under_way = volume::is_being_decrypted(header);
    if (!under_way) demand_idle(disk, header, request.recovery_key);
    demand_no_members(disk, header);
    demand_same_place(disk, tables.vault_entry(), header);
    if (request.plan) return plan_json(header, under_way);
    announce(disk, header, under_way);
    confirm(disk, request.confirmation, "vault id", hex(header.vault_id), ask);

    VaultStore store(disk, tables.vault_entry());
    SystemRandom random;
    with_advice("go on with: sealed-key decrypt " + request.disk + " " + request.recovery_key.options(),
                [&] { bring_to_plaintext(disk, store, *vault, random); });
    json result;
    with_advice("the disk is plaintext; what is left of its vault: sealed-key erase " + request.disk,
                [&] { result = wipe_vault(disk, tables.vault_entry()); });
    result["disk"] = guid_text(header.disk);
    result["vault_id"] = hex(header.vault_id);
    result["decrypted_bytes"] = encrypted_bytes(header);
    result["resumed"] = under_way;
    result["notes"] = notes_on(request, header);
    result["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

}  // namespace gatehouse::host

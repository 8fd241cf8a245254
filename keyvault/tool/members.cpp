#include "keyvault/tool/members.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "keyvault/tool/provision.hpp"
#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/tool/rotation.hpp"

namespace gatehouse::host {
namespace {

using nlohmann::json;
using volume::CursorState;
using volume::Header;

// An endpoint's boot disk, its vault open and at rest.
class BootDisk {
  public:
    BootDisk(const std::string& path, const std::string& recovery_key)
        : disk(path, Disk::Access::kWrite), store(disk, read_partition_tables(disk).vault_entry()) {
        open_with_recovery_key(disk, recovery_key, *vault);
        refuse_stale_copy(disk, *vault);
        if (!vault->header.slots.tpm) throw ToolError(path + ": its vault has no TPM slot, so it is no boot disk");
        if (vault->header.cursor.state != CursorState::kIdle) {
            throw ToolError(path + ": it is not encrypted to its end; sealed-key status " + path +
                            " says how to go on");
        }
    }
    [[nodiscard]] bool lists(const volume::VaultId& id) const {
        return std::ranges::find(vault->header.member_table(), id) != vault->header.member_table().end();
    }
    void put_members(std::vector<volume::VaultId> ids) {
        std::ranges::sort(ids);
        change_header(store, *vault, [&](OpenVault& of) {
            of.header.members = {};
            std::ranges::copy(ids, of.header.members.begin());
            of.header.member_count = static_cast<std::uint32_t>(ids.size());
        });
    }
    [[nodiscard]] std::vector<volume::VaultId> members() const {
        const auto table = vault->header.member_table();
        return {table.begin(), table.end()};
    }
    [[nodiscard]] json members_json() const {
        json list = json::array();
        for (const volume::VaultId& id : vault->header.member_table()) list.push_back(hex(id));
        return list;
    }

    Disk disk;
    VaultStore store;
    std::unique_ptr<OpenVault> vault = std::make_unique<OpenVault>();
};

// Whether there is anything where file systems, volume managers and partition tables begin or end.
bool is_empty(const BlockDevice& disk) {
    const std::uint64_t count = std::min<std::uint64_t>((1 << 20) / disk.sector_size(), disk.total_sectors());
    return std::ranges::all_of(std::array{std::uint64_t{0}, disk.total_sectors() - count}, [&](std::uint64_t lba) {
        const Buffer data = disk.read_sectors(lba, count);
        return std::ranges::all_of(data, [](std::byte byte) { return byte == std::byte{0}; });
    });
}

void demand_partition_table(const BlockDevice& disk) {
    std::string why_not;
    if (try_partition_table(disk, volume::kPrimaryGptLba, why_not) ||
        try_partition_table(disk, disk.total_sectors() - 1, why_not)) {
        return;
    }
    throw ToolError(why_not + "; on a disk that is empty, --format makes a partition table");
}

// By sgdisk: 2 MiB for the vault, the rest for data.
void format_disk(const std::string& path) {
    if (!is_empty(Disk(path, Disk::Access::kWrite))) {
        throw ToolError(
            path +
            ": is not empty: there is something in its first or last megabyte, which --format would end; if "
            "add-disk was begun with it, the same command without --format goes on; if nobody needs it, take it away "
            "first (wipefs --all, sgdisk --zap-all)");
    }
    (void)run_program({"sgdisk", "-n", "1:1M:+2M", "-t", "1:618D37B5-40B8-4F5A-8355-A2A84F2A31E0", "-c",
                       "1:gatehouse-vault", "-n", "2:0:0", "-t", "2:8300", "-c", "2:data", path},
                      {}, 1 << 16);
}

// As make_vault(), for a vault that the boot vault's root opens.
void make_member(const BootDisk& boot, const volume::SlotSecret& recovery, RandomSource& random, OpenVault& vault) {
    random.fill(vault.keys.dek.bytes());
    random.fill(vault.keys.root.bytes());
    vault.header.vault_id = volume::vault_id(vault.keys.root);
    renew_kek(random, &recovery, vault);
    vault.header.slots.member =
        volume::wrap_kek(vault.keys.kek, volume::SlotKind::kMember, boot.vault->keys.root, vault.header, random);
}

// Goes on with a member that an earlier run of the same command began.
void finish_member(Disk& disk, const PartitionTables& tables, const BootDisk& boot, OpenVault& vault) {
    volume::Keys keys;
    const auto header = std::make_unique<Header>();
    const Status opened = volume::open_header(whole_copy(vault), volume::SlotKind::kMember, boot.vault->keys.root,
                                              &vault.header.disk, *header, keys);
    if (!opened.ok())
        throw ToolError(disk.path() +
                        ": its vault is not one that this boot disk opens: " + describe(opened.failure()));
    VaultStore store(disk, tables.vault_entry());
    encrypt(disk, store, vault);
}

void encrypt_as_member(Disk& disk, const BootDisk& boot, const volume::SlotSecret& recovery, OpenVault& vault) {
    PartitionTables tables = read_partition_tables(disk);
    const Status opened = open_with_recovery_key(disk, recovery, vault);
    if (opened.ok()) return finish_member(disk, tables, boot, vault);
    for (const Buffer& copy : read_header_copies(disk, tables.vault_entry())) {
        if (kind_of(copy) != CopyKind::kNone) {
            throw ToolError(disk.path() + ": has a vault already, and the boot disk's recovery key does not open it: " +
                            describe(opened.failure()));
        }
    }
    SystemRandom random;
    renew_identity(tables, random);
    lay_out(disk, tables, vault.header, DiskRole::kMember);
    make_member(boot, recovery, random, vault);
    put_vault(disk, tables, vault);
}

}  // namespace

json add_disk(const AddDiskRequest& request) {
    const auto start = std::chrono::steady_clock::now();
    std::error_code missing;  // told when the disk is opened
    if (std::filesystem::equivalent(request.disk, request.boot_disk, missing)) {
        throw ToolError(request.disk + ": is the boot disk itself; DISK is the one to add");
    }
    BootDisk boot(request.boot_disk, request.recovery_key);
    volume::SlotSecret recovery;
    read_recovery_key(request.recovery_key, recovery);
    if (boot.vault->header.member_count == volume::kMaximumMembers) {
        throw ToolError(request.boot_disk + ": its vault has " + std::to_string(volume::kMaximumMembers) +
                        " members already, which is as many as there can be");
    }
    if (request.format) format_disk(request.disk);
    Disk disk(request.disk, Disk::Access::kWrite);
    demand_partition_table(disk);
    const auto vault = std::make_unique<OpenVault>();
    try {
        encrypt_as_member(disk, boot, recovery, *vault);
        if (!boot.lists(vault->header.vault_id)) {
            auto ids = boot.members();
            ids.push_back(vault->header.vault_id);
            boot.put_members(std::move(ids));
        }
    } catch (const ToolError& error) {
        throw ToolError(std::string(error.what()) + "; once that is mended, the same command without --format goes on",
                        error.code());
    }
    json result = vault_json(vault->header);
    result["boot_disk"] = guid_text(boot.vault->header.disk);
    result["members"] = boot.members_json();
    result["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
}

json remove_disk(const std::string& boot_disk, const std::string& recovery_key, const std::string& vault_id) {
    BootDisk boot(boot_disk, recovery_key);
    const Buffer bytes = from_hex(vault_id, "vault id");
    std::vector<volume::VaultId> ids = boot.members();
    if (std::erase_if(ids, [&](const volume::VaultId& id) { return equal_bytes(id, bytes); }) == 0) {
        throw ToolError(boot_disk + ": lists no such member; its members: " + boot.members_json().dump());
    }
    boot.put_members(std::move(ids));
    return {{"boot_disk", guid_text(boot.vault->header.disk)}, {"removed", vault_id}, {"members", boot.members_json()}};
}

}  // namespace gatehouse::host

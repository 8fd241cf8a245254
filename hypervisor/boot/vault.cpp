#include "hypervisor/boot/vault.hpp"

#include <algorithm>
#include <utility>

#include "hypervisor/base/log.hpp"

namespace gatehouse::boot {
namespace {

using volume::GptEntry;
using volume::GptHeader;

Result<VaultPlace> find_by_table(VaultDisk& disk, std::uint64_t lba, VaultScratch& scratch) {
    const std::size_t sector_size = disk.sector_size();
    const MutableBytes sector = MutableBytes(scratch.sector).first(sector_size);
    GATEHOUSE_TRY(disk.read(lba, sector));
    GATEHOUSE_ASSIGN(const GptHeader header, volume::parse_gpt_header(sector, lba, disk.total_sectors()));
    const MutableBytes table = MutableBytes(scratch.table).first(header.table_size());
    for (std::size_t at = 0, i = 0; at < table.size(); at += sector_size, ++i) {
        GATEHOUSE_TRY(disk.read(header.entries_lba + i, sector));
        const MutableBytes part = table.subspan(at);
        copy_bytes(part, Bytes(sector).first(std::min(part.size(), sector_size)));
    }
    GATEHOUSE_ASSIGN(const GptEntry entry, volume::find_partition(header, table, volume::kVaultPartitionType));
    if (entry.count() < volume::kMinimumVaultSize / sector_size) {
        return {Error::kBadLength, "vault partition", entry.count()};
    }
    return VaultPlace{header.disk, entry.first, entry.count()};
}

// A member's secret is the boot vault's root.
class MemberSecret final : public Unsealer {
  public:
    explicit MemberSecret(const volume::Root& root) : root_(root) {}
    Result<volume::SlotSecret> unseal(const volume::Slots&) override { return volume::SlotSecret(root_.bytes()); }

  private:
    const volume::Root& root_;
};

void stays_absent(const VaultDisk& disk, const Failure& why) {
    log("gatehouse: disk at port ", std::uint64_t{disk.port()}, ": ", why, "; it stays absent");
}

}  // namespace

Result<VaultPlace> find_vault(VaultDisk& disk, VaultScratch& scratch) {
    if (disk.total_sectors() < 3) return {Error::kNotFound, "partition table", disk.total_sectors()};
    const auto primary = find_by_table(disk, volume::kPrimaryGptLba, scratch);
    if (primary || primary.error() == Error::kNotFound) return primary;
    const auto backup = find_by_table(disk, disk.total_sectors() - 1, scratch);
    if (backup) log("gatehouse: primary partition table: ", primary.failure(), "; the backup is used");
    return backup || backup.error() == Error::kNotFound ? backup : primary;
}

bool Vaults::is_open(const volume::VaultId& id) const {
    return std::ranges::any_of(all(), [&](const OpenVault& vault) { return vault.header.vault_id == id; });
}

// Finds the vault and reads its header's copies.
Result<VaultPlace> Vaults::load(VaultDisk& disk) {
    GATEHOUSE_ASSIGN(const VaultPlace place, find_vault(disk, scratch_));
    for (std::size_t i = 0; i < volume::kCopies; ++i) {
        const std::uint64_t lba = place.first + volume::kCopyOffset[i] / disk.sector_size();
        if (const Status status = disk.read(lba, scratch_.copies[i]); !status) {
            log("gatehouse: vault header copy ", std::uint64_t{i}, ": ", status.failure());
            scratch_.copies[i].fill(std::byte{0});  // an unreadable copy is one without a header
        }
    }
    return place;
}

// A copy whose slot opens and whose MAC holds, into the next room.
Status Vaults::open_copy(VaultDisk& disk, const VaultPlace& place, Bytes copy, volume::SlotKind slot,
                         Unsealer& unsealer) {
    if (scratch_.preview.disk != place.disk) return {Error::kMismatch, "vault header: of another disk"};
    GATEHOUSE_ASSIGN(const volume::SlotSecret secret, unsealer.unseal(scratch_.preview.slots));
    open_[count_].disk = &disk;
    return volume::open_header(copy, slot, secret, &place.disk, open_[count_].header, keys_);
}

// The loaded vault, if its header claims one of the wanted ids; kNotFound if not.
Status Vaults::open_one(VaultDisk& disk, const VaultPlace& place, std::span<const volume::VaultId> wanted,
                        volume::SlotKind slot, Unsealer& unsealer) {
    const volume::Candidates candidates = volume::select_candidates(scratch_.copies[0], scratch_.copies[1]);
    Status newest{Error::kNotFound, "vault: not of this endpoint"};
    for (const std::size_t number : std::span(candidates.copy).first(candidates.count)) {
        const Bytes copy = scratch_.copies[number];
        if (!volume::preview(copy, scratch_.preview) ||
            std::ranges::find(wanted, scratch_.preview.vault_id) == wanted.end()) {
            continue;
        }
        if (is_open(scratch_.preview.vault_id)) return {Error::kNotFound, "vault: opened on another disk already"};
        const Status status = open_copy(disk, place, copy, slot, unsealer);
        if (!status) {
            log("gatehouse: vault header copy ", std::uint64_t{number}, ": ", status.failure());
            if (newest.error() == Error::kNotFound) newest = status;
            continue;
        }
        // It is authentic: no older copy may say otherwise.
        const volume::Header& header = open_[count_].header;
        if (header.sector_size != disk.sector_size() || header.total_sectors != disk.total_sectors()) {
            return {Error::kMismatch, "vault header: geometry of another disk", header.total_sectors};
        }
        if (header.cursor.state != volume::CursorState::kIdle) {
            return {Error::kRefused, "vault header: provisioning was interrupted; resume it with sealed-key",
                    header.cursor.next};
        }
        GATEHOUSE_TRY(disk.attach(header, keys_.dek));
        ++count_;
        log("gatehouse: disk at port ", std::uint64_t{disk.port()}, ": vault opened, generation ", header.generation,
            ", key epoch ", std::uint64_t{header.data_key.epoch}, ", ", header.total_sectors, " sectors of ",
            std::uint64_t{header.sector_size}, " bytes");
        return {};
    }
    return newest;
}

Status Vaults::open_boot_vault(std::span<VaultDisk* const> disks, const volume::VaultId& pinned, Unsealer& tpm) {
    Status first{Error::kNotFound, "boot vault: on no disk"};
    for (VaultDisk* const disk : disks) {
        const auto place = load(*disk);
        if (!place) continue;
        const Status opened = open_one(*disk, *place, std::span(&pinned, 1), volume::SlotKind::kTpm, tpm);
        if (opened) return {};
        if (first.error() == Error::kNotFound && opened.error() != Error::kNotFound) first = opened;
    }
    return first;
}

Status Vaults::open(std::span<VaultDisk* const> disks, const volume::VaultId& pinned, Unsealer& tpm) {
    const Status opened = open_boot_vault(disks, pinned, tpm);
    // Of a vault that did not open nothing is believed.
    const auto members = opened ? open_[0].header.member_table() : std::span<const volume::VaultId>();
    root_ = std::move(keys_.root);
    MemberSecret root(root_);
    for (VaultDisk* const disk : disks) {
        if (count_ != 0 && open_[0].disk == disk) continue;
        const auto place = load(*disk);
        const Status member =
            place ? open_one(*disk, *place, members, volume::SlotKind::kMember, root) : Status(place.failure());
        if (!member) stays_absent(*disk, member.failure());
    }
    keys_.clear();
    root_.clear();
    gatehouse::wipe(&scratch_, sizeof(scratch_));
    return opened;
}

}  // namespace gatehouse::boot

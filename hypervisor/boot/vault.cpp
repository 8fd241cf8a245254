#include "hypervisor/boot/vault.hpp"

#include <algorithm>

#include "ata/xts/xts_vaes.hpp"
#include "hypervisor/base/log.hpp"
#include "hypervisor/cpu/vector.hpp"

namespace gatehouse::boot {
namespace {

// UEFI 2.10, tables 5-5 and 5-6: the disk's GUID and the first LBA of
// the entries in a table's header; size of an entry.
constexpr std::size_t kDiskAt = 56;
constexpr std::size_t kEntriesLbaAt = 72;
constexpr std::size_t kEntrySize = 128;

// First LBA of the vault partition.
Result<std::uint64_t> find_partition(const ata::Geometry& disk, Bytes table) {
    for (Reader entries(table); entries.remaining() != 0;) {
        Reader entry(entries.bytes(kEntrySize));
        if (!equal_bytes(entry.bytes(sizeof(volume::Guid)), volume::kVaultPartitionType)) continue;
        entry.skip(sizeof(volume::Guid));  // its own
        const std::uint64_t first = entry.u64();
        const std::uint64_t last = entry.u64();
        if (first > last || last >= disk.sectors) return {Error::kOutOfRange, "vault partition", first};
        const std::uint64_t count = last - first + 1;
        if (count < volume::kMinimumVaultSize / disk.sector_size) return {Error::kBadLength, "vault partition", count};
        return first;
    }
    return {Error::kNotFound, "vault partition"};
}

// By the partition table whose header is at `lba`.
Status load_by_table(ata::Disk& disk, std::uint64_t lba, VaultScratch& scratch) {
    const MutableBytes head = MutableBytes(scratch.sector).first(disk.geometry().sector_size);
    GATEHOUSE_TRY(disk.read_sectors(lba, head));
    if (!equal_bytes(head.first(8), literal_bytes("EFI PART"))) return {Error::kBadMagic, "partition table", lba};
    GATEHOUSE_TRY(disk.read_sectors(load<std::uint64_t>(head.data() + kEntriesLbaAt, Endian::kLittle), scratch.table));
    GATEHOUSE_ASSIGN(scratch.first, find_partition(disk.geometry(), scratch.table));
    bool found = false;
    for (std::size_t i = 0; i < volume::kCopies; ++i) {
        Status copy =
            disk.read_sectors(scratch.first + volume::kCopyOffset[i] / disk.geometry().sector_size, scratch.copies[i]);
        if (copy) copy = volume::preview(scratch.copies[i], scratch.header);
        if (copy && !equal_bytes(scratch.header.disk, head.subspan(kDiskAt, sizeof(volume::Guid)))) {
            copy = {Error::kMismatch, "vault header: of another disk"};
        }
        found |= copy.ok();
        if (copy) continue;
        log("gatehouse: vault header copy ", std::uint64_t{i}, ": ", copy.failure());
        scratch.copies[i].fill(std::byte{0});
    }
    return found ? Status() : Status(Error::kNotFound, "vault header");
}

}  // namespace

Status load_vault(ata::Disk& disk, VaultScratch& scratch) {
    const Status primary = load_by_table(disk, 1, scratch);
    if (primary) return primary;
    const Status backup = load_by_table(disk, disk.geometry().sectors - 1, scratch);
    if (backup) log("gatehouse: primary partition table: ", primary.failure(), "; the backup is used");
    return backup ? backup : primary;
}

Status PortDisk::attach(const volume::Header& header, const volume::Dek& dek) {
    const auto shown = std::span(regions).first(header.region_count);
    std::ranges::copy(header.region_table(), shown.begin());
    std::size_t next = 0;  // volume::validate(): overlay sectors are those of the overlay regions, in this order
    for (Region& region : shown) {
        if (region.kind == RegionClass::kOverlay) region.overlay = header.overlay[next++].content.data();
    }
    const cpu::VectorSection vectors;  // in which XCR0 has what VAES needs
    GATEHOUSE_TRY(key.set(dek.bytes()));
    if (ata::can_use_vaes()) log("disk: encryption by VAES");
    disk->attach(shown, key);
    return {};
}

bool Vaults::is_open(const volume::VaultId& id) const {
    return std::ranges::any_of(all(), [&](const OpenVault& vault) { return vault.header.vault_id == id; });
}

// A copy whose slot opens and whose MAC holds, into the next room. A member's secret is the boot vault's root.
Status Vaults::open_copy(Bytes copy, Unsealer* tpm) {
    volume::Header& header = open_[count_].header;
    if (tpm == nullptr) return volume::open_header(copy, volume::SlotKind::kMember, root_, nullptr, header, keys_);
    GATEHOUSE_ASSIGN(const volume::SlotSecret secret, tpm->unseal(scratch_.header.slots));
    return volume::open_header(copy, volume::SlotKind::kTpm, secret, nullptr, header, keys_);
}

// The loaded vault, if its header claims one of the wanted ids; kNotFound if not.
Status Vaults::open_one(PortDisk& disk, std::span<const volume::VaultId> wanted, Unsealer* tpm) {
    const volume::Candidates candidates = volume::select_candidates(scratch_.copies[0], scratch_.copies[1]);
    Status newest{Error::kNotFound, "vault: not of this endpoint"};
    for (const std::size_t number : std::span(candidates.copy).first(candidates.count)) {
        const Bytes copy = scratch_.copies[number];
        GATEHOUSE_TRY(volume::preview(copy, scratch_.header));
        const volume::VaultId& id = scratch_.header.vault_id;
        if (std::ranges::find(wanted, id) == wanted.end()) continue;
        if (is_open(id)) return {Error::kNotFound, "vault: opened on another disk already"};
        const Status status = open_copy(copy, tpm);
        if (!status) {
            log("gatehouse: vault header copy ", std::uint64_t{number}, ": ", status.failure());
            if (newest.error() == Error::kNotFound) newest = status;
            continue;
        }
        // It is authentic: no older copy may say otherwise.
        volume::Header& header = open_[count_].header;
        const ata::Geometry& geometry = disk.disk->geometry();
        if (header.sector_size != geometry.sector_size || header.total_sectors != geometry.sectors) {
            return {Error::kMismatch, "vault header: geometry of another disk", header.total_sectors};
        }
        GATEHOUSE_TRY(conversion_.begin(*disk.disk, scratch_.first, number, copy, header, keys_));
        GATEHOUSE_TRY(disk.attach(header, keys_.dek));
        open_[count_++].disk = &disk;
        log("gatehouse: disk at port ", disk.disk->number(), ": vault opened, generation ", header.generation,
            ", key epoch ", std::uint64_t{header.data_key.epoch}, ", ", header.total_sectors, " sectors of ",
            std::uint64_t{header.sector_size}, " bytes");
        return {};
    }
    return newest;
}

Status Vaults::open_boot_vault(std::span<PortDisk* const> disks, const volume::VaultId& pinned, Unsealer& tpm) {
    Status first{Error::kNotFound, "boot vault: on no disk"};
    for (PortDisk* const disk : disks) {
        if (!load_vault(*disk->disk, scratch_)) continue;
        const Status opened = open_one(*disk, std::span(&pinned, 1), &tpm);
        if (opened) return {};
        if (first.error() == Error::kNotFound && opened.error() != Error::kNotFound) first = opened;
    }
    return first;
}

Status Vaults::open(std::span<PortDisk* const> disks, const volume::VaultId& pinned, Unsealer& tpm) {
    const Status opened = open_boot_vault(disks, pinned, tpm);
    // Of a vault that did not open nothing is believed.
    const auto members = opened ? open_[0].header.member_table() : std::span<const volume::VaultId>();
    root_ = std::move(keys_.root);
    for (PortDisk* const disk : disks) {
        if (count_ != 0 && open_[0].disk == disk) continue;
        Status member = load_vault(*disk->disk, scratch_);
        if (member) member = open_one(*disk, members, nullptr);
        if (!member) {
            log("gatehouse: disk at port ", disk->disk->number(), ": ", member.failure(), "; it stays absent");
        }
    }
    keys_ = {};
    root_.clear();
    gatehouse::wipe(&scratch_, sizeof(scratch_));
    return opened;
}

}  // namespace gatehouse::boot

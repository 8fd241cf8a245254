#include "hypervisor/boot/vault.hpp"

#include <algorithm>

#include "hypervisor/base/log.hpp"

namespace gatehouse::boot {
namespace {

using volume::GptEntry;
using volume::GptHeader;

Result<VaultPlace> find_by_table(SectorSource& disk, std::uint64_t lba, VaultScratch& scratch) {
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
    GATEHOUSE_TRY(volume::check_gpt_entries(header, table));
    GATEHOUSE_ASSIGN(const GptEntry entry, volume::find_partition(header, table, volume::kVaultPartitionType));
    return VaultPlace{header.disk, entry.first, entry.count()};
}

Status open_copy(SectorSource& disk, const VaultPlace& place, Bytes copy, Unsealer& unsealer, VaultScratch& scratch,
                 volume::Header& header, volume::Keys& keys) {
    GATEHOUSE_TRY(volume::preview(copy, scratch.preview));
    if (!scratch.preview.slots.tpm) return {Error::kNotFound, "vault: no TPM slot"};
    if (scratch.preview.disk != place.disk) return {Error::kMismatch, "vault header: of another disk"};
    GATEHOUSE_ASSIGN(const volume::SlotSecret secret, unsealer.unseal(*scratch.preview.slots.tpm));
    GATEHOUSE_TRY(volume::open_header(copy, volume::SlotKind::kTpm, secret, &place.disk, header, keys));
    if (header.sector_size != disk.sector_size() || header.total_sectors != disk.total_sectors()) {
        return {Error::kMismatch, "vault header: geometry of another disk", header.total_sectors};
    }
    return {};
}

}  // namespace

Result<VaultPlace> find_vault(SectorSource& disk, VaultScratch& scratch) {
    if (disk.total_sectors() < 3) return {Error::kNotFound, "partition table", disk.total_sectors()};
    const auto primary = find_by_table(disk, volume::kPrimaryGptLba, scratch);
    if (primary || primary.error() == Error::kNotFound) return primary;
    const auto backup = find_by_table(disk, disk.total_sectors() - 1, scratch);
    if (backup) log("gatehouse: primary partition table: ", primary.failure(), "; the backup is used");
    return backup || backup.error() == Error::kNotFound ? backup : primary;
}

Status open_vault(SectorSource& disk, const VaultPlace& place, Unsealer& unsealer, VaultScratch& scratch,
                  volume::Header& header, volume::Keys& keys) {
    if (place.count < volume::kMinimumVaultSize / disk.sector_size()) {
        return {Error::kBadLength, "vault partition", place.count};
    }
    for (std::size_t i = 0; i < volume::kCopies; ++i) {
        const std::uint64_t lba = place.first + volume::kCopyOffset[i] / disk.sector_size();
        if (const Status status = disk.read(lba, scratch.copies[i]); !status) {
            log("gatehouse: vault header copy ", std::uint64_t{i}, ": ", status.failure());
            scratch.copies[i].fill(std::byte{0});  // an unreadable copy is one without a header
        }
    }
    const volume::Candidates candidates = volume::select_candidates(scratch.copies[0], scratch.copies[1]);
    Status newest{Error::kNotFound, "vault header"};
    for (std::size_t i = 0; i < candidates.count; ++i) {
        const std::size_t number = candidates.copy[i];
        const Status status = open_copy(disk, place, scratch.copies[number], unsealer, scratch, header, keys);
        if (status) return {};
        log("gatehouse: vault header copy ", std::uint64_t{number}, ": ", status.failure());
        if (i == 0) newest = status;
    }
    return newest;
}

}  // namespace gatehouse::boot

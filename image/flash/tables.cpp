#include "image/flash/tables.hpp"

#include <algorithm>

#include "keyvault/tool/vault_store.hpp"

namespace gatehouse::flash {
namespace {

using host::Buffer;
using host::ToolError;

constexpr std::uint64_t kPrimaryArray = 2;  // LBA

// A protective MBR has a partition of type 0xee over the whole disk (UEFI 2.10, table 5-4).
constexpr std::size_t kRecordsAt = 446;
constexpr std::size_t kRecordSize = 16;
constexpr std::size_t kRecords = 4;
constexpr std::size_t kTypeAt = 4;
constexpr std::size_t kSectorsAt = 12;
constexpr std::byte kProtective{0xee};

void fit_mbr(Buffer& sector, std::uint64_t total_sectors) {
    for (std::size_t i = 0; i < kRecords; ++i) {
        std::byte* const record = sector.data() + kRecordsAt + i * kRecordSize;
        if (record[kTypeAt] != kProtective) continue;
        store(record + kSectorsAt, static_cast<std::uint32_t>(std::min<std::uint64_t>(total_sectors - 1, UINT32_MAX)),
              Endian::kLittle);
    }
}

}  // namespace

host::PartitionTables read_image_tables(const host::BlockDevice& image) {
    host::PartitionTables tables = host::read_partition_tables(image);
    if (tables.primary.header.entries_lba != kPrimaryArray) {
        throw ToolError(image.path() + ": its partition table does not begin at sector 2");
    }
    (void)tables.primary.boot_partition();
    for (const Buffer& copy : host::read_header_copies(image, tables.vault_entry())) {
        if (host::kind_of(copy) == host::CopyKind::kNone) continue;
        throw ToolError(
            image.path() +
            ": its vault has been made already (sealed-key provision), for one endpoint: flash the image as "
            "image/build-appliance made it, and provision the disk");
    }
    return tables;
}

FittedTables fit_tables(const host::BlockDevice& image, std::uint64_t total_sectors, RandomSource& random) {
    host::PartitionTables tables = read_image_tables(image);
    host::fit_to_disk(tables, total_sectors);
    host::renew_identity(tables, random);
    Buffer mbr = image.read_sectors(0, 1);
    fit_mbr(mbr, total_sectors);
    const auto& primary = tables.primary;
    const auto& backup = tables.backup;
    return {.disk = primary.header.disk,
            .mbr = {0, std::move(mbr)},
            .primary_array = {primary.header.entries_lba, primary.array},
            .primary_header = {primary.header.lba, primary.sector},
            .backup_array = {backup.header.entries_lba, backup.array},
            .backup_header = {backup.header.lba, backup.sector}};
}

}  // namespace gatehouse::flash

#include "keyvault/tool/partition_tables.hpp"

#include <algorithm>

namespace gatehouse::host {
namespace {

// Offsets in a header and in an entry (UEFI 2.10, tables 5-5 and 5-6).
constexpr std::size_t kLbaAt = 24;
constexpr std::size_t kAlternateAt = 32;
constexpr std::size_t kLastUsableAt = 48;
constexpr std::size_t kDiskAt = 56;
constexpr std::size_t kEntriesLbaAt = 72;
constexpr std::size_t kHeaderSizeAt = 12;
constexpr std::size_t kEntryIdAt = 16;
constexpr std::size_t kEntryLastAt = 40;
constexpr std::size_t kEntryAttributesAt = 48;
constexpr std::uint64_t kGrowFileSystem = std::uint64_t{1} << 59;

volume::Guid random_guid(RandomSource& random) {
    volume::Guid guid{};
    random.fill(guid);
    guid[7] = (guid[7] & std::byte{0x0f}) | std::byte{0x40};  // version 4; the field is little-endian
    guid[8] = (guid[8] & std::byte{0x3f}) | std::byte{0x80};  // variant
    return guid;
}

// Makes the CRCs right, and `header` what its sector says.
void seal(PartitionTable& table, std::uint64_t total_sectors) {
    std::byte* const head = table.sector.data();
    const auto size = load<std::uint32_t>(head + kHeaderSizeAt, Endian::kLittle);  // checked when it was parsed
    store(head + volume::kGptEntriesCrcAt, volume::crc32(table.entries()), Endian::kLittle);
    store(head + volume::kGptHeaderCrcAt, std::uint32_t{0}, Endian::kLittle);
    store(head + volume::kGptHeaderCrcAt, volume::crc32(Bytes(table.sector).first(size)), Endian::kLittle);
    table.header = expect(volume::parse_gpt_header(table.sector, table.header.lba, total_sectors), "partition table");
}

// The same table for the other end of the disk.
PartitionTable other_copy(const PartitionTable& table, const BlockDevice& disk) {
    PartitionTable other = table;
    other.header.lba = table.header.alternate_lba;
    const std::uint64_t sectors = table.header.table_sectors(disk.sector_size());
    const bool is_primary = other.header.lba == volume::kPrimaryGptLba;
    const std::uint64_t entries = is_primary ? other.header.lba + 1 : other.header.lba - sectors;
    store(other.sector.data() + kLbaAt, other.header.lba, Endian::kLittle);
    store(other.sector.data() + kAlternateAt, table.header.lba, Endian::kLittle);
    store(other.sector.data() + kEntriesLbaAt, entries, Endian::kLittle);
    seal(other, disk.total_sectors());
    return other;
}

Buffer without_ids(const PartitionTable& table) {
    const Bytes entries = table.entries();
    Buffer copy(entries.begin(), entries.end());
    for (std::size_t at = kEntryIdAt; at < copy.size(); at += volume::kGptEntrySize) {
        std::fill_n(copy.begin() + static_cast<std::ptrdiff_t>(at), sizeof(volume::Guid), std::byte{0});
    }
    return copy;
}

void check_ends(const BlockDevice& disk, const PartitionTable& table, std::uint64_t alternate) {
    if (table.header.alternate_lba != alternate) {
        throw ToolError(disk.path() +
                        ": the backup partition table is not at the end of the disk (sgdisk -e moves it)");
    }
}

}  // namespace

std::optional<PartitionTable> try_partition_table(const BlockDevice& disk, std::uint64_t lba,
                                                  std::string& why_not) try {
    return read_partition_table(disk, lba);
} catch (const ToolError& error) {
    if (why_not.empty()) why_not = error.what();
    return std::nullopt;
}

PartitionTables read_partition_tables(const BlockDevice& disk) {
    const std::uint64_t last = disk.total_sectors() - 1;
    std::string why_not;
    std::optional<PartitionTable> primary = try_partition_table(disk, volume::kPrimaryGptLba, why_not);
    if (primary) check_ends(disk, *primary, last);
    std::optional<PartitionTable> backup = try_partition_table(disk, last, why_not);
    if (!primary && !backup) throw ToolError(why_not);
    if (backup) check_ends(disk, *backup, volume::kPrimaryGptLba);
    if (primary && backup && without_ids(*primary) != without_ids(*backup)) {
        throw ToolError(disk.path() + ": the two copies of the partition table differ (repair it with gdisk)");
    }
    if (!primary) primary = other_copy(*backup, disk);
    if (!backup || !equal_bytes(primary->entries(), backup->entries()) || primary->header.disk != backup->header.disk) {
        backup = other_copy(*primary, disk);
    }
    PartitionTables tables{.primary = std::move(*primary), .backup = std::move(*backup), .vault = 0};
    const volume::GptEntry vault = tables.primary.vault_partition();
    while (volume::gpt_entry(tables.primary.entries(), tables.vault).type != vault.type) ++tables.vault;
    return tables;
}

void renew_identity(PartitionTables& tables, RandomSource& random) {
    const volume::Guid disk = random_guid(random);
    for (std::uint32_t i = 0; i < tables.primary.header.entry_count; ++i) {
        if (!volume::gpt_entry(tables.primary.entries(), i).used()) continue;
        const volume::Guid id = random_guid(random);
        for (PartitionTable* const table : {&tables.primary, &tables.backup}) {
            copy_bytes(MutableBytes(table->array).subspan(i * volume::kGptEntrySize + kEntryIdAt), id);
        }
    }
    const std::uint64_t total = std::max(tables.primary.header.lba, tables.backup.header.lba) + 1;
    for (PartitionTable* const table : {&tables.primary, &tables.backup}) {
        copy_bytes(MutableBytes(table->sector).subspan(kDiskAt), disk);
        seal(*table, total);
    }
}

void fit_to_disk(PartitionTables& tables, std::uint64_t total_sectors) {
    const std::size_t sector_size = tables.primary.sector.size();
    const std::uint64_t last = total_sectors - 1;
    const std::uint64_t backup_entries = last - tables.primary.header.table_sectors(sector_size);
    const std::uint64_t last_usable = backup_entries - 1;
    std::optional<std::uint32_t> last_partition;
    for (std::uint32_t i = 0; i < tables.primary.header.entry_count; ++i) {
        const auto entry = [&](std::uint32_t index) { return volume::gpt_entry(tables.primary.entries(), index); };
        if (entry(i).used() && (!last_partition || entry(i).last > entry(*last_partition).last)) last_partition = i;
    }
    tables.backup.header.lba = last;
    store(tables.primary.sector.data() + kAlternateAt, last, Endian::kLittle);
    store(tables.backup.sector.data() + kLbaAt, last, Endian::kLittle);
    store(tables.backup.sector.data() + kEntriesLbaAt, backup_entries, Endian::kLittle);
    for (PartitionTable* const table : {&tables.primary, &tables.backup}) {
        store(table->sector.data() + kLastUsableAt, last_usable, Endian::kLittle);
        if (last_partition) {
            std::byte* const entry = table->array.data() + *last_partition * volume::kGptEntrySize;
            const auto attributes = load<std::uint64_t>(entry + kEntryAttributesAt, Endian::kLittle);
            const std::uint64_t unit = 4096 / sector_size;
            const std::uint64_t grown = (last_usable + 1) / unit * unit - 1;
            const bool grows = (attributes & kGrowFileSystem) != 0;
            if (grows && grown > load<std::uint64_t>(entry + kEntryLastAt, Endian::kLittle)) {
                store(entry + kEntryLastAt, grown, Endian::kLittle);
            }
        }
        seal(*table, total_sectors);
    }
}

void write_partition_tables(BlockDevice& disk, const PartitionTables& tables) {
    const PartitionTables found = read_partition_tables(disk);
    for (const PartitionTable* const table : {&found.primary, &tables.backup, &tables.primary}) {
        disk.write(table->header.entries_lba, table->array);
        disk.write(table->header.lba, table->sector);
        disk.flush();
    }
}

}  // namespace gatehouse::host

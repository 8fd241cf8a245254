#include "keyvault/tool/layout.hpp"

#include <algorithm>

namespace gatehouse::host {
namespace {

// --- Regions

bool is_boot(const volume::GptEntry& entry) {
    return entry.type == volume::kBootPartitionType && partition_name(entry) == volume::kBootPartitionName;
}

void check_vault(const BlockDevice& disk, const volume::GptEntry& vault) {
    const std::size_t size = disk.sector_size();
    if (vault.count() < volume::kMinimumVaultSize / size) {
        throw ToolError(disk.path() + ": the vault partition is smaller than 1 MiB");
    }
    if (vault.first * size % volume::kHeaderAlignment != 0) {
        throw ToolError(disk.path() + ": the vault partition does not start at a multiple of 4,096 bytes");
    }
}

// The header sector and the sector of the vault's entry, of one copy, without the vault.
void add_overlay(const PartitionTable& table, std::uint32_t vault, volume::Header& header) {
    const std::size_t size = table.sector.size();
    const std::size_t offset = vault * volume::kGptEntrySize;
    Buffer array = table.array;
    std::fill_n(array.begin() + static_cast<std::ptrdiff_t>(offset), volume::kGptEntrySize, std::byte{0});

    const auto add = [&](std::uint64_t lba, Bytes content) -> MutableBytes {
        volume::OverlaySector& sector = header.overlay[header.overlay_count++];
        sector.lba = lba;
        copy_bytes(sector.content, content);
        return MutableBytes(sector.content).first(size);
    };
    const MutableBytes head = add(table.header.lba, table.sector);
    store(head.data() + volume::kGptEntriesCrcAt, volume::crc32(Bytes(array).first(table.header.table_size())),
          Endian::kLittle);
    store(head.data() + volume::kGptHeaderCrcAt, std::uint32_t{0}, Endian::kLittle);
    const auto head_size = load<std::uint32_t>(head.data() + 12, Endian::kLittle);  // checked when it was parsed
    store(head.data() + volume::kGptHeaderCrcAt, volume::crc32(Bytes(head).first(head_size)), Endian::kLittle);
    (void)add(table.header.entries_lba + offset / size, Bytes(array).subspan(offset / size * size, size));
}

// Sorted, and neighbours of the same kind joined, but for overlays.
void add_regions(std::vector<Region> regions, volume::Header& header, const std::string& path) {
    std::ranges::sort(regions, {}, &Region::first);
    for (const Region& region : regions) {
        Region* const before = header.region_count == 0 ? nullptr : &header.regions[header.region_count - 1];
        if (before != nullptr && before->kind == region.kind && region.kind != RegionClass::kOverlay &&
            before->first + before->count == region.first) {
            before->count += region.count;
        } else if (header.region_count == volume::kMaximumRegions) {
            throw ToolError(path + ": too many plain partitions");
        } else {
            header.regions[header.region_count++] = region;
        }
    }
}

std::vector<Region> table_regions(const BlockDevice& disk, const PartitionTable& table, std::uint32_t vault) {
    const std::uint64_t first = table.header.entries_lba;
    const std::uint64_t end = first + table.header.table_sectors(disk.sector_size());
    const std::uint64_t edited = first + vault * volume::kGptEntrySize / disk.sector_size();
    std::vector<Region> regions{{table.header.lba, 1, RegionClass::kOverlay}, {edited, 1, RegionClass::kOverlay}};
    if (edited > first) regions.push_back({first, edited - first, RegionClass::kReadOnly});
    if (edited + 1 < end) regions.push_back({edited + 1, end - edited - 1, RegionClass::kReadOnly});
    return regions;
}

}  // namespace

void lay_out(const BlockDevice& disk, const PartitionTables& tables, volume::Header& header, DiskRole role) {
    const auto partitions = tables.primary.partitions();
    if (role == DiskRole::kBoot) {
        (void)tables.primary.boot_partition();  // there must be one
    } else if (std::ranges::any_of(partitions, is_boot)) {
        throw ToolError(disk.path() + ": has a boot partition, so it is an endpoint's own disk");
    }
    const volume::GptEntry vault = tables.vault_entry();
    check_vault(disk, vault);
    header.region_count = 0;
    header.overlay_count = 0;
    header.disk = tables.primary.header.disk;
    header.sector_size = static_cast<std::uint32_t>(disk.sector_size());
    header.total_sectors = disk.total_sectors();
    add_overlay(tables.primary, tables.vault, header);
    add_overlay(tables.backup, tables.vault, header);
    std::ranges::sort(std::span(header.overlay).first(header.overlay_count), {}, &volume::OverlaySector::lba);

    std::vector<Region> regions{{0, 1, RegionClass::kReadOnly}, {vault.first, vault.count(), RegionClass::kHidden}};
    for (const PartitionTable* const table : {&tables.primary, &tables.backup}) {
        const auto more = table_regions(disk, *table, tables.vault);
        regions.insert(regions.end(), more.begin(), more.end());
    }
    for (const volume::GptEntry& entry : partitions) {
        if (is_boot(entry) || entry.type == volume::kBiosBootPartitionType) {
            regions.push_back({entry.first, entry.count(), RegionClass::kReadOnly});
        }
    }
    add_regions(std::move(regions), header, disk.path());
}

std::vector<Extent> encrypted_extents(const volume::Header& header) {
    std::vector<Extent> extents;
    std::uint64_t next = 0;
    for (const Region& region : header.region_table()) {
        if (region.first > next) extents.push_back({next, region.first - next});
        next = region.first + region.count;
    }
    if (next < header.total_sectors) extents.push_back({next, header.total_sectors - next});
    return extents;
}

void write_dmsetup_table(const volume::Header& header, const volume::Dek& dek, const std::string& device,
                         const std::function<void(Bytes line)>& write) {
    const std::uint64_t units = header.sector_size / 512;  // device mapper counts 512-byte sectors
    const auto put = [&](std::uint64_t first, std::uint64_t count, const std::string& target) {
        const std::string line = std::to_string(first * units) + " " + std::to_string(count * units) + " " + target;
        write(text_bytes(line));
    };
    const auto put_encrypted = [&](std::uint64_t first, std::uint64_t count) {
        const std::string start = std::to_string(first * units);
        put(first, count, "crypt aes-xts-plain64 ");
        Secret<2 * volume::kDekSize> key_text;
        write_hex(dek.bytes(), key_text.bytes());
        write(key_text.bytes());
        const std::string options = header.sector_size == 4096 ? " 1 sector_size:4096" : "";
        write(text_bytes(" " + start + " " + device + " " + start + options + "\n"));
    };
    std::uint64_t next = 0;
    for (const Region& region : header.region_table()) {
        if (region.first > next) put_encrypted(next, region.first - next);
        put(region.first, region.count,
            region.kind == RegionClass::kHidden
                ? "zero\n"
                : "linear " + device + " " + std::to_string(region.first * units) + "\n");
        next = region.first + region.count;
    }
    if (next < header.total_sectors) put_encrypted(next, header.total_sectors - next);
}

}  // namespace gatehouse::host

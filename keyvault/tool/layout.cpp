#include "keyvault/tool/layout.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

#include "ata/xts/xts.hpp"

namespace gatehouse::host {
namespace {

using volume::Region;
using volume::RegionClass;

// --- Regions

struct Tables {
    PartitionTable primary;
    PartitionTable backup;
    std::uint32_t vault = 0;  // number of its entry
};

Tables read_tables(const Disk& disk) {
    Tables tables;
    tables.primary = read_primary_table(disk);
    const std::uint64_t last = disk.total_sectors() - 1;
    if (tables.primary.header.alternate_lba != last) {
        throw ToolError(disk.path() +
                        ": the backup partition table is not at the end of the disk (sgdisk -e moves it)");
    }
    tables.backup = read_partition_table(disk, last);
    if (!equal_bytes(tables.primary.entries, tables.backup.entries) ||
        tables.primary.header.disk != tables.backup.header.disk ||
        tables.backup.header.alternate_lba != volume::kPrimaryGptLba) {
        throw ToolError(disk.path() + ": the two copies of the partition table differ (repair it with gdisk)");
    }
    const volume::GptEntry vault = tables.primary.vault_partition();
    while (volume::gpt_entry(tables.primary.entries, tables.vault).type != vault.type) ++tables.vault;
    return tables;
}

void check_vault(const Disk& disk, const volume::GptEntry& vault) {
    const std::size_t size = disk.sector_size();
    if (vault.count() < volume::kMinimumVaultSize / size) {
        throw ToolError(disk.path() + ": the vault partition is smaller than 1 MiB");
    }
    if (vault.first * size % volume::kHeaderAlignment != 0) {
        throw ToolError(disk.path() + ": the vault partition does not start at a multiple of 4,096 bytes");
    }
}

// The header sector and the sector of the vault's entry, of one copy, without the vault.
void add_overlay(const Disk& disk, const PartitionTable& table, std::uint32_t vault, volume::Header& header) {
    const std::size_t size = disk.sector_size();
    Buffer entries = table.entries;
    std::fill_n(entries.begin() + static_cast<std::ptrdiff_t>(vault * volume::kGptEntrySize), volume::kGptEntrySize,
                std::byte{0});

    const auto add = [&](std::uint64_t lba) -> MutableBytes {
        volume::OverlaySector& sector = header.overlay[header.overlay_count++];
        sector.lba = lba;
        const Buffer found = disk.read_sectors(lba, 1);
        copy_bytes(sector.content, found);
        return MutableBytes(sector.content).first(size);
    };
    const MutableBytes head = add(table.header.lba);
    store(head.data() + volume::kGptEntriesCrcAt, volume::crc32(entries), Endian::kLittle);
    store(head.data() + volume::kGptHeaderCrcAt, std::uint32_t{0}, Endian::kLittle);
    const auto head_size = load<std::uint32_t>(head.data() + 12, Endian::kLittle);  // checked when it was parsed
    store(head.data() + volume::kGptHeaderCrcAt, volume::crc32(Bytes(head).first(head_size)), Endian::kLittle);

    const std::size_t offset = vault * volume::kGptEntrySize;
    const MutableBytes part = add(table.header.entries_lba + offset / size);
    std::fill_n(part.begin() + static_cast<std::ptrdiff_t>(offset % size), volume::kGptEntrySize, std::byte{0});
}

// Sorted, and neighbours of the same kind joined.
void add_regions(std::vector<Region> regions, volume::Header& header, const std::string& path) {
    std::ranges::sort(regions, {}, &Region::first);
    for (const Region& region : regions) {
        Region* const before = header.region_count == 0 ? nullptr : &header.regions[header.region_count - 1];
        if (before != nullptr && before->kind == region.kind && before->first + before->count == region.first) {
            before->count += region.count;
        } else if (header.region_count == volume::kMaximumRegions) {
            throw ToolError(path + ": too many plain partitions");
        } else {
            header.regions[header.region_count++] = region;
        }
    }
}

std::vector<Region> table_regions(const Disk& disk, const PartitionTable& table, std::uint32_t vault) {
    const std::uint64_t first = table.header.entries_lba;
    const std::uint64_t end = first + table.header.table_sectors(disk.sector_size());
    const std::uint64_t edited = first + vault * volume::kGptEntrySize / disk.sector_size();
    std::vector<Region> regions{{table.header.lba, 1, RegionClass::kOverlay}, {edited, 1, RegionClass::kOverlay}};
    if (edited > first) regions.push_back({first, edited - first, RegionClass::kReadOnly});
    if (edited + 1 < end) regions.push_back({edited + 1, end - edited - 1, RegionClass::kReadOnly});
    return regions;
}

// --- Encryption

constexpr std::size_t kChunk = std::size_t{4} << 20;

class Encryption {
  public:
    Encryption(Disk& disk, const std::vector<Extent>& extents, const volume::Dek& dek)
        : disk_(disk), progress_("encrypting", total(extents) * disk.sector_size()) {
        expect(key_.set(dek.bytes()), "disk key");
        const std::uint64_t step = kChunk / disk.sector_size();
        for (const Extent& extent : extents) {
            for (std::uint64_t done = 0; done < extent.count; done += step) {
                chunks_.push_back({extent.first + done, std::min(step, extent.count - done)});
            }
        }
    }

    void run() {
        std::vector<std::thread> workers;
        const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1u, 16u);
        for (unsigned i = 0; i < count; ++i) workers.emplace_back([this] { work(); });
        for (std::thread& worker : workers) worker.join();
        if (failure_) std::rethrow_exception(failure_);
    }

  private:
    static std::uint64_t total(const std::vector<Extent>& extents) {
        std::uint64_t sectors = 0;
        for (const Extent& extent : extents) sectors += extent.count;
        return sectors;
    }

    void work() try {
        const std::size_t size = disk_.sector_size();
        Buffer buffer(kChunk);
        for (std::size_t i = next_++; i < chunks_.size(); i = next_++) {
            const Extent& chunk = chunks_[i];
            const MutableBytes data = MutableBytes(buffer).first(chunk.count * size);
            disk_.read(chunk.first, data);
            key_.transform(ata::XtsKey::Direction::kEncrypt, data.data(), data.data(), chunk.count,
                           static_cast<std::uint32_t>(size), chunk.first);
            disk_.write(chunk.first, data);
            const std::lock_guard lock(mutex_);
            done_ += data.size();
            progress_.at(done_);
        }
    } catch (...) {
        next_ = chunks_.size();
        const std::lock_guard lock(mutex_);
        failure_ = std::current_exception();
    }

    Disk& disk_;
    ata::XtsKey key_;
    std::vector<Extent> chunks_;
    std::atomic<std::size_t> next_ = 0;
    std::mutex mutex_;
    Progress progress_;
    std::uint64_t done_ = 0;
    std::exception_ptr failure_;
};

}  // namespace

void lay_out(const Disk& disk, volume::Header& header) {
    const Tables tables = read_tables(disk);
    const volume::GptEntry vault = volume::gpt_entry(tables.primary.entries, tables.vault);
    check_vault(disk, vault);
    (void)tables.primary.boot_partition();  // there must be one

    header.disk = tables.primary.header.disk;
    header.sector_size = static_cast<std::uint32_t>(disk.sector_size());
    header.total_sectors = disk.total_sectors();
    add_overlay(disk, tables.primary, tables.vault, header);
    add_overlay(disk, tables.backup, tables.vault, header);
    std::ranges::sort(std::span(header.overlay).first(header.overlay_count), {}, &volume::OverlaySector::lba);

    std::vector<Region> regions{{0, 1, RegionClass::kReadOnly}, {vault.first, vault.count(), RegionClass::kHidden}};
    for (const PartitionTable* const table : {&tables.primary, &tables.backup}) {
        const auto more = table_regions(disk, *table, tables.vault);
        regions.insert(regions.end(), more.begin(), more.end());
    }
    for (const volume::GptEntry& entry : tables.primary.partitions()) {
        const bool is_boot =
            entry.type == volume::kBootPartitionType && partition_name(entry) == volume::kBootPartitionName;
        if (is_boot || entry.type == volume::kBiosBootPartitionType) {
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

void encrypt_in_place(Disk& disk, const std::vector<Extent>& extents, const volume::Dek& dek) {
    Encryption(disk, extents, dek).run();
    disk.flush();
}

std::array<Buffer, volume::kCopies> read_header_copies(const Disk& disk, const volume::GptEntry& vault) {
    const std::size_t size = disk.sector_size();
    std::array<Buffer, volume::kCopies> copies;
    for (std::size_t i = 0; i < copies.size(); ++i) {
        const std::uint64_t first = volume::kCopyOffset[i] / size;
        const std::uint64_t count = volume::kMaximumHeaderSize / size;
        if (first + count > vault.count()) throw ToolError(disk.path() + ": the vault partition is smaller than 1 MiB");
        copies[i] = disk.read_sectors(vault.first + first, count);
    }
    return copies;
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

#include "keyvault/volume_writer/partition.hpp"

namespace gatehouse::volume {
namespace {

constexpr std::uint32_t kRevision = 0x00010000;

[[nodiscard]] bool overlaps(std::uint64_t first, std::uint64_t last, std::uint64_t other_first,
                            std::uint64_t other_last) {
    return first <= other_last && other_first <= last;
}

}  // namespace

std::uint32_t crc32(Bytes bytes, std::uint32_t before) {
    std::uint32_t crc = ~before;
    for (const std::byte byte : bytes) {
        crc ^= std::to_integer<std::uint32_t>(byte);
        for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

Result<GptHeader> parse_gpt_header(Bytes sector, std::uint64_t lba, std::uint64_t total_sectors) {
    if (sector.size() != 512 && sector.size() != 4096) return {Error::kBadLength, "GPT: sector size", sector.size()};
    Reader reader(sector);
    const Bytes magic = reader.bytes(8);
    const std::uint32_t revision = reader.u32();
    const std::uint32_t size = reader.u32();
    const std::uint32_t header_crc = reader.u32();
    reader.skip(4);
    GptHeader header;
    header.lba = reader.u64();
    header.alternate_lba = reader.u64();
    header.first_usable = reader.u64();
    header.last_usable = reader.u64();
    reader.copy(header.disk);
    header.entries_lba = reader.u64();
    header.entry_count = reader.u32();
    const std::uint32_t entry_size = reader.u32();
    header.entries_crc = reader.u32();

    if (!equal_bytes(magic, literal_bytes("EFI PART"))) return {Error::kBadMagic, "GPT header", lba};
    if (revision != kRevision) return {Error::kBadVersion, "GPT header: revision", revision};
    if (size < kGptHeaderSize || size > sector.size()) return {Error::kBadLength, "GPT header: size", size};
    constexpr std::array<std::byte, 4> kZero{};
    std::uint32_t crc = crc32(sector.first(kGptHeaderCrcAt));
    crc = crc32(kZero, crc);
    crc = crc32(sector.subspan(kGptHeaderCrcAt + 4, size - kGptHeaderCrcAt - 4), crc);
    if (crc != header_crc) return {Error::kBadChecksum, "GPT header", lba};
    if (header.lba != lba) return {Error::kMismatch, "GPT header: its own LBA", header.lba};
    if (entry_size != kGptEntrySize) return {Error::kUnsupported, "GPT header: entry size", entry_size};
    if (header.entry_count == 0 || header.entry_count > kGptMaxEntries) {
        return {Error::kUnsupported, "GPT header: number of entries", header.entry_count};
    }
    if (header.alternate_lba >= total_sectors) {
        return {Error::kOutOfRange, "GPT header: alternate LBA", header.alternate_lba};
    }
    if (header.first_usable > header.last_usable || header.last_usable >= total_sectors) {
        return {Error::kOutOfRange, "GPT header: usable sectors", header.last_usable};
    }
    const std::uint64_t sectors = header.table_sectors(sector.size());
    if (header.entries_lba == 0 || header.entries_lba >= total_sectors ||
        sectors > total_sectors - header.entries_lba) {
        return {Error::kOutOfRange, "GPT header: entries", header.entries_lba};
    }
    const std::uint64_t entries_last = header.entries_lba + sectors - 1;
    if (overlaps(header.entries_lba, entries_last, lba, lba) ||
        overlaps(header.entries_lba, entries_last, header.first_usable, header.last_usable) ||
        overlaps(lba, lba, header.first_usable, header.last_usable) ||
        overlaps(header.alternate_lba, header.alternate_lba, header.first_usable, header.last_usable)) {
        return {Error::kOverlap, "GPT header: header, entries, usable sectors", header.entries_lba};
    }
    return header;
}

GptEntry gpt_entry(Bytes table, std::uint32_t index) {
    Reader reader(table);
    reader.skip(index * kGptEntrySize);
    GptEntry entry;
    reader.copy(entry.type);
    reader.copy(entry.id);
    entry.first = reader.u64();
    entry.last = reader.u64();
    reader.skip(8);  // attributes
    for (std::uint16_t& unit : entry.name) unit = reader.u16();
    return entry;
}

Result<GptEntry> find_partition(const GptHeader& header, Bytes table, const Guid& type) {
    if (table.size() != header.table_size()) return {Error::kBadLength, "GPT entries", table.size()};
    if (crc32(table) != header.entries_crc) return {Error::kBadChecksum, "GPT entries", header.entries_lba};
    GptEntry found;
    for (std::uint32_t i = 0; i < header.entry_count; ++i) {
        const GptEntry entry = gpt_entry(table, i);
        if (entry.type != type || !entry.used()) continue;
        if (found.used()) return {Error::kBadValue, "GPT: more than one partition of this type", i};
        found = entry;
    }
    if (!found.used()) return {Error::kNotFound, "GPT: partition of this type"};
    if (found.first > found.last || found.first < header.first_usable || found.last > header.last_usable) {
        return {Error::kOutOfRange, "GPT entry", found.first};
    }
    return found;
}

}  // namespace gatehouse::volume

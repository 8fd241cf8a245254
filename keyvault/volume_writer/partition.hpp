// The GUID partition table, as far as the tools that make vaults need it: who is who on
// the disk, from hostile sectors. A boot only searches it (hypervisor/boot/vault.hpp).
//
// A table is a header sector (primary at LBA 1, backup at the last LBA) and an array of entries wherever the
// header says; both carry a CRC-32, which finds accidents, not attackers: what matters for security (which
// ranges are plain, read-only or hidden) stands in the vault header, under its MAC. Sector sizes 512 and
// 4,096. UEFI Specification 2.10, sections 5.3.2 and 5.3.3.
//
//     read LBA 1;                          parse_gpt_header(sector, 1, total_sectors)
//     read header.entries_lba, table_sectors(sector_size) sectors, keep the first table_size() bytes
//     find_partition(header, table, kVaultPartitionType)
//     if any of it fails, the same with the last LBA of the disk
#pragma once

#include "keyvault/volume/header.hpp"

namespace gatehouse::volume {

inline constexpr std::uint64_t kPrimaryGptLba = 1;
inline constexpr std::size_t kGptHeaderSize = 92;
inline constexpr std::size_t kGptHeaderCrcAt = 16;
// Every tool in use makes entries of this size, and this many; others are kUnsupported.
inline constexpr std::size_t kGptEntrySize = 128;
inline constexpr std::uint32_t kGptMaxEntries = 128;
inline constexpr std::size_t kGptMaxTableSize = kGptEntrySize * kGptMaxEntries;

struct GptHeader {
    Guid disk{};
    std::uint64_t lba = 0;            // of this header
    std::uint64_t alternate_lba = 0;  // of the other one
    std::uint64_t first_usable = 0;   // LBAs, both inclusive
    std::uint64_t last_usable = 0;
    std::uint64_t entries_lba = 0;
    std::uint32_t entry_count = 0;
    std::uint32_t entries_crc = 0;
    [[nodiscard]] std::size_t table_size() const { return entry_count * kGptEntrySize; }
    [[nodiscard]] std::uint64_t table_sectors(std::size_t sector_size) const {
        return (table_size() + sector_size - 1) / sector_size;
    }
};

struct GptEntry {
    Guid type{};
    Guid id{};
    std::uint64_t first = 0;  // LBAs, both inclusive
    std::uint64_t last = 0;
    std::array<std::uint16_t, 36> name{};  // UTF-16, zero-padded
    [[nodiscard]] bool used() const { return type != Guid{}; }
    [[nodiscard]] std::uint64_t count() const { return last - first + 1; }
};

// CRC-32 as GPT (and Ethernet) has it: polynomial 0x04c11db7, reflected, initial and final all ones. To go
// on, give the result of the bytes before as `before`.
[[nodiscard]] std::uint32_t crc32(Bytes bytes, std::uint32_t before = 0);

// `sector`: the whole sector (512 or 4,096 bytes), which was read from `lba` of a disk of `total_sectors`. Everything
// that the header says lies inside of the disk, and neither header nor array lies among the usable sectors. Errors:
// kBadMagic, kBadVersion, kBadLength, kBadChecksum, kMismatch (lba), kOutOfRange, kOverlap, kUnsupported.
[[nodiscard]] Result<GptHeader> parse_gpt_header(Bytes sector, std::uint64_t lba, std::uint64_t total_sectors);

// Entry number `index` < entry_count of a table.
[[nodiscard]] GptEntry gpt_entry(Bytes table, std::uint32_t index);

// The only partition of a type in `table`, table_size() bytes, whose CRC must hold; it lies in
// the usable range. The other entries are of no concern. kBadLength, kBadChecksum; kNotFound if
// there is none, kBadValue if there are several, kOutOfRange (detail: its first LBA).
[[nodiscard]] Result<GptEntry> find_partition(const GptHeader& header, Bytes table, const Guid& type);

}  // namespace gatehouse::volume

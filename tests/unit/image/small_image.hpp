// An appliance's image of 3 MiB, for disks of either size of sectors: boot partition, an empty vault, and a root partition whose
// file system is to grow.
#pragma once

#include "keyvault/volume_writer/gpt_check.hpp"
#include "tests/unit/keyvault/tool/fragile_disk.hpp"

namespace gatehouse::flash {

inline constexpr std::size_t kImageSize = std::size_t{3} << 20;
inline constexpr std::size_t kBootAt = std::size_t{256} << 10;
inline constexpr std::size_t kVaultAt = std::size_t{512} << 10;
inline constexpr std::size_t kRootAt = std::size_t{2} << 20;
inline constexpr std::size_t kRootSize = std::size_t{512} << 10;  // its second half is zeros
inline constexpr std::uint64_t kGrows = std::uint64_t{1} << 59;

inline void put_header(host::Buffer& image, std::size_t sector, bool primary, const host::Buffer& table) {
    const std::uint64_t last = image.size() / sector - 1;
    const std::uint64_t table_sectors = table.size() / sector;
    const std::uint64_t lba = primary ? 1 : last;
    const std::uint64_t entries = primary ? 2 : last - table_sectors;
    const MutableBytes at = MutableBytes(image).subspan(lba * sector, sector);
    Writer writer(at);
    writer.bytes(literal_bytes("EFI PART"));
    writer.u32(0x00010000);
    writer.u32(92);
    writer.zeros(8);
    writer.u64(lba);
    writer.u64(primary ? last : 1);
    writer.u64(2 + table_sectors);
    writer.u64(last - table_sectors - 1);
    writer.bytes(volume::Guid{std::byte{0xd1}});
    writer.u64(entries);
    writer.u32(volume::kGptMaxEntries);
    writer.u32(volume::kGptEntrySize);
    writer.u32(volume::crc32(table));
    store(at.data() + volume::kGptHeaderCrcAt, volume::crc32(at.first(92)), Endian::kLittle);
    copy_bytes(MutableBytes(image).subspan(entries * sector), table);
}

inline host::Buffer small_image(std::size_t sector = 512, std::uint64_t root_attributes = kGrows) {
    host::Buffer image(kImageSize);
    const auto fill = [&](std::size_t from, std::size_t size) {
        host::Sequence(from + 1).fill(MutableBytes(image).subspan(from, size));
    };
    fill(0, 446);
    fill(kBootAt, kVaultAt - kBootAt);
    fill(kRootAt, kRootSize / 2);
    image[446 + 4] = std::byte{0xee};
    store(image.data() + 446 + 8, std::uint32_t{1}, Endian::kLittle);
    store(image.data() + 446 + 12, static_cast<std::uint32_t>(kImageSize / sector - 1), Endian::kLittle);
    image[510] = std::byte{0x55};
    image[511] = std::byte{0xaa};

    host::Buffer table(volume::kGptMaxTableSize);
    const auto put = [&](std::size_t index, const volume::Guid& type, std::size_t at, std::size_t size,
                         const char* name) {
        host::put_entry(table, index, type, at / sector, (at + size) / sector - 1, name);
    };
    put(0, volume::kBootPartitionType, kBootAt, kVaultAt - kBootAt, volume::kBootPartitionName);
    put(1, volume::kVaultPartitionType, kVaultAt, std::size_t{1} << 20, "gatehouse-vault");
    put(2, volume::Guid{std::byte{0xe3}}, kRootAt, kRootSize, "guest-root");
    store(table.data() + 2 * volume::kGptEntrySize + 48, root_attributes, Endian::kLittle);
    put_header(image, sector, true, table);
    put_header(image, sector, false, table);
    return image;
}

}  // namespace gatehouse::flash

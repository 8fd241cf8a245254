// What of a disk is its own and not its image's: the protective MBR and both copies of the partition table, which name the
// disk's size and have GUIDs of its own.
#pragma once

#include "keyvault/tool/partition_tables.hpp"

namespace gatehouse::flash {

// The tables of an appliance's image: both ends as they should be, a boot partition and a vault, which is empty. ToolError: a
// vault that has been made is one endpoint's, is bound to the size and GUID of its disk, and must not be there twice.
[[nodiscard]] host::PartitionTables read_image_tables(const host::BlockDevice& image);

// Whole sectors of a disk.
struct Stretch {
    std::uint64_t first = 0;  // LBA
    host::Buffer content;
};

struct FittedTables {
    volume::Guid disk{};
    Stretch mbr;
    Stretch primary_array;
    Stretch primary_header;
    Stretch backup_array;
    Stretch backup_header;
    // In this order, each flushed before the next: as long as the MBR and a header are not there nothing boots.
    [[nodiscard]] std::array<const Stretch*, 5> in_order() const {
        return {&backup_array, &backup_header, &primary_array, &primary_header, &mbr};
    }
};

// The image's for a disk of `total_sectors`, no fewer than its own.
[[nodiscard]] FittedTables fit_tables(const host::BlockDevice& image, std::uint64_t total_sectors,
                                      RandomSource& random);

}  // namespace gatehouse::flash

// What the guest may see and do of a disk, sector by sector.
#pragma once

#include "ata/xts/xts.hpp"
#include "hypervisor/base/region.hpp"

namespace gatehouse::ata {

// What a disk said of itself (IDENTIFY DEVICE, ACS-4 section 7.13).
struct Geometry {
    std::uint32_t sector_size = 0;  // bytes in a logical sector
    std::uint64_t sectors = 0;      // user-addressable logical sectors

    // Whether [lba, lba + count) lies on the disk.
    [[nodiscard]] bool contains(std::uint64_t lba, std::uint64_t count) const {
        return lba < sectors && count <= sectors - lba;
    }
};

// A disk as the guest sees it: sectors in no region are encrypted.
struct Volume {
    Geometry geometry;
    std::span<const Region> regions;
    const XtsKey* key = nullptr;

    struct Run {
        RegionClass kind = RegionClass::kEncrypted;
        std::uint32_t count = 0;             // sectors of that class from here on, at most those asked for
        const std::byte* overlay = nullptr;  // bytes of the first of them
    };
    // The run that starts at `lba`, `count` sectors at most.
    [[nodiscard]] Run run_at(std::uint64_t lba, std::uint32_t count) const;
    // Whether the disk has every sector of a range, and the guest may read, or write, all of them.
    [[nodiscard]] bool permits(std::uint64_t lba, std::uint32_t count, bool write) const;
};

}  // namespace gatehouse::ata

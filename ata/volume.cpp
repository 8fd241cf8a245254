#include "ata/volume.hpp"

#include <algorithm>

namespace gatehouse::ata {

Status Volume::check() const {
    if (geometry.sector_size != 512 && geometry.sector_size != 4096) {
        return {Error::kUnsupported, "volume: sector size", geometry.sector_size};
    }
    const bool has_key = key != nullptr && key->is_set();
    if (otherwise == RegionClass::kOverlay) return {Error::kBadValue, "volume: default class"};
    if (otherwise == RegionClass::kEncrypted && !has_key) return {Error::kBadValue, "volume: no key"};
    std::uint64_t end = 0;
    for (const Region& region : regions) {
        if (region.count == 0 || !contains(region.first, region.count)) {
            return {Error::kOutOfRange, "volume: region", region.first};
        }
        if (region.first < end) return {Error::kOverlap, "volume: region", region.first};
        if (region.kind == RegionClass::kEncrypted && !has_key) return {Error::kBadValue, "volume: no key"};
        if ((region.kind == RegionClass::kOverlay) != (region.overlay != nullptr)) {
            return {Error::kBadValue, "volume: overlay bytes", region.first};
        }
        end = region.first + region.count;
    }
    return {};
}

Volume::Run Volume::run_at(std::uint64_t lba, std::uint64_t count) const {
    for (const Region& region : regions) {
        if (lba < region.first) return {otherwise, std::min(count, region.first - lba), nullptr};
        const std::uint64_t into = lba - region.first;
        if (into >= region.count) continue;
        const std::byte* overlay =
            region.overlay == nullptr ? nullptr : region.overlay + into * geometry.sector_size;
        return {region.kind, std::min(count, region.count - into), overlay};
    }
    return {otherwise, count, nullptr};
}

bool Volume::contains(std::uint64_t lba, std::uint64_t count) const {
    return lba < geometry.sectors && count <= geometry.sectors - lba;
}

bool Volume::writable(std::uint64_t lba, std::uint64_t count) const {
    while (count != 0) {
        const Run run = run_at(lba, count);
        if (run.kind != RegionClass::kEncrypted) return false;
        lba += run.count;
        count -= run.count;
    }
    return true;
}

}  // namespace gatehouse::ata

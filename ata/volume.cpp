#include "ata/volume.hpp"

#include <algorithm>

namespace gatehouse::ata {

Status Volume::check() const {
    if (geometry.sector_size != 512 && geometry.sector_size != 4096) {
        return {Error::kUnsupported, "volume: sector size", geometry.sector_size};
    }
    if (otherwise == RegionClass::kOverlay) return {Error::kBadValue, "volume: default class"};
    bool encrypted = otherwise == RegionClass::kEncrypted;
    std::uint64_t end = 0;
    for (const Region& region : regions) {
        const bool inside = region.count != 0 && geometry.contains(region.first, region.count);
        const bool overlaid = region.kind == RegionClass::kOverlay;
        const bool good = inside && region.first >= end && overlaid == (region.overlay != nullptr);
        if (!good) return {Error::kBadValue, "volume: region", region.first};
        encrypted |= region.kind == RegionClass::kEncrypted;
        end = region.first + region.count;
    }
    const bool has_key = key != nullptr && key->is_set();
    return encrypted && !has_key ? Status(Error::kBadValue, "volume: no key") : Status();
}

Volume::Run Volume::run_at(std::uint64_t lba, std::uint32_t count) const {
    const auto at_most = [&](std::uint64_t n) { return static_cast<std::uint32_t>(std::min<std::uint64_t>(count, n)); };
    for (const Region& region : regions) {
        if (lba < region.first) return {otherwise, at_most(region.first - lba), nullptr};
        const std::uint64_t into = lba - region.first;
        if (into >= region.count) continue;
        const std::uint64_t offset = region.overlay == nullptr ? 0 : into * geometry.sector_size;
        return {region.kind, at_most(region.count - into), region.overlay + offset};
    }
    return {otherwise, count, nullptr};
}

bool Volume::writable(std::uint64_t lba, std::uint32_t count) const {
    for (Run run; count != 0; lba += run.count, count -= run.count) {
        run = run_at(lba, count);
        if (run.kind != RegionClass::kEncrypted) return false;
    }
    return true;
}

}  // namespace gatehouse::ata

#include "ata/volume.hpp"

#include <algorithm>

namespace gatehouse::ata {

Volume::Run Volume::run_at(std::uint64_t lba, std::uint32_t count) const {
    const auto at_most = [&](std::uint64_t n) { return static_cast<std::uint32_t>(std::min<std::uint64_t>(count, n)); };
    for (const Region& region : regions) {
        if (lba < region.first) return {RegionClass::kEncrypted, at_most(region.first - lba), nullptr};
        const std::uint64_t into = lba - region.first;
        if (into >= region.count) continue;
        const std::uint64_t offset = region.overlay == nullptr ? 0 : into * geometry.sector_size;
        return {region.kind, at_most(region.count - into), region.overlay + offset};
    }
    return {RegionClass::kEncrypted, count, nullptr};
}

bool Volume::permits(std::uint64_t lba, std::uint32_t count, bool write) const {
    if (!geometry.contains(lba, count)) return false;
    for (Run run; write && count != 0; lba += run.count, count -= run.count) {
        run = run_at(lba, count);
        if (run.kind != RegionClass::kEncrypted) return false;
    }
    return true;
}

}  // namespace gatehouse::ata

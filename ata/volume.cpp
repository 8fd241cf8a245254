#include "ata/volume.hpp"

#include <algorithm>

#include "ata/policy.hpp"

namespace gatehouse::ata {

Volume::Run Volume::run_at(std::uint64_t lba, std::uint32_t count) const {
    const auto at_most = [&](std::uint64_t n) { return static_cast<std::uint32_t>(std::min<std::uint64_t>(count, n)); };
    for (const Region& region : regions) {
        if (lba < region.first) return encrypted_at(lba, at_most(region.first - lba));
        const std::uint64_t into = lba - region.first;
        if (into >= region.count) continue;
        const std::uint64_t offset = region.overlay == nullptr ? 0 : into * geometry.sector_size;
        return {region.kind, at_most(region.count - into), region.overlay + offset};
    }
    return encrypted_at(lba, count);
}

bool Volume::permits(std::uint64_t lba, std::uint32_t count, bool write) const {
    if (!geometry.contains(lba, count) || boundary.locked.overlaps({lba, count})) return false;
    for (Run run; write && count != 0; lba += run.count, count -= run.count) {
        run = run_at(lba, count);
        if (run.kind != RegionClass::kEncrypted) return false;
    }
    return true;
}

Status Disk::identify() {
    const Page page(sector_.data(), kPageSize);
    GATEHOUSE_TRY(execute(kIdentifyDevice, page));
    GATEHOUSE_ASSIGN(volume_.geometry, parse_geometry(page));
    return {};
}

Status Disk::read_sectors(std::uint64_t lba, MutableBytes out) {
    const std::uint32_t size = geometry().sector_size;
    if (size == 0) return {Error::kState, "disk: read before identify"};
    const bool good = out.size() % size == 0 && geometry().contains(lba, out.size() / size);
    if (!good) return {Error::kOutOfRange, "disk: read", lba};
    while (!out.empty()) {
        const std::size_t bytes = std::min<std::size_t>(out.size(), kUnitSize / 2);
        GATEHOUSE_TRY(execute(read_dma_ext(lba, static_cast<std::uint32_t>(bytes / size)), out.first(bytes)));
        out = out.subspan(bytes);
        lba += bytes / size;
    }
    return {};
}

void Disk::attach(std::span<const Region> regions, const XtsKey& key) {
    volume_.regions = regions;
    volume_.key = &key;
}

Disk::Access::~Access() {
    if (std::exchange(disk.in_vectors_, false)) disk.environment_->end_vectors();
    disk.lock_.unlock();
}

// What is to be decrypted may lie in memory that the device can write, descriptors and all, so every address is looked up
// here: at worst the guest's own memory is garbled.
bool Disk::transform(ahci::ScatterList& guest, std::byte* to, std::uint64_t lba, std::uint32_t count) {
    const std::uint32_t size = geometry().sector_size;
    for (std::uint32_t done = 0; count != 0; count -= done, lba += done) {
        const Volume::Run run = volume_.run_at(lba, count);
        done = run.count;
        if (to == nullptr && run.key == nullptr) {
            guest.skip(std::uint64_t{done} * size);
            continue;
        }
        if (!std::exchange(in_vectors_, true)) environment_->begin_vectors();
        const std::uint32_t whole = std::min(guest.contiguous() / size, done);
        done = std::max(whole, 1u);
        ahci::ScatterList back = guest;
        const MutableBytes pieces(sector_.data(), size);
        std::byte* const from = whole != 0 ? guest.take(whole * size).data : pieces.data();
        if (from == nullptr || (whole == 0 && !guest.copy_out(pieces))) return false;
        const auto direction = to != nullptr ? XtsKey::Direction::kEncrypt : XtsKey::Direction::kDecrypt;
        if (run.key != nullptr) run.key->transform(direction, from, to != nullptr ? to : from, done, size, lba);
        if (run.key == nullptr) copy_bytes({to, std::size_t{done} * size}, {from, std::size_t{done} * size});
        if (to != nullptr) to += std::size_t{done} * size;
        if (to == nullptr && whole == 0) (void)back.copy_in(pieces);
    }
    return true;
}

}  // namespace gatehouse::ata

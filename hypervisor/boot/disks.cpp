#include "hypervisor/boot/disks.hpp"

#include "hypervisor/base/log.hpp"
#include "hypervisor/cpu/vector.hpp"
#include "keyvault/tpm/types.hpp"

namespace gatehouse::boot {
namespace {

// FXSAVE area and nesting are cpu::VectorSection's; begin() and end() come in pairs on one processor.
class SavedVectors final : public ata::VectorUnit {
  public:
    void begin() override { cpu::begin_vectors(); }
    void end() override { cpu::end_vectors(); }
};

// A disk as vault code sees it.
class PortSectors final : public SectorSource {
  public:
    PortSectors(ata::ahci::Controller& controller, std::uint32_t port, const ata::Geometry& geometry)
        : controller_(controller), port_(port), geometry_(geometry) {}
    std::size_t sector_size() const override { return geometry_.sector_size; }
    std::uint64_t total_sectors() const override { return geometry_.sectors; }
    Status read(std::uint64_t lba, MutableBytes out) override { return controller_.read_sectors(port_, lba, out); }

  private:
    ata::ahci::Controller& controller_;
    std::uint32_t port_;
    ata::Geometry geometry_;
};

ata::RegionClass region_class(volume::RegionClass kind) {
    switch (kind) {
        case volume::RegionClass::kReadOnly: return ata::RegionClass::kReadOnly;
        case volume::RegionClass::kHidden: return ata::RegionClass::kHidden;
        case volume::RegionClass::kOverlay: return ata::RegionClass::kOverlay;
    }
    return ata::RegionClass::kHidden;
}

constinit SavedVectors saved_vectors;

std::size_t translate_regions(OpenDisk& disk) {
    std::size_t count = 0;
    std::size_t next_overlay = 0;  // volume::validate(): overlay sectors are exactly those of the overlay regions
    for (const volume::Region& region : disk.header.region_table()) {
        if (region.kind != volume::RegionClass::kOverlay) {
            disk.regions[count++] = {region.first, region.count, region_class(region.kind), nullptr};
            continue;
        }
        for (std::uint64_t i = 0; i < region.count; ++i) {
            const volume::OverlaySector& sector = disk.header.overlay[next_overlay++];
            disk.regions[count++] = {sector.lba, 1, ata::RegionClass::kOverlay, sector.content.data()};
        }
    }
    return count;
}

}  // namespace

Status DiskController::start(std::uint64_t abar, const ata::DmaArena& arena, const memory::PhysicalMemory& guest,
                             ata::Clock& clock) {
    abar_ = abar;
    guest_ = &guest;
    return controller_.take_over({.memory = this, .registers = this, .clock = &clock, .vectors = &saved_vectors},
                                 arena);
}

std::uint64_t DiskController::read(std::uint64_t address, unsigned size) {
    const std::uint64_t offset = address - abar_;
    if (offset + size > ata::ahci::Controller::kRegisterSpace) return 0;
    return controller_.read(static_cast<std::uint32_t>(offset), size);
}

void DiskController::write(std::uint64_t address, unsigned size, std::uint64_t value) {
    const std::uint64_t offset = address - abar_;
    if (offset + size > ata::ahci::Controller::kRegisterSpace) return;
    controller_.write(static_cast<std::uint32_t>(offset), size, value);
}

std::uint32_t DiskController::read(std::uint32_t offset) {
    return *reinterpret_cast<volatile std::uint32_t*>(abar_ + offset);
}

void DiskController::write(std::uint32_t offset, std::uint32_t value) {
    *reinterpret_cast<volatile std::uint32_t*>(abar_ + offset) = value;
}

std::byte* DiskController::map(std::uint64_t physical, std::uint64_t size) {
    const auto bytes = guest_->guest(physical, size);
    return bytes ? bytes->data() : nullptr;
}

Status Disks::open_one(ata::ahci::Controller& controller, std::uint32_t port, Unsealer& unsealer) {
    std::array<std::byte, ata::Page::extent> raw_identity;
    GATEHOUSE_ASSIGN(const ata::Geometry geometry, controller.identify(port, raw_identity));
    PortSectors sectors(controller, port, geometry);
    const auto place = find_vault(sectors, scratch_);
    if (!place) {
        log("gatehouse: disk at port ", std::uint64_t{port}, ": ", place.failure(), "; it stays absent");
        return {};
    }
    if (count_ == kMaxOpenDisks) return {Error::kNoSpace, "disks with a vault", count_};
    OpenDisk& disk = open_[count_];
    GATEHOUSE_TRY(open_vault(sectors, *place, unsealer, scratch_, disk.header, keys_));
    const Status set = disk.key.set(keys_.dek.bytes());
    keys_.kek.clear();
    keys_.dek.clear();
    GATEHOUSE_TRY(set);
    const std::size_t region_count = translate_regions(disk);
    GATEHOUSE_TRY(controller.attach(
        port, {.geometry = geometry, .regions = std::span(disk.regions).first(region_count), .key = &disk.key}));
    ++count_;
    log("gatehouse: disk at port ", std::uint64_t{port}, ": vault opened, generation ", disk.header.generation,
        ", key epoch ", std::uint64_t{disk.header.data_key.epoch}, ", ", geometry.sectors, " sectors of ",
        std::uint64_t{geometry.sector_size}, " bytes");
    return {};
}

Status Disks::open_all(ata::ahci::Controller& controller, Unsealer& unsealer) {
    for (std::uint32_t port = 0; port < 32; ++port) {
        if ((controller.disks() >> port & 1) != 0) GATEHOUSE_TRY(open_one(controller, port, unsealer));
    }
    return {};
}

void Disks::describe(evidence::Claims& claims) const {
    claims.disk_count = count_;
    for (std::size_t i = 0; i < count_; ++i) {
        const volume::Header& header = open_[i].header;
        claims.disks[i] = {header.disk, evidence::DiskState::kEncrypted, header.data_key.epoch, header.generation,
                           tpm::name_of(header.slots.tpm->sealed_public.bytes())};
    }
}

void Disks::wipe() {
    for (OpenDisk& disk : open_) disk.key.clear();
    gatehouse::wipe(&keys_, sizeof(keys_));
    gatehouse::wipe(&scratch_, sizeof(scratch_));
}

}  // namespace gatehouse::boot

#include "hypervisor/boot/disks.hpp"

#include <algorithm>

#include "hypervisor/base/log.hpp"
#include "hypervisor/boot/dma_proof.hpp"
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

constinit SavedVectors saved_vectors;

using HbaRegister = platform::Register<ata::HbaRegisters, std::uint32_t>;

}  // namespace

Result<bool> DiskController::provoke_dma(std::uint64_t abar, HostPhysical area, ata::Clock& clock) {
    abar_ = GuestPhysical(abar);
    registers_ = platform::Mmio<ata::HbaRegisters>(HostPhysical(abar));
    return provoke_fis(*this, clock, area);
}

Status DiskController::start(std::uint64_t abar, const ata::DmaArena& arena, const memory::PhysicalMemory& guest,
                             ata::Clock& clock) {
    abar_ = GuestPhysical(abar);
    registers_ = platform::Mmio<ata::HbaRegisters>(HostPhysical(abar));
    guest_ = &guest;
    return controller_.take_over({.memory = this, .registers = this, .clock = &clock, .vectors = &saved_vectors},
                                 arena);
}

std::uint64_t DiskController::read(GuestPhysical address, unsigned size) {
    const std::uint64_t offset = address - abar_;
    if (offset + size > ata::ahci::Controller::kRegisterSpace) return 0;
    return controller_.read(static_cast<std::uint32_t>(offset), size);
}

void DiskController::write(GuestPhysical address, unsigned size, std::uint64_t value) {
    const std::uint64_t offset = address - abar_;
    if (offset + size > ata::ahci::Controller::kRegisterSpace) return;
    controller_.write(static_cast<std::uint32_t>(offset), size, value);
}

std::uint32_t DiskController::read(std::uint32_t offset) { return registers_.read(HbaRegister{offset}); }

void DiskController::write(std::uint32_t offset, std::uint32_t value) { registers_.write(HbaRegister{offset}, value); }

ata::GuestBytes DiskController::map(GuestPhysical address, std::uint64_t size) {
    const auto place = guest_->guest(address, size);
    return place ? ata::GuestBytes{memory::at_physical(*place), *place} : ata::GuestBytes{};
}

Status PortDisk::attach(const volume::Header& header, const volume::Dek& dek) {
    const auto regions = std::span(regions_).first(header.region_count);
    std::ranges::copy(header.region_table(), regions.begin());
    std::size_t next = 0;  // volume::validate(): overlay sectors are those of the overlay regions, in this order
    for (Region& region : regions) {
        if (region.kind == RegionClass::kOverlay) region.overlay = header.overlay[next++].content.data();
    }
    GATEHOUSE_TRY(key_.set(dek.bytes()));
    disk_->attach(regions, key_);
    return {};
}

void Disks::add(ata::ahci::Controller& controller, platform::FunctionId function) {
    for (ata::ahci::Port& disk : controller.disks()) {
        if (const Status found = disk.identify(); found) {
            disks_[count_++].bind(disk, function);
        } else {
            log("gatehouse: disk at port ", std::uint64_t{disk.number()}, ": ", found.failure(), "; it stays absent");
        }
    }
}

Status Disks::open(const volume::VaultId& pinned, Unsealer& unsealer) {
    std::array<VaultDisk*, kMaxDisks> all{};
    for (std::size_t i = 0; i < count_; ++i) all[i] = &disks_[i];
    return vaults_.open(std::span(all).first(count_), pinned, unsealer);
}

void Disks::describe(evidence::Claims& claims) const {
    for (const OpenVault& vault : vaults_.all()) {
        const volume::Header& header = vault.header;
        evidence::DiskClaim& claim = claims.disks[claims.disk_count++];
        claim = {header.disk, evidence::DiskState::kEncrypted, header.data_key.epoch, header.generation, {}};
        // Members were not opened by the TPM.
        if (claims.disk_count == 1) claim.sealed_name = tpm::name_of(header.slots.tpm->sealed_public.bytes());
    }
}

void Disks::wipe() {
    for (PortDisk& disk : disks_) disk.wipe();
}

}  // namespace gatehouse::boot

// The disk controllers: each AHCI controller of the machine behind its mediator, each vault opened.
#pragma once

#include "ata/ahci/controller.hpp"
#include "attestation/evidence/claims.hpp"
#include "hypervisor/boot/vault.hpp"
#include "hypervisor/cpu/mmio.hpp"
#include "hypervisor/memory/physical_memory.hpp"
#include "hypervisor/platform/io.hpp"
#include "hypervisor/platform/pci.hpp"

namespace gatehouse::boot {

// One AHCI controller: the real registers below, the guest's accesses above.
class DiskController final : public cpu::MmioHandler, private ata::HbaRegisters, private ata::GuestMemory {
  public:
    // `abar`: physical address of BAR5, uncached in the identity map.
    //
    // Before start(): has the first disk write a FIS to `area` (dma_proof.hpp). False: there is no disk.
    [[nodiscard]] Result<bool> provoke_dma(std::uint64_t abar, HostPhysical area, ata::Clock& clock);
    // `arena`: memory that this controller's DMA reaches. Errors: those of Controller::take_over().
    [[nodiscard]] Status start(std::uint64_t abar, const ata::DmaArena& arena, const memory::PhysicalMemory& guest,
                               ata::Clock& clock);
    [[nodiscard]] ata::ahci::Controller& controller() { return controller_; }

    // Offsets beyond the registers read zero and ignore writes.
    std::uint64_t read(GuestPhysical address, unsigned size) override;
    void write(GuestPhysical address, unsigned size, std::uint64_t value) override;

  private:
    std::uint32_t read(std::uint32_t offset) override;
    void write(std::uint32_t offset, std::uint32_t value) override;
    ata::GuestBytes map(GuestPhysical address, std::uint64_t size) override;

    GuestPhysical abar_;
    platform::Mmio<ata::HbaRegisters> registers_{HostPhysical()};
    const memory::PhysicalMemory* guest_ = nullptr;
    ata::ahci::Controller controller_;
};

// A disk at a port of a controller.
class PortDisk final : public VaultDisk {
  public:
    // `disk` has told its geometry; `function` is its controller.
    void bind(ata::ahci::Port& disk, platform::FunctionId function) {
        disk_ = &disk;
        function_ = function;
    }
    [[nodiscard]] platform::FunctionId function() const { return function_; }
    void wipe() { key_.clear(); }

    std::uint32_t port() const override { return disk_->number(); }
    std::size_t sector_size() const override { return disk_->geometry().sector_size; }
    std::uint64_t total_sectors() const override { return disk_->geometry().sectors; }
    Status read(std::uint64_t lba, MutableBytes out) override { return disk_->read_sectors(lba, out); }
    Status attach(const volume::Header& header, const volume::Dek& dek) override;

  private:
    ata::ahci::Port* disk_ = nullptr;
    platform::FunctionId function_ = 0;
    ata::XtsKey key_;
    std::array<Region, volume::kMaximumRegions> regions_{};  // those of the header, with their overlays
};

inline constexpr std::size_t kMaxControllers = 4;
inline constexpr std::size_t kMaxDisks = kMaxControllers * ata::ahci::Controller::kMaximumDisks;

// All disks of all controllers. Large: static.
class Disks {
  public:
    // The disks of a controller that has been taken over. One that does not identify stays absent.
    void add(ata::ahci::Controller& controller, platform::FunctionId function);
    // After all controllers have been added: Vaults::open().
    [[nodiscard]] Status open(const volume::VaultId& pinned, Unsealer& unsealer);
    // After open().
    [[nodiscard]] const volume::Header& boot_vault() const { return vaults_.all()[0].header; }
    [[nodiscard]] const PortDisk& boot_disk() const { return static_cast<const PortDisk&>(*vaults_.all()[0].disk); }
    void describe(evidence::Claims& claims) const;
    // Wipes every data key.
    void wipe();

  private:
    std::array<PortDisk, kMaxDisks> disks_{};
    std::size_t count_ = 0;
    Vaults vaults_;
};

}  // namespace gatehouse::boot

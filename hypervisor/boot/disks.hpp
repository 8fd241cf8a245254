// The disks: each AHCI controller of the machine held by the IOMMU and put behind its mediator, each vault opened.
#pragma once

#include "ata/ahci/controller.hpp"
#include "attestation/evidence/claims.hpp"
#include "hypervisor/boot/devices.hpp"
#include "hypervisor/boot/vault.hpp"
#include "hypervisor/cpu/mmio.hpp"
#include "hypervisor/cpu/vector.hpp"
#include "policies/bundle/bundle.hpp"

namespace gatehouse::boot {

// One AHCI controller: the real registers below, the guest's accesses above.
class DiskController final : public cpu::MmioHandler, ata::Environment {
  public:
    // Takes it over, once its own DMA has shown that the IOMMU refuses it (dma_proof.hpp). `registers`: BAR 5, uncached
    // in the identity map. `arena`: kept memory, the only one that its DMA then reaches, by `domain`.
    // kRefused: the DMA landed where it may not. kNotFound: a disk is there, and nothing has been proven. Errors of
    // Controller::take_over().
    [[nodiscard]] Status start(platform::FunctionId function, const Extent& registers, const ata::DmaArena& arena,
                               std::uint16_t domain, Devices& devices);
    [[nodiscard]] platform::FunctionId function() const { return function_; }
    [[nodiscard]] const Extent& registers() const { return registers_; }
    [[nodiscard]] memory::DmaMap& dma() { return dma_; }
    [[nodiscard]] ata::ahci::Controller& controller() { return controller_; }

    // Offsets beyond the registers read zero and ignore writes.
    std::uint64_t read(GuestPhysical address, unsigned size) override;
    void write(GuestPhysical address, unsigned size, std::uint64_t value) override;

  private:
    // False: it has no disk, so that nothing is proven.
    [[nodiscard]] Result<bool> prove_refusal(const ata::DmaArena& arena, std::uint16_t domain, Devices& devices);
    std::uint32_t read(std::uint32_t offset) override;
    void write(std::uint32_t offset, std::uint32_t value) override;
    ata::GuestBytes map(GuestPhysical address, std::uint64_t size) override;
    std::uint64_t microseconds() override { return platform::microseconds(); }
    // FXSAVE area and nesting are cpu::VectorSection's; they come in pairs on one processor.
    void begin_vectors() override { cpu::begin_vectors(); }
    void end_vectors() override { cpu::end_vectors(); }

    platform::FunctionId function_ = 0;
    Extent registers_;
    platform::Mmio<ata::Environment> hardware_{HostPhysical()};
    memory::DmaMap dma_;  // its arena and, after Disks::release(), guest RAM
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
    // What the policy says of a disk with a vault, which is attached by now, or without.
    void apply(const policies::Bundle& policy);

  private:
    ata::ahci::Port* disk_ = nullptr;
    platform::FunctionId function_ = 0;
    ata::XtsKey key_;
    std::array<Region, volume::kMaximumRegions> regions_{};  // those of the header, with their overlays
};

inline constexpr std::size_t kMaxControllers = 4;
inline constexpr std::size_t kMaxDisks = kMaxControllers * ata::ahci::Controller::kMaximumDisks;

// All controllers, and all disks of them. Large: static.
class Disks {
  public:
    Disks(const MachineMemory& memory, Devices& devices) : memory_(memory), devices_(devices) {}

    // Starts every controller and lets its disks identify. A controller or disk that fails stays absent, with a line
    // that says why: it has no DMA, and the guest does not reach its registers. kRefused: the IOMMU refuses nothing.
    [[nodiscard]] Status find();
    // Then: Vaults::open(), and what the policy says of disks.
    [[nodiscard]] Status open(const volume::VaultId& pinned, Unsealer& unsealer, const policies::Bundle& policy);
    // After open().
    [[nodiscard]] const volume::Header& boot_vault() const { return vaults_.all()[0].header; }
    [[nodiscard]] const PortDisk& boot_disk() const { return static_cast<const PortDisk&>(*vaults_.all()[0].disk); }
    void describe(evidence::Claims& claims) const;
    // Every controller as the guest expects to find it.
    [[nodiscard]] Status hand_over();
    // Controllers reach the guest's memory as well, once the IOMMUs are told (Devices::refresh_iommus()).
    [[nodiscard]] Status release();
    // Stops the controllers' DMA.
    void stop() {
        for (DiskController& one : controllers()) one.controller().stop();
    }
    // Wipes every data key.
    void wipe() {
        for (PortDisk& disk : disks_) disk.wipe();
    }

  private:
    [[nodiscard]] std::span<DiskController> controllers() { return std::span(controllers_).first(controller_count_); }
    [[nodiscard]] Result<Extent> registers_of(platform::FunctionId controller) const;
    [[nodiscard]] Status open_controller(platform::FunctionId function);
    [[nodiscard]] Status leave_out(platform::FunctionId controller, const Failure& why);

    const MachineMemory& memory_;
    Devices& devices_;
    std::array<DiskController, kMaxControllers> controllers_;
    std::size_t controller_count_ = 0;
    std::array<PortDisk, kMaxDisks> disks_{};
    std::size_t count_ = 0;
    Vaults vaults_;
};

}  // namespace gatehouse::boot

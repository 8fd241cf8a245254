// The disks: each AHCI or IDE controller of the machine held by the IOMMU and put behind its mediator, each vault opened.
#pragma once

#include "ata/ahci/controller.hpp"
#include "ata/ide/channel.hpp"
#include "hypervisor/boot/devices.hpp"
#include "hypervisor/boot/dma_proof.hpp"
#include "hypervisor/boot/vault.hpp"
#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/mmio.hpp"
#include "hypervisor/cpu/vector.hpp"
#include "policies/bundle/bundle.hpp"

namespace gatehouse::boot {

// One controller: the real registers below, the guest's accesses above. AHCI's, but for what IDE's (ide_controller.hpp) does
// in its own way.
class DiskController : public cpu::MmioHandler, protected ata::Environment {
  public:
    // Takes it over, once its own DMA has shown that the IOMMU refuses it (dma_proof.hpp). `registers`: BAR 5, uncached
    // in the identity map. `arena`: kept memory, the only one that its DMA then reaches, by `domain`.
    // kRefused: the DMA landed where it may not. kNotFound: a disk is there, and nothing has been proven. Errors of
    // Controller::take_over().
    [[nodiscard]] Status start(platform::FunctionId function, const Extent& registers, const ata::DmaArena& arena,
                               std::uint16_t domain, Devices& devices);
    [[nodiscard]] platform::FunctionId function() const { return function_; }
    [[nodiscard]] const Extent& registers() const { return registers_; }
    // The disks found, by numbers from 0 on; nullptr: there are no more.
    [[nodiscard]] virtual ata::Disk* disk(std::size_t i) {
        return i < controller_.disks().size() ? &controller_.disks()[i] : nullptr;
    }
    // The guest's accesses come here.
    [[nodiscard]] virtual Status trap() { return cpu::trap_mmio(registers_.base, registers_.length, *this); }
    [[nodiscard]] virtual Status hand_over() { return controller_.hand_over(); }
    // Its DMA reaches that part of guest RAM.
    [[nodiscard]] virtual Status release(const Extent& range) { return dma_.allow(range); }
    virtual void stop() { controller_.stop(); }

    // Offsets beyond the registers read zero and ignore writes.
    std::uint64_t read(GuestPhysical address, unsigned size) override;
    void write(GuestPhysical address, unsigned size, std::uint64_t value) override;

  protected:
    std::uint32_t read(std::uint32_t offset) override;
    void write(std::uint32_t offset, std::uint32_t value) override;

  private:
    [[nodiscard]] virtual Status take_over(const ata::DmaArena& arena) { return controller_.take_over(*this, arena); }
    // Has one of its disks, if there are any, write to the arena's first page.
    [[nodiscard]] virtual Result<bool> provoke_dma(const ata::DmaArena& arena) {
        return provoke_fis(*this, arena.physical);
    }
    // False: it has no disk, so that nothing is proven.
    [[nodiscard]] Result<bool> prove_refusal(const ata::DmaArena& arena, std::uint16_t domain, Devices& devices);
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

inline constexpr std::size_t kMaxControllers = 4;
inline constexpr std::size_t kMaxDisks = kMaxControllers * ata::ahci::Controller::kMaximumDisks;

class IdeController;

// All controllers, and all disks of them. Large: static.
class Disks {
  public:
    Disks(const MachineMemory& memory, Devices& devices, IdeController& ide)
        : memory_(memory), devices_(devices), ide_(ide) {}

    // Starts every controller and lets its disks identify. A controller or disk that fails stays absent, with a line
    // that says why: it has no DMA, and the guest does not reach its registers, but for an IDE controller's bus masters, which
    // have nothing to move then: its drives get no command. kRefused: the IOMMU refuses nothing.
    [[nodiscard]] Status find();
    // Then: Vaults::open(), and what the policy says of disks.
    [[nodiscard]] Status open(const volume::VaultId& pinned, Unsealer& unsealer, const policies::Bundle& policy);
    // After open().
    [[nodiscard]] const volume::Header& boot_vault() const { return vaults_.all()[0].header; }
    [[nodiscard]] const PortDisk& boot_disk() const { return *vaults_.all()[0].disk; }
    void describe(evidence::Claims& claims) const;
    [[nodiscard]] channel::Converter& converter() { return vaults_.conversion(); }
    // Every controller as the guest expects to find it.
    [[nodiscard]] Status hand_over();
    // Controllers reach the guest's memory as well, once the IOMMUs are told (Devices::refresh_iommus()).
    [[nodiscard]] Status release();
    // Stops the controllers' DMA.
    void stop() {
        for (DiskController* one : controllers()) one->stop();
    }
    // Wipes every data key.
    void wipe() {
        for (PortDisk& disk : disks_) disk.key.clear();
        vaults_.conversion().wipe();
    }

  private:
    [[nodiscard]] std::span<DiskController*> controllers() { return std::span(started_).first(controller_count_); }
    [[nodiscard]] Result<Extent> registers_of(platform::FunctionId controller) const;
    [[nodiscard]] Status open_controller(platform::FunctionId function);
    [[nodiscard]] Status leave_out(platform::FunctionId controller, const Failure& why);

    const MachineMemory& memory_;
    Devices& devices_;
    IdeController& ide_;
    std::array<DiskController, kMaxControllers> controllers_;  // AHCI's
    std::array<DiskController*, kMaxControllers> started_{};
    std::size_t controller_count_ = 0;
    std::array<PortDisk, kMaxDisks> disks_{};
    std::size_t count_ = 0;
    Vaults vaults_;
};

}  // namespace gatehouse::boot

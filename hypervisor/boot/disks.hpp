// The disk controllers: each AHCI controller of the machine behind its mediator, each vault opened.
#pragma once

#include "ata/ahci/controller.hpp"
#include "attestation/evidence/claims.hpp"
#include "hypervisor/boot/vault.hpp"
#include "hypervisor/cpu/mmio.hpp"
#include "hypervisor/memory/physical_memory.hpp"

namespace gatehouse::boot {

// One AHCI controller: the real registers below, the guest's accesses above.
class DiskController final : public cpu::MmioHandler, private ata::HbaRegisters, private ata::GuestMemory {
  public:
    DiskController() = default;

    // `abar`: physical address of BAR5, uncached in the identity map. `arena`: memory that this controller's DMA
    // reaches. Errors: those of Controller::take_over().
    [[nodiscard]] Status start(std::uint64_t abar, const ata::DmaArena& arena, const memory::PhysicalMemory& guest,
                               ata::Clock& clock);
    [[nodiscard]] ata::ahci::Controller& controller() { return controller_; }

    // Offsets beyond the registers read zero and ignore writes.
    std::uint64_t read(std::uint64_t address, unsigned size) override;
    void write(std::uint64_t address, unsigned size, std::uint64_t value) override;

  private:
    std::uint32_t read(std::uint32_t offset) override;
    void write(std::uint32_t offset, std::uint32_t value) override;
    std::byte* map(std::uint64_t physical, std::uint64_t size) override;

    std::uint64_t abar_ = 0;
    const memory::PhysicalMemory* guest_ = nullptr;
    ata::ahci::Controller controller_;
};

// A disk whose vault is open: what the mediator needs to keep.
struct OpenDisk {
    volume::Header header;
    ata::XtsKey key;
    // Those of the header, an overlay region of n sectors as n regions of one.
    std::array<ata::Region, volume::kMaximumRegions + volume::kMaximumOverlaySectors> regions{};
};

inline constexpr std::size_t kMaxControllers = 4;
inline constexpr std::size_t kMaxOpenDisks = 8;

// All open disks of all controllers. Large: static.
class Disks {
  public:
    // Identifies every disk of `controller`, opens its vault and attaches it. A disk without a vault stays absent; a
    // vault that does not open is an error, the first one found, and the boot must not go on.
    [[nodiscard]] Status open_all(ata::ahci::Controller& controller, Unsealer& unsealer);
    [[nodiscard]] std::size_t count() const { return count_; }
    // The first open disk's header, which has the attestation key; count() must not be 0.
    [[nodiscard]] const volume::Header& first_header() const { return open_[0].header; }
    void describe(evidence::Claims& claims) const;
    // Wipes every data key.
    void wipe();

  private:
    [[nodiscard]] Status open_one(ata::ahci::Controller& controller, std::uint32_t port, Unsealer& unsealer);

    std::array<OpenDisk, kMaxOpenDisks> open_{};
    std::size_t count_ = 0;
    volume::Keys keys_;
    VaultScratch scratch_{};
};

}  // namespace gatehouse::boot

// The devices: which functions there are, and what memory each of them reaches.
//
// The SLB has left every device without DMA. Here a function gets a domain of the IOMMU's, or none; what has not been
// reset, and what is not there, never reaches memory. Configuration space is the real one below a filter, for the
// guest (config()).
#pragma once

#include "hypervisor/boot/machine_memory.hpp"
#include "hypervisor/guest/config_filter.hpp"
#include "hypervisor/memory/amd_vi.hpp"
#include "hypervisor/platform/chipset.hpp"
#include "hypervisor/platform/pci_reset.hpp"

namespace gatehouse::boot {

// Large: static.
class Devices final : guest::ConfigSpace {
  public:
    // Domains of disk controllers: this one and up.
    static constexpr std::uint16_t kFirstDiskDomain = 2;

    explicit Devices(MachineMemory& memory) : memory_(memory) {}

    // The chipset, the ECAM window, and the functions that are protected from the guest.
    [[nodiscard]] Status find();
    // Takes over the units that the SLB has set up: kMismatch if they are not as many as it counted.
    [[nodiscard]] Status start_iommus(std::uint32_t expected);
    // Whether registers that the hypervisor relies on are there: the APICs', the HPET's, the TPM's, an IOMMU's, and
    // configuration space. Whoever set up the machine may have given a device a place among them.
    [[nodiscard]] bool trusted_at(const Extent& registers) const;
    // Which memory a function reaches: once the units are told, by refresh_iommus().
    void set_domain(platform::FunctionId function, const memory::DmaDomain& domain);
    // After a change of the device table or of an I/O page table.
    [[nodiscard]] Status refresh_iommus();
    // The functions that are there, are no disk controllers and have been reset reach the guest's memory, once the
    // units are told. All other numbers stay refused.
    [[nodiscard]] Status release();

    [[nodiscard]] const platform::Chipset& chipset() const { return chipset_; }
    [[nodiscard]] const platform::EcamWindow& ecam() const { return ecam_; }
    [[nodiscard]] guest::ConfigFilter& config() { return config_; }
    [[nodiscard]] std::span<const memory::IommuPlace> iommus() const { return iommus_.all(); }

  private:
    // The real configuration space.
    std::uint32_t read(platform::FunctionId function, std::uint16_t offset, unsigned size) override;
    void write(platform::FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) override;

    MachineMemory& memory_;
    platform::Chipset chipset_;
    platform::EcamWindow ecam_;
    guest::ConfigFilter config_{*this};
    memory::IommuList iommus_;
    platform::FunctionResets resets_;
    memory::DmaMap general_dma_;  // of functions that have been reset: guest RAM
};

}  // namespace gatehouse::boot

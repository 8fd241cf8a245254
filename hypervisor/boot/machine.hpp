// The machine on its way from the SLB's jump to the guest's first instruction, and what outlives that.
//
// Order matters here, and is told by prepare(): nothing is used before it has been measured, the disk key is
// asked for before anything of the guest's runs, PCRs 17 and 18 are capped whether or not it was released,
// and devices reach memory only at the very end.
#pragma once

#include "attestation/evidence/claims.hpp"
#include "hypervisor/boot/disks.hpp"
#include "hypervisor/boot/dma_proof.hpp"
#include "hypervisor/boot/payload.hpp"
#include "hypervisor/boot/policy.hpp"
#include "hypervisor/channel/quote_source.hpp"
#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/stop.hpp"
#include "hypervisor/cpu/svm/svm.hpp"
#include "hypervisor/guest/config_ports.hpp"
#include "hypervisor/guest/power_ports.hpp"
#include "hypervisor/launch/hand_off.hpp"
#include "hypervisor/memory/amd_vi.hpp"
#include "hypervisor/platform/guest_tables.hpp"
#include "hypervisor/platform/machine_tables.hpp"
#include "hypervisor/platform/pci_reset.hpp"
#include "hypervisor/platform/tpm_mmio.hpp"

namespace gatehouse::boot {

// Version of the hypervisor, the project's, as its claims state it: major << 16 | minor << 8 | patch.
inline constexpr std::uint32_t kVersion = GATEHOUSE_VERSION_NUMBER;

// There is one, which is never copied (its locks cannot be). Very large: static storage.
class Machine final : platform::AcpiMemory, guest::PhysicalView, ata::Clock {
  public:
    explicit Machine(std::uint64_t kept_base);

    // Everything up to the guest's entry. If it fails, the guest must not start, and no key is in memory.
    [[nodiscard]] Result<cpu::svm::GuestEntry> prepare();
    // Wipes every secret. May be called at any time.
    void wipe();
    // Stops the disk controllers' DMA and shuts the TPM down, for reset and power-off.
    void stop_devices();

  private:
    class PciPorts final : public guest::ConfigSpace {
      public:
        std::uint32_t read(guest::FunctionId function, std::uint16_t offset, unsigned size) override;
        void write(guest::FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) override;
        // 0: not in the window.
        [[nodiscard]] std::uint64_t ecam_address(guest::FunctionId function, std::uint16_t offset) const;

        platform::EcamWindow ecam;
    };
    class Power final : public guest::PowerActions {
      public:
        std::uint32_t read(std::uint16_t port, unsigned size) override { return platform::in(port, size); }
        void write(std::uint16_t port, unsigned size, std::uint32_t value) override {
            platform::out(port, size, value);
        }
        void prepare_stop() override;
        void wait_for_the_end() override;
    };
    struct Controller {
        guest::FunctionId function = 0;
        Extent registers;  // ABAR
        ata::DmaArena arena;
        memory::DmaMap dma;  // its arena, and then guest RAM
        DiskController mediator;
    };
    [[nodiscard]] std::span<Controller> controllers() { return std::span(controllers_).first(controller_count_); }

    // machine.cpp: what is measured, decided and told
    [[nodiscard]] Status read_blocks();
    [[nodiscard]] Status start_tpm();
    [[nodiscard]] Status measure();
    [[nodiscard]] Status show_pcr(std::uint32_t pcr);
    [[nodiscard]] Status check_policy();
    [[nodiscard]] Status seed_random();
    [[nodiscard]] Status start_processors();
    [[nodiscard]] Status measure_machine();
    [[nodiscard]] Status measure_tables();
    void state_claims();
    [[nodiscard]] Result<cpu::svm::GuestEntry> load_guest();
    // RAM that is not kept: reading it asks no device.
    [[nodiscard]] Bytes view(std::uint64_t physical, std::uint64_t size) override;
    [[nodiscard]] MutableBytes at(HostPhysical physical, std::size_t size) override {
        return {memory::at_physical(physical), size};
    }
    [[nodiscard]] MutableBytes kept(std::uint64_t offset, std::uint64_t size) {
        return at(HostPhysical(kept_base_ + offset), size);
    }
    [[nodiscard]] std::uint64_t microseconds() override { return platform::microseconds(); }

    // devices.cpp: what devices reach, and which of them the guest does
    // Chipset, ECAM window, and the functions that are protected.
    [[nodiscard]] Status find_devices();
    [[nodiscard]] Status start_iommus();
    void set_device(guest::FunctionId function, const memory::DmaDomain& domain);
    // After a change of the device table or of an I/O page table.
    [[nodiscard]] Status refresh_iommus();
    [[nodiscard]] Result<Extent> registers_of(guest::FunctionId controller) const;
    // kRefused if the IOMMU lets its DMA through; with any other error the controller is left out.
    [[nodiscard]] Status open_controller(guest::FunctionId function);
    [[nodiscard]] Status leave_out(guest::FunctionId controller, const Failure& why);
    // False: it has no disk, so that nothing is proven.
    [[nodiscard]] Result<bool> prove_refusal(Controller& controller);
    [[nodiscard]] Status open_disks();
    [[nodiscard]] Status trap_guest();
    [[nodiscard]] Status allow_guest_memory(memory::DmaMap& map);
    [[nodiscard]] Status release_dma();

    std::uint64_t kept_base_;
    launch::LaunchBlock block_;
    launch::HandOff hand_off_;
    guest::MemoryMap map_;

    evidence::EventLogWriter event_log_;  // in the hand-off block
    platform::TpmMmioBus tpm_bus_;
    platform::TpmTransport transport_{tpm_bus_};
    tpm::Tpm tpm_{transport_};
    Measurer measurer_{tpm_, event_log_};
    Random random_;

    Payload payload_;
    Policy policy_;
    evidence::Claims claims_;

    platform::Chipset chipset_;
    platform::MachineTables tables_;
    PciPorts pci_;
    guest::ConfigFilter config_{pci_};
    guest::ConfigPorts config_ports_{config_};
    guest::EcamPages ecam_pages_{config_};
    Power power_;
    guest::PowerPorts power_ports_{power_};

    memory::IommuList iommus_;
    memory::Ram ram_;
    platform::FunctionResets resets_;
    memory::DmaMap general_dma_;  // functions that have been reset: guest RAM

    std::array<Controller, kMaxControllers> controllers_;
    std::size_t controller_count_ = 0;
    Disks disks_;

    channel::QuoteSource quotes_{tpm_, random_, claims_, event_log_};
    channel::Doorbell doorbell_;
};

}  // namespace gatehouse::boot

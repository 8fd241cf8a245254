// What the guest sees of the machine: the ports and pages that are answered for it, and what it is started with.
//
// The rest of the machine it has for itself, but for what could undo this: trap() hides the TPM, the IOMMUs and the
// chipset's registers in memory.
#pragma once

#include "hypervisor/boot/measured_launch.hpp"
#include "hypervisor/guest/config_ports.hpp"
#include "hypervisor/guest/power_ports.hpp"

namespace gatehouse::boot {

class GuestView final : guest::PowerActions {
  public:
    GuestView(MachineMemory& memory, MeasuredLaunch& launch, Devices& devices, const Disks& disks)
        : memory_(memory), launch_(launch), devices_(devices), disks_(disks) {}

    // Before the guest runs: configuration space, power and reset, the doorbell; and the pages of the kept region that
    // are for it.
    [[nodiscard]] Status trap();
    // Its ACPI tables, kernel and initrd, in its memory.
    [[nodiscard]] Result<cpu::svm::GuestEntry> load();

  private:
    // The real ports, and the end of the guest (cpu/stop.hpp).
    std::uint32_t read(std::uint16_t port, unsigned size) override { return platform::in(port, size); }
    void write(std::uint16_t port, unsigned size, std::uint32_t value) override { platform::out(port, size, value); }
    void prepare_stop() override;
    void wait_for_the_end() override;

    MachineMemory& memory_;
    MeasuredLaunch& launch_;
    Devices& devices_;
    const Disks& disks_;
    guest::ConfigPorts config_ports_{devices_.config()};
    guest::EcamPages ecam_pages_{devices_.config()};
    guest::PowerPorts power_ports_{*this};
    channel::Doorbell doorbell_{launch_.quotes(), memory_.kept(launch::kMailboxOffset, launch::kMailboxSize)};
};

}  // namespace gatehouse::boot

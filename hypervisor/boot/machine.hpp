// The machine on its way from the SLB's jump to the guest's first instruction, and what outlives that.
//
// Order matters here, and is told by prepare(): nothing is used before it has been measured, the disk key is
// asked for before anything of the guest's runs, PCRs 17 and 18 are capped whether or not it was released,
// and devices reach memory only at the very end. What a step does is said by the part that owns it.
#pragma once

#include "hypervisor/boot/guest_view.hpp"
#include "hypervisor/boot/ide_controller.hpp"

namespace gatehouse::boot {

// There is one, which is never copied (its locks cannot be). Very large: static storage.
class Machine {
  public:
    explicit Machine(std::uint64_t kept_base) : memory_(kept_base) {}

    // Everything up to the guest's entry. If it fails, the guest must not start, and no key is in memory.
    [[nodiscard]] Result<cpu::svm::GuestEntry> prepare();
    // Wipes every secret. May be called at any time.
    void wipe() {
        disks_.wipe();
        launch_.wipe();
    }
    // Stops the disk controllers' DMA and shuts the TPM down, for reset and power-off.
    void stop_devices() {
        disks_.stop();
        launch_.stop();
    }

  private:
    [[nodiscard]] Status start_processors();

    MachineMemory memory_;
    Devices devices_{memory_};
    IdeController ide_;
    Disks disks_{memory_, devices_, ide_};
    MeasuredLaunch launch_{memory_};
    GuestView guest_{memory_, launch_, devices_, disks_};
};

}  // namespace gatehouse::boot

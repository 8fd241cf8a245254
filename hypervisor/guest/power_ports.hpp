// The guest's ways to sleep, power-off and reset: keys are wiped from memory first, then the machine does as asked.
//
//   port   what                                      source
//   0x64   keyboard controller, pulse output (0xf.)  8042: bit 0 clear pulses the reset line
//   0x92   system control port A, bit 0              PS/2: fast reset
//   0xcf9  reset control, bit 2                      chipset data sheets
//   PM1a/PM1b control, SLP_EN (bit 13)               ACPI 6.5, 4.8.3.2.1
//   FADT reset register, if it is a port             ACPI 6.5, 4.8.3.6
//
// The hypervisor does not run AML, so it cannot tell S3 from S5: any SLP_EN ends the guest. Where firmware offers S3
// and the guest takes it, the machine sleeps with its keys wiped and must be reset to boot again.
#pragma once

#include "hypervisor/cpu/io_ports.hpp"

namespace gatehouse::guest {

// What happens at the end, behind an interface so that the rules can be tested.
class PowerActions {
  public:
    // The real ports.
    [[nodiscard]] virtual std::uint32_t read(std::uint16_t port, unsigned size) = 0;
    virtual void write(std::uint16_t port, unsigned size, std::uint32_t value) = 0;
    // Wipes keys, stops the other processors.
    virtual void prepare_stop() = 0;
    // After the last write: the machine is going down; does not return on the real machine.
    virtual void wait_for_the_end() = 0;

  protected:
    ~PowerActions() = default;
};

class PowerPorts final : public cpu::IoPortHandler {
  public:
    // Ports of 0 do not exist.
    struct Ports {
        std::uint16_t pm1a_control = 0;
        std::uint16_t pm1b_control = 0;
        std::uint16_t reset = 0;  // and the value that resets
        std::uint8_t reset_value = 0;
    };
    static constexpr std::uint16_t kKeyboard = 0x64;
    static constexpr std::uint16_t kSystemControlA = 0x92;
    static constexpr std::uint16_t kResetControl = 0xcf9;

    explicit PowerPorts(PowerActions& actions) : actions_(actions) {}
    // Which ports the firmware's tables name, besides the fixed ones. Before the guest runs.
    void watch(const Ports& ports) { ports_ = ports; }
    std::uint32_t read(std::uint16_t port, unsigned size) override { return actions_.read(port, size); }
    void write(std::uint16_t port, unsigned size, std::uint32_t value) override;

  private:
    [[nodiscard]] bool ends_the_guest(std::uint16_t port, unsigned size, std::uint32_t value) const;

    PowerActions& actions_;
    Ports ports_;
};

}  // namespace gatehouse::guest

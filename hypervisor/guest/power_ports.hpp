// The guest's ways to sleep, power-off and reset: keys are wiped from memory first, then the machine does as asked.
//
//   port   what                                      source
//   0x64   keyboard controller, pulse output (0xf.)  8042: bit 0 clear pulses the reset line
//          and write output port (0xd1)              bit 0 of what comes next is that line: dropped
//   0x92   system control port A, bit 0              PS/2: fast reset
//   0xcf9  reset control, bit 2                      chipset data sheets
//   PM1 control, SLP_EN (bit 13)                     ACPI 6.5, 4.8.3.2.1
//   0xcd7  AMD FCH: data of the PM registers         they place PM1 control: read-only to the guest
//
// No sleep state but S5 is offered. SLP_EN with any other type resets the machine instead: firmware would resume the
// guest without a hypervisor. If a machine slept in spite of this, no key would be in memory and no disk readable.
#pragma once

#include "hypervisor/cpu/io_ports.hpp"
#include "hypervisor/platform/chipset.hpp"

namespace gatehouse::guest {

// The real ports, and what happens at the end, behind an interface so that the rules can be tested.
class PowerActions : public cpu::IoPortHandler {
  public:
    // Wipes keys, stops the other processors.
    virtual void prepare_stop() = 0;
    // After the last write: the machine is going down; does not return on the real machine.
    virtual void wait_for_the_end() = 0;

  protected:
    ~PowerActions() = default;
};

// Each of the ports is a region of its own (cpu/io_ports.hpp): an access has one of them, but that PM1 control has two.
class PowerPorts final : public cpu::IoPortHandler {
  public:
    static constexpr std::uint16_t kKeyboard = 0x64;
    static constexpr std::uint16_t kSystemControlA = 0x92;

    explicit PowerPorts(PowerActions& actions) : actions_(actions) {}
    // The chipset's PM1 control register and the SLP_TYP of its S5 (platform/chipset.hpp). Before the guest runs.
    void watch(std::uint16_t pm1_control, std::uint8_t s5_type) {
        pm1_control_ = pm1_control;
        s5_type_ = s5_type;
    }
    std::uint32_t read(std::uint16_t port, unsigned size) override { return actions_.read(port, size); }
    void write(std::uint16_t port, unsigned size, std::uint32_t value) override;

  private:
    PowerActions& actions_;
    std::uint16_t pm1_control_ = 0;
    std::uint8_t s5_type_ = 0;
};

}  // namespace gatehouse::guest

// The chipset's power management block: read from the chipset's own registers, never from a FADT.
//
//   chipset                     found as                  block                                sleep type of S5
//   ICH9 as QEMU's Q35 has it   0:1f.0, 8086:2918,        PMBASE (config 0x40), if ACPI_CNTL   0
//                               subsystem 1af4:1100       (0x44) enables it
//   AMD FCH                     0:14.0, 1022:780b, 790b   PM registers 0x60-0x69               5
//
// A true ICH9 has other sleep types (S5 is 7); it never meets a processor with SKINIT, and its subsystem is another.
// Sources: Intel ICH9 datasheet 13.1.13, 13.8.3; AMD BKDG for Family 15h Models 70h-7Fh, power management registers
// PMx60 (event), PMx62 (control), PMx64 (timer), PMx68 (GPE0), as coreboot sets them in soc/amd/stoneyridge, with S5 in
// its acpi/sleepstates.asl; QEMU hw/acpi/core.c, acpi_pm1_cnt_write() (type 0: off), and hw/isa/lpc_ich9.c.
#pragma once

#include "hypervisor/base/result.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::platform {

// Reset control: bit 2 resets, the whole machine if bit 1 was set before.
inline constexpr Port<std::uint8_t> kResetControl{0xcf9};
// Index and data port of the FCH's PM registers.
inline constexpr Port<std::uint8_t> kFchIndex{0xcd6};
inline constexpr Port<std::uint8_t> kFchData{0xcd7};
// One PM register of an AMD FCH. In pci_ports.cpp, as read_config; tests link a model in its place.
[[nodiscard]] std::uint8_t read_fch(std::uint8_t index);

struct Chipset {
    std::uint16_t pm1_event = 0;  // ports
    std::uint16_t pm1_control = 0;
    std::uint16_t pm_timer = 0;
    std::uint16_t gpe0 = 0;
    std::uint8_t gpe0_size = 0;  // bytes, status and enable registers together
    std::uint8_t s5_type = 0;    // SLP_TYP of S5
    bool sci_active_low = false;
    bool fch = false;  // the block can be moved through kFchIndex
    friend bool operator==(const Chipset&, const Chipset&) = default;
};
// kUnsupported with vendor and device of 0:1f.0: no chipset of the table; kBadValue: a block that is off, or has no
// place among the ports above 0x3ff, where the fixed ones end.
[[nodiscard]] Result<Chipset> find_chipset();

}  // namespace gatehouse::platform

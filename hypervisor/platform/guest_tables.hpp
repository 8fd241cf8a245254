// ACPI tables for the guest. With acpi = minimal all of them are made here, of what the hypervisor has read from the
// hardware: no byte of the machine's own tables is believed or passed on, and no AML but the DSDT's below, which is
// a constant of the measured image. With acpi = machine only RSDP, XSDT and GTHS are (machine_tables.hpp).
//
//   Name (_S5, Package (4) {t, t, 0, 0})    t: chipset's sleep type
//   Scope (\_SB) { Device (PCI0) { Name (_HID, EisaId ("PNP0A08"))  Name (_CID, EisaId ("PNP0A03")) } }
//
// What this costs: no _PRT, so a device needs MSI or MSI-X, INTx is not routed; no _CRS, so Linux is to be told
// pci=nocrs, with which it leaves bridges and devices where firmware has put them; no lid, battery, embedded
// controller or thermal zone; no P-states and no C-states beyond C1 (the processor boosts as firmware left it).
// The power button is the fixed-hardware one. Sleep states other than S5 do not exist. ACPI Specification 6.5, 5.2
// and 20.2; IA-PC HPET Specification 1.0a, 3.2.4; PCI Firmware Specification 3.3, 4.1.2.
#pragma once

#include "hypervisor/platform/acpi.hpp"
#include "hypervisor/platform/chipset.hpp"
#include "hypervisor/platform/pci.hpp"

namespace gatehouse::platform {

inline constexpr std::uint64_t kIoApicBase = 0xfec00000;
inline constexpr Register<struct IoApic, std::uint32_t> kIoApicSelect{0x00}, kIoApicWindow{0x10};
inline constexpr std::uint32_t kIoApicId = 0;  // register behind the window: [27:24]
inline constexpr std::uint64_t kHpetBase = 0xfed00000;
inline constexpr Register<struct Hpet, std::uint64_t> kHpetCapabilities{0x00};

struct GuestPlatform {
    std::span<const std::uint32_t> apic_ids;
    std::uint8_t io_apic_id = 0;
    Chipset chipset;
    std::uint64_t hpet = 0;  // capability register at kHpetBase; no HPET if it is not sane
    EcamWindow ecam;         // base 0: none
    Bytes channel;           // body of the table GTHS (channel/mailbox.hpp)
    // Not empty: these and GTHS are the guest's, nothing else. A DSDT among them is not listed.
    std::span<const AcpiTable> machine_tables{};
};

// Enough for all of them.
inline constexpr std::size_t kGuestTablesSize = 0x1000;
// Writes RSDP (first), XSDT, DSDT, FADT, MADT, HPET and MCFG (if there are any) and GTHS into `out`, which is at
// `physical`, below 4 GiB and 16-byte aligned; the rest of `out` is zeroed. kNoSpace.
[[nodiscard]] Status build_guest_tables(const GuestPlatform& machine, MutableBytes out, std::uint64_t physical);

}  // namespace gatehouse::platform

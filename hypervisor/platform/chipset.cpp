#include "hypervisor/platform/chipset.hpp"

#include "hypervisor/platform/pci.hpp"

namespace gatehouse::platform {

Result<Chipset> find_chipset() {
    constexpr FunctionId kLpc = 0x1f << 3;
    constexpr FunctionId kSmbus = 0x14 << 3;
    constexpr std::uint32_t kIch9 = 0x29188086, kQemu = 0x11001af4, kHudson = 0x780b1022, kKerncz = 0x790b1022;
    constexpr std::uint8_t kAcpiEnable = 0x80;
    const std::uint32_t lpc = read_config(kLpc, 0, 4);
    const std::uint32_t smbus = read_config(kSmbus, 0, 4);
    Chipset chipset;
    if (lpc == kIch9 && read_config(kLpc, 0x2c, 4) == kQemu) {
        const auto base = static_cast<std::uint16_t>(read_config(kLpc, 0x40, 2) & 0xff80);
        if ((read_config(kLpc, 0x44, 1) & kAcpiEnable) == 0) return {Error::kBadValue, "chipset: ACPI block is off"};
        const auto block = [base](unsigned offset) { return static_cast<std::uint16_t>(base + offset); };
        chipset = {base, block(4), block(8), block(0x20), 16};
    } else if (smbus == kHudson || smbus == kKerncz) {
        const auto block = [](std::uint8_t index) {
            return static_cast<std::uint16_t>(read_fch(index) | read_fch(static_cast<std::uint8_t>(index + 1)) << 8);
        };
        chipset = {block(0x60), block(0x62), block(0x64), block(0x68), 8, 5, true, true};
    } else {
        return {Error::kUnsupported, "chipset", lpc};
    }
    for (const std::uint16_t port : {chipset.pm1_event, chipset.pm1_control, chipset.pm_timer, chipset.gpe0}) {
        const bool chipsets_own = port >= 0xc00 && port < 0xd00;  // the FCH's index ports, configuration space, reset
        if (port < 0x400 || port > 0xfff0 || port % 2 != 0 || chipsets_own) {
            return {Error::kBadValue, "chipset: ACPI block", port};
        }
    }
    return chipset;
}

}  // namespace gatehouse::platform

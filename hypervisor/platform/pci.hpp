// PCI configuration space through ports 0xcf8 and 0xcfc (PCI Local Bus Specification 3.0, 3.2.2.3.2).
//
// The ports are pci_ports.cpp; tests link a model in its place.
#pragma once

#include <optional>

#include "hypervisor/base/result.hpp"

namespace gatehouse::platform {

// Bus << 8 | device << 3 | function.
using FunctionId = std::uint16_t;

// The address register, and the data register it selects: four bytes each.
inline constexpr std::uint16_t kConfigAddress = 0xcf8, kConfigData = 0xcfc;

// `offset` is below 256 and aligned to `size`, 1, 2 or 4. One CPU at a time.
[[nodiscard]] std::uint32_t read_config(FunctionId function, std::uint16_t offset, unsigned size);
void write_config(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value);

// Class, subclass and programming interface as 0xCCSSPP.
[[nodiscard]] std::uint32_t class_of(FunctionId function);
// Whether a function answers (PCI 3.0, 6.1: vendor 0xffff is nobody's).
[[nodiscard]] bool exists(FunctionId function);
// Kind of header: 0 a device, 1 a PCI bridge, 2 a CardBus bridge.
[[nodiscard]] unsigned header_type(FunctionId function);
// Offset of the first capability with this identifier; nullopt if there is none. Ends on circular lists.
[[nodiscard]] std::optional<std::uint8_t> find_capability(FunctionId function, std::uint8_t identifier);

// The window of PCI segment 0's memory-mapped configuration space (PCI Express Base 6.0, 7.2.2).
struct EcamWindow {
    std::uint64_t base = 0;  // of bus 0, the first one; 0: there is no window
    std::uint8_t last_bus = 0;
    // Of a register, or of the function's page; 0: not in the window.
    [[nodiscard]] std::uint64_t address(FunctionId function, std::uint16_t offset) const {
        if (base == 0 || function >> 8 > last_bus) return 0;
        return base + (std::uint64_t{function} << 12) + offset;
    }
    friend bool operator==(const EcamWindow&, const EcamWindow&) = default;
};
// The window that the machine really decodes. ACPI's MCFG table only claims one: a forged claim would leave the
// true window unwatched. From the processor, `mmio_configuration` being MSR kMsrMmioConfiguration (io.hpp), or
// from an Intel Q35 host bridge, which QEMU pairs with AMD processors. kBadValue, kUnsupported.
[[nodiscard]] Result<EcamWindow> ecam_window(std::uint64_t mmio_configuration);

// Calls visit(FunctionId) for every function of every bus, in ascending order. All 256 buses are asked, not
// only those that bridges name: bridges are configured by the firmware, which may lie.
template <typename Visit>
void for_each_function(Visit&& visit) {
    for (std::uint32_t slot = 0; slot < 0x10000; slot += 8) {
        const auto first = static_cast<FunctionId>(slot);
        if (!exists(first)) continue;
        const bool several = (read_config(first, 0x0e, 1) & 0x80) != 0;
        for (std::uint32_t function = slot; function < slot + (several ? 8 : 1); ++function) {
            const auto id = static_cast<FunctionId>(function);
            if (function == slot || exists(id)) visit(id);
        }
    }
}

// Calls visit(FunctionId) for every PCI bridge whose secondary side leads to the
// function's bus: by the bus numbers that the bridges themselves route by.
template <typename Visit>
void for_each_bridge_above(FunctionId function, Visit&& visit) {
    const std::uint32_t bus = function >> 8;
    if (bus == 0) return;
    for_each_function([&](FunctionId bridge) {
        if (header_type(bridge) != 1) return;
        const std::uint32_t numbers = read_config(bridge, 0x18, 4);  // primary, secondary, subordinate
        if ((numbers >> 8 & 0xff) != 0 && bus >= (numbers >> 8 & 0xff) && bus <= (numbers >> 16 & 0xff)) visit(bridge);
    });
}

// Calls visit(base) for every memory BAR and the expansion ROM that the function decodes (PCI 3.0, 6.2.5; PCI-to-PCI
// Bridge 1.2, 3.2.5), but for those that have not been given a place.
template <typename Visit>
void for_each_memory_bar(FunctionId function, Visit&& visit) {
    constexpr std::uint16_t kEnds[] = {0x28, 0x18, 0x14};
    constexpr std::uint16_t kRoms[] = {0x30, 0x38, 0};
    const unsigned type = header_type(function);
    if ((read_config(function, 0x04, 2) & 2) == 0 || type > 2) return;
    for (std::uint16_t at = 0x10; at < kEnds[type]; at += 4) {
        const std::uint32_t low = read_config(function, at, 4);
        if ((low & 1) != 0) continue;
        std::uint64_t base = low & ~0xfu;
        if ((low & 6) == 4) base |= std::uint64_t{read_config(function, at += 4, 4)} << 32;
        if (base != 0) visit(base);
    }
    const std::uint32_t rom = kRoms[type] == 0 ? 0 : read_config(function, kRoms[type], 4);
    if ((rom & 1) != 0 && (rom & ~0x7ffu) != 0) visit(std::uint64_t{rom & ~0x7ffu});
}

}  // namespace gatehouse::platform

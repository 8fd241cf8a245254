#include "hypervisor/platform/pci.hpp"

namespace gatehouse::platform {

std::uint32_t class_of(FunctionId function) { return read_config(function, 0x08, 4) >> 8; }

bool exists(FunctionId function) { return read_config(function, 0x00, 2) != 0xffff; }

unsigned header_type(FunctionId function) { return read_config(function, 0x0e, 1) & 0x7f; }

std::optional<std::uint8_t> find_capability(FunctionId function, std::uint8_t identifier) {
    if ((read_config(function, 0x06, 2) & 0x10) == 0) return std::nullopt;
    auto next = static_cast<std::uint8_t>(read_config(function, 0x34, 1) & 0xfc);
    for (unsigned steps = 0; next >= 0x40 && steps < 48; ++steps) {
        if (read_config(function, next, 1) == identifier) return next;
        next = static_cast<std::uint8_t>(read_config(function, static_cast<std::uint16_t>(next + 1), 1) & 0xfc);
    }
    return std::nullopt;
}

Result<EcamWindow> ecam_window(std::uint64_t mmio_configuration) {
    // BKDG and PPR of families 10h and later, MSRC001_0058: bit 0 enable, [5:2] log2 of the buses, [47:20] base
    constexpr std::uint64_t kEnable = 1;
    constexpr std::uint64_t kMegabytes = 0x0000fffffff00000;
    if ((mmio_configuration & kEnable) != 0) {
        const auto bits = static_cast<unsigned>(mmio_configuration >> 2 & 0xf);
        if (bits > 8) return {Error::kUnsupported, "ECAM window of several PCI segments", bits};
        const std::uint64_t base = mmio_configuration & kMegabytes;
        // Bits [27:20] of an address are its bus: from a base between, the functions are elsewhere.
        if (base == 0 || base % (std::uint64_t{0x100000} << bits) != 0) return {Error::kBadValue, "ECAM window", base};
        return EcamWindow{base, static_cast<std::uint8_t>((1u << bits) - 1)};
    }
    // Intel 3 Series chipset data sheet 316966, 5.1.14, PCIEXBAR: bit 0 enable, [2:1] 256, 128 or 64 buses, base
    constexpr FunctionId kHostBridge = 0;
    if (read_config(kHostBridge, 0x00, 4) != 0x29c08086) return EcamWindow{};  // Q35
    const std::uint64_t low = read_config(kHostBridge, 0x60, 4);
    if ((low & 1) == 0) return EcamWindow{};
    const auto length = static_cast<unsigned>(low >> 1 & 3);
    const std::uint64_t base = (low | std::uint64_t{read_config(kHostBridge, 0x64, 4)} << 32) & 0x0000000ffc000000 &
                               ~((std::uint64_t{0x10000000} >> length) - 1);
    if (base == 0 || length == 3) return {Error::kBadValue, "ECAM window", base};
    return EcamWindow{base, static_cast<std::uint8_t>((0x100u >> length) - 1)};
}

}  // namespace gatehouse::platform

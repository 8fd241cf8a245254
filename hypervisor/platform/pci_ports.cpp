#include "hypervisor/platform/chipset.hpp"
#include "hypervisor/platform/pci.hpp"

namespace gatehouse::platform {
namespace {

constexpr Port<std::uint32_t> kAddressPort{kConfigAddress};

// Selects the register and returns the port of its data.
std::uint16_t select(FunctionId function, std::uint16_t offset) {
    out(kAddressPort, 0x80000000u | std::uint32_t{function} << 8 | (offset & 0xfcu));
    return static_cast<std::uint16_t>(kConfigData + (offset & 3));
}

}  // namespace

std::uint32_t read_config(FunctionId function, std::uint16_t offset, unsigned size) {
    return in(select(function, offset), size);
}

void write_config(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) {
    out(select(function, offset), size, value);
}

std::uint8_t read_fch(std::uint8_t index) {
    out(kFchIndex, index);
    return in(kFchData);
}

}  // namespace gatehouse::platform

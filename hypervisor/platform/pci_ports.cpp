#include "hypervisor/platform/chipset.hpp"
#include "hypervisor/platform/io.hpp"
#include "hypervisor/platform/pci.hpp"

namespace gatehouse::platform {
namespace {

constexpr std::uint16_t kAddressPort = 0xcf8;
constexpr std::uint16_t kDataPort = 0xcfc;

void select(FunctionId function, std::uint16_t offset) {
    out32(kAddressPort, 0x80000000u | std::uint32_t{function} << 8 | (offset & 0xfcu));
}

}  // namespace

std::uint32_t read_config(FunctionId function, std::uint16_t offset, unsigned size) {
    select(function, offset);
    const auto port = static_cast<std::uint16_t>(kDataPort + (offset & 3));
    return size == 1 ? in8(port) : size == 2 ? in16(port) : in32(port);
}

void write_config(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) {
    select(function, offset);
    const auto port = static_cast<std::uint16_t>(kDataPort + (offset & 3));
    if (size == 1) out8(port, static_cast<std::uint8_t>(value));
    if (size == 2) out16(port, static_cast<std::uint16_t>(value));
    if (size == 4) out32(port, value);
}

std::uint8_t read_fch(std::uint8_t index) {
    out8(kFchIndex, index);
    return in8(kFchData);
}

}  // namespace gatehouse::platform

#include "hypervisor/platform/pci.hpp"

#include "hypervisor/platform/io.hpp"

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

std::uint32_t class_of(FunctionId function) { return read_config(function, 0x08, 4) >> 8; }

bool exists(FunctionId function) { return read_config(function, 0x00, 2) != 0xffff; }

std::optional<std::uint8_t> find_capability(FunctionId function, std::uint8_t identifier) {
    if ((read_config(function, 0x06, 2) & 0x10) == 0) return std::nullopt;
    auto next = static_cast<std::uint8_t>(read_config(function, 0x34, 1) & 0xfc);
    for (unsigned steps = 0; next >= 0x40 && steps < 48; ++steps) {
        if (read_config(function, next, 1) == identifier) return next;
        next = static_cast<std::uint8_t>(read_config(function, static_cast<std::uint16_t>(next + 1), 1) & 0xfc);
    }
    return std::nullopt;
}

}  // namespace gatehouse::platform

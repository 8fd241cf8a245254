#include "hypervisor/guest/config_ports.hpp"

namespace gatehouse::guest {
namespace {

constexpr std::uint32_t kAddressBits = 0x80fffffc;

// Whether an access of `size` bytes at `port` is one to the register
// that the address register selects (bit 31: enabled).
bool selects(std::uint32_t address, std::uint16_t port, unsigned size) {
    return address >> 31 != 0 && port >= platform::kConfigData && (port & 3) + size <= 4;
}
FunctionId function_of(std::uint32_t address) { return static_cast<FunctionId>(address >> 8); }
std::uint16_t offset_of(std::uint32_t address, std::uint16_t port) {
    return static_cast<std::uint16_t>((address & 0xfc) + (port & 3));
}

}  // namespace

std::uint32_t ConfigPorts::read(std::uint16_t port, unsigned size) {
    const std::uint32_t address = address_;
    if (port == platform::kConfigAddress && size == 4) return address;
    if (!selects(address, port, size)) return 0xffffffff;
    return filter_.read(function_of(address), offset_of(address, port), size);
}

void ConfigPorts::write(std::uint16_t port, unsigned size, std::uint32_t value) {
    const std::uint32_t address = address_;
    if (port == platform::kConfigAddress && size == 4) address_ = value & kAddressBits;
    if (selects(address, port, size)) filter_.write(function_of(address), offset_of(address, port), size, value);
}

std::uint64_t EcamPages::read(GuestPhysical address, unsigned size) {
    if (size == 8) return ~std::uint64_t{0};
    return filter_.read(static_cast<FunctionId>((address - base_) >> 12),
                        static_cast<std::uint16_t>(address.within(0x1000)), size);
}

void EcamPages::write(GuestPhysical address, unsigned size, std::uint64_t value) {
    if (size == 8) return;
    filter_.write(static_cast<FunctionId>((address - base_) >> 12), static_cast<std::uint16_t>(address.within(0x1000)),
                  size, static_cast<std::uint32_t>(value));
}

}  // namespace gatehouse::guest

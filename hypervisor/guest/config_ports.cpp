#include "hypervisor/guest/config_ports.hpp"

namespace gatehouse::guest {
namespace {

constexpr std::uint16_t kAddressPort = 0xcf8;
constexpr std::uint16_t kDataPort = 0xcfc;
constexpr std::uint32_t kEnable = 1u << 31;
constexpr std::uint32_t kAddressBits = 0x80fffffc;

constexpr std::uint32_t ones(unsigned size) { return size == 4 ? 0xffffffffu : (1u << (8 * size)) - 1; }

}  // namespace

bool ConfigPorts::selects(std::uint16_t port, unsigned size) const {
    return (address_ & kEnable) != 0 && port >= kDataPort && (port & 3) + size <= 4;
}

std::uint32_t ConfigPorts::read(std::uint16_t port, unsigned size) {
    const SpinGuard guard(lock_);
    if (port == kAddressPort && size == 4) return address_;
    return selects(port, size) ? filter_.read(function(), offset(port), size) : ones(size);
}

void ConfigPorts::write(std::uint16_t port, unsigned size, std::uint32_t value) {
    const SpinGuard guard(lock_);
    if (port == kAddressPort && size == 4) {
        address_ = value & kAddressBits;
    } else if (selects(port, size)) {
        filter_.write(function(), offset(port), size, value);
    }
}

std::uint64_t EcamPage::read(std::uint64_t address, unsigned size) {
    const SpinGuard guard(*lock_);
    const auto offset = static_cast<std::uint16_t>(address & 0xfff);
    if (size != 8) return filter_->read(function_, offset, size);
    const std::uint64_t low = filter_->read(function_, offset, 4);
    return low | std::uint64_t{filter_->read(function_, static_cast<std::uint16_t>(offset + 4), 4)} << 32;
}

void EcamPage::write(std::uint64_t address, unsigned size, std::uint64_t value) {
    const SpinGuard guard(*lock_);
    const auto offset = static_cast<std::uint16_t>(address & 0xfff);
    filter_->write(function_, offset, size == 8 ? 4 : size, static_cast<std::uint32_t>(value));
    if (size == 8) {
        filter_->write(function_, static_cast<std::uint16_t>(offset + 4), 4, static_cast<std::uint32_t>(value >> 32));
    }
}

}  // namespace gatehouse::guest

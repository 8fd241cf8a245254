#include "hypervisor/guest/power_ports.hpp"

#include "hypervisor/base/log.hpp"

namespace gatehouse::guest {
namespace {

// The byte that an access writes to `target`, if it covers it.
struct Written {
    bool covered = false;
    std::uint8_t value = 0;
};
Written byte_at(std::uint16_t target, std::uint16_t port, unsigned size, std::uint32_t value) {
    if (target < port || target >= port + size) return {};
    return {true, static_cast<std::uint8_t>(value >> (8 * (target - port)))};
}

}  // namespace

bool PowerPorts::ends_the_guest(std::uint16_t port, unsigned size, std::uint32_t value) const {
    const Written keyboard = byte_at(kKeyboard, port, size, value);
    if (keyboard.covered && (keyboard.value & 0xf1) == 0xf0) return true;
    const Written control = byte_at(kSystemControlA, port, size, value);
    if (control.covered && (control.value & 1) != 0) return true;
    const Written reset_control = byte_at(kResetControl, port, size, value);
    if (reset_control.covered && (reset_control.value & 4) != 0) return true;
    const Written reset = byte_at(ports_.reset, port, size, value);
    if (ports_.reset != 0 && reset.covered && reset.value == ports_.reset_value) return true;
    for (const std::uint16_t pm1 : {ports_.pm1a_control, ports_.pm1b_control}) {
        // SLP_EN is bit 5 of the upper byte.
        const Written upper = byte_at(static_cast<std::uint16_t>(pm1 + 1), port, size, value);
        if (pm1 != 0 && upper.covered && (upper.value & 0x20) != 0) return true;
    }
    return false;
}

void PowerPorts::write(std::uint16_t port, unsigned size, std::uint32_t value) {
    const bool last = ends_the_guest(port, size, value);
    if (last) {
        log("gatehouse: the guest resets, sleeps or powers off (port ", Hex{port}, ", value ", Hex{value}, ")");
        actions_.prepare_stop();
    }
    actions_.write(port, size, value);
    if (last) actions_.wait_for_the_end();
}

}  // namespace gatehouse::guest

#include "hypervisor/guest/power_ports.hpp"

#include "hypervisor/base/log.hpp"

namespace gatehouse::guest {
namespace {

constexpr std::uint8_t kSleepEnable = 0x20;  // of the upper byte of PM1 control
constexpr std::uint8_t kResetMachine = 6;

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
    const Written upper = byte_at(static_cast<std::uint16_t>(pm1_control_ + 1), port, size, value);
    return upper.covered && (upper.value & kSleepEnable) != 0;
}

bool PowerPorts::is_other_sleep(std::uint16_t port, unsigned size, std::uint32_t value) const {
    const Written upper = byte_at(static_cast<std::uint16_t>(pm1_control_ + 1), port, size, value);
    return upper.covered && (upper.value & kSleepEnable) != 0 && (upper.value >> 2 & 7) != s5_type_;
}

void PowerPorts::write(std::uint16_t port, unsigned size, std::uint32_t value) {
    if (byte_at(kFchData, port, size, value).covered) return;
    if (const Written keyboard = byte_at(kKeyboard, port, size, value); keyboard.covered && keyboard.value == 0xd1)
        return;
    const bool last = ends_the_guest(port, size, value);
    if (last) {
        log("gatehouse: the guest resets, sleeps or powers off (port ", Hex{port}, ", value ", Hex{value}, ")");
        actions_.prepare_stop();
    }
    if (is_other_sleep(port, size, value)) {
        log("gatehouse: no sleep state but S5: the machine is reset");
        actions_.write(kResetControl, 1, kResetMachine);
    } else {
        actions_.write(port, size, value);
    }
    if (last) actions_.wait_for_the_end();
}

}  // namespace gatehouse::guest

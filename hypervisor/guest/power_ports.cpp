#include "hypervisor/guest/power_ports.hpp"

#include "hypervisor/base/log.hpp"

namespace gatehouse::guest {
namespace {

constexpr std::uint8_t kSleepEnable = 0x20;  // of the upper byte of PM1 control
constexpr std::uint8_t kResetMachine = 6;

constexpr std::uint8_t kWriteOutputPort = 0xd1;

}  // namespace

void PowerPorts::write(std::uint16_t port, unsigned size, std::uint32_t value) {
    // What decides is the last byte of each: an access has one port, or the two of PM1 control.
    const unsigned last = port + size - 1;
    const auto last_byte = static_cast<std::uint8_t>(value >> 8 * (size - 1));
    bool ends = false, wrong_sleep = false;
    switch (last) {
        case platform::kFchData.number: return;
        case kKeyboard:
            if (last_byte == kWriteOutputPort) return;
            ends = (last_byte & 0xf1) == 0xf0;
            break;
        case kSystemControlA: ends = (last_byte & 1) != 0; break;
        case platform::kResetControl.number: ends = (last_byte & 4) != 0; break;
        default:
            ends = last == pm1_control_ + 1u && (last_byte & kSleepEnable) != 0;
            wrong_sleep = ends && (last_byte >> 2 & 7) != s5_type_;
    }
    if (ends) {
        log("gatehouse: the guest resets, sleeps or powers off (port ", Hex{port}, ", value ", Hex{value}, ")");
        actions_.prepare_stop();
    }
    if (wrong_sleep) {
        log("gatehouse: no sleep state but S5: the machine is reset");
        actions_.write(platform::kResetControl.number, 1, kResetMachine);
    } else {
        actions_.write(port, size, value);
    }
    if (ends) actions_.wait_for_the_end();
}

}  // namespace gatehouse::guest

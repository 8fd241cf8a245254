#include "hypervisor/platform/serial.hpp"

#include "hypervisor/base/until.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::platform {
namespace {

// 16550 registers (PC16550D data sheet, table II).
constexpr Port<std::uint8_t> kData{0x3f8};             // and divisor, low byte, if DLAB
constexpr Port<std::uint8_t> kInterruptEnable{0x3f9};  // and divisor, high byte, if DLAB
constexpr Port<std::uint8_t> kFifoControl{0x3fa};
constexpr Port<std::uint8_t> kLineControl{0x3fb};  // bit 7: DLAB
constexpr Port<std::uint8_t> kModemControl{0x3fc};
constexpr Port<std::uint8_t> kLineStatus{0x3fd};  // bit 5: transmitter holding register empty

// False if the transmitter is stuck.
bool write_character(char character) {
    constexpr std::uint64_t kPatience = 100'000;  // microseconds; a character takes 87
    if (!until(microseconds, kPatience, [] { return (in(kLineStatus)&0x20) != 0; })) return false;
    out(kData, static_cast<std::uint8_t>(character));
    return true;
}

}  // namespace

void start_serial() {
    out(kInterruptEnable, 0);
    out(kLineControl, 0x80);
    out(kData, 1);  // divisor 1: 115,200 baud
    out(kInterruptEnable, 0);
    out(kLineControl, 0x03);
    out(kFifoControl, 0x07);
    out(kModemControl, 0x03);
}

void write_serial(std::string_view line) {
    for (const char character : line) {
        if (!write_character(character)) return;
    }
    if (write_character('\r')) write_character('\n');
}

}  // namespace gatehouse::platform

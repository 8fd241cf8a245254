#include "hypervisor/launcher/console.hpp"

#include "hypervisor/base/log.hpp"
#include "hypervisor/launcher/machine.hpp"

namespace gatehouse::launcher {
namespace {

constexpr std::uint16_t kCom1 = 0x3f8;
constinit volatile std::uint16_t* text_screen = nullptr;
constinit unsigned text_row = 0;
constexpr unsigned kColumns = 80;
constexpr unsigned kRows = 25;

void write_serial(char character) {
    constexpr std::uint8_t kTransmitterEmpty = 0x20;
    for (unsigned tries = 0; tries < 100'000 && (in8(kCom1 + 5) & kTransmitterEmpty) == 0; ++tries) {
    }
    out8(kCom1, static_cast<std::uint8_t>(character));
}

void write_line(std::string_view line) {
    for (const char character : line) write_serial(character);
    write_serial('\r');
    write_serial('\n');
    if (text_screen == nullptr) return;
    for (unsigned column = 0; column < kColumns; ++column) {
        const char character = column < line.size() ? line[column] : ' ';
        text_screen[text_row * kColumns + column] =
            static_cast<std::uint16_t>(0x0700 | static_cast<unsigned char>(character));
    }
    text_row = (text_row + 1) % kRows;
}

}  // namespace

void start_console() {
    constexpr std::uint8_t kDivisorLatch = 0x80;
    constexpr std::uint8_t k8N1 = 0x03;
    out8(kCom1 + 1, 0);
    out8(kCom1 + 3, kDivisorLatch | k8N1);
    out8(kCom1 + 0, 1);  // 115200 baud
    out8(kCom1 + 1, 0);
    out8(kCom1 + 3, k8N1);
    out8(kCom1 + 2, 0x07);  // FIFOs on and empty
    out8(kCom1 + 4, 0x03);  // DTR, RTS
    set_log_sink(write_line);
}

void use_text_screen() { text_screen = reinterpret_cast<volatile std::uint16_t*>(0xb8000); }

}  // namespace gatehouse::launcher

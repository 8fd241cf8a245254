#include "hypervisor/launcher/console.hpp"

#include "hypervisor/base/log.hpp"
#include "hypervisor/platform/serial.hpp"

namespace gatehouse::launcher {
namespace {

constexpr std::size_t kColumns = 80;
constexpr std::size_t kRows = 25;
constinit volatile std::uint16_t* text_screen = nullptr;
constinit std::size_t text_row = 0;

void write_line(std::string_view line) {
    platform::write_serial(line);
    if (text_screen == nullptr) return;
    for (std::size_t column = 0; column < kColumns; ++column) {
        const auto character = static_cast<unsigned char>(column < line.size() ? line[column] : ' ');
        text_screen[text_row * kColumns + column] = static_cast<std::uint16_t>(0x0700 | character);
    }
    text_row = (text_row + 1) % kRows;
}

}  // namespace

void start_console() {
    platform::start_serial();
    set_log_sink(write_line);
}

void use_text_screen() { text_screen = reinterpret_cast<volatile std::uint16_t*>(0xb8000); }

}  // namespace gatehouse::launcher

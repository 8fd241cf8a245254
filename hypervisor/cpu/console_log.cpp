#include "hypervisor/cpu/console_log.hpp"

#include <algorithm>

#include "hypervisor/base/log.hpp"
#include "hypervisor/base/spin_lock.hpp"
#include "hypervisor/platform/serial.hpp"

namespace gatehouse::cpu {
namespace {

constinit SpinLock log_lock;
constinit std::array<char, kLogSize> ring{};
constinit std::size_t written = 0;
constinit bool console_on = false;

void append(std::string_view line) {
    const SpinGuard guard(log_lock);
    for (const char character : line) ring[written++ % kLogSize] = character;
    ring[written++ % kLogSize] = '\n';
    if (console_on) platform::write_serial(line);
}

}  // namespace

void start_log() { set_log_sink(append); }

void set_console(bool on) { console_on = on; }

std::size_t read_log(MutableBytes out) {
    const SpinGuard guard(log_lock);
    const std::size_t size = std::min({out.size(), written, kLogSize});
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<std::byte>(ring[(written - size + i) % kLogSize]);
    return size;
}

}  // namespace gatehouse::cpu

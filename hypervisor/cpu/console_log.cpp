#include "hypervisor/cpu/console_log.hpp"

#include <algorithm>

#include "hypervisor/base/log.hpp"
#include "hypervisor/base/spin_lock.hpp"

namespace gatehouse::cpu {
namespace {

constinit SpinLock log_lock;
constinit std::array<char, kLogSize> ring{};
constinit std::size_t written = 0;
void (*console_writer)(std::string_view) = nullptr;
constinit bool console_on = false;

void append(std::string_view line) {
    const SpinGuard guard(log_lock);
    for (const char character : line) ring[written++ % kLogSize] = character;
    ring[written++ % kLogSize] = '\n';
    if (console_on && console_writer != nullptr) console_writer(line);
}

}  // namespace

void start_log(void (*writer)(std::string_view line)) {
    console_writer = writer;
    set_log_sink(append);
}

void set_console(bool on) { console_on = on; }

std::size_t log_size() {
    const SpinGuard guard(log_lock);
    return written;
}

std::size_t read_log(std::size_t offset, MutableBytes out) {
    const SpinGuard guard(log_lock);
    if (offset >= written) return 0;
    const std::size_t size = std::min(out.size(), written - offset);
    for (std::size_t i = 0; i < size; ++i) {
        const bool kept = written - (offset + i) <= kLogSize;
        out[i] = kept ? static_cast<std::byte>(ring[(offset + i) % kLogSize]) : std::byte{0};
    }
    return size;
}

}  // namespace gatehouse::cpu

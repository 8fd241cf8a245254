#include "hypervisor/cpu/stop.hpp"

#include <algorithm>
#include <array>
#include <atomic>

#include "hypervisor/base/log.hpp"
#include "hypervisor/base/panic.hpp"
#include "hypervisor/cpu/console_log.hpp"
#include "hypervisor/cpu/per_cpu.hpp"
#include "hypervisor/cpu/svm/vcpu.hpp"
#include "hypervisor/cpu/vector.hpp"

namespace gatehouse::cpu {
namespace {

constinit std::array<StopHook, 8> hooks{};
constinit std::size_t hook_count = 0;
constinit StopHook reset_function = nullptr;
constinit std::atomic<PerCpu*> stopper = nullptr;

[[noreturn]] void pulse_reset() {
    if (reset_function != nullptr) reset_function();
    const std::array<std::uint16_t, 5> no_table{};
    asm volatile("lidt %0; ud2" : : "m"(no_table));
    __builtin_unreachable();
}

}  // namespace

void on_stop(StopHook hook) {
    require(hook_count < hooks.size(), "too many stop hooks");
    hooks[hook_count++] = hook;
}

void set_reset(void (*reset)()) { reset_function = reset; }

void prepare_stop() {
    PerCpu* first = nullptr;
    if (!stopper.compare_exchange_strong(first, &this_cpu())) {
        if (first == &this_cpu()) pulse_reset();  // a hook failed
        svm::stop_here();
    }
    const bool alone = svm::stop_others();
    for (std::size_t i = 0; i < (alone ? hook_count : std::min<std::size_t>(hook_count, 1)); ++i) hooks[i]();
    forget_secrets();
    if (!alone) pulse_reset();
}

void reset_machine(const char* why) {
    set_console(true);
    log("reset: ", why);
    prepare_stop();
    pulse_reset();
}

void halt() {
    for (;;) asm volatile("hlt");
}

}  // namespace gatehouse::cpu

namespace gatehouse {

void panic(const char* why) {
    cpu::set_console(true);
    log("panic: ", why, " (cpu ", cpu::this_cpu().index, ", called from ",
        Hex{reinterpret_cast<std::uint64_t>(__builtin_return_address(0))}, ")");
    cpu::prepare_stop();
    log("panic: keys wiped, machine stopped");
    cpu::halt();
}

}  // namespace gatehouse

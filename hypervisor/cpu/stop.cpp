#include "hypervisor/cpu/stop.hpp"

#include "hypervisor/base/log.hpp"
#include "hypervisor/cpu/console_log.hpp"
#include "hypervisor/cpu/per_cpu.hpp"
#include "hypervisor/cpu/svm/vcpu.hpp"
#include "hypervisor/cpu/vector.hpp"
#include "hypervisor/platform/chipset.hpp"

namespace gatehouse::cpu {
namespace {

constinit StopActions actions;
constinit std::atomic<PerCpu*> stopper = nullptr;

}  // namespace

void set_stop_actions(const StopActions& chosen) { actions = chosen; }

void pulse_reset() {
    platform::out(platform::kResetControl, 0x02);
    platform::out(platform::kResetControl, 0x06);
    const std::array<std::uint16_t, 5> no_table{};
    asm volatile("lidt %0; ud2" : : "m"(no_table));
    __builtin_unreachable();
}

void prepare_stop() {
    PerCpu* first = nullptr;
    if (!stopper.compare_exchange_strong(first, &this_cpu())) {
        if (first == &this_cpu()) pulse_reset();  // an action failed
        svm::stop_here();
    }
    const bool alone = svm::stop_others();
    if (actions.wipe != nullptr) actions.wipe();
    if (actions.stop_devices != nullptr && alone) actions.stop_devices();
    forget_secrets();
    if (!alone) pulse_reset();
}

void reset_machine(const char* why) {
    prepare_stop();
    set_console(true);
    log("reset: ", why, "; keys wiped");
    pulse_reset();
}

void halt() {
    for (;;) asm volatile("hlt");
}

}  // namespace gatehouse::cpu

void gatehouse::panic(const char* why) {
    cpu::prepare_stop();  // the log may be what is broken
    cpu::set_console(true);
    log("panic: ", why, " (cpu ", cpu::this_cpu().index, ", called from ",
        Hex{reinterpret_cast<std::uint64_t>(__builtin_return_address(0))}, "); keys wiped, machine stopped");
    cpu::halt();
}

// The hypervisor's own main(): from the SLB's jump to the guest, or to one line that says why not.
#include <new>

#include "hypervisor/base/log.hpp"
#include "hypervisor/boot/machine.hpp"
#include "hypervisor/cpu/console_log.hpp"
#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/stop.hpp"
#include "hypervisor/cpu/vector.hpp"
#include "hypervisor/platform/serial.hpp"

namespace gatehouse {
namespace {

// Built in hypervisor_main(), not by a global constructor; never destroyed.
alignas(boot::Machine) constinit std::byte machine_storage[sizeof(boot::Machine)]{};
boot::Machine& machine() { return *std::launder(reinterpret_cast<boot::Machine*>(machine_storage)); }

[[noreturn]] void refuse(const Failure& why) {
    machine().wipe();
    cpu::forget_secrets();
    log("gatehouse: ", why, "; the guest is not started, no key is released");
    for (;;) asm volatile("cli; hlt");
}

}  // namespace
}  // namespace gatehouse

void hypervisor_main(std::uint64_t kept_base) {
    using namespace gatehouse;
    platform::start_serial();
    cpu::start_log();
    cpu::set_console(true);
    log("gatehouse: hypervisor ", std::uint64_t{boot::kVersion >> 16}, ".", std::uint64_t{boot::kVersion >> 8 & 0xff},
        ".", std::uint64_t{boot::kVersion & 0xff}, " at ", Hex{kept_base});
    new (machine_storage) boot::Machine(kept_base);
    cpu::set_stop_actions({[] { machine().wipe(); }, [] { machine().stop_devices(); }});
    const auto entry = machine().prepare();
    if (!entry) refuse(entry.failure());
    cpu::set_console(false);
    cpu::svm::run_guest(*entry);
}

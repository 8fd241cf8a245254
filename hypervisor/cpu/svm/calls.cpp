// Calls between processors, and the guest's INIT and SIPI.
#include "hypervisor/base/log.hpp"
#include "hypervisor/base/spin_lock.hpp"
#include "hypervisor/base/until.hpp"
#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/stop.hpp"
#include "hypervisor/cpu/svm/svm.hpp"
#include "hypervisor/cpu/svm/vcpu.hpp"
#include "hypervisor/cpu/vector.hpp"

namespace gatehouse::cpu::svm {
namespace {

constinit std::atomic_flag calling;  // one call at a time, to any processor
constinit SpinLock trap_lock;        // the APIC page's mapping and who waits for a SIPI
constinit std::atomic<bool> stop_flag = false;
// Before, the others wait in INIT, where a SIPI would start them in memory that is the launcher's.
constinit std::atomic<bool> taken = false;
constinit std::uint32_t halt_page = 0;  // a Startup IPI's vector, where whoever should take it halts

// Longer than any handler takes: a TPM command and its cancellation time out after 12 seconds.
constexpr std::uint64_t kLongestHandler = 15'000'000;  // microseconds

// One has been announced.
void consume_init() {
    const bool came = until(platform::microseconds, kLongestHandler, [] { return open_window(false); });
    if (!came) reset_machine("an INIT that does not come");
}

// INIT, which gets through everywhere; and a SIPI, which processors ignore that do not wait for one, but
// without which QEMU (to 10.0) leaves a halted processor asleep.
void ring(std::uint32_t apic_id, std::uint32_t shorthand = 0) {
    apic::send(apic_id, shorthand | apic::kCommandInit);
    apic::send(apic_id, shorthand | apic::kCommandStartup | halt_page);
}

// Answers a call to this processor while it waits for another, so that two that call each other both get through.
void answer_own_call() {
    Vcpu& own = *this_cpu().vcpu;
    if (!own.called) return;
    consume_init();
    own.called = false;
}

// Makes `target` leave its guest, or wake up, and returns once it has, or once the machine stops. What it shall see
// has been stored before.
void call(Vcpu& target) {
    while (calling.test_and_set()) {
        if (stop_flag) return;
        answer_own_call();
        pause();
    }
    target.called = true;
    ring(target.cpu->apic_id);
    const bool answered = until(platform::microseconds, kLongestHandler, [&] {
        answer_own_call();
        return !target.called || stop_flag;
    });
    calling.clear();
    if (!answered) reset_machine("a processor does not answer");
}

template <typename Function>
void for_each_other(Function function) {
    for (std::size_t i = 0; i < cpu_count(); ++i) {
        if (&cpu_at(i) != &this_cpu()) function(*cpu_at(i).vcpu);
    }
}

void set_startup_trap(bool armed) {
    const auto access = armed ? memory::GuestAccess::kTrapWrites : memory::GuestAccess::kAll;
    if (nested_pages().access(GuestPhysical(apic::kPage)) == access) return;
    if (!nested_pages().set(apic::kPage, memory::kPageSize, access).ok()) log("apic: the page cannot be remapped");
}

// Traps writes to the APIC page, of which `reason` is one. No processor has a cached translation then that is older.
void arm_for(std::atomic<bool>& reason) {
    {
        const SpinGuard guard(trap_lock);
        reason = true;
        set_startup_trap(true);
    }
    const std::uint64_t generation = nested_pages().generation();
    for_each_other([generation](Vcpu& other) {
        if (other.in_guest && other.seen_generation < generation) call(other);
    });
}

// This processor runs. The trap goes once all do.
void lift_startup_trap(Vcpu& own) {
    const SpinGuard guard(trap_lock);
    own.waiting = own.suspect = false;
    for (std::size_t i = 0; i < cpu_count(); ++i) {
        const Vcpu& vcpu = *cpu_at(i).vcpu;
        if (vcpu.waiting || vcpu.suspect) return;
    }
    set_startup_trap(false);
}

void set_real_mode(Vcpu& vcpu, std::uint8_t vector) {
    Vmcb& vmcb = vcpu.vmcb;
    const Segment data{0, kRealData, 0xffff, 0};
    vmcb.cs = {static_cast<std::uint16_t>(vector << 8), kRealCode, 0xffff, std::uint64_t{vector} << 12};
    vmcb.ds = vmcb.es = vmcb.ss = vmcb.fs = vmcb.gs = data;
    vmcb.gdtr = vmcb.idtr = {0, 0, 0xffff, 0};
    vmcb.ldtr = {0, kLocalTable, 0xffff, 0};
    vmcb.tr = {0, kBusyTask, 0xffff, 0};
    vmcb.cpl = 0;
    vmcb.efer = kEferSvme;
    vmcb.cr0 = kCr0Cd | kCr0Nw | kCr0Et;
    vmcb.cr2 = vmcb.cr3 = vmcb.cr4 = 0;
    vmcb.dr6 = 0xffff0ff0;
    vmcb.dr7 = 0x400;
    vmcb.rflags = 2;
    vmcb.rip = 0;
    vmcb.interrupt_shadow = vmcb.event_injection = 0;
    vcpu.registers = {};
    vcpu.registers[2] = cpuid(1).eax;  // RDX: the processor's signature
    asm volatile("mov %0, %%dr0; mov %0, %%dr1; mov %0, %%dr2; mov %0, %%dr3" : : "r"(std::uint64_t{0}));
}

}  // namespace

bool stop_requested() { return stop_flag; }

void take_init(Vcpu& vcpu) {
    consume_init();
    if (vcpu.called.exchange(false)) return;
    vcpu.init_requested = true;  // not ours: the guest's, or a device's
}

void enter_init(Vcpu& vcpu) {
    if (vcpu.cpu->index == 0) reset_machine("the guest sent INIT to the boot processor");
    arm_for(vcpu.waiting);
    vcpu.init_requested = false;  // only now: a SIPI that follows finds it waiting
    apic::reset();
}

void wait_for_startup(Vcpu& vcpu) {
    for (;;) {
        const std::uint16_t vector = vcpu.startup.exchange(Vcpu::kNoStartup);
        if (vector != Vcpu::kNoStartup) {
            set_real_mode(vcpu, static_cast<std::uint8_t>(vector));
            break;
        }
        if (stop_flag) stop_here();
        if (open_window(true)) vcpu.called = false;
    }
    reload_cr3();  // registers have been mapped uncacheable since this processor was started
    vcpu.cpu->nmi_pending = false;
    lift_startup_trap(vcpu);
}

void suspect_offline(Vcpu& vcpu) {
    if (cpu_count() > 1 && !vcpu.suspect && !apic::x2apic()) arm_for(vcpu.suspect);
}

void show_life(Vcpu& vcpu) {
    if (vcpu.suspect) lift_startup_trap(vcpu);
}

void send_guest_ipi(Vcpu& vcpu, std::uint64_t value) {
    const apic::Icr command{value, apic::x2apic()};
    const bool init = command.is_init();
    if (!init && !command.is_startup()) return apic::write_icr(value);
    if (command.is_deassert()) return;
    if (init && command.targets(vcpu.cpu->apic_id, true)) vcpu.init_requested = true;
    for_each_other([&](Vcpu& target) {
        if (!command.targets(target.cpu->apic_id, false)) return;
        const bool waits = target.waiting || target.init_requested;
        if (init == waits) return;  // INIT of one that waits, SIPI of one that runs: nothing
        if (init) {
            target.init_requested = true;
        } else {
            target.startup = command.vector();
        }
        call(target);
    });
}

void all_taken(std::uint64_t low_page) {
    halt_page = static_cast<std::uint32_t>(low_page >> 12);
    taken = true;
}

bool stop_others() {
    stop_flag = true;
    if (!taken) return true;
    for_each_other([](Vcpu& other) { other.called = true; });
    ring(0, apic::kOthers);
    bool all = true;
    for_each_other([&](Vcpu& other) {
        all = all && until(platform::microseconds, kLongestHandler, [&] { return other.stopped.load(); });
    });
    return all;
}

void stop_here() {
    forget_secrets();
    this_cpu().vcpu->stopped = true;
    halt();
}

}  // namespace gatehouse::cpu::svm

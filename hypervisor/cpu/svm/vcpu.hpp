// One guest processor, and how processors of the hypervisor call each other.
//
// A call is an INIT IPI: while the guest runs it causes an exit, while GIF = 0 it stays pending, and
// open_window() turns it into #SX (VM_CR.R_INIT; APM vol. 2, 15.28). So it reaches a processor whatever its
// guest does, and takes no vector from the guest. `called` tells such an INIT from one that the guest or a
// device has sent.
#pragma once

#include <array>
#include <atomic>

#include "hypervisor/cpu/apic.hpp"
#include "hypervisor/cpu/decoder.hpp"
#include "hypervisor/cpu/per_cpu.hpp"
#include "hypervisor/cpu/svm/vmcb.hpp"

namespace gatehouse::cpu::svm {

struct Vcpu {
    Vmcb vmcb;       // the guest's
    Vmcb host_vmcb;  // the hypervisor's FS, GS, TR, ... for VMLOAD
    Vmcb host_save;  // the processor's own, at VM_HSAVE_PA
    PerCpu* cpu = nullptr;
    Registers registers{};

    std::atomic<bool> in_guest = false;
    std::atomic<std::uint64_t> seen_generation = 0;   // of nested_pages(), at the last entry
    std::atomic<bool> called = false;                 // an INIT of ours is under way
    std::atomic<bool> init_requested = false;         // by a guest's INIT IPI
    std::atomic<bool> waiting = true;                 // for a guest's SIPI
    std::atomic<bool> suspect = false;                // perhaps going offline: suspect_offline()
    std::atomic<std::uint16_t> startup = kNoStartup;  // vector of the SIPI that came
    std::atomic<bool> stopped = false;
    bool apic_disabled = false;  // the guest believes that APIC_BASE.EN = 0
    std::array<std::pair<std::array<std::byte, kMaxInstruction>, MmioInstruction>, 64> decoded{};  // by RIP

    static constexpr std::uint16_t kNoStartup = 0x100;
};

// --- svm.cpp: bringing a processor up ---

// Sets GIF = 0 if this processor has SVM; does nothing else.
void hold_interrupts();
// Allocates a Vcpu with its VMCB. On the BSP; after enable().
[[nodiscard]] Status make_vcpu(PerCpu& cpu);
// EFER.SVME, VM_HSAVE_PA, R_INIT, VMSAVE of the host state.
void enable_this_processor(PerCpu& cpu);
// Runs the guest on this processor, from wait-for-SIPI if vcpu.waiting.
[[noreturn]] void run(Vcpu& vcpu);

// --- calls.cpp ---

// What an INIT exit means; at the start of each round in run().
void take_init(Vcpu& vcpu);
// Halts until the guest's SIPI, then sets the VMCB to its entry. The APIC page is write-trapped while anyone waits.
void wait_for_startup(Vcpu& vcpu);
// The guest's write of its ICR.
void send_guest_ipi(Vcpu& vcpu, std::uint64_t value);
// Enters wait-for-SIPI, as INIT does; the BSP resets the machine.
void enter_init(Vcpu& vcpu);
// The guest flushes this processor's caches with interrupts off: the last that a system does before it takes
// a processor offline. The APIC page is write-trapped again, so that a SIPI right behind the INIT that brings
// the processor back is not missed; until the processor shows life by using its APIC.
void suspect_offline(Vcpu& vcpu);
void show_life(Vcpu& vcpu);
// Makes the others stop for good, each at the end of what its handler does: true if all have.
// All are called at once, and not by their IDs: a guest may have given its APIC another.
[[nodiscard]] bool stop_others();
// No processor is left in INIT: stop_others() may call them.
void all_taken(std::uint64_t low_page);
[[nodiscard]] bool stop_requested();
// Stops this processor for good, and lets stop_others() see it.
[[noreturn]] void stop_here();

// --- exits.cpp ---

void handle_exit(Vcpu& vcpu);
[[nodiscard]] bool in_64_bit_code(const Vmcb& vmcb);
// An exception; its error code, if it has one, is 0.
void inject(Vcpu& vcpu, std::uint8_t vector, bool has_error = false);
// Skips the instruction that exited: `length` bytes, if the processor does not tell.
void skip(Vcpu& vcpu, unsigned length);

// --- string_input.cpp ---

// INS from a trapped port by a kernel's 64-bit code, upwards, in one exit as far as the page goes: the guest executes it anew
// for the rest. False: another one, OUTS, an element that crosses pages, or memory that is not mapped or no RAM. The page is
// looked up, its rights are not: they bind the kernel as far as the kernel likes.
[[nodiscard]] bool handle_string_input(Vcpu& vcpu, std::uint16_t port, unsigned size,
                                       std::uint8_t (*real)(std::uint16_t));

// --- nested_fault.cpp ---

void handle_nested_fault(Vcpu& vcpu);
// The guest's next instruction, up to 15 bytes; fewer if the rest cannot be reached, none outside of 64-bit code.
[[nodiscard]] std::size_t fetch_instruction(const Vcpu& vcpu, std::span<std::byte, 15> out);

}  // namespace gatehouse::cpu::svm

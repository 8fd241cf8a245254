#include "hypervisor/cpu/exceptions.hpp"

#include "hypervisor/base/log.hpp"
#include "hypervisor/cpu/console_log.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/per_cpu.hpp"
#include "hypervisor/cpu/stop.hpp"

extern "C" {
extern const char exception_stubs[], try_read_msr_at[], try_write_msr_at[], msr_fault[];
extern const char window_start[], window_end[], window_init[];
void load_descriptors(const void* gdtr, const void* idtr);
}

namespace gatehouse::cpu {
namespace {

constexpr std::size_t kVectors = 32;
constexpr std::size_t kStubSize = 16;
constexpr std::uint64_t kNmi = 2;
constexpr std::uint64_t kGeneralProtection = 13;
constexpr std::uint64_t kSecurity = 30;     // #SX (APM vol. 2, 8.2.24)
constexpr std::uint64_t kSecurityInit = 1;  // its error code for a redirected INIT

constexpr std::uint64_t kCodeDescriptor = 0x00af'9b00'0000'ffff;
constexpr std::uint64_t kDataDescriptor = 0x00cf'9300'0000'ffff;
constexpr std::uint64_t kTaskDescriptor = 0x0000'8900'0000'0000;
constexpr std::uint64_t kInterruptGate = 0x8e00;  // present, DPL 0, 64-bit interrupt gate

alignas(16) constinit std::array<std::array<std::uint64_t, 2>, kVectors> interrupt_table{};

struct [[gnu::packed]] TablePointer {
    std::uint16_t limit;
    std::uint64_t base;
};

std::uint64_t address_of(const char* label) { return reinterpret_cast<std::uint64_t>(label); }

}  // namespace

void build_interrupt_table() {
    for (std::size_t i = 0; i < kVectors; ++i) {
        const std::uint64_t stub = address_of(exception_stubs) + i * kStubSize;
        const std::uint64_t stack = i == kNmi ? 2 : 1;
        interrupt_table[i] = {(stub & 0xffff) | 0x08 << 16 | stack << 32 | kInterruptGate << 32 | (stub >> 16) << 48,
                              stub >> 32};
    }
}

void load_tables(PerCpu& cpu) {
    const auto task = reinterpret_cast<std::uint64_t>(&cpu.task);
    cpu.gdt = {0, kCodeDescriptor, kDataDescriptor,
               kTaskDescriptor | (sizeof(TaskState) - 1) | ((task & 0xffffff) << 16) | ((task >> 24 & 0xff) << 56),
               task >> 32};
    const TablePointer gdt{sizeof cpu.gdt - 1, reinterpret_cast<std::uint64_t>(cpu.gdt.data())};
    const TablePointer idt{sizeof interrupt_table - 1, reinterpret_cast<std::uint64_t>(interrupt_table.data())};
    load_descriptors(&gdt, &idt);
    write_msr(kMsrFsBase, reinterpret_cast<std::uint64_t>(&cpu));
}

// Called by exception_common. True: IRET to the frame; false: jump to frame.rip, dropping the frame.
extern "C" bool handle_exception(ExceptionFrame& frame) {
    if (frame.vector == kNmi) {
        this_cpu().nmi_pending = true;
        return true;
    }
    if (frame.vector == kSecurity && frame.error == kSecurityInit && frame.rip >= address_of(window_start) &&
        frame.rip <= address_of(window_end)) {
        frame.rip = address_of(window_init);
        return false;
    }
    if (frame.vector == kGeneralProtection &&
        (frame.rip == address_of(try_read_msr_at) || frame.rip == address_of(try_write_msr_at))) {
        frame.rip = address_of(msr_fault);
        return false;
    }
    std::uint64_t cr2 = 0;
    asm volatile("mov %%cr2, %0" : "=r"(cr2));
    prepare_stop();
    set_console(true);
    log("panic: exception ", frame.vector, " error ", Hex{frame.error}, " at ", Hex{frame.rip}, " rsp ", Hex{frame.rsp},
        " cr2 ", Hex{cr2}, "; keys wiped, machine stopped");
    halt();
}

}  // namespace gatehouse::cpu

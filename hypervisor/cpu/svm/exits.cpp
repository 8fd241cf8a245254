#include <algorithm>

#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/decoder.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/stop.hpp"
#include "hypervisor/cpu/svm/policy.hpp"
#include "hypervisor/cpu/svm/vcpu.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::cpu::svm {
namespace {

constexpr std::uint8_t kDebug = 1, kInvalidOpcode = 6, kDoubleFault = 8, kGeneralProtection = 13;
constexpr const char* kTripleFault = "the guest shut down (triple fault)";
constexpr std::uint64_t kRflagsTrap = 1u << 8;
constexpr std::uint64_t kRflagsInterrupt = 1u << 9;
constexpr std::uint64_t kRflagsResume = 1u << 16;
constexpr std::uint64_t kDr6SingleStep = 1u << 14;

// Skips CPUID, RDMSR, WRMSR, INVD or WBINVD: 0x0f and another byte, behind
// prefixes perhaps (in 64-bit code; elsewhere they are not looked for).
void skip_opcode(Vcpu& vcpu) {
    std::array<std::byte, kMaxInstruction> code{};
    const std::size_t size = vcpu.vmcb.next_rip != 0 ? 0 : fetch_instruction(vcpu, code);
    const auto opcode = std::find(code.begin(), code.begin() + size, std::byte{0x0f});
    const auto prefixes = static_cast<unsigned>(opcode - code.begin());
    skip(vcpu, (prefixes < size ? prefixes : 0) + 2);
}

void handle_cpuid(Vcpu& vcpu) {
    auto& registers = vcpu.registers;
    const auto leaf = static_cast<std::uint32_t>(registers[0]);
    const auto subleaf = static_cast<std::uint32_t>(registers[1]);
    const CpuidLeaf out = guest_cpuid(leaf, subleaf, cpuid(leaf, subleaf), vcpu.vmcb.cr4);
    registers[0] = out.eax;
    registers[3] = out.ebx;
    registers[1] = out.ecx;
    registers[2] = out.edx;
    skip_opcode(vcpu);
}

// EFER as the guest writes it. Reserved bits are left to the processor: it is asked with its own EFER.
bool write_efer(Vcpu& vcpu, std::uint64_t value) {
    Vmcb& vmcb = vcpu.vmcb;
    const std::uint64_t own = read_msr(kMsrEfer);
    constexpr std::uint64_t kKnown = kEferSce | kEferLme | kEferLma | kEferNxe;
    if ((value & kEferSvme) != 0) return false;
    if (((value ^ vmcb.efer) & kEferLme) != 0 && (vmcb.cr0 & kCr0Pg) != 0) return false;
    const bool accepted = try_write_msr(kMsrEfer, own | (value & ~kKnown));
    write_msr(kMsrEfer, own);
    if (accepted) vmcb.efer = (value & ~kEferLma) | (vmcb.efer & kEferLma) | kEferSvme;
    return accepted;
}

// The APIC stays at its place and on: it is how processors of the hypervisor call each other. A guest that turns
// its APIC off, as on the way from x2APIC to xAPIC mode, gets one that has been reset, and reads what it wrote.
bool write_apic_base(Vcpu& vcpu, std::uint64_t value) {
    constexpr std::uint64_t kX2apic = 1u << 10, kEnable = 1u << 11, kBsp = 1u << 8;
    const std::uint64_t now = read_msr(kMsrApicBase);
    if ((value & ~(kX2apic | kEnable | kBsp)) != apic::kPage || ((value ^ now) & kBsp) != 0) return false;
    const bool off = (value & kEnable) == 0, to_x2apic = (value & kX2apic) != 0;
    if (to_x2apic && (off || vcpu.apic_disabled)) return false;
    if (!off && !to_x2apic && (now & kX2apic) != 0) return false;
    if (off) {
        if ((now & kX2apic) != 0) {
            write_msr(kMsrApicBase, now & ~(kX2apic | kEnable));
            write_msr(kMsrApicBase, (now & ~kX2apic) | kEnable);
        }
        apic::reset();
    } else if (!try_write_msr(kMsrApicBase, value)) {
        return false;
    }
    vcpu.apic_disabled = off;
    return true;
}

bool read_guest_msr(Vcpu& vcpu, Msr msr, std::uint64_t& value) {
    switch (msr_policy(msr).read) {
        case MsrRule::kFault: return false;
        case MsrRule::kEfer: value = vcpu.vmcb.efer & ~kEferSvme; return true;
        case MsrRule::kApicBase:
            value = read_msr(msr) & ~(vcpu.apic_disabled ? std::uint64_t{1} << 11 : 0);
            return true;
        default: return try_read_msr(msr, &value);
    }
}

bool write_guest_msr(Vcpu& vcpu, Msr msr, std::uint64_t value) {
    const MsrPolicy policy = msr_policy(msr);
    std::uint64_t old = 0;
    switch (policy.write) {
        case MsrRule::kPass: return try_write_msr(msr, value);
        case MsrRule::kDrop: return try_read_msr(msr, &old) || msr == kMsrPatchLoader;  // which is write-only
        case MsrRule::kMask:
            return try_read_msr(msr, &old) && try_write_msr(msr, (old & ~policy.mask) | (value & policy.mask));
        case MsrRule::kFault: return false;
        case MsrRule::kCounter: return try_write_msr(msr, guest_counter(msr, value));
        case MsrRule::kEfer: return write_efer(vcpu, value);
        case MsrRule::kApicBase: return write_apic_base(vcpu, value);
        case MsrRule::kIcr:
            if (!apic::x2apic()) return false;
            send_guest_ipi(vcpu, value);
            return true;
    }
    return false;
}

void handle_msr(Vcpu& vcpu) {
    auto& registers = vcpu.registers;
    const Msr msr{static_cast<std::uint32_t>(registers[1])};
    const bool write = vcpu.vmcb.exit_info1 != 0;
    std::uint64_t value = (registers[2] << 32) | (registers[0] & 0xffffffff);
    if (!(write ? write_guest_msr(vcpu, msr, value) : read_guest_msr(vcpu, msr, value))) {
        return inject(vcpu, kGeneralProtection, true);
    }
    if (!write) {
        registers[0] = value & 0xffffffff;
        registers[2] = value >> 32;
    }
    skip_opcode(vcpu);
}

std::uint8_t real_in(std::uint16_t port) { return platform::in(platform::Port<std::uint8_t>{port}); }
void real_out(std::uint16_t port, std::uint8_t value) { platform::out(platform::Port<std::uint8_t>{port}, value); }

void handle_port(Vcpu& vcpu) {
    const std::uint64_t info = vcpu.vmcb.exit_info1;
    const auto port = static_cast<std::uint16_t>(info >> 16);
    const auto size = static_cast<unsigned>(info >> 4 & 7);
    const bool string = (info & kPortString) != 0;
    const bool good = port + size <= 0x10000 && (!string || handle_string_input(vcpu, port, size, real_in));
    if (!good) return inject(vcpu, kGeneralProtection, true);
    if (string) return;
    std::uint64_t& rax = vcpu.registers[0];
    const std::uint64_t mask = (std::uint64_t{1} << 8 * size) - 1;
    if ((info & kPortIn) == 0) {
        port_map().write(port, size, static_cast<std::uint32_t>(rax & mask), real_out);
    } else {
        const std::uint64_t value = port_map().read(port, size, real_in) & mask;
        rax = size == 4 ? value : (rax & ~mask) | value;
    }
    skip(vcpu, static_cast<unsigned>(vcpu.vmcb.exit_info2 - vcpu.vmcb.rip));
}

}  // namespace

bool in_64_bit_code(const Vmcb& vmcb) {
    return (vmcb.efer & kEferLma) != 0 && (vmcb.cs.attributes & kAttributeLong) != 0;
}

void inject(Vcpu& vcpu, std::uint8_t vector, bool has_error) {
    Vmcb& vmcb = vcpu.vmcb;
    // What was being delivered cannot be, nor can the reason be told.
    if ((vmcb.event_injection & kEventValid) != 0) {
        if ((vmcb.event_injection & (kEventType | 0xff)) == (kEventException | kDoubleFault))
            reset_machine(kTripleFault);
        vector = kDoubleFault;
        has_error = true;
    }
    vmcb.event_injection = kEventValid | kEventException | vector | (has_error ? kEventHasError : 0);
}

void skip(Vcpu& vcpu, unsigned length) {
    Vmcb& vmcb = vcpu.vmcb;
    vmcb.rip = vmcb.next_rip != 0 ? vmcb.next_rip : vmcb.rip + length;
    if (!in_64_bit_code(vmcb)) vmcb.rip &= 0xffffffff;
    vmcb.interrupt_shadow = 0;
    vmcb.rflags &= ~kRflagsResume;
    if ((vmcb.rflags & kRflagsTrap) != 0) {
        vmcb.dr6 |= kDr6SingleStep;
        inject(vcpu, kDebug);
    }
}

void handle_exit(Vcpu& vcpu) {
    Vmcb& vmcb = vcpu.vmcb;
    // An event whose delivery was cut off is delivered again; a software one by its instruction.
    const std::uint64_t type = vmcb.exit_interrupt & kEventType;
    const auto vector = static_cast<std::uint8_t>(vmcb.exit_interrupt);
    const bool software = type == kEventSoftware || (type == kEventException && (vector == 3 || vector == 4));
    vmcb.event_injection = (vmcb.exit_interrupt & kEventValid) != 0 && !software ? vmcb.exit_interrupt : 0;

    switch (vmcb.exit_code) {
        case kExitCpuid: return handle_cpuid(vcpu);
        case kExitMsr: return handle_msr(vcpu);
        case kExitPort: return handle_port(vcpu);
        case kExitNestedFault: return handle_nested_fault(vcpu);
        case kExitInit: return take_init(vcpu);
        case kExitInvd:  // would throw away the hypervisor's cache lines as well
        case kExitWbinvd:
            asm volatile("wbinvd" : : : "memory");
            if ((vmcb.rflags & kRflagsInterrupt) == 0) suspect_offline(vcpu);
            return skip_opcode(vcpu);
        case kExitShutdown: reset_machine(kTripleFault);
        case kExitInvalid: reset_machine("the processor refuses the VMCB");
        default:  // SVM instructions, as with EFER.SVME = 0; and what was never asked for
            return inject(vcpu, kInvalidOpcode);
    }
}

}  // namespace gatehouse::cpu::svm

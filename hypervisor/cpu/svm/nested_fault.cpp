// Nested page faults: accesses to registers that a handler answers for, and to what the guest does not have.
#include <algorithm>

#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/decoder.hpp"
#include "hypervisor/cpu/guest_walk.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/svm/vcpu.hpp"

namespace gatehouse::cpu::svm {
namespace {

using memory::GuestAccess;

constexpr std::uint8_t kInvalidOpcode = 6, kGeneralProtection = 13;

// The write-trapped APIC page. Registers are 32 bits wide, 16 bytes apart; other accesses are undefined
// (16.3.2).
class ApicPage final : public MmioHandler {
  public:
    std::uint64_t read(std::uint64_t address, unsigned size) override {
        if (address % 16 != 0 || size != 4) return 0;
        return *reinterpret_cast<volatile std::uint32_t*>(address);
    }
    void write(std::uint64_t address, unsigned size, std::uint64_t value) override {
        if (address % 16 != 0 || size != 4 || apic::x2apic()) return;
        const auto word = static_cast<std::uint32_t>(value);
        if (address - apic::kPage != apic::kIcrLow) {
            *reinterpret_cast<volatile std::uint32_t*>(address) = word;
            return;
        }
        const std::uint64_t high = apic::read(apic::kIcrHigh);
        send_guest_ipi(*this_cpu().vcpu, high << 32 | word);
    }
};

constinit ApicPage apic_page;

const Segment& segment(const Vmcb& vmcb, SegmentName name) {
    const std::array by_encoding{&vmcb.es, &vmcb.cs, &vmcb.ss, &vmcb.ds, &vmcb.fs, &vmcb.gs};
    return *by_encoding[static_cast<std::size_t>(name)];
}

bool is_long(const Vmcb& vmcb) { return code_size(vmcb) == CodeSize::k64; }

std::uint64_t linear_address(const Vcpu& vcpu, const MmioInstruction& instruction) {
    const Vmcb& vmcb = vcpu.vmcb;
    const MemoryOperand& memory = instruction.memory;
    std::uint64_t address = memory.displacement;
    if (memory.base == MemoryOperand::kRip) {
        address += vmcb.rip + instruction.length;
    } else if (memory.base != MemoryOperand::kNone) {
        address += vcpu.registers[static_cast<std::size_t>(memory.base)];
    }
    if (memory.index != MemoryOperand::kNone) {
        address += vcpu.registers[static_cast<std::size_t>(memory.index)] * memory.scale;
    }
    if (memory.address_bits == 32) address &= 0xffffffff;
    const bool flat = is_long(vmcb) && memory.segment != SegmentName::kFs && memory.segment != SegmentName::kGs;
    return flat ? address : address + segment(vmcb, memory.segment).base;
}

Result<MmioInstruction> decode(const Vcpu& vcpu) {
    const Vmcb& vmcb = vcpu.vmcb;
    std::array<std::byte, kMaxInstruction> code{};
    const std::size_t size = fetch_instruction(vcpu, code);
    GATEHOUSE_ASSIGN(const MmioInstruction out, decode_mmio(Bytes(code).first(size), code_size(vmcb)));
    // The bytes may have changed since the access: it must still be this one, and within its page.
    const std::uint64_t address = vmcb.exit_info2;
    if (out.write != ((vmcb.exit_info1 & kFaultWrite) != 0) || ((linear_address(vcpu, out) ^ address) & 0xfff) != 0 ||
        (address & 0xfff) + out.size > memory::kPageSize) {
        return {Error::kMismatch, "instruction", vmcb.rip};
    }
    return out;
}

// No handler: nothing is there, reads are all ones, writes are lost.
void emulate(Vcpu& vcpu, MmioHandler* handler) {
    const std::uint64_t address = vcpu.vmcb.exit_info2;
    const Result<MmioInstruction> decoded = decode(vcpu);
    if (!decoded.ok()) return inject(vcpu, kGeneralProtection, true);
    const MmioInstruction& instruction = *decoded;
    std::uint64_t& reg = vcpu.registers[instruction.reg];
    if (instruction.write) {
        const std::uint64_t value = instruction.immediate ? instruction.value : instruction.high_byte ? reg >> 8 : reg;
        const std::uint64_t mask =
            instruction.size == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * instruction.size) - 1;
        if (handler != nullptr) handler->write(address, instruction.size, value & mask);
    } else {
        const std::uint64_t value = handler != nullptr ? handler->read(address, instruction.size) : ~std::uint64_t{0};
        reg = merge_register(instruction, reg, value);
    }
    vcpu.vmcb.next_rip = 0;  // not given for nested faults
    skip(vcpu, instruction.length);
}

}  // namespace

std::size_t fetch_instruction(const Vcpu& vcpu, std::span<std::byte, 15> out) {
    const Vmcb& vmcb = vcpu.vmcb;
    if (vmcb.exit_code == kExitNestedFault && vmcb.fetched != 0) {
        const std::size_t size = std::min<std::size_t>(vmcb.fetched, vmcb.instruction.size());
        copy_bytes(out, std::as_bytes(std::span(vmcb.instruction)).first(size));
        return size;
    }
    const PagingState paging{vmcb.cr0, vmcb.cr3, vmcb.cr4, vmcb.efer};
    const std::uint64_t start = vmcb.rip + (is_long(vmcb) ? 0 : vmcb.cs.base);
    for (std::size_t done = 0; done < out.size(); ++done) {
        const auto physical = guest_physical(guest_memory(), paging, start + done);
        if (!physical.ok()) return done;
        const auto byte = guest_memory().guest(*physical, 1);
        if (!byte.ok()) return done;
        out[done] = (*byte)[0];
    }
    return out.size();
}

void handle_nested_fault(Vcpu& vcpu) {
    const Vmcb& vmcb = vcpu.vmcb;
    const std::uint64_t address = vmcb.exit_info2;
    GuestAccess access = nested_pages().access(address);
    if (access == GuestAccess::kTrap && address >= memory::kIdentityLimit && nested_pages().extend(address).ok()) {
        access = nested_pages().access(address);
    }
    // Allowed meanwhile: another processor has changed the table; enter again.
    if (access == GuestAccess::kAll) return;
    if ((vmcb.exit_info1 & kFaultFetch) != 0) return inject(vcpu, kInvalidOpcode);
    if (access == GuestAccess::kTrapWrites && (vmcb.exit_info1 & kFaultWrite) == 0) return;
    // A page table there, or a stack for an exception's frame: no instruction to emulate.
    if ((vmcb.exit_info1 & kFaultWalk) != 0 || vmcb.event_injection != 0) {
        return inject(vcpu, kGeneralProtection, true);
    }
    if (address - apic::kPage < memory::kPageSize) {
        show_life(vcpu);
        return emulate(vcpu, &apic_page);
    }
    emulate(vcpu, mmio_map().find(address));
}

}  // namespace gatehouse::cpu::svm

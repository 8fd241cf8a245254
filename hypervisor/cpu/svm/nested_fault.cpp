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

// The write-trapped APIC page, which nobody reads here. Registers are 32 bits wide, 16 bytes apart; other accesses are
// undefined (16.3.2).
class ApicPage final : public MmioHandler {
  public:
    std::uint64_t read(GuestPhysical, unsigned) override { return 0; }
    void write(GuestPhysical address, unsigned size, std::uint64_t value) override {
        if (address.within(16) != 0 || size != 4 || apic::x2apic()) return;
        const apic::Register reg{static_cast<std::uint32_t>(address.within(memory::kPageSize))};
        const auto word = static_cast<std::uint32_t>(value);
        if (reg.offset != apic::kIcrLow.offset) return apic::write(reg, word);
        send_guest_ipi(*this_cpu().vcpu, std::uint64_t{apic::read(apic::kIcrHigh)} << 32 | word);
    }
};

constinit ApicPage apic_page;

Result<MmioInstruction> decode(Vcpu& vcpu) {
    const Vmcb& vmcb = vcpu.vmcb;
    std::array<std::byte, kMaxInstruction> code{};
    const std::size_t size = fetch_instruction(vcpu, code);
    // The bytes are always fetched; what they mean, which they alone decide, is remembered.
    auto& [bytes, out] = vcpu.decoded[vmcb.rip / 2 % vcpu.decoded.size()];
    if (out.length == 0 || out.length > size || !equal_bytes(bytes, code)) {
        GATEHOUSE_ASSIGN(out, decode_mmio(Bytes(code).first(size)));
        bytes = code;
    }
    // The bytes may have changed since the access: it must still be this one, and within its page.
    const std::uint64_t offset = GuestPhysical(vmcb.exit_info2).within(memory::kPageSize);
    if (out.write != ((vmcb.exit_info1 & kFaultWrite) != 0) ||
        out.address(vcpu.registers, vmcb.rip) % memory::kPageSize != offset || offset + out.size > memory::kPageSize) {
        return {Error::kMismatch, "instruction", vmcb.rip};
    }
    return out;
}

// No handler: nothing is there, reads are all ones, writes are lost.
void emulate(Vcpu& vcpu, MmioHandler* handler) {
    const GuestPhysical address{vcpu.vmcb.exit_info2};
    const Result<MmioInstruction> instruction = decode(vcpu);
    if (!instruction) return inject(vcpu, kGeneralProtection, true);
    const std::uint64_t mask = instruction->mask();
    const bool immediate = instruction->reg == MmioInstruction::kNone;
    std::uint64_t& reg = vcpu.registers[immediate ? 0 : static_cast<std::size_t>(instruction->reg)];
    if (instruction->write) {
        const std::uint64_t value = (immediate ? instruction->value : reg) & mask;
        if (handler != nullptr) handler->write(address, instruction->size, value);
    } else {
        const std::uint64_t value = handler != nullptr ? handler->read(address, instruction->size) : ~std::uint64_t{0};
        reg = (value & mask) | (instruction->keeps_rest ? reg & ~mask : 0);
    }
    vcpu.vmcb.next_rip = 0;  // not given for nested faults
    skip(vcpu, instruction->length);
}

}  // namespace

std::size_t fetch_instruction(const Vcpu& vcpu, std::span<std::byte, 15> out) {
    const Vmcb& vmcb = vcpu.vmcb;
    if (!in_64_bit_code(vmcb)) return 0;
    if (vmcb.exit_code == kExitNestedFault && vmcb.fetched != 0) {
        const std::size_t size = std::min<std::size_t>(vmcb.fetched, vmcb.instruction.size());
        copy_bytes(out, std::as_bytes(std::span(vmcb.instruction)).first(size));
        return size;
    }
    for (std::size_t done = 0, part = 0; done < out.size(); done += part) {
        const std::uint64_t address = vmcb.rip + done;
        part = std::min<std::size_t>(out.size() - done, memory::kPageSize - address % memory::kPageSize);
        const auto physical = guest_physical(guest_memory(), vmcb.cr3, (vmcb.cr4 & kCr4La57) != 0, address);
        if (!physical.ok()) return done;
        const auto code = guest_memory().guest(*physical, part);
        if (!code.ok()) return done;
        copy_bytes(out.subspan(done), {memory::at_physical(*code), part});
    }
    return out.size();
}

void handle_nested_fault(Vcpu& vcpu) {
    const Vmcb& vmcb = vcpu.vmcb;
    const GuestPhysical address{vmcb.exit_info2};
    MmioHandler* const handler = mmio_map().find(address);  // whose pages are trapped for good
    GuestAccess access = handler != nullptr ? GuestAccess::kTrap : nested_pages().access(address);
    if (access == GuestAccess::kTrap && address >= GuestPhysical(memory::kIdentityLimit) &&
        nested_pages().extend(address).ok()) {
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
    if (address - GuestPhysical(apic::kPage) < memory::kPageSize) {
        show_life(vcpu);
        return emulate(vcpu, &apic_page);
    }
    emulate(vcpu, handler);
}

}  // namespace gatehouse::cpu::svm

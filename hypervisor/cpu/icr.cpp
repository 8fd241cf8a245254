#include "hypervisor/cpu/apic.hpp"

namespace gatehouse::cpu::apic {

IpiCommand decode_icr(std::uint64_t value, bool x2apic) {
    IpiCommand command;
    command.vector = static_cast<std::uint8_t>(value);
    command.delivery = static_cast<Delivery>(value >> 8 & 7);
    command.logical = (value >> 11 & 1) != 0;
    command.deassert = (value >> 14 & 3) == 2;
    command.shorthand = static_cast<Shorthand>(value >> 18 & 3);
    command.destination = static_cast<std::uint32_t>(x2apic ? value >> 32 : value >> 56);
    command.x2apic = x2apic;
    return command;
}

bool IpiCommand::targets(std::uint32_t apic_id, bool self) const {
    if (shorthand == Shorthand::kSelf) return self;
    if (shorthand == Shorthand::kAll) return true;
    if (shorthand == Shorthand::kOthers) return !self;
    if (destination == (x2apic ? 0xffffffff : 0xff)) return true;
    if (!logical) return destination == apic_id;
    // x2APIC: cluster = ID[19:4] in the upper half, one bit of 16 in the lower (16.11.3)
    return x2apic && destination >> 16 == apic_id >> 4 && (destination >> (apic_id & 15) & 1) != 0;
}

}  // namespace gatehouse::cpu::apic

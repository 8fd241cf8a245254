#include "hypervisor/cpu/apic.hpp"

namespace gatehouse::cpu::apic {

bool Icr::targets(std::uint32_t apic_id, bool self) const {
    switch (value >> 18 & 3) {  // shorthand
        case 1: return self;
        case 2: return true;  // all
        case 3: return !self;
        default: break;
    }
    const auto destination = static_cast<std::uint32_t>(x2apic ? value >> 32 : value >> 56);
    const bool logical = (value >> 11 & 1) != 0;
    if (destination == (x2apic ? 0xffffffff : 0xff)) return true;
    if (!logical) return destination == apic_id;
    // x2APIC: cluster = ID[19:4] in the upper half, one bit of 16 in the lower (16.11.3)
    return x2apic && destination >> 16 == apic_id >> 4 && (destination >> (apic_id & 15) & 1) != 0;
}

}  // namespace gatehouse::cpu::apic

#include <algorithm>

#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/guest_walk.hpp"
#include "hypervisor/cpu/instructions.hpp"
#include "hypervisor/cpu/svm/vcpu.hpp"

namespace gatehouse::cpu::svm {

bool handle_string_input(Vcpu& vcpu, std::uint16_t port, unsigned size, std::uint8_t (*real)(std::uint16_t)) {
    constexpr std::uint64_t kRepeated = 1u << 3, kNarrow = 1u << 7 | 1u << 8, kDirection = 1u << 10;
    const Vmcb& vmcb = vcpu.vmcb;
    const auto length = static_cast<unsigned>(vmcb.exit_info2 - vmcb.rip);
    std::uint64_t once = 1;
    std::uint64_t& count = (vmcb.exit_info1 & kRepeated) != 0 ? vcpu.registers[1] : once;
    std::uint64_t& address = vcpu.registers[7];
    if (count == 0) return skip(vcpu, length), true;
    const std::uint64_t elements = std::min(count, (memory::kPageSize - address % memory::kPageSize) / size);
    const auto physical = guest_physical(guest_memory(), vmcb.cr3, (vmcb.cr4 & kCr4La57) != 0, address);
    const bool plain = (vmcb.exit_info1 & (kPortIn | kNarrow)) == kPortIn && in_64_bit_code(vmcb) && vmcb.cpl == 0 &&
                       (vmcb.rflags & kDirection) == 0 && elements != 0;
    if (!plain || !physical.ok()) return false;
    const auto place = guest_memory().guest(*physical, elements * size);
    if (!place.ok()) return false;
    std::byte* to = memory::at_physical(*place);
    for (const std::uint64_t end = address + elements * size; address != end; address += size, to += size, --count) {
        const std::uint32_t value = port_map().read(port, size, real);
        std::memcpy(to, &value, size);
    }
    if (count == 0) skip(vcpu, length);
    return true;
}

}  // namespace gatehouse::cpu::svm

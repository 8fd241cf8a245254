#include "hypervisor/cpu/apic.hpp"

#include "hypervisor/cpu/instructions.hpp"

namespace gatehouse::cpu::apic {
namespace {

constexpr std::uint64_t kBaseBsp = 1u << 8;
constexpr std::uint64_t kBaseX2apic = 1u << 10;
constexpr std::uint64_t kBaseEnable = 1u << 11;
constexpr std::uint32_t kDeliveryPending = 1u << 12;
constexpr std::uint32_t kMasked = 1u << 16;
constexpr std::uint32_t kSpuriousReset = 0xff;  // vector 0xff, APIC disabled by software

volatile std::uint32_t& at(Register reg) {
    return *reinterpret_cast<volatile std::uint32_t*>(kPage + static_cast<std::uint64_t>(reg));
}
std::uint32_t msr_of(Register reg) { return kMsrX2Apic + static_cast<std::uint32_t>(reg) / 16; }
void wait_sent() {
    while ((at(Register::kIcrLow) & kDeliveryPending) != 0) pause();
}

}  // namespace

void enable() {
    const std::uint64_t flags = read_msr(kMsrApicBase) & (kBaseBsp | kBaseX2apic | kBaseEnable);
    write_msr(kMsrApicBase, kPage | flags | kBaseEnable);
    if (!x2apic()) at(Register::kId) = id() << 24;  // the launcher may have given it another
}

bool x2apic() { return (read_msr(kMsrApicBase) & kBaseX2apic) != 0; }

std::uint32_t id() {
    constexpr std::uint32_t kTopology = 0xb;
    const CpuidLeaf topology = cpuid(0).eax >= kTopology ? cpuid(kTopology) : CpuidLeaf{};
    return topology.ebx != 0 ? topology.edx : cpuid(1).ebx >> 24;
}

std::uint32_t read(Register reg) { return x2apic() ? static_cast<std::uint32_t>(read_msr(msr_of(reg))) : at(reg); }

void write(Register reg, std::uint32_t value) {
    if (x2apic()) {
        write_msr(msr_of(reg), value);
    } else {
        at(reg) = value;
    }
}

void send(std::uint32_t destination, std::uint32_t command) {
    if (x2apic()) {
        write_msr(kMsrX2ApicIcr, std::uint64_t{destination} << 32 | command);
        return;
    }
    wait_sent();
    const std::uint32_t guest_high = at(Register::kIcrHigh);
    at(Register::kIcrHigh) = destination << 24;
    at(Register::kIcrLow) = command;
    wait_sent();
    at(Register::kIcrHigh) = guest_high;
}

void reset() {
    const auto in_service = [] {
        for (std::uint32_t i = 0; i < 8; ++i) {
            const auto reg = static_cast<std::uint32_t>(Register::kInService) + i * 0x10;
            if (read(static_cast<Register>(reg)) != 0) return true;
        }
        return false;
    };
    for (int i = 0; i < 256 && in_service(); ++i) write(Register::kEndOfInterrupt, 0);
    for (auto reg = static_cast<std::uint32_t>(Register::kTimer); reg <= static_cast<std::uint32_t>(Register::kError);
         reg += 0x10) {
        write(static_cast<Register>(reg), kMasked);
    }
    write(Register::kTimerInitial, 0);
    write(Register::kTaskPriority, 0);
    write(Register::kSpurious, kSpuriousReset);
}

}  // namespace gatehouse::cpu::apic

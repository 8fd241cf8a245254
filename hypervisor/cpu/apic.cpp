#include "hypervisor/cpu/apic.hpp"

#include "hypervisor/base/until.hpp"
#include "hypervisor/cpu/instructions.hpp"

namespace gatehouse::cpu::apic {
namespace {

constexpr std::uint64_t kBaseBsp = 1u << 8;
constexpr std::uint64_t kBaseX2apic = 1u << 10;
constexpr std::uint64_t kBaseEnable = 1u << 11;
constexpr std::uint32_t kDeliveryPending = 1u << 12;
constexpr std::uint32_t kMasked = 1u << 16;
constexpr std::uint32_t kSpuriousReset = 0xff;  // vector 0xff, APIC disabled by software

constexpr platform::Mmio<Page> page{HostPhysical(kPage)};
Msr msr_of(Register reg) { return Msr{kMsrX2Apic + reg.offset / 16}; }
void wait_sent() {
    (void)until(platform::microseconds, 100'000, [] { return (page.read(kIcrLow) & kDeliveryPending) == 0; });
}

}  // namespace

void enable() {
    write_msr(kMsrApicBase, kPage | kBaseEnable | (read_msr(kMsrApicBase) & (kBaseBsp | kBaseX2apic)));
    if (!x2apic()) page.write(kId, id() << 24);  // the launcher may have given it another
}

bool x2apic() { return (read_msr(kMsrApicBase) & kBaseX2apic) != 0; }

std::uint32_t id() {
    constexpr std::uint32_t kTopology = 0xb;
    const CpuidLeaf topology = cpuid(0).eax >= kTopology ? cpuid(kTopology) : CpuidLeaf{};
    return topology.ebx != 0 ? topology.edx : cpuid(1).ebx >> 24;
}

std::uint32_t read(Register reg) {
    return x2apic() ? static_cast<std::uint32_t>(read_msr(msr_of(reg))) : page.read(reg);
}

void write(Register reg, std::uint32_t value) {
    if (x2apic()) return write_msr(msr_of(reg), value);
    page.write(reg, value);
}

void write_icr(std::uint64_t value) {
    if (x2apic()) return write_msr(kMsrX2ApicIcr, value);
    page.write(kIcrLow, static_cast<std::uint32_t>(value));
}

void send(std::uint32_t destination, std::uint32_t command) {
    if (x2apic()) return write_icr(std::uint64_t{destination} << 32 | command);
    wait_sent();
    const std::uint32_t guest_high = page.read(kIcrHigh);
    page.write(kIcrHigh, destination << 24);
    page.write(kIcrLow, command);
    wait_sent();
    page.write(kIcrHigh, guest_high);
}

void reset() {
    for (int i = 0; i < 256; ++i) write(kEndOfInterrupt, 0);  // of all that are in service
    for (std::uint32_t at = kTimer.offset; at <= kError.offset; at += 0x10) write(Register{at}, kMasked);
    write(kTimerInitial, 0);
    write(kTaskPriority, 0);
    write(kSpurious, kSpuriousReset);
}

}  // namespace gatehouse::cpu::apic

#include "hypervisor/boot/guest_view.hpp"

#include "hypervisor/base/log.hpp"
#include "hypervisor/base/until.hpp"
#include "hypervisor/cpu/console_log.hpp"
#include "hypervisor/cpu/cpu.hpp"
#include "hypervisor/cpu/per_cpu.hpp"
#include "hypervisor/cpu/stop.hpp"
#include "hypervisor/platform/guest_tables.hpp"

namespace gatehouse::boot {
namespace {

constexpr std::uint64_t kFchRegisters = 0xfed80000;  // the FCH's PM and ACPI registers once more, in memory

}  // namespace

void GuestView::prepare_stop() {
    cpu::prepare_stop();
    cpu::set_console(true);
    log("gatehouse: keys wiped");
}

void GuestView::wait_for_the_end() {
    (void)until(platform::microseconds, 2'000'000, [] { return false; });
    cpu::pulse_reset();
}

Status GuestView::trap() {
    const platform::Chipset& chipset = devices_.chipset();
    GATEHOUSE_TRY(cpu::port_map().add(platform::kConfigAddress, platform::kConfigAddress + 3, config_ports_));
    GATEHOUSE_TRY(cpu::port_map().add(platform::kConfigData, platform::kConfigData + 3, config_ports_));
    ecam_pages_.set_base(devices_.ecam().base);
    for (const guest::ConfigFilter::Function& function : devices_.config().protected_functions()) {
        const std::uint64_t page = devices_.ecam().address(function.id, 0);
        if (page != 0) GATEHOUSE_TRY(cpu::trap_mmio(page, memory::kPageSize, ecam_pages_));
    }
    power_ports_.watch(chipset.pm1_control, chipset.s5_type);
    // The reset control port lies among those of the address register, and is a region of its own.
    for (const std::uint16_t port :
         {guest::PowerPorts::kKeyboard, guest::PowerPorts::kSystemControlA, platform::kResetControl.number}) {
        GATEHOUSE_TRY(cpu::port_map().add(port, port, power_ports_));
    }
    // A byte for the controller's output port that the launcher has announced: neither a reset nor A20 off.
    constexpr platform::Port<std::uint8_t> kCommand{guest::PowerPorts::kKeyboard}, kData{0x60};
    platform::out(kCommand, 0xd1);
    platform::out(kData, 0xdf);
    GATEHOUSE_TRY(
        cpu::port_map().add(chipset.pm1_control, static_cast<std::uint16_t>(chipset.pm1_control + 1), power_ports_));
    if (chipset.fch) {
        GATEHOUSE_TRY(cpu::port_map().add(platform::kFchData.number, platform::kFchData.number, power_ports_));
        GATEHOUSE_TRY(cpu::hide_device(kFchRegisters, 2 * memory::kPageSize));
    }
    GATEHOUSE_TRY(cpu::port_map().add(channel::kDoorbellPort, channel::kDoorbellPort + 3, doorbell_));
    GATEHOUSE_TRY(cpu::hide_device(platform::kTpmBase, platform::kTpmLocalities * memory::kPageSize));
    for (const memory::IommuPlace& place : devices_.iommus()) {
        GATEHOUSE_TRY(cpu::hide_device(place.registers, memory::kIommuRegisterSpace));
    }
    GATEHOUSE_TRY(
        cpu::nested_pages().map((memory_.kept_base() + launch::kMailboxOffset).value(), launch::kMailboxSize));
    return cpu::nested_pages().map((memory_.kept_base() + launch::kGuestTablesOffset).value(),
                                   launch::kGuestTablesSize);
}

Result<cpu::svm::GuestEntry> GuestView::load() {
    const std::uint64_t tables_at = (memory_.kept_base() + launch::kGuestTablesOffset).value();
    std::array<std::byte, 24> body{};
    Writer writer(body);
    writer.u32(2);
    writer.u32(launch::kMailboxSize);
    writer.u64((memory_.kept_base() + launch::kMailboxOffset).value());
    writer.u16(channel::kDoorbellPort);
    writer.u16(disks_.boot_disk().function);
    writer.u8(static_cast<std::uint8_t>(disks_.boot_disk().disk->number()));
    if (launch_.machine_tables().empty()) {  // ACPI mode from the start: the FADT has no SMI_CMD to ask firmware by
        const platform::Port<std::uint16_t> pm1_control{devices_.chipset().pm1_control};
        platform::out(pm1_control, static_cast<std::uint16_t>(platform::in(pm1_control) | 1));
    }
    const platform::Mmio<platform::IoApic> io_apic{HostPhysical(platform::kIoApicBase)};
    io_apic.write(platform::kIoApicSelect, platform::kIoApicId);
    std::array<std::uint32_t, cpu::kMaxCpus> apic_ids{};
    for (std::size_t i = 0; i < cpu::cpu_count(); ++i) apic_ids[i] = cpu::cpu_at(i).apic_id;
    const platform::GuestPlatform machine{
        .apic_ids = std::span(apic_ids).first(cpu::cpu_count()),
        .io_apic_id = static_cast<std::uint8_t>(io_apic.read(platform::kIoApicWindow) >> 24 & 0xf),
        .chipset = devices_.chipset(),
        .hpet = platform::Mmio<platform::Hpet>(HostPhysical(platform::kHpetBase)).read(platform::kHpetCapabilities),
        .ecam = devices_.ecam(),
        .channel = body,
        .machine_tables = launch_.machine_tables()};
    GATEHOUSE_TRY(platform::build_guest_tables(
        machine, memory_.kept(launch::kGuestTablesOffset, platform::kGuestTablesSize), tables_at));
    const Payload& payload = launch_.payload();
    const guest::LinuxImage image{.kernel = payload.busy[0],
                                  .initrd = payload.busy[1],
                                  .command_line = payload.command_line,
                                  .rsdp = tables_at,
                                  .screen = memory_.block().screen};
    return guest::load_linux(memory_, memory_.map(), image);
}

}  // namespace gatehouse::boot

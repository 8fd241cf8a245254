// Of Machine, what owns the devices: configuration space, IOMMUs, disk controllers, and the guest's traps.
#include <algorithm>

#include "hypervisor/base/log.hpp"
#include "hypervisor/base/until.hpp"
#include "hypervisor/boot/machine.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::boot {
namespace {

// What the guest may not change at will, by class code (PCI Code and ID Assignment 1.11).
constexpr struct {
    std::uint32_t code;  // class << 16 | subclass << 8 | programming interface
    std::uint32_t mask;
    guest::FunctionKind kind;
} kProtectedClasses[] = {{0x010601, 0xffffff, guest::FunctionKind::kDisk},
                         {0x060000, 0xffff00, guest::FunctionKind::kReadOnly},
                         {0x060100, 0xffff00, guest::FunctionKind::kReadOnly},
                         {0x060400, 0xffff00, guest::FunctionKind::kBridge},
                         {0x080600, 0xffff00, guest::FunctionKind::kReadOnly}};

constexpr std::size_t kAbar = 5;  // BAR of an AHCI controller's registers

constexpr std::uint16_t kGeneralDomain = 1, kFirstDiskDomain = 2;

constexpr std::uint64_t kFchRegisters = 0xfed80000;  // the FCH's PM and ACPI registers once more, in memory

// A register of configuration space, wherever it is: the guest chooses place and width.
template <typename T>
constexpr platform::Register<struct Configuration, T> kConfiguration{0};

}  // namespace

std::uint64_t Machine::PciPorts::ecam_address(guest::FunctionId function, std::uint16_t offset) const {
    if (ecam.base == 0 || function >> 8 > ecam.last_bus) return 0;
    return ecam.base + (std::uint64_t{function} << 12) + offset;
}

std::uint32_t Machine::PciPorts::read(guest::FunctionId function, std::uint16_t offset, unsigned size) {
    if (offset < 0x100) return platform::read_config(function, offset, size);
    const std::uint64_t address = ecam_address(function, offset);
    if (address == 0) return 0xffffffff;
    const platform::Mmio<Configuration> space{HostPhysical(address)};
    if (size == 1) return space.read(kConfiguration<std::uint8_t>);
    if (size == 2) return space.read(kConfiguration<std::uint16_t>);
    return space.read(kConfiguration<std::uint32_t>);
}

void Machine::PciPorts::write(guest::FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) {
    if (offset < 0x100) return platform::write_config(function, offset, size, value);
    const std::uint64_t address = ecam_address(function, offset);
    if (address == 0) return;
    const platform::Mmio<Configuration> space{HostPhysical(address)};
    if (size == 1) space.write(kConfiguration<std::uint8_t>, static_cast<std::uint8_t>(value));
    if (size == 2) space.write(kConfiguration<std::uint16_t>, static_cast<std::uint16_t>(value));
    if (size == 4) space.write(kConfiguration<std::uint32_t>, value);
}

Status Machine::find_devices() {
    GATEHOUSE_ASSIGN(chipset_, platform::find_chipset());
    GATEHOUSE_ASSIGN(pci_.ecam, platform::ecam_window(platform::read_msr(kMsrMmioConfiguration)));
    Status status;
    platform::for_each_function([&](platform::FunctionId function) {
        const std::uint32_t code = platform::class_of(function);
        for (const auto& [wanted, mask, kind] : kProtectedClasses) {
            if (status.ok() && (code & mask) == wanted) status = config_.protect(function, kind);
        }
    });
    return status;
}

void Machine::set_device(guest::FunctionId function, const memory::DmaDomain& domain) {
    std::byte* const table = memory::at_physical(HostPhysical(kept_base_ + launch::kDeviceTableOffset));
    reinterpret_cast<memory::DeviceTableEntry*>(table)[function] = memory::device_table_entry(domain);
}

Status Machine::start_iommus() {
    GATEHOUSE_ASSIGN(iommus_, memory::find_iommus(ram_));
    if (iommus_.count != hand_off_.iommu_count) return {Error::kMismatch, "number of IOMMUs", iommus_.count};
    for (const memory::IommuPlace& place : iommus_.all()) {
        GATEHOUSE_TRY(cpu::map_device(place.registers, memory::kIommuRegisterSpace));
    }
    return general_dma_.create(cpu::kept_pages());
}

Status Machine::refresh_iommus() {
    for (std::size_t i = 0; i < iommus_.count; ++i) {
        const std::uint64_t queues = memory::kIommuQueuesOffset + i * memory::kIommuQueuesSize;
        memory::IommuUnit unit(HostPhysical(iommus_.places[i].registers), kept(queues, memory::kIommuQueuesSize),
                               HostPhysical(kept_base_ + queues));
        GATEHOUSE_TRY(unit.adopt(HostPhysical(kept_base_ + launch::kDeviceTableOffset)));
        GATEHOUSE_TRY(unit.invalidate_all());
    }
    return {};
}

Result<Extent> Machine::registers_of(guest::FunctionId controller) const {
    const Extent bar = config_.memory_bar(controller, kAbar);
    if (bar.length < ata::ahci::Controller::kRegisterSpace / 2 || bar.end() > memory::kIdentityLimit ||
        ram_.reached_by(bar)) {
        return {Error::kOutOfRange, "disk controller: ABAR", bar.base};
    }
    return bar;
}

Status Machine::open_controller(guest::FunctionId function) {
    for (std::size_t other = 0; other < kAbar; ++other) {  // vendor registers, MSI-X tables: nobody's
        const Extent hidden = config_.memory_bar(function, other);
        if (hidden.length != 0 && hidden.base != 0) GATEHOUSE_TRY(cpu::hide_device(hidden.base, hidden.length));
    }
    GATEHOUSE_ASSIGN(const Extent bar, registers_of(function));
    constexpr std::uint64_t kAllArenas = 0x400000;  // of the kept region's 6 MiB
    const auto number = static_cast<std::uint64_t>(std::ranges::count(
        config_.protected_functions(), guest::FunctionKind::kDisk, &guest::ConfigFilter::Function::kind));
    const std::uint64_t arena_size = kAllArenas / number & ~(memory::kPageSize - 1);
    GATEHOUSE_ASSIGN(const HostPhysical arena, cpu::kept_pages().take(arena_size / memory::kPageSize));
    Controller& controller = controllers_[controller_count_];
    controller.function = function;
    controller.registers = bar;
    controller.arena = {memory::at_physical(arena), arena, arena_size};
    GATEHOUSE_TRY(cpu::map_device(bar.base, bar.length));
    GATEHOUSE_ASSIGN(const bool proven, prove_refusal(controller));
    GATEHOUSE_TRY(controller.mediator.start(bar.base, controller.arena, cpu::guest_memory(), *this));
    const auto disks = controller.mediator.controller().disks();
    if (iommus_.count != 0 && !proven && !disks.empty()) {
        return {Error::kNotFound, "IOMMU cannot be proven: a disk that came late, of controller", function};
    }
    for (const ata::ahci::Port& disk : disks) {
        GATEHOUSE_TRY(controller.dma.forbid_writes(disk.command_tables()));
    }
    ++controller_count_;
    return refresh_iommus();
}

// It has no DMA, and the guest does not reach its registers.
Status Machine::leave_out(guest::FunctionId controller, const Failure& why) {
    log("gatehouse: disk controller ", Hex{controller}, ": ", why, "; it stays absent");
    set_device(controller, {});
    GATEHOUSE_TRY(refresh_iommus());
    const auto bar = registers_of(controller);
    return bar ? cpu::hide_device(bar->base, bar->length) : Status();
}

// A DMA of the controller lands where it may not? Then it reaches its arena,
// and one lands there: the same write would have been seen before.
Result<bool> Machine::prove_refusal(Controller& controller) {
    constexpr std::byte kUntouched{0xa5};
    GATEHOUSE_ASSIGN(const HostPhysical canary, cpu::kept_pages().take(1));
    const MutableBytes page(memory::at_physical(canary), memory::kPageSize);
    std::ranges::fill(page, kUntouched);
    Result<bool> has_disk = false;
    if (iommus_.count != 0) has_disk = controller.mediator.provoke_dma(controller.registers.base, canary, *this);
    if (std::ranges::any_of(page, [](std::byte value) { return value != kUntouched; })) {
        return {Error::kRefused, "IOMMU does not refuse: DMA of a disk controller landed", controller.function};
    }
    GATEHOUSE_TRY(has_disk);
    GATEHOUSE_TRY(controller.dma.create(cpu::kept_pages()));
    GATEHOUSE_TRY(controller.dma.allow({controller.arena.physical.value(), controller.arena.size}));
    const auto domain = static_cast<std::uint16_t>(kFirstDiskDomain + (&controller - controllers_.data()));
    set_device(controller.function, {domain, controller.dma.root()});
    GATEHOUSE_TRY(refresh_iommus());
    if (!*has_disk) return false;
    GATEHOUSE_TRY(controller.mediator.provoke_dma(controller.registers.base, controller.arena.physical, *this));
    if (!holds_fis({controller.arena.data, memory::kPageSize})) {
        return {Error::kNotFound, "IOMMU cannot be proven: no FIS from a disk of controller", controller.function};
    }
    return true;
}

Status Machine::open_disks() {
    for (const guest::ConfigFilter::Function& function : config_.protected_functions()) {
        if (function.disk == nullptr) continue;
        const Status opened = open_controller(function.id);
        if (opened.error() == Error::kRefused) return opened;  // the IOMMU does not refuse
        if (!opened) GATEHOUSE_TRY(leave_out(function.id, opened.failure()));
    }
    for (Controller& one : controllers()) {
        GATEHOUSE_TRY(cpu::trap_mmio(one.registers.base, one.registers.length, one.mediator));
        disks_.add(one.mediator.controller(), one.function);
    }
    TpmUnsealer unsealer(tpm_, random_, policy_);
    copy_bytes(claims_.vault_id, policy_.vault_id);
    GATEHOUSE_TRY(disks_.open(claims_.vault_id, unsealer));
    return measurer_.extend(evidence::kVaultMeasurement, claims_.vault_id);
}

Status Machine::trap_guest() {
    GATEHOUSE_TRY(cpu::port_map().add(0xcf8, 0xcfb, config_ports_));  // the reset control port in there is its own
    GATEHOUSE_TRY(cpu::port_map().add(0xcfc, 0xcff, config_ports_));
    ecam_pages_.set_base(pci_.ecam.base);
    for (const guest::ConfigFilter::Function& function : config_.protected_functions()) {
        const std::uint64_t page = pci_.ecam_address(function.id, 0);
        if (page != 0) GATEHOUSE_TRY(cpu::trap_mmio(page, memory::kPageSize, ecam_pages_));
    }
    power_ports_.watch(chipset_.pm1_control, chipset_.s5_type);
    for (const std::uint16_t port :
         {guest::PowerPorts::kKeyboard, guest::PowerPorts::kSystemControlA, platform::kResetControl.number}) {
        GATEHOUSE_TRY(cpu::port_map().add(port, port, power_ports_));
    }
    // A byte for the controller's output port that the launcher has announced: neither a reset nor A20 off.
    constexpr platform::Port<std::uint8_t> kCommand{guest::PowerPorts::kKeyboard}, kData{0x60};
    platform::out(kCommand, 0xd1);
    platform::out(kData, 0xdf);
    const std::uint16_t pm1_control = chipset_.pm1_control;
    GATEHOUSE_TRY(cpu::port_map().add(pm1_control, static_cast<std::uint16_t>(pm1_control + 1), power_ports_));
    if (chipset_.fch) {
        GATEHOUSE_TRY(cpu::port_map().add(platform::kFchData.number, platform::kFchData.number, power_ports_));
        GATEHOUSE_TRY(cpu::hide_device(kFchRegisters, 2 * memory::kPageSize));
    }
    GATEHOUSE_TRY(cpu::port_map().add(channel::kDoorbellPort, channel::kDoorbellPort + 3, doorbell_));
    GATEHOUSE_TRY(cpu::hide_device(platform::kTpmBase, platform::kTpmLocalities * memory::kPageSize));
    for (const memory::IommuPlace& place : iommus_.all()) {
        GATEHOUSE_TRY(cpu::hide_device(place.registers, memory::kIommuRegisterSpace));
    }
    GATEHOUSE_TRY(cpu::nested_pages().map(kept_base_ + launch::kMailboxOffset, launch::kMailboxSize));
    return cpu::nested_pages().map(kept_base_ + launch::kGuestTablesOffset, launch::kGuestTablesSize);
}

Status Machine::allow_guest_memory(memory::DmaMap& map) {
    for (const guest::MemoryRange& range : map_.ranges()) {
        if (range.is_ram()) GATEHOUSE_TRY(map.allow(range.extent()));
    }
    return {};
}

// The functions that are there and have been reset reach the guest's memory from
// here on, disk controllers their arenas as well. All other numbers stay refused.
Status Machine::release_dma() {
    bool complete = true;
    platform::for_each_function([&](guest::FunctionId function) {
        if (config_.find_disk(function) == nullptr) complete = resets_.add(function) && complete;
    });
    if (!complete) log("gatehouse: too many PCI functions to reset: the DMA of those that are left stays refused");
    resets_.run(
        [](unsigned milliseconds) { (void)until(platform::microseconds, milliseconds * 1000, [] { return false; }); });
    GATEHOUSE_TRY(allow_guest_memory(general_dma_));
    for (const platform::FunctionResets::Function& function : resets_.all()) {
        if (function.reset) {
            set_device(function.id, {kGeneralDomain, general_dma_.root()});
        } else {
            log("gatehouse: PCI function ", Hex{function.id}, " cannot be reset: its DMA stays refused");
        }
    }
    for (Controller& one : controllers()) GATEHOUSE_TRY(allow_guest_memory(one.dma));
    return refresh_iommus();
}

}  // namespace gatehouse::boot

#include "hypervisor/boot/disks.hpp"

#include <algorithm>

#include "hypervisor/base/log.hpp"
#include "hypervisor/boot/ide_controller.hpp"
#include "keyvault/tpm/types.hpp"

namespace gatehouse::boot {
namespace {

constexpr std::size_t kAbar = 5;  // BAR of an AHCI controller's registers

using HbaRegister = platform::Register<ata::Environment, std::uint32_t>;

// What the policy says of a disk with a vault, which is attached by now, or without.
void apply(const policies::Bundle& policy, PortDisk& disk) {
    if (disk.disk->is_attached()) return disk.disk->allow_trim(policy.has(policies::BundleFlag::kTrim));
    if (!policy.has(policies::BundleFlag::kShowDisks)) return;
    disk.regions[0] = {0, disk.disk->geometry().sectors, RegionClass::kReadOnly};
    disk.disk->attach(std::span(disk.regions).first(1), disk.key);
    log("gatehouse: disk at port ", disk.disk->number(), ": read-only for the guest");
}

}  // namespace

Status DiskController::start(platform::FunctionId function, const Extent& registers, const ata::DmaArena& arena,
                             std::uint16_t domain, Devices& devices) {
    function_ = function;
    registers_ = registers;
    hardware_ = platform::Mmio<ata::Environment>(HostPhysical(registers.base));
    GATEHOUSE_ASSIGN(const bool proven, prove_refusal(arena, domain, devices));
    GATEHOUSE_TRY(take_over(arena));
    if (!devices.iommus().empty() && !proven && disk(0) != nullptr) {
        return {Error::kNotFound, "IOMMU cannot be proven: no disk at first, of controller", function};
    }
    for (std::size_t i = 0; disk(i) != nullptr; ++i) GATEHOUSE_TRY(dma_.forbid_writes(disk(i)->command_tables()));
    return {};
}

// A DMA of the controller lands in its arena while it may not? Then it may, and the same one lands.
Result<bool> DiskController::prove_refusal(const ata::DmaArena& arena, std::uint16_t domain, Devices& devices) {
    constexpr std::byte kUntouched{0xa5};
    const MutableBytes page(arena.data, memory::kPageSize);
    const auto landed = [&] { return std::ranges::count(page, kUntouched) != std::ssize(page); };
    std::ranges::fill(MutableBytes(arena.data, arena.size), kUntouched);
    Result<bool> has_disk = false;
    if (!devices.iommus().empty()) has_disk = provoke_dma(arena);
    if (landed()) return {Error::kRefused, "IOMMU does not refuse: DMA of a disk controller landed", function_};
    GATEHOUSE_TRY(has_disk);
    GATEHOUSE_TRY(dma_.create(cpu::kept_pages()));
    GATEHOUSE_TRY(dma_.allow({arena.physical.value(), arena.size}));
    devices.set_domain(function_, {domain, dma_.root()});
    GATEHOUSE_TRY(devices.refresh_iommus());
    if (!*has_disk) return false;
    GATEHOUSE_TRY(provoke_dma(arena));
    if (landed()) return true;
    return {Error::kNotFound, "IOMMU cannot be proven: no DMA from a disk of controller", function_};
}

std::uint64_t DiskController::read(GuestPhysical address, unsigned size) {
    return controller_.read(static_cast<std::uint32_t>(address - GuestPhysical(registers_.base)), size);
}

void DiskController::write(GuestPhysical address, unsigned size, std::uint64_t value) {
    controller_.write(static_cast<std::uint32_t>(address - GuestPhysical(registers_.base)), size, value);
}

std::uint32_t DiskController::read(std::uint32_t offset) { return hardware_.read(HbaRegister{offset}); }

void DiskController::write(std::uint32_t offset, std::uint32_t value) { hardware_.write(HbaRegister{offset}, value); }

ata::GuestBytes DiskController::map(GuestPhysical address, std::uint64_t size) {
    const auto place = cpu::guest_memory().guest(address, size);
    return place ? ata::GuestBytes{memory::at_physical(*place), *place} : ata::GuestBytes{};
}

Result<Extent> Disks::registers_of(platform::FunctionId controller) const {
    if (is_ide(controller)) return ide_.ports(controller);
    const Extent bar = devices_.config().memory_bar(controller, kAbar);
    if (bar.length < ata::ahci::Controller::kRegisterSpace / 2 || bar.end() > memory::kIdentityLimit ||
        memory_.ram().reached_by(bar) || devices_.trusted_at(bar)) {
        return {Error::kOutOfRange, "disk controller: ABAR", bar.base};
    }
    return bar;
}

Status Disks::open_controller(platform::FunctionId function) {
    const guest::ConfigFilter& config = devices_.config();
    for (std::size_t other = 0; other < kAbar; ++other) {  // vendor registers, MSI-X tables: nobody's
        const Extent hidden = config.memory_bar(function, other);
        if (hidden.length != 0 && hidden.base != 0) GATEHOUSE_TRY(cpu::hide_device(hidden.base, hidden.length));
    }
    GATEHOUSE_ASSIGN(const Extent bar, registers_of(function));
    constexpr std::uint64_t kAllArenas = 0x400000 - kIdeArena;  // of the kept region's 6 MiB
    const auto number = std::ranges::count_if(
        config.protected_functions(), [](const auto& other) { return other.disk != nullptr && !is_ide(other.id); });
    const std::uint64_t arena_size =
        is_ide(function) ? kIdeArena : kAllArenas / static_cast<std::uint64_t>(number) & ~(memory::kPageSize - 1);
    GATEHOUSE_ASSIGN(const HostPhysical arena, cpu::kept_pages().take(arena_size / memory::kPageSize));
    const auto domain = static_cast<std::uint16_t>(Devices::kFirstDiskDomain + controller_count_);
    DiskController& controller = is_ide(function) ? ide_ : controllers_[controller_count_];
    if (!is_ide(function)) GATEHOUSE_TRY(cpu::map_device(bar.base, bar.length));
    GATEHOUSE_TRY(controller.start(function, bar, {memory::at_physical(arena), arena, arena_size}, domain, devices_));
    started_[controller_count_++] = &controller;
    return devices_.refresh_iommus();
}

Status Disks::leave_out(platform::FunctionId controller, const Failure& why) {
    log("gatehouse: disk controller ", Hex{controller}, ": ", why, "; it stays absent");
    devices_.set_domain(controller, {});
    GATEHOUSE_TRY(devices_.refresh_iommus());
    const auto bar = registers_of(controller);
    return bar && !is_ide(controller) ? cpu::hide_device(bar->base, bar->length) : Status();
}

Status Disks::find() {
    GATEHOUSE_TRY(ide_.trap_command_blocks());
    for (const guest::ConfigFilter::Function& function : devices_.config().protected_functions()) {
        if (function.disk == nullptr) continue;
        const Status opened = open_controller(function.id);
        if (opened.error() == Error::kRefused) return opened;  // the IOMMU does not refuse
        if (!opened) GATEHOUSE_TRY(leave_out(function.id, opened.failure()));
    }
    for (DiskController* one : controllers()) {
        GATEHOUSE_TRY(one->trap());
        for (std::size_t i = 0; ata::Disk* disk = one->disk(i); ++i) {
            if (disk->is_attached()) continue;  // a packet device
            const Status found = disk->identify();
            disks_[count_].disk = disk;
            disks_[count_].function = one->function();
            if (found) ++count_;
            if (!found) log("gatehouse: disk at port ", disk->number(), ": ", found.failure(), "; it stays absent");
        }
    }
    return {};
}

Status Disks::open(const volume::VaultId& pinned, Unsealer& unsealer, const policies::Bundle& policy) {
    std::array<PortDisk*, kMaxDisks> all{};
    for (std::size_t i = 0; i < count_; ++i) all[i] = &disks_[i];
    vaults_.conversion().allow(policy.has(policies::BundleFlag::kChangeInUse));
    GATEHOUSE_TRY(vaults_.open(std::span(all).first(count_), pinned, unsealer));
    for (std::size_t i = 0; i < count_; ++i) apply(policy, disks_[i]);
    return {};
}

void Disks::describe(evidence::Claims& claims) const {
    for (const OpenVault& vault : vaults_.all()) {
        const volume::Header& header = vault.header;
        evidence::DiskClaim& claim = claims.disks[claims.disk_count++] = claim_of(header);
        // Members were not opened by the TPM.
        if (claims.disk_count == 1) claim.sealed_name = tpm::name_of(header.slots.tpm->sealed_public.bytes());
    }
}

Status Disks::hand_over() {
    for (DiskController* one : controllers()) GATEHOUSE_TRY(one->hand_over());
    return {};
}

Status Disks::release() {
    for (DiskController* one : controllers()) {
        GATEHOUSE_TRY(memory_.each_guest_range([&](const Extent& range) { return one->release(range); }));
    }
    return {};
}

}  // namespace gatehouse::boot

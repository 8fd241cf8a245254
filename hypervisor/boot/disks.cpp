#include "hypervisor/boot/disks.hpp"

#include <algorithm>

#include "ata/xts/xts_vaes.hpp"
#include "hypervisor/base/log.hpp"
#include "hypervisor/boot/dma_proof.hpp"
#include "hypervisor/cpu/cpu.hpp"
#include "keyvault/tpm/types.hpp"

namespace gatehouse::boot {
namespace {

constexpr std::size_t kAbar = 5;  // BAR of an AHCI controller's registers

using HbaRegister = platform::Register<ata::Environment, std::uint32_t>;

}  // namespace

Status DiskController::start(platform::FunctionId function, const Extent& registers, const ata::DmaArena& arena,
                             std::uint16_t domain, Devices& devices) {
    function_ = function;
    registers_ = registers;
    hardware_ = platform::Mmio<ata::Environment>(HostPhysical(registers.base));
    GATEHOUSE_TRY(cpu::map_device(registers.base, registers.length));
    GATEHOUSE_ASSIGN(const bool proven, prove_refusal(arena, domain, devices));
    GATEHOUSE_TRY(controller_.take_over(*this, arena));
    const auto disks = controller_.disks();
    if (!devices.iommus().empty() && !proven && !disks.empty()) {
        return {Error::kNotFound, "IOMMU cannot be proven: a disk that came late, of controller", function};
    }
    for (const ata::ahci::Port& disk : disks) GATEHOUSE_TRY(dma_.forbid_writes(disk.command_tables()));
    return {};
}

// A DMA of the controller lands where it may not? Then it reaches its arena,
// and one lands there: the same write would have been seen before.
Result<bool> DiskController::prove_refusal(const ata::DmaArena& arena, std::uint16_t domain, Devices& devices) {
    constexpr std::byte kUntouched{0xa5};
    GATEHOUSE_ASSIGN(const HostPhysical canary, cpu::kept_pages().take(1));
    const MutableBytes page(memory::at_physical(canary), memory::kPageSize);
    std::ranges::fill(page, kUntouched);
    Result<bool> has_disk = false;
    if (!devices.iommus().empty()) has_disk = provoke_fis(*this, canary);
    if (std::ranges::any_of(page, [](std::byte value) { return value != kUntouched; })) {
        return {Error::kRefused, "IOMMU does not refuse: DMA of a disk controller landed", function_};
    }
    GATEHOUSE_TRY(has_disk);
    GATEHOUSE_TRY(dma_.create(cpu::kept_pages()));
    GATEHOUSE_TRY(dma_.allow({arena.physical.value(), arena.size}));
    devices.set_domain(function_, {domain, dma_.root()});
    GATEHOUSE_TRY(devices.refresh_iommus());
    if (!*has_disk) return false;
    GATEHOUSE_TRY(provoke_fis(*this, arena.physical));
    if (!holds_fis({arena.data, memory::kPageSize})) {
        return {Error::kNotFound, "IOMMU cannot be proven: no FIS from a disk of controller", function_};
    }
    return true;
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

Status PortDisk::attach(const volume::Header& header, const volume::Dek& dek) {
    const auto regions = std::span(regions_).first(header.region_count);
    std::ranges::copy(header.region_table(), regions.begin());
    std::size_t next = 0;  // volume::validate(): overlay sectors are those of the overlay regions, in this order
    for (Region& region : regions) {
        if (region.kind == RegionClass::kOverlay) region.overlay = header.overlay[next++].content.data();
    }
    const cpu::VectorSection vectors;  // in which XCR0 has what VAES needs
    GATEHOUSE_TRY(key_.set(dek.bytes()));
    if (ata::can_use_vaes()) log("disk: encryption by VAES");
    disk_->attach(regions, key_);
    return {};
}

void PortDisk::apply(const policies::Bundle& policy) {
    if (disk_->is_attached()) return disk_->allow_trim(policy.has(policies::BundleFlag::kTrim));
    if (!policy.has(policies::BundleFlag::kShowDisks)) return;
    regions_[0] = {0, total_sectors(), RegionClass::kReadOnly};
    disk_->attach(std::span(regions_).first(1), key_);
    log("gatehouse: disk at port ", disk_->number(), ": read-only for the guest");
}

Result<Extent> Disks::registers_of(platform::FunctionId controller) const {
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
    constexpr std::uint64_t kAllArenas = 0x400000;  // of the kept region's 6 MiB
    const auto number = static_cast<std::uint64_t>(std::ranges::count(
        config.protected_functions(), guest::FunctionKind::kDisk, &guest::ConfigFilter::Function::kind));
    const std::uint64_t arena_size = kAllArenas / number & ~(memory::kPageSize - 1);
    GATEHOUSE_ASSIGN(const HostPhysical arena, cpu::kept_pages().take(arena_size / memory::kPageSize));
    const auto domain = static_cast<std::uint16_t>(Devices::kFirstDiskDomain + controller_count_);
    GATEHOUSE_TRY(controllers_[controller_count_].start(function, bar, {memory::at_physical(arena), arena, arena_size},
                                                        domain, devices_));
    ++controller_count_;
    return devices_.refresh_iommus();
}

Status Disks::leave_out(platform::FunctionId controller, const Failure& why) {
    log("gatehouse: disk controller ", Hex{controller}, ": ", why, "; it stays absent");
    devices_.set_domain(controller, {});
    GATEHOUSE_TRY(devices_.refresh_iommus());
    const auto bar = registers_of(controller);
    return bar ? cpu::hide_device(bar->base, bar->length) : Status();
}

Status Disks::find() {
    for (const guest::ConfigFilter::Function& function : devices_.config().protected_functions()) {
        if (function.disk == nullptr) continue;
        const Status opened = open_controller(function.id);
        if (opened.error() == Error::kRefused) return opened;  // the IOMMU does not refuse
        if (!opened) GATEHOUSE_TRY(leave_out(function.id, opened.failure()));
    }
    for (DiskController& one : controllers()) {
        GATEHOUSE_TRY(cpu::trap_mmio(one.registers().base, one.registers().length, one));
        for (ata::ahci::Port& disk : one.controller().disks()) {
            if (disk.is_attached()) continue;  // a packet device
            const Status found = disk.identify();
            if (found) disks_[count_++].bind(disk, one.function());
            if (!found) log("gatehouse: disk at port ", disk.number(), ": ", found.failure(), "; it stays absent");
        }
    }
    return {};
}

Status Disks::open(const volume::VaultId& pinned, Unsealer& unsealer, const policies::Bundle& policy) {
    std::array<VaultDisk*, kMaxDisks> all{};
    for (std::size_t i = 0; i < count_; ++i) all[i] = &disks_[i];
    GATEHOUSE_TRY(vaults_.open(std::span(all).first(count_), pinned, unsealer));
    for (std::size_t i = 0; i < count_; ++i) disks_[i].apply(policy);
    return {};
}

void Disks::describe(evidence::Claims& claims) const {
    for (const OpenVault& vault : vaults_.all()) {
        const volume::Header& header = vault.header;
        evidence::DiskClaim& claim = claims.disks[claims.disk_count++];
        claim = {header.disk, evidence::DiskState::kEncrypted, header.data_key.epoch, header.generation, {}};
        // Members were not opened by the TPM.
        if (claims.disk_count == 1) claim.sealed_name = tpm::name_of(header.slots.tpm->sealed_public.bytes());
    }
}

Status Disks::hand_over() {
    for (DiskController& one : controllers()) GATEHOUSE_TRY(one.controller().hand_over());
    return {};
}

Status Disks::release() {
    for (DiskController& one : controllers()) {
        GATEHOUSE_TRY(memory_.each_guest_range([&](const Extent& range) { return one.dma().allow(range); }));
    }
    return {};
}

}  // namespace gatehouse::boot

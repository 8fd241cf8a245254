#include "hypervisor/boot/devices.hpp"

#include <algorithm>

#include "hypervisor/base/log.hpp"
#include "hypervisor/base/until.hpp"
#include "hypervisor/cpu/cpu.hpp"

namespace gatehouse::boot {
namespace {

// What the guest may not change at will, by class code (PCI Code and ID Assignment 1.11).
constexpr struct {
    std::uint32_t code;  // class << 16 | subclass << 8 | programming interface
    std::uint32_t mask;
    guest::FunctionKind kind;
} kProtectedClasses[] = {{0x010601, 0xffffff, guest::FunctionKind::kDisk},
                         {0x010100, 0xffff00, guest::FunctionKind::kDisk},  // IDE, of whatever programming interface
                         {0x060000, 0xffff00, guest::FunctionKind::kReadOnly},
                         {0x060100, 0xffff00, guest::FunctionKind::kReadOnly},
                         {0x060400, 0xffff00, guest::FunctionKind::kBridge},
                         {0x080600, 0xffff00, guest::FunctionKind::kReadOnly}};

constexpr std::uint16_t kGeneralDomain = 1;

// A register of configuration space, wherever it is: the guest chooses place and width.
template <typename T>
constexpr platform::Register<struct Configuration, T> kConfiguration{0};

}  // namespace

std::uint32_t Devices::read(platform::FunctionId function, std::uint16_t offset, unsigned size) {
    if (offset < 0x100) return platform::read_config(function, offset, size);
    const std::uint64_t address = ecam_.address(function, offset);
    if (address == 0) return 0xffffffff;
    const platform::Mmio<Configuration> space{HostPhysical(address)};
    if (size == 1) return space.read(kConfiguration<std::uint8_t>);
    if (size == 2) return space.read(kConfiguration<std::uint16_t>);
    return space.read(kConfiguration<std::uint32_t>);
}

void Devices::write(platform::FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) {
    if (offset < 0x100) return platform::write_config(function, offset, size, value);
    const std::uint64_t address = ecam_.address(function, offset);
    if (address == 0) return;
    const platform::Mmio<Configuration> space{HostPhysical(address)};
    if (size == 1) space.write(kConfiguration<std::uint8_t>, static_cast<std::uint8_t>(value));
    if (size == 2) space.write(kConfiguration<std::uint16_t>, static_cast<std::uint16_t>(value));
    if (size == 4) space.write(kConfiguration<std::uint32_t>, value);
}

Status Devices::find() {
    GATEHOUSE_ASSIGN(chipset_, platform::find_chipset());
    GATEHOUSE_ASSIGN(ecam_, platform::ecam_window(platform::read_msr(kMsrMmioConfiguration)));
    Status status;
    platform::for_each_function([&](platform::FunctionId function) {
        const std::uint32_t code = platform::class_of(function);
        for (const auto& [wanted, mask, kind] : kProtectedClasses) {
            if (status.ok() && (code & mask) == wanted) status = config_.protect(function, kind);
        }
    });
    return status;
}

void Devices::set_domain(platform::FunctionId function, const memory::DmaDomain& domain) {
    std::byte* const table = memory::at_physical(memory_.kept_base() + launch::kDeviceTableOffset);
    reinterpret_cast<memory::DeviceTableEntry*>(table)[function] = memory::device_table_entry(domain);
}

Status Devices::start_iommus(std::uint32_t expected) {
    GATEHOUSE_ASSIGN(iommus_, memory::find_iommus(memory_.ram()));
    if (iommus_.count != expected) return {Error::kMismatch, "number of IOMMUs", iommus_.count};
    for (const memory::IommuPlace& place : iommus_.all()) {
        GATEHOUSE_TRY(cpu::map_device(place.registers, memory::kIommuRegisterSpace));
    }
    return general_dma_.create(cpu::kept_pages());
}

bool Devices::trusted_at(const Extent& registers) const {
    constexpr Extent kFixed{0xfec00000, 0x1400000};  // from the I/O APIC to 4 GiB
    const Extent configuration{ecam_.base, (ecam_.last_bus + std::uint64_t{1}) << 20};
    return registers.overlaps(kFixed) || (ecam_.base != 0 && registers.overlaps(configuration)) ||
           std::ranges::any_of(iommus(), [&](const memory::IommuPlace& place) {
               return registers.overlaps({place.registers, memory::kIommuRegisterSpace});
           });
}

Status Devices::refresh_iommus() {
    for (std::size_t i = 0; i < iommus_.count; ++i) {
        const std::uint64_t queues = memory::kIommuQueuesOffset + i * memory::kIommuQueuesSize;
        memory::IommuUnit unit(HostPhysical(iommus_.places[i].registers),
                               memory_.kept(queues, memory::kIommuQueuesSize), memory_.kept_base() + queues);
        GATEHOUSE_TRY(unit.adopt(memory_.kept_base() + launch::kDeviceTableOffset));
        GATEHOUSE_TRY(unit.invalidate_all());
    }
    return {};
}

Status Devices::release() {
    bool complete = true;
    platform::for_each_function([&](platform::FunctionId function) {
        if (config_.find_disk(function) == nullptr) complete = resets_.add(function) && complete;
    });
    if (!complete) log("gatehouse: too many PCI functions to reset: the DMA of those that are left stays refused");
    resets_.run(
        [](unsigned milliseconds) { (void)until(platform::microseconds, milliseconds * 1000, [] { return false; }); });
    GATEHOUSE_TRY(memory_.each_guest_range([&](const Extent& range) { return general_dma_.allow(range); }));
    for (const platform::FunctionResets::Function& function : resets_.all()) {
        if (function.reset) {
            set_domain(function.id, {kGeneralDomain, general_dma_.root()});
        } else {
            log("gatehouse: PCI function ", Hex{function.id}, " cannot be reset: its DMA stays refused");
        }
    }
    return {};
}

}  // namespace gatehouse::boot

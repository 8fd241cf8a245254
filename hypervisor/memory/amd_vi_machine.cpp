// AMD-Vi on the real machine: where the units are, and the SLB's first act.
#include <algorithm>

#include "hypervisor/memory/amd_vi.hpp"

namespace gatehouse::memory {
namespace {

constexpr std::uint8_t kSecureDevice = 0x0f;  // capability (48882, 3.2)

constexpr std::uint32_t kIommuClass = 0x080600;

// The unit in a function, and its registers answering.
std::optional<IommuPlace> unit_at(platform::FunctionId function) {
    constexpr std::uint32_t kTypeIommu = 3;  // capability header [18:16]
    constexpr std::uint32_t kTunnel = 1u << 25;
    if (platform::class_of(function) != kIommuClass) return {};
    const auto capability = platform::find_capability(function, kSecureDevice);
    if (!capability) return {};
    const auto word = [&](unsigned offset) { return static_cast<std::uint16_t>(*capability + offset); };
    const std::uint32_t header = platform::read_config(function, *capability, 4);
    if ((header >> 16 & 7) != kTypeIommu) return {};
    const std::uint32_t low = platform::read_config(function, word(4), 4);
    const std::uint32_t high = platform::read_config(function, word(8), 4);
    // Enable, which locks the address; it may be clear and read-only (QEMU): the registers' read-back tells
    // whether they are there.
    platform::write_config(function, word(4), 4, low | 1);
    return IommuPlace{function, std::uint64_t{high} << 32 | (low & 0xffffc000), (header & kTunnel) != 0};
}

}  // namespace

Result<IommuList> find_iommus(const Ram& ram) {
    IommuList list;
    for (std::uint32_t function = 0; function < 0x10000; ++function) {
        const auto id = static_cast<platform::FunctionId>(function);
        const auto unit = unit_at(id);
        if (!unit) continue;
        // Bridges' bus numbers are the launcher's: one that hides a unit of another root complex is not told from one
        // that has a function behind it which says that it is a unit.
        bool behind = false;
        platform::for_each_bridge_above(id, [&](platform::FunctionId) { behind = true; });
        if (behind) return {Error::kRefused, "IOMMU behind a bridge", function};
        const std::uint64_t base = unit->registers;
        if (base == 0) return {Error::kUnsupported, "IOMMU without an address", function};
        const Extent registers{base, kIommuRegisterSpace};
        if (base > kFourGiB - kIommuRegisterSpace || ram.reached_by(registers)) {
            return {Error::kOutOfRange, "IOMMU registers", base};
        }
        for (const IommuPlace& other : list.all()) {
            if (registers.overlaps({other.registers, kIommuRegisterSpace})) {
                return {Error::kOverlap, "IOMMU registers", base};
            }
        }
        if (list.count == kMaxIommus) return {Error::kNoSpace, "IOMMUs", list.count};
        list.places[list.count++] = *unit;
    }
    return list;
}

Result<std::uint32_t> block_dma(MutableBytes kept, HostPhysical base, const Ram& ram) {
    GATEHOUSE_ASSIGN(const IommuList list, find_iommus(ram));
    const DeviceTableEntry refuse = device_table_entry({});
    const auto table = kept.subspan(launch::kDeviceTableOffset, launch::kDeviceTableSize);
    auto* entries = reinterpret_cast<DeviceTableEntry*>(table.data());
    const std::span all(entries, launch::kDeviceTableSize / kDeviceTableEntry);
    std::ranges::fill(all, refuse);
    for (std::size_t i = 0; i < list.count; ++i) {
        const std::uint64_t queues = kIommuQueuesOffset + i * kIommuQueuesSize;
        IommuUnit unit(HostPhysical(list.places[i].registers), kept.subspan(queues, kIommuQueuesSize), base + queues);
        GATEHOUSE_TRY(unit.enable(base + launch::kDeviceTableOffset, list.places[i].has_tunnel));
    }
    asm volatile("" : : : "memory");
    if (std::ranges::any_of(all, [&](const DeviceTableEntry& entry) { return entry != refuse; })) {
        return {Error::kMismatch, "device table: changed by a device"};
    }
    return static_cast<std::uint32_t>(list.count);
}

}  // namespace gatehouse::memory

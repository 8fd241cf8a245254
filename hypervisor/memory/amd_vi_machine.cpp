// AMD-Vi on the real machine: where the units are, and the SLB's first act.
#include <algorithm>

#include "hypervisor/memory/amd_vi.hpp"
#include "hypervisor/memory/amd_vi_mmio.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::memory {
namespace {

constexpr std::uint32_t kIommuClass = 0x0806;
constexpr std::uint8_t kSecureDevice = 0x0f;  // capability (48882, 3.3)
constexpr std::uint32_t kTypeIommu = 3;       // capability header [18:16]
constexpr std::uint64_t kBelow4GiB = 0x100000000;

}  // namespace

std::uint64_t IommuMmio::read(std::uint32_t offset) {
    return *reinterpret_cast<volatile std::uint64_t*>(base_ + offset);
}
void IommuMmio::write(std::uint32_t offset, std::uint64_t value) {
    *reinterpret_cast<volatile std::uint64_t*>(base_ + offset) = value;
}
std::uint64_t IommuMmio::microseconds() { return platform::microseconds(); }

Result<IommuList> find_iommus(std::uint64_t kept_base) {
    IommuList list;
    Status status;
    platform::for_each_function([&](platform::FunctionId function) {
        const auto capability = platform::find_capability(function, kSecureDevice);
        if (!status || !capability || platform::class_of(function) >> 8 != kIommuClass) return;
        const std::uint32_t header = platform::read_config(function, *capability, 4);
        if ((header >> 16 & 7) != kTypeIommu) return;
        const std::uint32_t low = platform::read_config(function, static_cast<std::uint16_t>(*capability + 4), 4);
        const std::uint32_t high = platform::read_config(function, static_cast<std::uint16_t>(*capability + 8), 4);
        const std::uint64_t base = std::uint64_t{high} << 32 | (low & 0xffffc000);
        // Enable, which may be clear and read-only (QEMU): the registers' read-back tells whether they are there.
        platform::write_config(function, static_cast<std::uint16_t>(*capability + 4), 4, low | 1);
        if (base == 0) {
            status = {Error::kUnsupported, "IOMMU without an address", function};
        } else if (base + kIommuRegisterSpace > kBelow4GiB ||
                   (base < kept_base + launch::kKeptSize && base + kIommuRegisterSpace > kept_base)) {
            status = {Error::kOutOfRange, "IOMMU registers", base};
        } else if (list.count == kMaxIommus) {
            status = {Error::kNoSpace, "IOMMUs", list.count};
        } else {
            list.places[list.count++] = {function, base};
        }
    });
    if (!status) return status.failure();
    return list;
}

Result<std::uint32_t> block_dma(MutableBytes kept, std::uint64_t kept_base) {
    GATEHOUSE_ASSIGN(const IommuList list, find_iommus(kept_base));
    const DeviceTableEntry refuse = device_table_entry({});
    const auto table = kept.subspan(launch::kDeviceTableOffset, launch::kDeviceTableSize);
    auto* entries = reinterpret_cast<DeviceTableEntry*>(table.data());
    const std::span all(entries, launch::kDeviceTableSize / kDeviceTableEntry);
    std::ranges::fill(all, refuse);
    for (std::size_t i = 0; i < list.count; ++i) {
        IommuMmio registers(list.places[i].registers);
        const std::uint64_t queues = kIommuQueuesOffset + i * kIommuQueuesSize;
        GATEHOUSE_TRY(IommuUnit(registers, kept.subspan(queues, kIommuQueuesSize), kept_base + queues)
                          .enable(kept_base + launch::kDeviceTableOffset));
    }
    asm volatile("" : : : "memory");
    if (std::ranges::any_of(all, [&](const DeviceTableEntry& entry) { return entry != refuse; })) {
        return {Error::kMismatch, "device table: changed by a device"};
    }
    return static_cast<std::uint32_t>(list.count);
}

}  // namespace gatehouse::memory

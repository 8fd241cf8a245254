#include "hypervisor/memory/amd_vi.hpp"

#include <algorithm>

#include "hypervisor/base/until.hpp"

namespace gatehouse::memory {
namespace {

// MMIO registers (48882, 3.4).
using Register = IommuRegisters::Register;
constexpr Register kDeviceTableBase{0x0000};  // [51:12] base, [8:0] size: (n + 1) * 4 KiB
constexpr Register kCommandBase{0x0008};      // [51:12] base, [59:56] length: 2^n entries of 16 bytes
constexpr Register kControl{0x0018};
constexpr Register kExclusionBase{
    0x0020};  // [51:12] base, bit 1 for all devices, bit 0 enable: untranslated and unchecked
constexpr Register kExclusionLimit{0x0028};
constexpr Register kExtendedFeature{0x0030};
constexpr Register kCommandHead{0x2000};  // byte offset
constexpr Register kCommandTail{0x2008};
constexpr Register kStatus{0x2020};

enum Control : std::uint64_t {
    kIommuEnable = 1u << 0,
    kTunnelEnable = 1u << 1,  // what arrives through a HyperTransport tunnel is translated too
    kCoherent = 1u << 10,     // device table reads snoop the processors' caches
    kCommandEnable = 1u << 12,
    kPageRequestEnable = 1u << 15,
    kGuestTranslation = 1u << 16,
    kSmiFilterEnable = 1u << 22,
    kTableSegments = std::uint64_t{7} << 34,
    kRoutingEnable = std::uint64_t{1} << 40,  // MARC: apertures beside the page tables
};
constexpr std::uint64_t kEnabled = kIommuEnable | kCoherent | kCommandEnable;
// Ways around the device table, or to another one.
constexpr std::uint64_t kBypasses = kPageRequestEnable | kGuestTranslation | kTableSegments | kRoutingEnable;
constexpr std::uint64_t kExclusionEnable = 3;  // for some devices, for all

enum StatusBit : std::uint64_t { kEventLogRunning = 1u << 3, kCommandsRunning = 1u << 4 };

constexpr std::uint64_t kInvalidateAllSupported = 1u << 6;  // extended feature register, IASup
constexpr std::uint64_t kTableSizeField = launch::kDeviceTableSize / kPageSize - 1;
constexpr std::uint64_t kQueueLength = std::uint64_t{8} << 56;  // 256 entries: one page
constexpr std::uint32_t kCommandSize = 16;
constexpr std::size_t kWordAt = kPageSize;       // after the command buffer
constexpr std::uint64_t kTimeLimit = 1'000'000;  // microseconds, for one answer of the unit

// Commands (48882, 2.4): opcode in bits 63:60 of the low word.
constexpr std::uint64_t kCompletionWait = std::uint64_t{1} << 60;
constexpr std::uint64_t kInvalidateAll = std::uint64_t{8} << 60;
constexpr std::uint64_t kStore = 1u << 0;  // COMPLETION_WAIT: write the high word to the address

// Device table entry. Word 1 is the domain alone: I = 0 refuses translated requests, EX = 0 the exclusion
// range, IoCtl = SysMgt = 0 what is neither memory nor interrupt.
constexpr std::uint64_t kValid = 1u << 0;             // V
constexpr std::uint64_t kTranslationValid = 1u << 1;  // TV
constexpr std::uint64_t kMode4 = 4u << 9;             // levels of page table; 0: no table, IR and IW alone
constexpr std::uint64_t kReadable = std::uint64_t{1} << 61;
constexpr std::uint64_t kWritable = std::uint64_t{1} << 62;
constexpr std::uint64_t kInterruptValid = 1u << 0;  // word 2: IV
// Word 2: IntCtl = 01b; INITPass, EIntPass, NMIPass, Lint0Pass and Lint1Pass are 0
constexpr std::uint64_t kForwardUnmapped = std::uint64_t{1} << 60;

// Page table entry.
constexpr std::uint64_t kPresent = 1u << 0;
constexpr std::uint64_t kAddressMask = 0x000ffffffffff000;
constexpr unsigned kTopLevel = 4;
constexpr std::uint64_t level_size(unsigned level) { return std::uint64_t{1} << (12 + 9 * (level - 1)); }
constexpr std::uint64_t next_level(unsigned level) { return std::uint64_t{level} << 9; }

void fence() { asm volatile("mfence" : : : "memory"); }

}  // namespace

DeviceTableEntry device_table_entry(const DmaDomain& domain) {
    const std::uint64_t access = domain.root == HostPhysical() ? 0 : domain.root | kMode4 | kReadable | kWritable;
    return {kValid | kTranslationValid | access, domain.id, kInterruptValid | kForwardUnmapped, 0};
}

void IommuUnit::submit(std::uint64_t low, std::uint64_t high) {
    const MutableBytes entry = queues_.subspan(tail_, kCommandSize);
    store(entry.data(), low, Endian::kLittle);
    store(entry.data() + 8, high, Endian::kLittle);
    fence();
    tail_ = (tail_ + kCommandSize) % kPageSize;
    registers_.write(kCommandTail, tail_);
}

template <typename Condition>
Status IommuUnit::wait_until(Condition&& holds, const char* item) {
    if (until([this] { return registers_.microseconds(); }, kTimeLimit, holds)) return {};
    return {Error::kTimeout, item, registers_.read(kStatus)};
}

Status IommuUnit::invalidate_all() {
    const std::uint64_t features = registers_.read(kExtendedFeature);
    if ((features & kInvalidateAllSupported) == 0)
        return {Error::kUnsupported, "IOMMU: INVALIDATE_IOMMU_ALL", features};
    ++completions_;
    submit(kInvalidateAll, 0);
    submit((physical_ + kWordAt) | kCompletionWait | kStore, completions_);
    const auto* word = reinterpret_cast<const volatile std::uint64_t*>(queues_.data() + kWordAt);
    return wait_until([&] { return *word == completions_; }, "IOMMU: command queue");
}

Status IommuUnit::enable(HostPhysical device_table, bool has_tunnel) {
    // What the firmware blocks of devices' SMIs stays blocked.
    const std::uint64_t smi_filter = registers_.read(kControl) & kSmiFilterEnable;
    const std::uint64_t control = kEnabled | (has_tunnel ? std::uint64_t{kTunnelEnable} : 0) | smi_filter;
    registers_.write(kControl, smi_filter);
    GATEHOUSE_TRY(wait_until([&] { return (registers_.read(kStatus) & (kEventLogRunning | kCommandsRunning)) == 0; },
                             "IOMMU: to stop"));
    std::ranges::fill(queues_, std::byte{0});
    tail_ = 0;
    registers_.write(kExclusionBase, 0);
    registers_.write(kExclusionLimit, 0);
    registers_.write(kDeviceTableBase, device_table | kTableSizeField);
    registers_.write(kCommandBase, physical_ | kQueueLength);
    registers_.write(kCommandHead, 0);
    registers_.write(kCommandTail, 0);
    fence();
    registers_.write(kControl, control);
    const std::uint64_t written = registers_.read(kControl);
    if ((written & control) != control) return {Error::kMismatch, "IOMMU: control", written};
    GATEHOUSE_TRY(adopt(device_table));
    return invalidate_all();
}

Status IommuUnit::adopt(HostPhysical device_table) {
    const std::uint64_t base = registers_.read(kDeviceTableBase);
    if ((base & (kAddressMask | 0x1ff)) != (device_table | kTableSizeField)) {
        return {Error::kMismatch, "IOMMU: device table base", base};
    }
    const std::uint64_t control = registers_.read(kControl);
    if ((control & (kEnabled | kBypasses)) != kEnabled) return {Error::kMismatch, "IOMMU: control", control};
    const std::uint64_t exclusion = registers_.read(kExclusionBase);
    if ((exclusion & kExclusionEnable) != 0) return {Error::kMismatch, "IOMMU: exclusion range", exclusion};
    const std::uint64_t commands = registers_.read(kCommandBase);
    if ((commands & kAddressMask) != physical_.value()) return {Error::kMismatch, "IOMMU: command buffer", commands};
    tail_ = static_cast<std::uint32_t>(registers_.read(kCommandTail) & 0xff0);
    completions_ = load<std::uint64_t>(queues_.data() + kWordAt, Endian::kLittle);
    return {};
}

Result<std::uint64_t*> DmaMap::entry_for(std::uint64_t address, unsigned level) {
    HostPhysical table = root_;
    for (unsigned at = kTopLevel;; --at) {
        auto* entry = reinterpret_cast<std::uint64_t*>(at_physical(table)) + ((address / level_size(at)) & 0x1ff);
        if (at == level) return entry;
        if ((*entry & next_level(7)) == 0) {  // nothing, or one leaf, which becomes 512 of the level below
            GATEHOUSE_ASSIGN(const HostPhysical below, pool_->take(1));
            auto* leaves = reinterpret_cast<std::uint64_t*>(at_physical(below));
            for (std::uint64_t i = 0; i < 512 && *entry != 0; ++i) leaves[i] = *entry + i * level_size(at - 1);
            *entry = below | kPresent | next_level(at - 1) | kReadable | kWritable;
        }
        table = HostPhysical(*entry & kAddressMask);
    }
}

Status DmaMap::create(PagePool& pool) {
    pool_ = &pool;
    GATEHOUSE_ASSIGN(root_, pool.take(1));
    return {};
}

Status DmaMap::allow(const Extent& memory) {
    if (memory.wraps() || memory.end() > kIdentityLimit) return {Error::kOutOfRange, "DMA map", memory.base};
    const std::uint64_t end = memory.end() & ~(kPageSize - 1);
    for (std::uint64_t at = std::max(page_up(memory.base), kPageSize); at < end;) {
        unsigned level = 3;  // 1 GiB, 2 MiB, 4 KiB
        while (level > 1 && (at % level_size(level) != 0 || end - at < level_size(level))) --level;
        GATEHOUSE_ASSIGN(std::uint64_t* const entry, entry_for(at, level));
        if (*entry != 0) return {Error::kOverlap, "DMA map", at};
        *entry = at | kPresent | kReadable | kWritable;
        at += level_size(level);
    }
    return {};
}

Status DmaMap::forbid_writes(const Extent& memory) {
    for (std::uint64_t at = memory.base; at < memory.end(); at += kPageSize) {
        GATEHOUSE_ASSIGN(std::uint64_t* const entry, entry_for(at, 1));
        if (*entry == 0) return {Error::kOutOfRange, "DMA map", at};
        *entry &= ~kWritable;
    }
    return {};
}

}  // namespace gatehouse::memory

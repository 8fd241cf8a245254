// AMD-Vi: which memory each device reaches (AMD I/O Virtualization Technology Specification, 48882, rev. 3.08).
//
// One device table of 65,536 entries, one for each device ID, serves every unit. The SLB fills it with
// entries that refuse everything (block_dma), so that what it hashes afterwards cannot change; the hypervisor
// then gives devices domains (DmaMap). From the SLB's first moment there is no window: the table is only ever
// changed entry by entry, and units are never turned off.
//
// A device table entry with V = 0 lets everything pass (2.2.2.1), so every entry has V = TV = 1. Interrupts:
// entries forward fixed and arbitrated ones unmapped, which the guest programs itself, and drop INIT, NMI,
// ExtINT and the legacy LINT pins' messages from devices. Translated and translation requests (ATS) are
// refused: I = 0. What the HyperTransport address map has at 0xfd'0000'0000 and above is not RAM, so no
// domain reaches it.
//
// What whoever ran before may have prepared around the table is undone and checked: the exclusion range,
// segments of the table, MARC apertures, guest translation, a tunnel that is not translated. Units are found
// by looking at every function number of every bus: a cleared multi-function bit hides none.
//
// Not done, on real machines:
//  - the DRTM service of recent processors' security processor (TMR over all memory until the IOMMU is up);
//  - a unit that the chipset can hide from configuration space altogether: its devices are not stopped. The
//    number of units is in the claims, for the verifier to compare;
//  - controllers that send under another function number than their own (some AHCI chips): their requests are
//    treated as any device's, so such a disk does not work;
//  - unity-mapped memory of IVMD blocks: devices of the firmware's do not reach reserved memory any more.
#pragma once

#include "hypervisor/launch/layout.hpp"
#include "hypervisor/memory/physical_memory.hpp"
#include "hypervisor/memory/ram.hpp"
#include "hypervisor/platform/pci.hpp"

namespace gatehouse::memory {

// A unit's register file, mapped at itself and uncacheable; all are 64 bits wide.
// In registers.cpp; tests link a model in its place.
class IommuRegisters {
  public:
    using Register = platform::Register<IommuRegisters, std::uint64_t>;
    explicit IommuRegisters(HostPhysical base) : base_(base) {}
    [[nodiscard]] std::uint64_t read(Register reg) const;
    void write(Register reg, std::uint64_t value) const;
    // For time-outs; never goes back.
    [[nodiscard]] std::uint64_t microseconds() const;

  private:
    HostPhysical base_;
};

inline constexpr std::size_t kMaxIommus = 16;
inline constexpr std::uint64_t kIommuRegisterSpace = 0x4000;
inline constexpr std::size_t kDeviceTableEntry = 32;  // bytes
// Each unit has two pages of the kept region from here on: command buffer, and the word that the unit writes when
// commands have been completed.
inline constexpr std::uint64_t kIommuQueuesOffset = 0x100000;
inline constexpr std::uint64_t kIommuQueuesSize = 2 * kPageSize;
static_assert(kIommuQueuesOffset + kMaxIommus * kIommuQueuesSize <= launch::kGuestTablesOffset);

// Where devices' IDs lead. `root` 0 and kNone: nowhere.
struct DmaDomain {
    std::uint16_t id = 0;
    HostPhysical root;  // of a four-level I/O page table; 0: no access at all
};

// One device table entry: four 64-bit words, little-endian (48882, 2.2.2.1, table 7).
using DeviceTableEntry = std::array<std::uint64_t, 4>;
[[nodiscard]] DeviceTableEntry device_table_entry(const DmaDomain& domain);

// One unit: sets it up with the device table and runs its command queue.
class IommuUnit {
  public:
    // `registers`: their place. `queues`: kIommuQueuesSize bytes, and their physical address.
    IommuUnit(HostPhysical registers, MutableBytes queues, HostPhysical queues_physical)
        : registers_(registers), queues_(queues), physical_(queues_physical) {}

    // Makes the unit use the table and forget what it knew. `has_tunnel`: IommuPlace. kTimeout, kMismatch (a
    // register does not hold).
    [[nodiscard]] Status enable(HostPhysical device_table, bool has_tunnel);
    // Continues with a unit that enable() has set up before, maybe by an earlier stage. kMismatch if it is
    // not enabled with this table and no way around it.
    [[nodiscard]] Status adopt(HostPhysical device_table);
    // Drops every cached device table entry and translation. kTimeout; kUnsupported: a unit older than any chipset that
    // the hypervisor runs on (platform/chipset.hpp), without INVALIDATE_IOMMU_ALL.
    [[nodiscard]] Status invalidate_all();

  private:
    void submit(std::uint64_t low, std::uint64_t high);
    template <typename Condition>
    [[nodiscard]] Status wait_until(Condition&& holds, const char* item);

    IommuRegisters registers_;
    MutableBytes queues_;
    HostPhysical physical_;
    std::uint32_t tail_ = 0;
    std::uint64_t completions_ = 0;
};

// The units of the machine: functions of class 0806, programming interface 0, in the
// root complex and not on a bus behind a bridge, with secure device capability 0x0f of
// type 3 (3.2). What only claims the capability is none, and does not count.
struct IommuPlace {
    platform::FunctionId function = 0;
    std::uint64_t registers = 0;  // physical
    bool has_tunnel = false;      // HyperTransport tunnel
};
struct IommuList {
    std::array<IommuPlace, kMaxIommus> places{};
    std::size_t count = 0;
    [[nodiscard]] std::span<const IommuPlace> all() const { return std::span(places).first(count); }
};
// Errors: kUnsupported (a unit that the firmware has not given an address), kOutOfRange (an address that is
// not below 4 GiB, or is in RAM), kOverlap (of two units), kNoSpace.
[[nodiscard]] Result<IommuList> find_iommus(const Ram& ram);

// SLB: fills the device table and turns every unit on; no device reaches memory afterwards. Then reads the
// table back: kMismatch if a device changed it in the meantime. Returns the number of units, which may be 0.
// `kept` is the kept region as the caller sees it, which is at `base`.
[[nodiscard]] Result<std::uint32_t> block_dma(MutableBytes kept, HostPhysical base, const Ram& ram);

// An I/O page table: identity for what is allowed, nothing else. Pages come from a pool.
class DmaMap {
  public:
    // kNoSpace.
    [[nodiscard]] Status create(PagePool& pool);
    // Lets the domain reach the whole pages of `memory`, below 512 GiB, but never page 0, where a controller's pointers
    // may lead after a reset. With the largest leaves that fit. kOutOfRange, kOverlap, kNoSpace.
    [[nodiscard]] Status allow(const Extent& memory);
    // Takes the right to write from whole pages that it may reach. kOutOfRange if it may not; kNoSpace.
    [[nodiscard]] Status forbid_writes(const Extent& memory);
    [[nodiscard]] HostPhysical root() const { return root_; }

  private:
    [[nodiscard]] Result<std::uint64_t*> entry_for(std::uint64_t address, unsigned level);

    PagePool* pool_ = nullptr;
    HostPhysical root_;
};

}  // namespace gatehouse::memory

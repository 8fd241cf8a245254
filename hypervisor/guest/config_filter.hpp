// ConfigFilter: what the guest may change in PCI configuration space.
//
// Everything passes but:
//   host bridges     writes are dropped: they hold the memory map and the place of the ECAM window
//   ISA bridges      writes are dropped: they hold the place of the ACPI registers, whose ports are watched
//   bridges          bus numbers stay: a renumbered bus would carry a protected function out of the filter's sight
//   IOMMUs           writes are dropped
//   mediated disk controllers
//                    the base address registers are virtual: sizing works, a new address is remembered and nothing
//                    answers there; bus mastering stays on, and so does the decoding of memory or, of IDE controllers in
//                    compatibility mode, of ports; in native mode, nothing: the index/data pair (AHCI 1.3.1,
//                    2.4: a second way to the registers, by ports) is off, and its capability
//                    and MSI-X's (whose table, in a BAR, would be a second way to what MSI may not do) read as null
//                    capabilities (identifier 0, PCI Code and ID Assignment 1.11, 2);
//                    MSI, interrupt line, status and command bits pass; everything else is read-only
// An MSI is a write by the device, which no I/O page table stops: its address stays within 0xfee0'0000-0xfeef'fffc,
// where the interrupt controllers are (APM vol. 2, 16.11), by whole 32-bit writes only; the upper half stays 0.
// PCI Local Bus Specification 3.0, 6.1, 6.2.5 and 6.7; PCI-to-PCI Bridge Architecture 1.2, 3.2.5.
//
// The owner traps both ways to configuration space, the ports 0xcf8/0xcfc and the ECAM pages of the functions listed
// here (config_ports.hpp).
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "hypervisor/base/extent.hpp"
#include "hypervisor/base/spin_lock.hpp"
#include "hypervisor/platform/pci.hpp"

namespace gatehouse::guest {

using platform::FunctionId;

// The real configuration space; `size` is 1, 2 or 4 and `offset` (below 4,096) aligned to it.
class ConfigSpace {
  public:
    [[nodiscard]] virtual std::uint32_t read(FunctionId function, std::uint16_t offset, unsigned size) = 0;
    virtual void write(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value) = 0;

  protected:
    ~ConfigSpace() = default;
};

enum class FunctionKind : std::uint8_t {
    kReadOnly,  // host bridges, ISA bridges, IOMMUs
    kBridge,
    kDisk
};

class ConfigFilter {
    struct Disk;

  public:
    static constexpr std::size_t kMaxFunctions = 64;
    static constexpr std::size_t kMaxDisks = 4;

    explicit ConfigFilter(ConfigSpace& real) : real_(real) {}

    // Before the guest runs. A disk's BARs are sized here, with memory decoding off meanwhile. kNoSpace.
    [[nodiscard]] Status protect(FunctionId function, FunctionKind kind);
    // Memory BAR `bar` (0..5) of a protected disk, whole pages; length 0: there is none.
    [[nodiscard]] Extent memory_bar(FunctionId function, std::size_t bar) const;
    struct Function {
        FunctionId id = 0;
        FunctionKind kind = FunctionKind::kReadOnly;
        Disk* disk = nullptr;
    };
    [[nodiscard]] std::span<const Function> protected_functions() const { return std::span(functions_).first(count_); }
    // nullptr: no protected disk.
    [[nodiscard]] Disk* find_disk(FunctionId function) const;

    // The guest's accesses, from any processor; size 1, 2 or 4. An unaligned one reads all ones and writes nothing.
    [[nodiscard]] std::uint32_t read(FunctionId function, std::uint16_t offset, unsigned size);
    void write(FunctionId function, std::uint16_t offset, unsigned size, std::uint32_t value);

  private:
    static constexpr std::size_t kBars = 6;
    struct Disk {
        std::array<std::uint32_t, kBars> bar{};       // as the guest sees it
        std::array<std::uint32_t, kBars> writable{};  // its address bits
        std::array<std::uint32_t, kBars> fixed{};     // its type bits
        struct Hidden {
            std::uint8_t at = 0;
            std::uint16_t end = 0;  // 0: none
        };
        std::array<Hidden, 2> hidden{};  // SATA, MSI-X
        std::uint32_t enabled = 0x6;     // command bits that stay as they are here: ports, memory, bus mastering
        std::uint8_t msi = 0;            // 0: none
        std::uint16_t msi_address_end = 0;
        std::uint16_t msi_end = 0;
    };
    // nullptr: not protected.
    [[nodiscard]] const Function* find(FunctionId function) const;
    void size_bars(FunctionId function, Disk& disk);
    void walk_capabilities(FunctionId function, Disk& disk);
    [[nodiscard]] std::uint8_t disk_byte(FunctionId function, const Disk& disk, std::uint16_t offset);
    void write_disk(FunctionId function, Disk& disk, std::uint16_t offset, unsigned size, std::uint32_t value);

    ConfigSpace& real_;
    SpinLock lock_;
    std::array<Function, kMaxFunctions> functions_{};
    std::size_t count_ = 0;
    std::array<Disk, kMaxDisks> disks_{};
    std::size_t disk_count_ = 0;
};

}  // namespace gatehouse::guest

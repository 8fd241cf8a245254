// Which memory is RAM: what the processor's routing registers say, not what the launcher does (AMD64 APM vol. 2,
// 7.7 "Memory-Type Range Registers" and 7.9 "Extended Fixed-Range MTRRs, IORRs, Top of Memory").
//
// RAM is [0, 0xa0000), [1 MiB, TOP_MEM) and [4 GiB, TOP_MEM2), less TSEG, where the processor sends reads and writes to
// DRAM and not to a bus. The registers are the launcher's to set, each processor has its own, and a wrong TOP_MEM
// hides devices rather than RAM; so everything that could put a device's memory or registers into these ranges is
// refused: I/O range registers, fixed ranges that do not read and write memory, a moved APIC, BARs.
#pragma once

#include <array>

#include "hypervisor/base/extent.hpp"
#include "hypervisor/base/result.hpp"
#include "hypervisor/platform/io.hpp"

namespace gatehouse::memory {

// Model-specific registers of this processor. In registers.cpp; tests link a model in its place.
[[nodiscard]] std::uint64_t read_msr(Msr msr);
void write_msr(Msr msr, std::uint64_t value);

class Ram {
  public:
    // Reads the registers; SYSCFG.MtrrFixDramModEn, which shows RdMem and WrMem, is set meanwhile.
    // Errors name the register: kRefused (variable-range DRAM off, an I/O range register in use,
    // MTRRs off, the APIC not at its place), kUnsupported (more variable ranges than this knows, a
    // TSEG mask with holes), kOutOfRange (TOP_MEM is 0 or above 4 GiB).
    [[nodiscard]] Status read();

    // Every byte is RAM, else kOutOfRange with `item` and the extent's base.
    [[nodiscard]] Status check(const Extent& extent, const char* item) const;
    // RAM of memory type write-back, by MTRRs (pages: by page), else kOutOfRange or kRefused.
    [[nodiscard]] Status check_write_back(const Extent& extent, const char* item) const;
    // No enabled memory BAR or expansion ROM of any function, and not the configuration space window, reaches into RAM:
    // kOverlap with the function, or the window's base. A BAR is aligned to its size (PCI 3.0, 6.2.5.1), so it reaches
    // into a range only if its base is there; a base of 0 is a BAR that has not been given a place.
    [[nodiscard]] Status check_devices(std::uint64_t configuration_window) const;

    // Whether `extent` has bytes below TOP_MEM, or above 4 GiB and below TOP_MEM2: it may not be a device's then.
    [[nodiscard]] bool reached_by(const Extent& extent) const;

  private:
    static constexpr std::size_t kVariableRanges = 8;  // as many as the other processors are given
    struct VariableRange {
        std::uint64_t base = 0;
        std::uint64_t mask = 0;  // 0: not valid
        std::uint8_t type = 0;
    };
    [[nodiscard]] std::uint8_t fixed_byte(std::uint64_t address) const;
    [[nodiscard]] bool is_write_back(std::uint64_t page) const;

    Extent low_;   // from 1 MiB
    Extent high_;  // from 4 GiB
    Extent smm_;   // TSEG
    std::array<std::uint64_t, 2> fixed_{};
    bool fixed_dram_ = false;   // RdMem and WrMem count
    bool fixed_types_ = false;  // fixed ranges' types count
    std::uint8_t default_type_ = 0;
    std::array<VariableRange, kVariableRanges> variable_{};
};

}  // namespace gatehouse::memory

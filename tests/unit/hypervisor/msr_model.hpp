// The processor's memory routing for tests, linked in place of memory/registers.cpp (ram_test.cpp defines its functions):
// a machine as firmware leaves it.
#pragma once

#include <map>

#include "hypervisor/memory/ram.hpp"

namespace gatehouse::memory {

// RdMem and WrMem (bits 4 and 3 of each byte) of the fixed ranges are seen only with SYSCFG.MtrrFixDramModEn, as APM vol. 2,
// 7.9.1 says.
class MsrModel {
  public:
    // There is one model at a time: the newest.
    explicit MsrModel(std::uint64_t top, std::uint64_t top2 = 0) : before_(current_) {
        current_ = this;
        registers = {{0x1b, 0xfee00900},
                     {0xfe, 8},
                     {0x250, 0x1e1e1e1e1e1e1e1e},
                     {0x258, 0x1e1e1e1e1e1e1e1e},
                     {0x2ff, 0xc06},
                     {0xc0010010, 1u << 18 | 1u << 20 | (top2 != 0 ? 1u << 21 : 0)},
                     {0xc001001a, top},
                     {0xc001001d, top2}};
    }
    ~MsrModel() { current_ = before_; }
    MsrModel(const MsrModel&) = delete;
    MsrModel& operator=(const MsrModel&) = delete;
    static MsrModel& current() { return *current_; }

    std::uint64_t read(std::uint32_t msr) {
        const std::uint64_t value = registers[msr];
        const bool fixed = msr == 0x250 || msr == 0x258;
        return fixed && (registers[0xc0010010] & 1u << 19) == 0 ? value & 0x0707070707070707 : value;
    }
    void write(std::uint32_t msr, std::uint64_t value) { registers[msr] = value; }

    std::map<std::uint32_t, std::uint64_t> registers;

  private:
    static inline MsrModel* current_ = nullptr;
    MsrModel* before_;
};

}  // namespace gatehouse::memory

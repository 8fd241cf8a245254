// The guest's two ways to PCI configuration space, both through one ConfigFilter: ports 0xcf8 and 0xcfc
// (configuration mechanism #1, PCI 3.0, 3.2.2.3.2) and the ECAM pages of protected functions (PCI
// Express 5.0, 7.2.2).
#pragma once

#include "hypervisor/base/spin_lock.hpp"
#include "hypervisor/cpu/io_ports.hpp"
#include "hypervisor/cpu/mmio.hpp"
#include "hypervisor/guest/config_filter.hpp"

namespace gatehouse::guest {

// Answers for ports 0xcf8..0xcff, but for the reset control port among them. The address register is virtual; the real one is written at each access,
// under the lock that the ECAM handler takes as well.
class ConfigPorts final : public cpu::IoPortHandler {
  public:
    static constexpr std::uint16_t kFirst = 0xcf8;
    static constexpr std::uint16_t kLast = 0xcff;

    ConfigPorts(ConfigFilter& filter, SpinLock& lock) : filter_(filter), lock_(lock) {}
    std::uint32_t read(std::uint16_t port, unsigned size) override;
    void write(std::uint16_t port, unsigned size, std::uint32_t value) override;

  private:
    [[nodiscard]] bool selects(std::uint16_t port, unsigned size) const;
    [[nodiscard]] FunctionId function() const { return static_cast<FunctionId>(address_ >> 8); }
    [[nodiscard]] std::uint16_t offset(std::uint16_t port) const {
        return static_cast<std::uint16_t>((address_ & 0xfc) + (port & 3));
    }

    ConfigFilter& filter_;
    SpinLock& lock_;
    std::uint32_t address_ = 0;
};

// Answers for one function's 4 KiB of the ECAM window.
class EcamPage final : public cpu::MmioHandler {
  public:
    constexpr EcamPage() = default;
    void bind(ConfigFilter& filter, SpinLock& lock, FunctionId function) {
        filter_ = &filter;
        lock_ = &lock;
        function_ = function;
    }
    std::uint64_t read(std::uint64_t address, unsigned size) override;
    void write(std::uint64_t address, unsigned size, std::uint64_t value) override;

  private:
    ConfigFilter* filter_ = nullptr;
    SpinLock* lock_ = nullptr;
    FunctionId function_ = 0;
};

}  // namespace gatehouse::guest

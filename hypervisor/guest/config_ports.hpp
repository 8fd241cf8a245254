// The guest's two ways to PCI configuration space, both through one ConfigFilter:
//
//   ports 0xcf8 and 0xcfc                    configuration mechanism #1, PCI 3.0, 3.2.2.3.2
//   the ECAM pages of protected functions    PCI Express 5.0, 7.2.2
#pragma once

#include "hypervisor/cpu/io_ports.hpp"
#include "hypervisor/cpu/mmio.hpp"
#include "hypervisor/guest/config_filter.hpp"

namespace gatehouse::guest {

// Answers for ports 0xcf8..0xcff, but for the reset control port among them.
// The address register is virtual; the real one is written at each access.
class ConfigPorts final : public cpu::IoPortHandler {
  public:
    explicit ConfigPorts(ConfigFilter& filter) : filter_(filter) {}
    std::uint32_t read(std::uint16_t port, unsigned size) override;
    void write(std::uint16_t port, unsigned size, std::uint32_t value) override;

  private:
    ConfigFilter& filter_;
    std::atomic<std::uint32_t> address_ = 0;
};

// Answers for pages of the ECAM window. Eight bytes at once are not to be expected of a root complex: they read as
// all ones.
class EcamPages final : public cpu::MmioHandler {
  public:
    explicit EcamPages(ConfigFilter& filter) : filter_(filter) {}
    // Where the page of function 0 is, or would be.
    void set_base(std::uint64_t base) { base_ = GuestPhysical(base); }
    std::uint64_t read(GuestPhysical address, unsigned size) override;
    void write(GuestPhysical address, unsigned size, std::uint64_t value) override;

  private:
    ConfigFilter& filter_;
    GuestPhysical base_;
};

}  // namespace gatehouse::guest

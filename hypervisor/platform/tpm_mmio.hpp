// TpmBus on the real thing: registers at kTpmBase, which must be mapped at itself and uncacheable, time by the TSC.
#pragma once

#include "hypervisor/platform/tpm_transport.hpp"

namespace gatehouse::platform {

class TpmMmioBus final : public TpmBus {
  public:
    std::uint8_t read(Register8 reg) override { return registers_.read(reg); }
    std::uint32_t read(Register32 reg) override { return registers_.read(reg); }
    void write(Register8 reg, std::uint8_t value) override { registers_.write(reg, value); }
    void write(Register32 reg, std::uint32_t value) override { registers_.write(reg, value); }
    std::uint64_t microseconds() override { return platform::microseconds(); }

  private:
    static constexpr Mmio<TpmBus> registers_{HostPhysical(kTpmBase)};
};

}  // namespace gatehouse::platform

// TpmBus on the real thing: registers at kTpmBase, which must be mapped at itself and uncacheable, time by
// the TSC.
#pragma once

#include "hypervisor/platform/tpm_transport.hpp"

namespace gatehouse::platform {

class TpmMmioBus final : public TpmBus {
  public:
    std::uint8_t read8(std::uint32_t offset) override { return reg<std::uint8_t>(offset); }
    std::uint32_t read32(std::uint32_t offset) override { return reg<std::uint32_t>(offset); }
    void write8(std::uint32_t offset, std::uint8_t value) override { reg<std::uint8_t>(offset) = value; }
    void write32(std::uint32_t offset, std::uint32_t value) override { reg<std::uint32_t>(offset) = value; }

    // No clock of the machine need be trusted or calibrated: no TSC runs faster than this.
    std::uint64_t microseconds() override {
        constexpr std::uint64_t kMaximumMegahertz = 5000;
        return __builtin_ia32_rdtsc() / kMaximumMegahertz;
    }

  private:
    template <typename T>
    static volatile T& reg(std::uint32_t offset) {
        return *reinterpret_cast<volatile T*>(kTpmBase + offset);
    }
};

}  // namespace gatehouse::platform

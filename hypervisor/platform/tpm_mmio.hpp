// TpmBus on the real thing: registers at kTpmBase, which must be mapped at itself and uncacheable, time by
// the TSC.
#pragma once

#include "hypervisor/platform/io.hpp"
#include "hypervisor/platform/tpm_transport.hpp"

namespace gatehouse::platform {

class TpmMmioBus final : public TpmBus {
  public:
    std::uint8_t read8(std::uint32_t offset) override { return reg<std::uint8_t>(offset); }
    std::uint32_t read32(std::uint32_t offset) override { return reg<std::uint32_t>(offset); }
    void write8(std::uint32_t offset, std::uint8_t value) override { reg<std::uint8_t>(offset) = value; }
    void write32(std::uint32_t offset, std::uint32_t value) override { reg<std::uint32_t>(offset) = value; }

    std::uint64_t microseconds() override { return platform::microseconds(); }

  private:
    template <typename T>
    static volatile T& reg(std::uint32_t offset) {
        return *reinterpret_cast<volatile T*>(kTpmBase + offset);
    }
};

}  // namespace gatehouse::platform

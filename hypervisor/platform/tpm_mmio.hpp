// TpmBus on the real thing: registers at kTpmBase, which must be mapped at itself and uncacheable, time by the TSC.
#pragma once

#include "hypervisor/platform/io.hpp"
#include "hypervisor/platform/tpm_transport.hpp"

namespace gatehouse::platform {

class TpmMmioBus final : public TpmBus {
  public:
    std::uint8_t read8(std::uint32_t offset) override { return mapped<std::uint8_t>(kTpmBase + offset); }
    std::uint32_t read32(std::uint32_t offset) override { return mapped<std::uint32_t>(kTpmBase + offset); }
    void write8(std::uint32_t offset, std::uint8_t value) override { mapped<std::uint8_t>(kTpmBase + offset) = value; }
    void write32(std::uint32_t offset, std::uint32_t value) override {
        mapped<std::uint32_t>(kTpmBase + offset) = value;
    }

    std::uint64_t microseconds() override { return platform::microseconds(); }
};

}  // namespace gatehouse::platform

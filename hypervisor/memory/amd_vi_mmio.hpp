// IommuRegisters on the real thing, mapped at itself and uncacheable.
#pragma once

#include "hypervisor/memory/amd_vi.hpp"

namespace gatehouse::memory {

class IommuMmio final : public IommuRegisters {
  public:
    constexpr IommuMmio() = default;
    explicit IommuMmio(std::uint64_t base) : base_(base) {}
    std::uint64_t read(std::uint32_t offset) override;
    void write(std::uint32_t offset, std::uint64_t value) override;
    std::uint64_t microseconds() override;

  private:
    std::uint64_t base_ = 0;
};

}  // namespace gatehouse::memory

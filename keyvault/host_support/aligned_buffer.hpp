// Memory that a disk can be read into directly (O_DIRECT).
#pragma once

#include <memory>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::host {

inline constexpr std::size_t kDirectAlignment = 4096;  // bytes

// Zeros, at a multiple of kDirectAlignment. ToolError if there is no memory.
class AlignedBuffer {
  public:
    explicit AlignedBuffer(std::size_t size);
    [[nodiscard]] MutableBytes bytes() { return {memory_.get(), size_}; }

  private:
    struct Free {
        void operator()(std::byte* memory) const;
    };
    std::unique_ptr<std::byte, Free> memory_;
    std::size_t size_;
};

}  // namespace gatehouse::host

#include "keyvault/host_support/aligned_buffer.hpp"

#include <algorithm>
#include <cstdlib>

namespace gatehouse::host {

AlignedBuffer::AlignedBuffer(std::size_t size)
    : memory_(static_cast<std::byte*>(
          std::aligned_alloc(kDirectAlignment, (size + kDirectAlignment - 1) / kDirectAlignment * kDirectAlignment))),
      size_(size) {
    if (!memory_) throw ToolError("no memory for " + std::to_string(size) + " bytes");
    std::ranges::fill(bytes(), std::byte{0});
}

void AlignedBuffer::Free::operator()(std::byte* memory) const { std::free(memory); }

}  // namespace gatehouse::host

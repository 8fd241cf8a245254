// Blob<N>: at most N bytes, kept; the contents of a TPM2B without its size field.
#pragma once

#include "hypervisor/base/bytes.hpp"

namespace gatehouse {

template <std::size_t N>
class Blob {
  public:
    static constexpr std::size_t kCapacity = N;

    Blob() = default;
    // kBadLength with the size if `from` is longer than N.
    [[nodiscard]] Status assign(Bytes from, const char* item) {
        if (from.size() > N) return {Error::kBadLength, item, from.size()};
        copy_bytes(storage_, from);
        size_ = static_cast<std::uint16_t>(from.size());
        return {};
    }
    [[nodiscard]] Bytes bytes() const { return Bytes(storage_).first(size_); }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }

  private:
    static_assert(N <= 0xffff);
    std::array<std::byte, N> storage_{};
    std::uint16_t size_ = 0;
};

}  // namespace gatehouse

// Secret<N>: N bytes of key material. Wiped when it goes, never copied, printed or compared byte by byte.
#pragma once

#include "hypervisor/base/bytes.hpp"

namespace gatehouse {

template <std::size_t N>
class Secret {
  public:
    static constexpr std::size_t kSize = N;

    Secret() = default;
    explicit Secret(std::span<const std::byte, N> from) { copy_bytes(bytes_, from); }
    ~Secret() { clear(); }
    // Moving leaves the source wiped; there is no copying.
    Secret(Secret&& other) noexcept { *this = static_cast<Secret&&>(other); }
    Secret& operator=(Secret&& other) noexcept {
        if (this != &other) {
            copy_bytes(bytes_, other.bytes_);
            other.clear();
        }
        return *this;
    }

    [[nodiscard]] std::span<const std::byte, N> bytes() const { return bytes_; }
    [[nodiscard]] std::span<std::byte, N> bytes() { return bytes_; }
    [[nodiscard]] bool equals(Bytes other) const { return equal_secret(bytes_, other); }
    void clear() { wipe(bytes_); }

  private:
    std::array<std::byte, N> bytes_{};
};

}  // namespace gatehouse

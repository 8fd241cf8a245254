// A set of numbered units of bounce memory.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace gatehouse::ata::ahci {

class UnitSet {
  public:
    static constexpr std::uint32_t kMaximum = 256;

    // Units 0 to count - 1.
    static constexpr UnitSet first(std::uint32_t count) {
        UnitSet set;
        for (std::uint32_t i = 0; i < count; ++i) set.add(i);
        return set;
    }

    constexpr void add(std::uint32_t unit) { words_[unit / 64] |= std::uint64_t{1} << (unit % 64); }
    constexpr void add(const UnitSet& other) {
        for (std::size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
    }
    // Removes the lowest unit and returns it. The set must not be empty.
    constexpr std::uint32_t take() {
        std::uint32_t i = 0;
        while (words_[i] == 0) ++i;
        const auto bit = static_cast<std::uint32_t>(std::countr_zero(words_[i]));
        words_[i] &= words_[i] - 1;
        return 64 * i + bit;
    }
    [[nodiscard]] constexpr std::uint32_t size() const {
        std::uint32_t total = 0;
        for (const std::uint64_t word : words_) total += static_cast<std::uint32_t>(std::popcount(word));
        return total;
    }

  private:
    std::array<std::uint64_t, kMaximum / 64> words_{};
};

}  // namespace gatehouse::ata::ahci

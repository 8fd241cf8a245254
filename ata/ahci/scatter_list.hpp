// A cursor over physical region descriptors (AHCI 1.3.1 section 4.2.3.3): the guest's, or the mediator's own shadow.
//
// Each descriptor is fetched once, checked, and never looked at again, so that changing it later has no
// effect. Data are reached through Environment::map() only: bytes that are not guest RAM are an error at the moment
// they are asked for.
#pragma once

#include "ata/ahci/registers.hpp"
#include "ata/environment.hpp"
#include "hypervisor/base/bytes.hpp"

namespace gatehouse::ata::ahci {

// Copies memory that somebody else may be writing: each word, of 8 aligned bytes, is read exactly once.
template <std::size_t kWords>
[[nodiscard]] std::array<std::uint64_t, kWords> fetch(const std::byte* from) {
    std::array<std::uint64_t, kWords> copy;
    const auto* source = reinterpret_cast<const volatile std::uint64_t*>(from);
    for (std::uint64_t& word : copy) word = *source++;
    return copy;
}

class ScatterList {
  public:
    constexpr ScatterList() = default;
    // `descriptors` stays mapped for as long as the cursor lives.
    ScatterList(Environment& memory, const std::byte* descriptors, std::uint32_t count)
        : memory_(&memory), next_(descriptors), count_(count) {}

    // Bytes ahead without a gap; 0 at the end, or where a descriptor has an odd address or an odd size.
    [[nodiscard]] std::uint32_t contiguous();
    // The next `size` bytes, which must not exceed contiguous(), and moves past them. Null: not guest RAM.
    [[nodiscard]] GuestBytes take(std::uint32_t size);
    // Moves past `size` bytes whatever they are.
    void skip(std::uint64_t size);

    // Gather and scatter across descriptors. False: the list ended early or left guest RAM.
    [[nodiscard]] bool copy_out(MutableBytes to);
    [[nodiscard]] bool copy_in(Bytes from);

  private:
    // Calls action(pointer, size) for each gapless part of the next `size` bytes.
    template <typename Action>
    bool for_each(std::uint64_t size, Action action) {
        while (size != 0) {
            const std::uint32_t gapless = contiguous();
            const auto part = static_cast<std::uint32_t>(size < gapless ? size : gapless);
            std::byte* data = part == 0 ? nullptr : take(part).data;
            if (data == nullptr) return false;
            action(data, part);
            size -= part;
        }
        return true;
    }

    Environment* memory_ = nullptr;
    const std::byte* next_ = nullptr;
    std::uint32_t count_ = 0;
    GuestPhysical address_;  // of the next byte
    std::uint32_t left_ = 0;
};

}  // namespace gatehouse::ata::ahci

// Registers that the guest believes it accesses: who answers for which physical addresses.
#pragma once

#include <array>
#include <span>

#include "hypervisor/base/address.hpp"
#include "hypervisor/base/extent.hpp"
#include "hypervisor/base/result.hpp"

namespace gatehouse::cpu {

// Called on the accessing processor, possibly on several at once: a handler brings its own lock. It must not
// touch vector registers but in a VectorSection. `size` is 1, 2, 4 or 8; an access
// lies within one page but need not be aligned.
class MmioHandler {
  public:
    // Upper bytes beyond `size` are ignored.
    virtual std::uint64_t read(GuestPhysical address, unsigned size) = 0;
    virtual void write(GuestPhysical address, unsigned size, std::uint64_t value) = 0;

  protected:
    ~MmioHandler() = default;
};

// Filled before the guest starts; read-only and safe to use from every processor from then on.
class MmioMap {
  public:
    static constexpr std::size_t kMaxRegions = 80;

    // kMisaligned: not whole 4 KiB pages; kOverlap; kNoSpace.
    [[nodiscard]] Status add(std::uint64_t base, std::uint64_t size, MmioHandler& handler);
    // Whose page this is; nullptr: nobody's.
    [[nodiscard]] MmioHandler* find(GuestPhysical address) const;

  private:
    struct Region {
        Extent place;
        MmioHandler* handler = nullptr;
    };
    std::array<Region, kMaxRegions> regions_{};
    std::size_t count_ = 0;
};

}  // namespace gatehouse::cpu

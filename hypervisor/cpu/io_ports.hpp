// I/O ports that the guest believes it accesses: who answers for which.
#pragma once

#include <array>
#include <span>

#include "hypervisor/base/extent.hpp"
#include "hypervisor/base/result.hpp"

namespace gatehouse::cpu {

// Called on the accessing processor, possibly on several at once. `size` is 1, 2 or 4, and the access lies wholly
// within the handler's ports: one that does not is taken apart into bytes first, as the chipset does, each for its
// own handler or for the real port. Each element of an INS comes as an access of its own (svm/vcpu.hpp says of which);
// others, and OUTS, are refused with #GP.
class IoPortHandler {
  public:
    // Upper bytes beyond `size` are ignored.
    virtual std::uint32_t read(std::uint16_t port, unsigned size) = 0;
    virtual void write(std::uint16_t port, unsigned size, std::uint32_t value) = 0;

  protected:
    ~IoPortHandler() = default;
};

// Filled before the guest starts; read-only from then on.
class IoPortMap {
  public:
    static constexpr std::size_t kMaxRegions = 32;
    static constexpr std::size_t kBitmapSize = 3 * 4096;

    // `last` is inclusive. A region may lie wholly within another. kBadValue: last < first; kOverlap; kNoSpace.
    [[nodiscard]] Status add(std::uint16_t first, std::uint16_t last, IoPortHandler& handler);
    // The smallest region that holds the whole access; nullptr: none does.
    [[nodiscard]] IoPortHandler* find(std::uint16_t port, unsigned size) const;
    // An access of the guest's: by the handler that has it whole or, as the chipset decodes
    // one that spans devices, byte by byte, by each byte's handler or `real` port.
    [[nodiscard]] std::uint32_t read(std::uint16_t port, unsigned size, std::uint8_t (*real)(std::uint16_t)) const;
    void write(std::uint16_t port, unsigned size, std::uint32_t value, void (*real)(std::uint16_t, std::uint8_t)) const;
    // Sets the bit of every port that has a handler; one bit a port (APM vol. 2, 15.10.1).
    void write_bitmap(std::span<std::uint8_t, kBitmapSize> bitmap) const;

  private:
    struct Region {
        Extent ports;
        IoPortHandler* handler = nullptr;
    };
    std::array<Region, kMaxRegions> regions_{};
    std::size_t count_ = 0;
};

}  // namespace gatehouse::cpu

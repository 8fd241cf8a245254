// What the mediator does with a disk on its own account while the guest runs, and with which key a sector is encrypted
// while that changes.
#pragma once

#include "hypervisor/base/bytes.hpp"
#include "hypervisor/base/extent.hpp"

namespace gatehouse::ata {

class XtsKey;

// Of a disk whose key is being changed. No command of the guest's is in the device's hands when it moves.
struct Boundary {
    std::uint64_t changed = ~std::uint64_t{0};  // LBA: sectors from it on are still ...
    const XtsKey* before = nullptr;             // ... under this key; none: they are plaintext
    Extent locked;                              // LBAs that the guest neither reads nor writes
};

// A disk's, but for reading, which is Disk::read_sectors(). Those of write_sectors() and flush(): as it.
class OwnCommands {
  public:
    // The guest's commands come to their end, its further ones wait, as does whoever touches a register of this disk, until
    // resume(): for kRestLimit and kWorkLimit milliseconds, after which every own command fails with kTimeout, and, if one has
    // failed, 3 s more for starting the port anew: 7.5 s at the worst. kState: not now, and nothing waits: the port is stopped,
    // or has an error that the guest is to see first, or commands do not end. A port that could not be started anew stays
    // stopped.
    [[nodiscard]] virtual Status rest() = 0;
    virtual void resume() = 0;
    [[nodiscard]] virtual Status write_sectors(std::uint64_t lba, Bytes data) = 0;
    [[nodiscard]] virtual Status flush() = 0;

  protected:
    ~OwnCommands() = default;
    static constexpr std::uint64_t kRestLimit = 500, kWorkLimit = 4'000, kRestartLimit = 1'000;  // milliseconds
    static constexpr std::uint32_t kOwnUnits = 4;  // of bounce memory, for a write
    std::uint64_t until_ = 0;                      // microseconds: the end of a rest; 0: the port is not at rest
    std::uint32_t pending_ = 0;                    // PxIS bits that the guest has not cleared
    bool lost_ = false;                            // a FLUSH of ours has failed, and the guest does not know yet
};

}  // namespace gatehouse::ata

// What the disk mediator needs from whoever runs it: guest memory, the controller's registers, memory that the
// controller may reach, time, and the vector registers. The hypervisor implements these; tests model them.
#pragma once

#include <cstddef>

#include "hypervisor/base/address.hpp"
#include "hypervisor/base/until.hpp"

namespace gatehouse::ata {

// Guest RAM, checked: for the mediator, and for the controller.
struct GuestBytes {
    std::byte* data = nullptr;
    HostPhysical physical;
};

// Hypervisor memory that the controller, and no other device, may read and write; never mapped for the guest.
// Contiguous, 4,096-byte aligned.
struct DmaArena {
    std::byte* data = nullptr;
    HostPhysical physical;
    std::uint64_t size = 0;  // bytes
};

// Must outlive the mediator. May be called by several CPUs at once.
class Environment {
  public:
    // The real controller's register file. AHCI: ABAR, uncached; offsets in bytes, multiples of 4. IDE: ports in bits 15:0, and
    // in 31:16 the size of the access, 1, 2 or 4 bytes.
    [[nodiscard]] virtual std::uint32_t read(std::uint32_t offset) = 0;
    virtual void write(std::uint32_t offset, std::uint32_t value) = 0;
    // The `size` bytes of guest RAM at `address`, or null if any of them is none: hypervisor memory, MMIO, beyond
    // the end, an address that wraps. Up to 4 MiB are asked for at once. The pointer must stay good for as long
    // as the guest runs. The guest may change the bytes at any time; callers copy what they check.
    [[nodiscard]] virtual GuestBytes map(GuestPhysical address, std::uint64_t size) = 0;
    // Monotonic time, for time-outs.
    [[nodiscard]] virtual std::uint64_t microseconds() = 0;
    // The vector registers belong to the guest. Between the two the mediator uses xmm0-xmm15 and MXCSR-free SSE
    // instructions only: upper halves of ymm and zmm registers are left alone. If the disk's key uses VAES
    // (xts/xts_vaes.hpp), it uses ymm0-ymm15 and zeroes what is above them. The first saves the guest's registers, as
    // far as they may be used; the second puts them back, which also overwrites key-dependent values. Each is called at most once per call into
    // the mediator, always as a pair, on one CPU. CR0.TS must be clear and CR4.OSFXSR set in between; for
    // VAES, CR4.OSXSAVE set, and SSE and AVX enabled in XCR0.
    virtual void begin_vectors() = 0;
    virtual void end_vectors() = 0;
};

// Waits until condition() holds, at most `limit` milliseconds.
template <typename Condition>
[[nodiscard]] bool wait_for(Environment& clock, std::uint64_t limit, Condition condition) {
    return until([&clock] { return clock.microseconds(); }, limit * 1000, condition);
}

}  // namespace gatehouse::ata

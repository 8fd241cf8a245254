// The guest's x87 and vector registers, kept aside while the hypervisor uses them: by FXSAVE, or where AES-XTS is done by
// VAES, by XSAVE (APM vol. 2, 11.5).
//
// VAES is VEX-encoded: it writes ymm registers and zeroes the bits of the zmm registers above them. So x87, SSE, AVX and
// ZMM_Hi256 are saved, as far as the CPU has them; opmasks and zmm16-31 are not touched. The guest's XCR0, which VMRUN and
// #VMEXIT leave as it is, need not enable these: the hypervisor enables them while it saves, uses and gives back what the
// guest may have left in them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace gatehouse::cpu {

// What this processor needs in CR4 for it: OSXSAVE, or nothing without VAES. The first call decides for all processors.
[[nodiscard]] std::uint64_t choose_extended_state();

class ExtendedState {
  public:
    // The registers may be used from here on, with MXCSR as after reset: x87, XMM0-15, and YMM0-15 if CR4.OSXSAVE is set.
    void save();
    // The guest's registers and XCR0 as they were at save().
    void restore();
    // Forgets the copy, and gives the registers their values of after reset.
    void clear();

    // The area of XSAVE in its standard form, whose first 512 bytes are FXSAVE's.
    static constexpr std::size_t kSize = 2816;  // AVX-512 and PKRU end at 2,696; a CPU that has more does not use VAES

  private:
    alignas(64) std::array<std::byte, kSize> area_{};
    std::uint64_t guest_xcr0_ = 0;
};

}  // namespace gatehouse::cpu

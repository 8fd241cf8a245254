// The hand-off block: what the SLB tells the hypervisor (layout.hpp has the format).
//
// It is as good as the launch was: after a dynamic launch the SLB wrote it; without one, anybody did, and PCR
// 17 tells the TPM so.
#pragma once

#include "hypervisor/base/hash.hpp"
#include "hypervisor/launch/layout.hpp"

namespace gatehouse::launch {

struct HandOff {
    bool dynamic_launch = false;
    std::uint32_t iommu_count = 0;
    std::array<HashAlgorithm, kMaxBanks> banks{};
    std::size_t bank_count = 0;
    Bytes event_log{};  // a view into the block

    [[nodiscard]] std::span<const HashAlgorithm> all_banks() const { return std::span(banks).first(bank_count); }
};

// Where the event log starts in the block, so that it can be written in place.
inline constexpr std::size_t kHandOffHeaderSize = 8 + 4 + 4 + 4 + 4 + 4 + 2 * kMaxBanks;

// Writes the header of a block whose event log is at block + kHandOffHeaderSize already.
void write_hand_off(const HandOff& hand_off, MutableBytes block);
// kBadMagic, kBadVersion, kBadLength, kBadValue (a bank that cannot be hashed, a flag), kNoSpace, kTruncated.
[[nodiscard]] Result<HandOff> parse_hand_off(Bytes block);

}  // namespace gatehouse::launch

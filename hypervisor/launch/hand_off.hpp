// The hand-off block: what the SLB tells the hypervisor.
//
// It is as good as the launch was: after a dynamic launch the SLB wrote it; without one, anybody did, and PCR
// 17 tells the TPM so.
#pragma once

#include "hypervisor/base/hash.hpp"
#include "hypervisor/launch/layout.hpp"

namespace gatehouse::launch {

// At the start of the block; the event log follows.
struct HandOff {
    std::uint64_t magic = kHandOffMagic;
    std::uint32_t version = kHandOffVersion;
    std::uint32_t event_log_size = 0;
    std::uint32_t iommu_count = 0;  // AMD-Vi units that the SLB found and set to refuse all DMA; 0: DMA is free
    // 1: PCR 17 held a measurement when the SLB started; 0: all zeros or all ones: there
    // was no dynamic launch, and what is measured now will not fit any approval.
    std::uint32_t dynamic_launch = 0;
    std::uint32_t bank_count = 0;  // active PCR banks
    std::array<HashAlgorithm, kMaxBanks> banks{};
    std::uint32_t reserved = 0;

    [[nodiscard]] std::span<const HashAlgorithm> all_banks() const { return std::span(banks).first(bank_count); }
};
static_assert(sizeof(HandOff) == 40);

// The struct at the start of `block`, whose counts fit. kBadMagic, kBadVersion, kBadLength (of the
// event log), kBadValue (a bank that cannot be hashed), kNoSpace (no bank, or too many), kTruncated.
[[nodiscard]] Result<HandOff> parse_hand_off(Bytes block);

}  // namespace gatehouse::launch

// Machine facts: what the hypervisor has read from the hardware itself, of a machine that an authority may approve.
//
// Encoding, big-endian, in this order; it is measured into PCR 19 as it is, and is part of the claims:
//   u16 version kMachineFactsVersion
//   u32 processor signature   CPUID 0000_0001 EAX: family, model, stepping
//   u32 microcode             MSR 0000_008b, patch level
//   u8  SMM locked            HWCR.SmmLock (MSR c001_0015, bit 0): 0 or 1
//   u16 processors            how many have been counted and taken under control
//   u8  IOMMU count, then for each:
//     u16 PCI function (bus << 8 | device << 3 | function)   u64 physical address of its registers
#pragma once

#include <tuple>

#include "hypervisor/base/bytes.hpp"

namespace gatehouse::evidence {

inline constexpr std::uint16_t kMachineFactsVersion = 1;
inline constexpr std::size_t kMaxFactIommus = 16;

struct IommuFact {
    std::uint16_t function = 0;
    std::uint64_t registers = 0;
    friend bool operator==(const IommuFact&, const IommuFact&) = default;
};

struct MachineFacts {
    std::uint32_t processor_signature = 0;
    std::uint32_t microcode = 0;
    bool smm_locked = false;
    std::uint16_t processors = 0;
    std::array<IommuFact, kMaxFactIommus> iommus{};
    std::size_t iommu_count = 0;
    [[nodiscard]] std::span<const IommuFact> all_iommus() const { return std::span(iommus).first(iommu_count); }
};

// What is encoded, in this order: integers, enumerators, and bytes as they are.
inline constexpr std::tuple kFactMembers{&MachineFacts::processor_signature, &MachineFacts::microcode,
                                         &MachineFacts::smm_locked, &MachineFacts::processors};
inline constexpr std::tuple kIommuMembers{&IommuFact::function, &IommuFact::registers};
template <typename T, typename... Member>
[[nodiscard]] constexpr std::size_t encoded_size(const std::tuple<Member T::*...>&) {
    return (sizeof(Member) + ...);
}
inline constexpr std::size_t kMaxMachineFactsSize =
    sizeof(kMachineFactsVersion) + encoded_size(kFactMembers) + 1 + kMaxFactIommus * encoded_size(kIommuMembers);

// Writes the encoding; kNoSpace if `out` is too small. kMaxMachineFactsSize bytes always suffice.
[[nodiscard]] Result<std::size_t> encode_machine_facts(const MachineFacts& facts, MutableBytes out);

}  // namespace gatehouse::evidence

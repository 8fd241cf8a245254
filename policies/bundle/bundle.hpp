// The policy bundle: the measured configuration of one appliance; and the approval, the authority's word on
// it.
//
// The bundle is a module of the boot, measured into PCR 18 whole. It says what the hypervisor is to do and
// whom to believe; it carries no PCR values. The approval is a module as well, but is not measured: it
// carries the authority's signature over one sealing policy, which the TPM itself checks
// (TPM2_VerifySignature, TPM2_PolicyAuthorize), so a forged one opens nothing.
//
// Bundle, little-endian:
//   u8[8] "GHPOLICY"   u32 version (1)   u32 size (whole, in bytes)   u32 flags (BundleFlag)
//   u32 counter_index            NV index of the rollback counter
//   u16 + bytes  srk_name        TPM name of the SRK the endpoint must have (nameAlg || digest), 34 bytes
//   u16 + bytes  authority       TPMT_PUBLIC of the policy authority key (big-endian, as TPMs have it)
//   u16 + bytes  policy_ref      at most 32 bytes
//
// Approval, little-endian:
//   u8[8] "GHAPPROV"   u32 version (1)   u32 size
//   u64 counter_limit            the counter may be at most this
//   u8[32] pcr17, u8[32] pcr18   SHA-256 bank values approved (for messages only; the digest is what counts)
//   u8[32] policy_digest         the approved policy (TPM2_PolicyAuthorize's approvedPolicy)
//   u16 + bytes  signature       TPMT_SIGNATURE over SHA-256(policy_digest || policy_ref)
#pragma once

#include "hypervisor/base/hash.hpp"

namespace gatehouse::policies {

inline constexpr std::uint32_t kBundleVersion = 1;
inline constexpr std::uint32_t kApprovalVersion = 1;
inline constexpr std::size_t kMaxBundleSize = 4096;
inline constexpr std::size_t kMaxApprovalSize = 4096;
inline constexpr std::size_t kNameSize = 34;  // nameAlg SHA-256 and its digest
inline constexpr std::size_t kMaxPolicyRef = 32;

enum class BundleFlag : std::uint32_t {
    kAllowNoIommu = 1u << 0,      // go on without an IOMMU: any device can then read the key
    kShowForeignDisks = 1u << 1,  // disks without a vault are shown read-only rather than hidden
};
inline constexpr std::uint32_t kKnownBundleFlags = 3;

// Views into the parsed bytes, which must outlive them.
struct Bundle {
    std::uint32_t flags = 0;
    std::uint32_t counter_index = 0;
    Bytes srk_name;
    Bytes authority;
    Bytes policy_ref;
    [[nodiscard]] bool has(BundleFlag flag) const { return (flags & static_cast<std::uint32_t>(flag)) != 0; }
};

struct Approval {
    std::uint64_t counter_limit = 0;
    Sha256Digest pcr17{};
    Sha256Digest pcr18{};
    Sha256Digest policy_digest{};
    Bytes signature;
};

// Whether a bundle can pin this SRK: it is a Name by SHA-256.
[[nodiscard]] bool is_storage_root(Bytes srk_name);

// kBadMagic, kBadVersion, kBadLength, kBadValue (unknown flag, wrong name size), kTruncated, kTrailingBytes.
[[nodiscard]] Result<Bundle> parse_bundle(Bytes bytes);
[[nodiscard]] Result<Approval> parse_approval(Bytes bytes);
// Returns the size written. kNoSpace if `out` is too small, kBadValue if a field is outside of its domain.
[[nodiscard]] Result<std::size_t> write_bundle(const Bundle& bundle, MutableBytes out);
[[nodiscard]] Result<std::size_t> write_approval(const Approval& approval, MutableBytes out);

}  // namespace gatehouse::policies

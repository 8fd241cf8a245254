// The policy bundle: the measured configuration of an appliance; and what lies outside of it and is checked by it: the
// authority's approvals of a release and of a machine, and the endpoint's record.
//
// The bundle is a module of the boot, measured into PCR 18 whole. It says what the hypervisor is
// to do and whom to believe; it carries no PCR values. The other files are modules as well, but
// are not measured: the approvals carry the authority's signatures over one sealing policy each,
// which the TPM itself checks (TPM2_VerifySignature, TPM2_PolicyAuthorize), the record one of the
// fleet's enrollment key, which the hypervisor checks: forged ones open nothing.
//
// Bundle, little-endian:
//   u8[8] "GHPOLICY"   u32 version (2)   u32 size (whole, in bytes)   u32 flags (BundleFlag)
//   u32 counter_index            NV index of the rollback counter
//   u16 + bytes  srk_name        TPM name of the SRK the endpoint must have (nameAlg || digest), 34 bytes; or none
//   u16 + bytes  vault_id        identity of the vault that it opens, 32 bytes; or none
//   u16 + bytes  enrollment      the fleet's enrollment key: a P-256 point, 0x04 || X || Y, 65 bytes; or none
//   u16 + bytes  authority       TPMT_PUBLIC of the policy authority key (big-endian, as TPMs have it)
//   u16 + bytes  policy_ref      at most 32 bytes
// Either srk_name and vault_id (one endpoint, pinned here) or enrollment (a fleet, whose endpoints have records).
//
// Approval of a release, little-endian:
//   u8[8] "GHAPPROV"   u32 version (1)   u32 size
//   u64 counter_limit            the counter may be at most this
//   u8[32] pcr17, u8[32] pcr18   SHA-256 bank values approved (for messages only; the digest is what counts)
//   u8[32] policy_digest         the approved policy (TPM2_PolicyAuthorize's approvedPolicy)
//   u16 + bytes  signature       TPMT_SIGNATURE over SHA-256(policy_digest || policy_ref)
//
// Approval of a machine, little-endian, wanted with BundleFlag::kMachineAcpi:
//   u8[8] "GHMACHIN"   u32 version (1)   u32 size
//   u8[32] pcr19                 SHA-256 bank value approved (for messages only)
//   u8[32] policy_digest         the approved policy: the release's PolicyAuthorize, then PolicyPCR of PCR 19
//   u16 + bytes  signature       TPMT_SIGNATURE over SHA-256(policy_digest || policy_ref || "/machine")
//
// Endpoint record, little-endian:
//   u8[8] "GHRECORD"   u32 version (1)   u32 size
//   u8[34] srk_name, u8[32] vault_id     as in a bundle
//   u16 + bytes  label           the operator's name for the endpoint, at most 64 bytes of UTF-8
//   u8[64] signature             ECDSA P-256, r || s, over SHA-256 of all bytes before it
#pragma once

#include "hypervisor/base/hash.hpp"

namespace gatehouse::policies {

inline constexpr std::uint32_t kBundleVersion = 2;
inline constexpr std::uint32_t kApprovalVersion = 1, kRecordVersion = 1;
inline constexpr std::size_t kMaxBundleSize = 4096, kMaxApprovalSize = 4096, kMaxRecordSize = 512;
inline constexpr std::size_t kNameSize = 34;   // nameAlg SHA-256 and its digest
inline constexpr std::size_t kPointSize = 65;  // 0x04 || X || Y
inline constexpr std::size_t kRecordSignatureSize = 64;
inline constexpr std::size_t kMaxPolicyRef = 32;
inline constexpr std::size_t kMaxLabel = 64;

enum class BundleFlag : std::uint32_t {
    kAllowNoIommu = 1u << 0,  // go on without an IOMMU: any device can then read the key
    kMachineAcpi = 1u << 1,   // the guest gets the machine's ACPI tables, measured; else tables of the hypervisor's
    kTrim = 1u << 2,       // the guest may tell disks what it no longer uses; who has a disk then sees what is in use
    kShowDisks = 1u << 3,  // disks without a vault of this endpoint are read-only for the guest, else absent
    // A change of a disk's key, or its first encryption, goes on in use; else what is in the midst of one does not boot. Who
    // copied such a vault can put it back later.
    kChangeInUse = 1u << 4,
};
inline constexpr std::uint32_t kKnownBundleFlags = 0x1f;

// Views into the parsed bytes, which must outlive them.
struct Bundle {
    std::uint32_t flags = 0;
    std::uint32_t counter_index = 0;
    Bytes srk_name;
    Bytes vault_id;
    Bytes enrollment;
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

struct MachineApproval {
    Sha256Digest pcr19{};
    Sha256Digest policy_digest{};
    Bytes signature;
};

struct Record {
    Bytes srk_name;
    Bytes vault_id;
    Bytes label;
};

// Whether a bundle can pin this SRK: it is a Name by SHA-256.
[[nodiscard]] bool is_storage_root(Bytes srk_name);
// The rules of a bundle's fields that parse_bundle() and write_bundle() demand: kBadValue with the field.
[[nodiscard]] Status check(const Bundle& bundle);

// kBadMagic, kBadVersion, kBadLength, kBadValue (a field outside of its domain), kTruncated, kTrailingBytes.
[[nodiscard]] Result<Bundle> parse_bundle(Bytes bytes);
[[nodiscard]] Result<Approval> parse_approval(Bytes bytes);
[[nodiscard]] Result<MachineApproval> parse_machine_approval(Bytes bytes);
// Of whoever holds the private half of `enrollment` (a point as in a bundle): also kBadSignature.
[[nodiscard]] Result<Record> parse_record(Bytes bytes, Bytes enrollment);

}  // namespace gatehouse::policies

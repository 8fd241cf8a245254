// Claims: the hypervisor's own statement about this boot. A quote carries their hash, so that the AK, which only the
// measured hypervisor can use, vouches for them: TPMS_ATTEST.extraData = qualifying_data(nonce, encoded claims).
//
// Encoding, big-endian, in this order:
//   u64 magic kClaimsMagic    u16 version kClaimsVersion    u16 size (whole, in bytes)
//   u32 hypervisor version (major << 16 | minor << 8 | patch)
//   u8  launch (Launch)   u8 iommu (Iommu)   u16 cpus   u32 flags (ClaimFlag)
//   u64 kept_bytes            memory kept from the guest
//   u64 counter_limit         the rollback counter limit that the approval of this boot states
//   u8[32] policy_digest      SHA-256 of the policy bundle
//   u8[34] storage_root       Name of the SRK that bundle or record pins: what tells endpoints of one image apart
//   u8  acpi (Acpi)           whose ACPI tables the guest has
//   u8  vault_pin (VaultPin)  who says which vault this endpoint's is
//   u8[32] vault_id           the identity of the vault that was opened (keyvault/volume/header.hpp)
//   u16 size, bytes           machine facts (machine_facts.hpp), as measured into PCR 19
//   u8 disk_count, then for each disk, the boot vault's first:
//     u8[16] disk GUID (as in the GPT)   u8 state (DiskState)   u32 key epoch
//     u64 generation of the vault header   u8[34] Name of the sealed object that it was opened with
// The last two tell a vault that was rolled back from the endpoint's own: the Name is fixed as long as the
// sealed secret is, the generation only grows. Zeros for an absent disk; no Name (zeros) for a member.
#pragma once

#include "attestation/evidence/machine_facts.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::evidence {

inline constexpr std::uint64_t kClaimsMagic = 0x4748434c41494d31;  // "GHCLAIM1"
inline constexpr std::uint16_t kClaimsVersion = 3;
inline constexpr std::size_t kMaxDisks = 8;

enum class Launch : std::uint8_t { kNone = 0, kSkinit = 1, kSenter = 2 };
enum class Iommu : std::uint8_t { kNone = 0, kAmdVi = 1, kVtd = 2 };
enum class Acpi : std::uint8_t {
    kMinimal = 0,  // the hypervisor's own: no byte of the machine's is believed
    kMachine = 1,  // copies of the machine's, measured into PCR 19
};
enum class VaultPin : std::uint8_t {
    kNone = 0,    // nobody: whoever sealed to this policy
    kBundle = 1,  // the measured bundle
    kRecord = 2,  // a record signed by the fleet's enrollment key, which the measured bundle names
};
enum class DiskState : std::uint8_t {
    kAbsent = 0,      // hidden from the guest: no vault on it
    kEncrypted = 1,   // opened; everything outside of the open regions is encrypted
    kEncrypting = 2,  // opened; it was being encrypted for the first time when the guest was started
};
enum class ClaimFlag : std::uint32_t {
    kCapped = 1u << 0,       // PCRs 17, 18 and 19 were capped before the guest started
    kVaultOpened = 1u << 1,  // the key was released by the TPM in this boot
};

struct DiskClaim {
    std::array<std::byte, 16> guid{};
    DiskState state = DiskState::kAbsent;
    std::uint32_t key_epoch = 0;
    std::uint64_t generation = 0;
    std::array<std::byte, 34> sealed_name{};  // 0x000b and the SHA-256 of its TPMT_PUBLIC
};

struct Claims {
    std::uint32_t hypervisor_version = 0;
    Launch launch = Launch::kNone;
    Iommu iommu = Iommu::kNone;
    std::uint16_t cpus = 0;
    std::uint32_t flags = 0;
    std::uint64_t kept_bytes = 0;
    std::uint64_t counter_limit = 0;
    Sha256Digest policy_digest{};
    std::array<std::byte, 34> storage_root{};  // 0x000b and the SHA-256 of its TPMT_PUBLIC
    Acpi acpi = Acpi::kMinimal;
    VaultPin vault_pin = VaultPin::kNone;
    Sha256Digest vault_id{};
    MachineFacts machine{};
    std::size_t disk_count = 0;
    std::array<DiskClaim, kMaxDisks> disks{};
};

// What is encoded between the size and the machine facts, and of each disk, in this order.
inline constexpr std::tuple kClaimMembers{
    &Claims::hypervisor_version, &Claims::launch,        &Claims::iommu,         &Claims::cpus,         &Claims::flags,
    &Claims::kept_bytes,         &Claims::counter_limit, &Claims::policy_digest, &Claims::storage_root, &Claims::acpi,
    &Claims::vault_pin,          &Claims::vault_id};
inline constexpr std::tuple kDiskMembers{&DiskClaim::guid, &DiskClaim::state, &DiskClaim::key_epoch,
                                         &DiskClaim::generation, &DiskClaim::sealed_name};
inline constexpr std::size_t kMaxClaimsSize =
    sizeof(kClaimsMagic) + sizeof(kClaimsVersion) + 2 * sizeof(std::uint16_t) + encoded_size(kClaimMembers) +
    kMaxMachineFactsSize + sizeof(std::uint8_t) + kMaxDisks * encoded_size(kDiskMembers);

// Writes the encoding and returns its size; kNoSpace if `out` is too small. kMaxClaimsSize bytes always suffice.
[[nodiscard]] Result<std::size_t> encode_claims(const Claims& claims, MutableBytes out);
// What the quote's extraData must be:
//     SHA-256("gatehouse quote v3" || u16 length || nonce || u16 length || claims)
// with big-endian lengths. No two pairs of nonce and claims give the same bytes.
[[nodiscard]] Sha256Digest qualifying_data(Bytes nonce, Bytes encoded_claims);

}  // namespace gatehouse::evidence

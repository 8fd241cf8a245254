// Unsealing the vault's secret, and quoting: what the hypervisor does with the TPM after its launch.
#pragma once

#include "keyvault/tpm/session.hpp"

namespace gatehouse::tpm {

// The storage root key, persistent (TCG TPM v2.0 Provisioning Guidance): ECC P-256, empty authorization.
inline constexpr TPM2_HANDLE kStorageRootKey = 0x81000001;
// Where `sealed-key` makes the rollback counter: in the range of NV indices that is the owner's (Registry of
// Reserved TPM 2.0 Handles and Localities 1.1, 2.2.2: 0x01800000-0x01bfffff).
inline constexpr TPM2_HANDLE kRollbackCounter = 0x01804748;

// The locality's bit that Gatehouse's hypervisor works at.
inline constexpr TPMA_LOCALITY kHypervisorLocality = TPMA_LOCALITY_TPM2_LOC_TWO;
// PCRs of the SHA-256 bank: what the hypervisor and its payload are measured into, what the machine is, and both.
inline constexpr PcrSelection kLaunchPcrs{HashAlgorithm::kSha256, (1u << 17) | (1u << 18)};
inline constexpr PcrSelection kMachinePcrs{HashAlgorithm::kSha256, 1u << 19};
inline constexpr PcrSelection kQuotedPcrs{HashAlgorithm::kSha256, kLaunchPcrs.pcrs | kMachinePcrs.pcrs};

// What follows the policy reference in approvals of machines.
[[nodiscard]] inline Bytes machine_suffix() { return literal_bytes("/machine"); }

// The TPM's half of an approval: what `policyctl sign` hands out. It lies outside of what it approves;
// nothing here is trusted before the TPM has verified the signature.
struct Approval {
    Sha256Digest policy{};            // sealing_policy_digest() of the approved image
    std::uint64_t counter_limit = 0;  // void once the counter is greater
    Bytes signature{};                // authority's TPMT_SIGNATURE over approval_digest()
};

// The same for a machine.
struct MachineApproval {
    Sha256Digest policy{};  // machine_policy_digest() of the approved machine
    Bytes signature{};      // authority's TPMT_SIGNATURE over approval_digest() with machine_policy_ref()
};

// Everything that unseal() works on. Authenticity of each comes from where the comment says.
struct UnsealRequest {
    Name storage_root_key{};  // expected Name: measured, or known from elsewhere
    Bytes authority{};        // TPMT_PUBLIC of the authority's key: measured
    Bytes policy_ref{};       // at most 56 bytes: measured
    TPM2_HANDLE counter = kRollbackCounter;
    Approval approval{};                       // untrusted
    std::optional<MachineApproval> machine{};  // untrusted; set if the secret is sealed to approved machines
    Bytes sealed_public{};                     // TPMT_PUBLIC of the sealed object: untrusted, from the vault header
    Bytes sealed_private{};                    // its TPM2B_PRIVATE contents: untrusted, from the vault header
};

// Releases the 32-byte secret, if the machine is as approved, over a salted and encrypted session. The
// transport is to be at locality 2. Who put the secret there is not known from this: the vault id is
// (volume/header.hpp). Whatever happens, nothing stays loaded in the TPM. About 8 KiB of stack.
//
// Errors besides Tpm's, each with its own item:
//   kMismatch      "storage root key: Name is not the pinned one"
//   kRefused       "rollback counter above the approval's limit"
//   kMismatch      "PCR 17 and 18 not as approved": hypervisor, bundle, kernel, initrd or command line differ
//   kBadSignature  "approval: not signed by the authority"
//   kMismatch      "PCR 19 not as approved: another machine, or another firmware"
//   kBadSignature  "machine approval: not signed by the authority"
//   kAuthFailed    "TPM refuses to unseal": locality, PCR changed meanwhile, sealed to another authority
//   kBadLength     "TPM2_Unseal": the sealed secret is not of 32 bytes
//   kBadMac        "TPM2_Unseal": the response was not made by this TPM
[[nodiscard]] Result<Secret<32>> unseal(Tpm& tpm, RandomSource& random, const UnsealRequest& request);

// The attestation key of the vault header, loaded under the storage root key, quotes. Locality 2, as above.
[[nodiscard]] Result<Quote> quote(Tpm& tpm, RandomSource& random, Bytes key_public, Bytes key_private,
                                  Bytes qualifying_data, const PcrSelection& selection);

}  // namespace gatehouse::tpm

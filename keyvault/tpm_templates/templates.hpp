// Public areas that host tools create objects with. Host only: measured code loads what these made.
//
// Each function returns a marshalled TPMT_PUBLIC or TPMS_NV_PUBLIC (Part 2, 12.2.4 and 13.5);
// Tss2_MU_*_Unmarshal turns it into the structure that ESAPI takes. Sizes: see PublicArea.
#pragma once

#include "keyvault/tpm_templates/policy.hpp"

namespace gatehouse::tpm {

// The storage root key of TCG EK Credential/Provisioning Guidance: ECC P-256, AES-128-CFB, SHA-256, no policy
// (template H-2 without its unique value).
[[nodiscard]] PublicArea storage_root_key_template();

// Keyed-hash object for TPM2_Create with the secret as sensitive data: fixedTPM, fixedParent, noDA,
// adminWithPolicy, no userWithAuth; `policy` is authorize_policy_digest().
[[nodiscard]] PublicArea sealed_object_template(const Sha256Digest& policy);

// Restricted ECDSA P-256/SHA-256 signing key with attestation_key_policy_digest() as its policy.
[[nodiscard]] PublicArea attestation_key_template();

// The authority's public key for LoadExternal: ECDSA with SHA-256 on P-256 (`x`, `y`: 32 bytes each), or
// RSASSA with SHA-256 (`modulus`: 256 or 384 bytes, big-endian, exponent 65537).
[[nodiscard]] Result<PublicArea> authority_public_ecc(Bytes x, Bytes y);
[[nodiscard]] Result<PublicArea> authority_public_rsa(Bytes modulus);
// A marshalled TPMT_SIGNATURE: ECDSA (`r`, `s` big-endian, at most 32 bytes) or RSASSA, SHA-256.
[[nodiscard]] Result<SignatureBlob> signature_ecdsa(Bytes r, Bytes s);
[[nodiscard]] Result<SignatureBlob> signature_rsassa(Bytes signature);

// The rollback counter: COUNTER, OWNERWRITE (only the owner increments), AUTHREAD with an empty authorization
// and OWNERREAD (anybody may read, PolicyNV included), NO_DA. The owner alone can delete it. With `written`
// it is the area of the index after its first increment, whose Name policies refer to.
[[nodiscard]] Blob<64> rollback_counter_public(TPM2_HANDLE index, bool written);
[[nodiscard]] Name rollback_counter_name(TPM2_HANDLE index);

}  // namespace gatehouse::tpm

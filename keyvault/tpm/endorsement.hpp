// What a verifier trusts a TPM by: its endorsement key's certificate, and the proof that the attestation key
// lies in the TPM that has that endorsement key.
#pragma once

#include "keyvault/random.hpp"
#include "keyvault/tpm/tpm.hpp"

namespace gatehouse::tpm {

// Whether `handle` may be asked for (TCG EK Credential Profile 2.5, 2.2.1.4 and 2.2.1.5; TCG Registry of
// Reserved TPM 2.0 Handles 1.1, 2.3.1): NV 0x01c00002-0x01c0000c, 0x01c00012-0x01c00022,
// 0x01c00100-0x01c001ff; persistent objects 0x81010000-0x8101ffff.
[[nodiscard]] bool is_endorsement_handle(TPM2_HANDLE handle);

inline constexpr std::size_t kMaxEndorsementSize = 2048;

// The contents of an NV index, or the TPMT_PUBLIC of a persistent object; written to `out`, whose used size
// is returned. Errors besides Tpm's: kOutOfRange (is_endorsement_handle()), kNotFound (nothing there, or
// never written), kNoSpace, kRefused (the index cannot be read with an empty authorization value).
[[nodiscard]] Result<std::size_t> read_endorsement(Tpm& tpm, TPM2_HANDLE handle, MutableBytes out);

// TPM2_ActivateCredential (Part 3, 12.5) for the attestation key, with the endorsement key at the persistent
// handle `endorsement_key`: by the empty password if it has userWithAuth (templates of the high range), else
// by the policy of the low range's templates, PolicySecret of the endorsement hierarchy, whose authorization
// value must be empty (EK Credential Profile 2.5, B.3 and B.6). `credential` and `secret`: contents of
// TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, untrusted. The released secret, at least one byte, goes to
// `out` and stays nowhere else; its size is returned. Errors besides Tpm's: kOutOfRange, kNotFound.
[[nodiscard]] Result<std::size_t> activate_credential(Tpm& tpm, RandomSource& random, TPM2_HANDLE endorsement_key,
                                                      Bytes key_public, Bytes key_private, Bytes credential,
                                                      Bytes secret, MutableBytes out);

}  // namespace gatehouse::tpm

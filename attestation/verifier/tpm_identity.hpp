// Which TPM an attestation key is in, whatever EK is shown with it.
//
// A TPM has several EKs, and whoever has it makes as many attestation keys and primary keys as he likes: what a template
// has in `unique` goes into the key's derivation and is not seen in the key (Part 3, 24.1). So a storage root key that
// the TPM certifies tells no TPMs apart. What does is TPM2_CreatePrimary with all its parameters: in an audit session the
// TPM keeps H(digest || cpHash || rpHash) of each command (Part 1, 18.7 and 18.8), and TPM2_GetSessionAuditDigest
// (Part 3, 18.5) signs that digest, here with the attestation key, which is restricted and so signs nothing of the kind
// that the TPM did not make. The commands are these two, in this order, by a session of SHA-256, with empty authorization
// values, outside information and PCR selection:
//
//   TPM2_CreatePrimary(TPM_RH_ENDORSEMENT, template L-2)            the ECC P-256 EK: one for each endorsement seed,
//                                                                  whether or not it has a certificate; stays after
//                                                                  TPM2_Clear
//   TPM2_CreatePrimary(TPM_RH_OWNER, storage root key's template)   the SRK that `sealed-key provision` makes: another
//                                                                  one after TPM2_Clear
//
// Source hypervisor: the hypervisor runs no such commands. A quote by the attestation key names its parent, by its
// qualified Name, as the SRK of a Name that is given: of whatever template, so that it is worth what vouches for the Name
// later, which is the policy bundle or the endpoint's record (rule "signer" of appraisal.hpp).
//
// "Part" is that of the TPM 2.0 Library Specification, revision 1.59. All is hostile.
#pragma once

#include "attestation/verifier/appraisal.hpp"
#include "attestation/verifier/finding.hpp"

namespace gatehouse::verifier {

struct IdentityEvidence {
    // Source tpm: of each of the two commands the response's parameters, from outPublic to name. Source hypervisor: the
    // Name of the SRK. Empty: nothing is shown.
    std::vector<Buffer> keys;
    Buffer attest;     // TPMS_ATTEST: the session's audit, or a quote
    Buffer signature;  // TPMT_SIGNATURE by the attestation key
};

struct TpmIdentity {
    Finding finding;              // rule "tpm identity"; if it does not hold, nothing is known
    std::string endorsement_key;  // endorsement_key_hash() of the ECC P-256 EK, hex; empty of source hypervisor
    std::string storage_root;     // the digest in the Name of the SRK, hex
};

[[nodiscard]] TpmIdentity check_tpm_identity(const AttestationKey& key, Source source,
                                             const IdentityEvidence& evidence);

// TPMT_PUBLIC of template L-2 (TCG EK Credential Profile 2.5, B.3.4).
[[nodiscard]] Buffer ecc_endorsement_key_template();

// The qualified Name that a key has as a child of the storage root key of this Name: a key's is
// H(parent's qualified Name || its Name), a hierarchy's is its handle (Part 1, 16 and 26.5).
[[nodiscard]] ObjectName qualified_name(Bytes srk_name, const AttestationKey& key);

}  // namespace gatehouse::verifier

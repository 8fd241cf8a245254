// What shows a server which TPM this is, whatever EK goes with it: verifier/tpm_identity.hpp.
#pragma once

#include "attestation/agent/evidence_source.hpp"
#include "keyvault/host_support/esapi.hpp"

namespace gatehouse::agent {

// Makes the two primary keys in an audit session, one after the other, and has `attestation_key`, loaded and with an empty
// authorization value, sign what the TPM did. Nothing stays loaded; needs room for one object and one session. TpmError.
[[nodiscard]] IdentityProof prove_identity(ESYS_CONTEXT* context, ESYS_TR attestation_key);

}  // namespace gatehouse::agent

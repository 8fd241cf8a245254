// Templates of endorsement keys (TCG EK Credential Profile for TPM Family 2.0, version 2.5, annex B).
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include "attestation/agent/endorsement_key.hpp"

namespace gatehouse::agent {

[[nodiscard]] TPM2B_PUBLIC ek_template(EkTemplate which);

}  // namespace gatehouse::agent

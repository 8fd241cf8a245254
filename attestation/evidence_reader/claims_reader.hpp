// Claims and machine facts, read as hostile bytes. For verifiers; the hypervisor only writes them (claims.hpp).
#pragma once

#include "attestation/evidence/claims.hpp"

namespace gatehouse::evidence {

// kBadMagic, kBadVersion, kBadLength, kBadValue (an unknown enumerator, a count), kTruncated, kTrailingBytes.
[[nodiscard]] Result<Claims> decode_claims(Bytes encoded);
[[nodiscard]] Result<MachineFacts> decode_machine_facts(Bytes encoded);

}  // namespace gatehouse::evidence

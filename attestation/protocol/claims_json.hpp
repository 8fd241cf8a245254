// Claims as JSON: one form for the channel's tool, the verifier's, and the server.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attestation/evidence/claims.hpp"

namespace gatehouse::protocol {

// An object of the members of Claims (claims.hpp) by their names there, in the order of the encoding: a number, true or
// false, the name of a value (evidence_reader/claim_members.hpp), or bytes in hexadecimal digits. In another form are
//   "hypervisor_version": "0.1.2"
//   flags: "pcrs_capped", "vault_opened": true or false
//   vault_pin and vault_id: "vault": {"id": HEX, "pinned_by": "nobody" | "bundle" | "record"}
//   "machine": {"processor_signature": "0x00a20f10", "microcode": "0x0a20102b", ...,
//               "iommus": [{"function": "00:00.2", "registers": "0xfed80000"}...]}
//   "disks": [{"guid": "as in a GPT, in text", ...}...]
[[nodiscard]] nlohmann::ordered_json claims_json(const evidence::Claims& claims);
// The members "acpi", "vault" and "machine" alone: whose endpoint it is, and what machine.
[[nodiscard]] nlohmann::ordered_json identity_json(evidence::Acpi acpi, evidence::VaultPin pin,
                                                   const Sha256Digest& vault_id, const evidence::MachineFacts& machine);

}  // namespace gatehouse::protocol

// Claims as JSON: one form for the channel's tool, the verifier's, and the server.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "attestation/evidence/claims.hpp"

namespace gatehouse::protocol {

// {"hypervisor_version": "0.1.2", "launch": "none" | "SKINIT" | "SENTER", "iommu": "none" | "AMD-Vi" | "VT-d", "cpus",
//  "pcrs_capped", "vault_opened", "kept_bytes", "counter_limit", "policy_digest": HEX, "storage_root": HEX,
//  "acpi": "minimal" | "machine",
//  "vault": {"id": HEX, "pinned_by": "nobody" | "bundle" | "record"},
//  "machine": {"processor_signature": "0x00a20f10", "microcode": "0x0a20102b", "smm_locked", "processors",
//              "iommus": [{"function": "00:00.2", "registers": "0xfed80000"}...]},
//  "disks": [{"guid": "as in a GPT, in text", "state": "absent" | "encrypted", "key_epoch", "generation",
//             "sealed_name": HEX}...]}
[[nodiscard]] nlohmann::ordered_json claims_json(const evidence::Claims& claims);
// The members "acpi", "vault" and "machine" alone: whose endpoint it is, and what machine.
[[nodiscard]] nlohmann::ordered_json identity_json(evidence::Acpi acpi, evidence::VaultPin pin,
                                                   const Sha256Digest& vault_id, const evidence::MachineFacts& machine);

}  // namespace gatehouse::protocol

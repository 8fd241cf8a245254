// What is remembered of a TPM, as one column. Big-endian:
//
//   u16      0xffff: no signer is as long
//   u16      version, 2
//   sized    qualified signer            (sized: u16 length, bytes)
//   u64      clock
//   u32      resets
//   u32      restarts
//   u64      firmware version
//   u8       1: an identity follows
//     u8[32]   vault id
//     u8       who pinned it             evidence::VaultPin
//     u8       ACPI                      evidence::Acpi
//     sized    machine facts             evidence/machine_facts.hpp
//   then each vault:
//     u8[34]   Name
//     u64      generation
//     u8[16]   disk GUID
//
// Version 1, which is still read, began with the signer, and had neither identity nor GUIDs.
#pragma once

#include "attestation/verifier/appraisal.hpp"

namespace gatehouse::server {

[[nodiscard]] host::Buffer encode_tpm(const verifier::TpmState& tpm);
[[nodiscard]] verifier::TpmState decode_tpm(Bytes bytes);  // of nothing: nothing is known. ToolError

}  // namespace gatehouse::server

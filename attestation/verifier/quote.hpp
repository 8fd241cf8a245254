// TPM structures of a quote, read as hostile bytes. Part 2 of the TPM 2.0 Library Specification,
// revision 1.59.
#pragma once

#include <vector>

#include "hypervisor/base/hash.hpp"

namespace gatehouse::verifier {

// PCRs of one bank: bit n of `pcrs` is PCR n.
struct Selection {
    HashAlgorithm bank = HashAlgorithm::kSha256;
    std::uint32_t pcrs = 0;
};

// TPMS_ATTEST of a quote (Part 2, 10.12.12). Views into the parsed bytes.
struct Attestation {
    Bytes qualified_signer;  // Name, nameAlg first
    Bytes extra_data;
    std::uint64_t clock = 0;  // milliseconds
    std::uint32_t reset_count = 0;
    std::uint32_t restart_count = 0;
    bool clock_safe = false;
    std::uint64_t firmware_version = 0;
    std::vector<Selection> selections;  // in the order quoted
    Bytes pcr_digest;
};
// kBadMagic: not made by a TPM (TPM_GENERATED_VALUE). kBadValue: another kind of attestation, a malformed
// selection. kTruncated, kTrailingBytes.
[[nodiscard]] Result<Attestation> parse_attestation(Bytes bytes);

// An ECDSA signature with SHA-256 (TPMT_SIGNATURE, Part 2, 11.3.4): both numbers big-endian, at most 32
// bytes.
struct EcdsaSignature {
    Bytes r;
    Bytes s;
};
[[nodiscard]] Result<EcdsaSignature> parse_signature(Bytes bytes);

// The public area (TPMT_PUBLIC) of the attestation key as `sealed-key provision` makes it: restricted, ECDSA
// on P-256, usable at locality 2 only. kMismatch if any of that differs.
struct AttestationKey {
    Bytes x;  // 32 bytes each
    Bytes y;
};
[[nodiscard]] Result<AttestationKey> parse_attestation_key(Bytes public_area);

}  // namespace gatehouse::verifier

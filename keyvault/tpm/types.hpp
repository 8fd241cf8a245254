// The few TPM 2.0 structures that measured code keeps. Handles, constants and attribute bits are those of
// tpm2-tss (tss2_tpm2_types.h); its structures, made for any TPM in the largest size, are not used.
//
// "Part N" is the TCG's TPM 2.0 Library Specification, revision 1.59, part N.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include "hypervisor/base/blob.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::tpm {

// The Name of an object or NV index (Part 1, 16): 0x000b and the SHA-256 of its public area, 34 bytes.
// Entities with another name algorithm are not used by Gatehouse; they are only read.
inline constexpr std::size_t kNameSize = 2 + kSha256Size;
using Name = std::array<std::byte, kNameSize>;

// The Name that belongs to a marshalled TPMT_PUBLIC or TPMS_NV_PUBLIC, whose nameAlg must be SHA-256.
[[nodiscard]] Name name_of(Bytes public_area);

// A marshalled TPMT_PUBLIC; RSA-3072 needs 410 bytes.
using PublicArea = Blob<512>;
// The contents of a TPM2B_PRIVATE, as TPM2_Create returned it.
using PrivateBlob = Blob<512>;
// A marshalled TPMS_ATTEST and TPMT_SIGNATURE.
using AttestBlob = Blob<1024>;
using SignatureBlob = Blob<544>;

// PCRs of one bank: bit n of `pcrs` is PCR n (0..23).
struct PcrSelection {
    HashAlgorithm bank = HashAlgorithm::kSha256;
    std::uint32_t pcrs = 0;
};

// The PCR banks that the TPM has, by their algorithms; one may be an algorithm that
// can_hash() does not know. A bank without any PCR is inactive and left out.
struct BankList {
    static constexpr std::size_t kCapacity = 8;
    std::array<HashAlgorithm, kCapacity> entries{};
    std::size_t count = 0;
    [[nodiscard]] std::span<const HashAlgorithm> banks() const { return std::span(entries).first(count); }
};

// Proof by the TPM that it verified a signature (TPMT_TK_VERIFIED), marshalled.
using Ticket = Blob<80>;

// Whether a PCR holds a value that it has without a dynamic launch: all zeros or all ones (PC Client Platform
// TPM Profile: PCR 17-22 are all ones after start-up, zeros between the launch and the first extend).
[[nodiscard]] bool pcr_is_reset_value(Bytes value);

}  // namespace gatehouse::tpm

// The few TPM 2.0 structures that measured code keeps. Handles, constants and attribute bits are those of
// tpm2-tss (tss2_tpm2_types.h); its structures, made for any TPM in the largest size, are not used.
//
// "Part N" is the TCG's TPM 2.0 Library Specification, revision 1.59, part N.
#pragma once

#include <tss2/tss2_tpm2_types.h>

#include "hypervisor/base/hash.hpp"

namespace gatehouse::tpm {

// At most N bytes: the contents of a TPM2B, without its size field.
template <std::size_t N>
class Blob {
  public:
    static constexpr std::size_t kCapacity = N;

    Blob() = default;
    // kBadLength with the size if `from` is longer than N.
    [[nodiscard]] Status assign(Bytes from, const char* item) {
        if (from.size() > N) return {Error::kBadLength, item, from.size()};
        copy_bytes(storage_, from);
        size_ = static_cast<std::uint16_t>(from.size());
        return {};
    }
    [[nodiscard]] Bytes bytes() const { return Bytes(storage_).first(size_); }
    [[nodiscard]] std::size_t size() const { return size_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }

  private:
    static_assert(N <= 0xffff);
    std::array<std::byte, N> storage_{};
    std::uint16_t size_ = 0;
};

// The Name of an object or NV index (Part 1, 16): 0x000b and the SHA-256 of its public area, 34 bytes.
// Entities with another name algorithm are not used by Gatehouse; they are only read (Tpm::read_public()).
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

// The banks that the TPM has, as TPM2_GetCapability(TPM2_CAP_PCRS) lists them. A bank without any PCR is
// inactive and left out. `bank` may be an algorithm that can_hash() does not know.
struct BankList {
    static constexpr std::size_t kCapacity = 8;
    std::array<PcrSelection, kCapacity> entries{};
    std::size_t count = 0;
    [[nodiscard]] std::span<const PcrSelection> banks() const { return std::span(entries).first(count); }
};

// The public area of an NV index (Part 2, 13.5), without its policy.
struct NvPublic {
    TPM2_HANDLE index = 0;
    TPMA_NV attributes = 0;
    std::uint16_t data_size = 0;
    Digest name{};  // by the index's own name algorithm
};

// Proof by the TPM that it verified a signature (TPMT_TK_VERIFIED), marshalled.
using Ticket = Blob<80>;

// Whether a PCR holds a value that it has without a dynamic launch: all zeros or all ones (PC Client Platform
// TPM Profile: PCR 17-22 are all ones after start-up, zeros between the launch and the first extend).
[[nodiscard]] bool pcr_is_reset_value(Bytes value);

}  // namespace gatehouse::tpm

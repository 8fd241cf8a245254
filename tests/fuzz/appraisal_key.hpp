// An attestation key of the appraisal's fuzz target: the target signs what it has changed, so that what is
// behind the signature is reached.
#pragma once

#include "keyvault/host_support/authority.hpp"

namespace gatehouse::fuzz {

// The bits of the first byte of an input.
inline constexpr std::uint8_t kOfTpm = 1;    // the evidence is by a TPM alone
inline constexpr std::uint8_t kSign = 2;     // sign the quote
inline constexpr std::uint8_t kFreshen = 4;  // put H(nonce || claims) into the quote
inline constexpr std::uint8_t kKnown = 8;    // there was an earlier quote

inline Bytes appraisal_nonce() { return literal_bytes("a nonce of thirty-two bytes 0123"); }

// P-256; always the same.
[[nodiscard]] host::Key appraisal_key();
// TPMT_PUBLIC of such a key, restricted, locality 2 only: `area` (of a real one) with this key's point.
[[nodiscard]] host::Buffer with_appraisal_key(Bytes area);
// The quote with its qualified signer and extra data replaced; as it is if it cannot be read.
[[nodiscard]] host::Buffer patched_quote(Bytes quote, Bytes signer, Bytes extra_data);
// TPMT_SIGNATURE.
[[nodiscard]] host::Buffer signed_quote(Bytes quote);

}  // namespace gatehouse::fuzz

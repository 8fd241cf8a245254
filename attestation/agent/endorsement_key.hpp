// Where a TPM keeps endorsement keys and their certificates (TCG EK Credential Profile for TPM Family 2.0,
// version 2.5, 2.2.1.4 and 2.2.1.5; TCG Registry of Reserved TPM 2.0 Handles and Localities, 2.3.1).
#pragma once

#include <array>
#include <cstdint>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::agent {

// Kinds of endorsement key that a server can make credentials for, in the order in which they are tried.
enum class EkTemplate : std::uint8_t { kL2, kL1, kH2, kH1, kH3, kH6 };
struct EkPlace {
    std::uint32_t certificate;  // NV index
    EkTemplate key;
};
inline constexpr std::array<EkPlace, 6> kEkPlaces{{
    {0x01c0000a, EkTemplate::kL2},  // ECC P-256
    {0x01c00002, EkTemplate::kL1},  // RSA 2048
    {0x01c00014, EkTemplate::kH2},  // ECC P-256, high range
    {0x01c00012, EkTemplate::kH1},  // RSA 2048, high range
    {0x01c00016, EkTemplate::kH3},  // ECC P-384
    {0x01c0001c, EkTemplate::kH6},  // RSA 3072
}};
inline constexpr std::uint32_t kFirstChainIndex = 0x01c00100;
inline constexpr std::uint32_t kLastChainIndex = 0x01c001ff;
// Where manufacturers and set-up programs keep the keys.
inline constexpr std::array<std::uint32_t, 7> kEkHandles{0x81010001, 0x81010002, 0x81010012, 0x81010014,
                                                         0x81010016, 0x8101001c, 0x81010000};

// Whether the key of a certificate (DER, padding allowed) is that of a TPMT_PUBLIC. Both hostile: false for
// what is not a certificate or not a key.
[[nodiscard]] bool certifies(Bytes certificate, Bytes public_area);

// The contents of a TPM2B that is the whole of `bytes`; ToolError naming `item`.
[[nodiscard]] Bytes contents_of(Bytes bytes, const char* item);

}  // namespace gatehouse::agent

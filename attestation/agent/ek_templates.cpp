#include "attestation/agent/ek_templates.hpp"

#include <algorithm>

namespace gatehouse::agent {
namespace {

// B.6.2: PolicySecret(TPM_RH_ENDORSEMENT).
constexpr std::array<std::uint8_t, 32> kPolicyA{0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc,
                                                0x8d, 0x46, 0xa5, 0xd7, 0x24, 0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52,
                                                0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa};
// B.6.5: PolicyA, or a policy that the owner keeps in NV.
constexpr std::array<std::uint8_t, 32> kPolicyB256{0xca, 0x3d, 0x0a, 0x99, 0xa2, 0xb9, 0x39, 0x06, 0xf7, 0xa3, 0x34,
                                                   0x24, 0x14, 0xef, 0xcf, 0xb3, 0xa3, 0x85, 0xd4, 0x4c, 0xd1, 0xfd,
                                                   0x45, 0x90, 0x89, 0xd1, 0x9b, 0x50, 0x71, 0xc0, 0xb7, 0xa0};
constexpr std::array<std::uint8_t, 48> kPolicyB384{
    0xb2, 0x6e, 0x7d, 0x28, 0xd1, 0x1a, 0x50, 0xbc, 0x53, 0xd8, 0x82, 0xbc, 0xf5, 0xfd, 0x3a, 0x1a,
    0x07, 0x41, 0x48, 0xbb, 0x35, 0xd3, 0xb4, 0xe4, 0xcb, 0x1c, 0x0a, 0xd9, 0xbd, 0xe4, 0x19, 0xca,
    0xcb, 0x47, 0xba, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0f, 0x9f, 0xc0, 0x00, 0xf3, 0xf8, 0x0e, 0x12};

constexpr TPMA_OBJECT kLow = TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
                             TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT;
constexpr TPMA_OBJECT kHigh = kLow | TPMA_OBJECT_USERWITHAUTH;

struct Row {
    TPMI_ALG_PUBLIC type;
    std::uint16_t size;  // RSA: bits; ECC: TPM2_ECC_CURVE
    bool high;
    bool strong;          // SHA-384 and AES-256; else SHA-256 and AES-128
    std::uint16_t zeros;  // size of each part of the unique field
};
constexpr Row row_of(EkTemplate which) {
    switch (which) {
        case EkTemplate::kL1: return {TPM2_ALG_RSA, 2048, false, false, 256};
        case EkTemplate::kL2: return {TPM2_ALG_ECC, TPM2_ECC_NIST_P256, false, false, 32};
        case EkTemplate::kH1: return {TPM2_ALG_RSA, 2048, true, false, 0};
        case EkTemplate::kH2: return {TPM2_ALG_ECC, TPM2_ECC_NIST_P256, true, false, 0};
        case EkTemplate::kH3: return {TPM2_ALG_ECC, TPM2_ECC_NIST_P384, true, true, 0};
        case EkTemplate::kH6: return {TPM2_ALG_RSA, 3072, true, true, 0};
    }
    return {};
}

template <std::size_t N>
void set_policy(TPM2B_DIGEST& to, const std::array<std::uint8_t, N>& policy) {
    to.size = N;
    std::ranges::copy(policy, to.buffer);
}

}  // namespace

TPM2B_PUBLIC ek_template(EkTemplate which) {
    const Row row = row_of(which);
    TPM2B_PUBLIC result{};
    TPMT_PUBLIC& area = result.publicArea;
    area.type = row.type;
    area.nameAlg = row.strong ? TPM2_ALG_SHA384 : TPM2_ALG_SHA256;
    area.objectAttributes = row.high ? kHigh : kLow;
    if (!row.high) set_policy(area.authPolicy, kPolicyA);
    if (row.high && !row.strong) set_policy(area.authPolicy, kPolicyB256);
    if (row.high && row.strong) set_policy(area.authPolicy, kPolicyB384);
    const TPMT_SYM_DEF_OBJECT symmetric{.algorithm = TPM2_ALG_AES,
                                        .keyBits = {.aes = static_cast<TPMI_AES_KEY_BITS>(row.strong ? 256 : 128)},
                                        .mode = {.aes = TPM2_ALG_CFB}};
    if (row.type == TPM2_ALG_RSA) {
        area.parameters.rsaDetail = {.symmetric = symmetric,
                                     .scheme = {.scheme = TPM2_ALG_NULL, .details = {}},
                                     .keyBits = row.size,
                                     .exponent = 0};
        area.unique.rsa.size = row.zeros;
    } else {
        area.parameters.eccDetail = {.symmetric = symmetric,
                                     .scheme = {.scheme = TPM2_ALG_NULL, .details = {}},
                                     .curveID = row.size,
                                     .kdf = {.scheme = TPM2_ALG_NULL, .details = {}}};
        area.unique.ecc.x.size = row.zeros;
        area.unique.ecc.y.size = row.zeros;
    }
    return result;
}

}  // namespace gatehouse::agent

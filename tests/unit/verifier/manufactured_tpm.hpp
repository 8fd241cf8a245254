// A software TPM as it leaves its maker: endorsement keys made by swtpm_setup, their certificates by
// swtpm-localca, with a CA of its own, in NV.
#pragma once

#include "tests/unit/keyvault/provisioned_tpm.hpp"

namespace gatehouse::test {

// A directory that goes with the object.
class TemporaryDirectory {
  public:
    TemporaryDirectory();
    ~TemporaryDirectory();
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }

  private:
    std::string path_;
};

inline constexpr TPM2_HANDLE kRsaEk = 0x81010001;   // L-1
inline constexpr TPM2_HANDLE kP384Ek = 0x81010016;  // H-3
inline constexpr TPM2_NV_INDEX kRsaCertificate = 0x01c00002;
inline constexpr TPM2_NV_INDEX kP384Certificate = 0x01c00016;

// TCG EK Credential Profile 2.5, annex B: policies (B.6) and templates (B.3, B.4).
struct EkTemplate {
    TPM2_ALG_ID type;
    std::uint16_t size;  // RSA: bits; ECC: TPM2_ECC_CURVE
    TPM2_ALG_ID name_algorithm;
    std::uint16_t symmetric_bits;
    TPMA_OBJECT attributes;
    const char* policy;
};
inline constexpr EkTemplate kL2{TPM2_ALG_ECC,    TPM2_ECC_NIST_P256,
                                TPM2_ALG_SHA256, 128,
                                0x000300b2,      "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa"};
inline constexpr EkTemplate kH4{TPM2_ALG_ECC,
                                TPM2_ECC_NIST_P521,
                                TPM2_ALG_SHA512,
                                256,
                                0x000300f2,
                                "b8221ca69e8550a4914de3faa6a18c072cc01208073a928d5d66d59ef79e49a4"
                                "29c41a6b269571d57edb25fbdb1838425608b413cd616a5f6db5b6071af99bea"};
inline constexpr EkTemplate kH6{TPM2_ALG_RSA,
                                3072,
                                TPM2_ALG_SHA384,
                                256,
                                0x000300f2,
                                "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4"
                                "cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"};

class ManufacturedTpm {
  public:
    ManufacturedTpm();

    [[nodiscard]] Buffer root() const;    // DER
    [[nodiscard]] Buffer issuer() const;  // DER; signed by the root

    [[nodiscard]] Buffer read_nv(TPM2_NV_INDEX index);
    struct Key {
        ESYS_TR handle = ESYS_TR_NONE;
        Buffer public_area;  // TPMT_PUBLIC
        Buffer name;
    };
    [[nodiscard]] Key persistent(TPM2_HANDLE handle);
    // A primary key of the endorsement hierarchy, of a template that swtpm_setup does not make.
    [[nodiscard]] Key create_ek(const EkTemplate& like);
    // A restricted ECDSA P-256 key of the owner's hierarchy; another one for each `unique`.
    [[nodiscard]] Key create_attestation_key(std::uint8_t unique = 0);
    [[nodiscard]] ESYS_CONTEXT* context() { return esapi_->get(); }

    // TPM2_ActivateCredential; empty if the TPM refuses. `policy_a`: the EK wants PolicySecret(endorsement),
    // as L-1 and L-2 do; else its (empty) authorization value, as H-1 and the like allow.
    [[nodiscard]] Buffer activate(const Key& object, const Key& ek, bool policy_a, Bytes blob, Bytes secret);
    void flush(const Key& key);

  private:
    [[nodiscard]] Key create_primary(ESYS_TR hierarchy, const TPMT_PUBLIC& area);
    [[nodiscard]] Key describe(ESYS_TR handle);

    TemporaryDirectory directory_;
    std::unique_ptr<SoftwareTpm> device_;
    std::unique_ptr<Esapi> esapi_;
};

}  // namespace gatehouse::test

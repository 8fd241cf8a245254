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
    // A primary key of the endorsement hierarchy: template L-2, which swtpm_setup does not make.
    [[nodiscard]] Key create_l2();
    // A restricted ECDSA P-256 key of the owner's hierarchy.
    [[nodiscard]] Key create_attestation_key();

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

// The calls of a TPM that TctiSource needs, through ESAPI. Errors: ToolError.
#pragma once

#include <optional>

#include "attestation/agent/endorsement_key.hpp"
#include "keyvault/host_support/esapi.hpp"

namespace gatehouse::agent {

using host::Buffer;

class TctiTpm : public host::EsapiTpm {
  public:
    explicit TctiTpm(const std::string& tcti);

    // nullopt if there is no such index.
    [[nodiscard]] std::optional<Buffer> nv_contents(TPM2_HANDLE index) const;
    // Those of a range that there are: NV indices, persistent or transient objects, sessions; ascending, at most 256.
    [[nodiscard]] std::vector<TPM2_HANDLE> handles(TPM2_HANDLE first, TPM2_HANDLE last) const;
    // TPMT_PUBLIC.
    [[nodiscard]] Buffer public_area(ESYS_TR object) const;
    // Fills `key` with a primary key.
    void create_primary(ESYS_TR hierarchy, const TPM2B_PUBLIC& area, host::Transient& key) const;
};

// The endorsement key: a persistent one, or made anew from its template, which gives the same key each time.
class EndorsementKey {
  public:
    // The first of kEkPlaces that has a certificate and whose key can be had; else the first key of
    // kEkHandles, else the one of template L-2 or L-1, without a certificate.
    explicit EndorsementKey(const TctiTpm& tpm);

    [[nodiscard]] const Buffer& certificate() const { return certificate_; }
    [[nodiscard]] const Buffer& public_area() const { return public_area_; }
    // TPM2_ActivateCredential for the loaded object `attestation_key`; parts without their size fields.
    [[nodiscard]] Buffer activate(ESYS_TR attestation_key, Bytes credential_blob, Bytes encrypted_secret) const;

  private:
    [[nodiscard]] bool use_persistent(const EkPlace* place);
    [[nodiscard]] bool use_template(EkTemplate which);

    const TctiTpm& tpm_;
    host::Transient made_;  // if it is not persistent
    ESYS_TR handle_ = ESYS_TR_NONE;
    Buffer certificate_;
    Buffer public_area_;
};

}  // namespace gatehouse::agent

// An endpoint without a machine: EK, AK and TLS key in software, and all that an agent would send. For tests
// of the server and for load generators; depends on no test framework.
//
// Its evidence is that of the launch that reference() predicts (source "hypervisor"), or of PCRs 0, 4 and 7
// as tpm_policy() wants them (source "tpm"), unless the fields are changed.
#pragma once

#include <openssl/evp.h>

#include <memory>
#include <string>

#include "attestation/evidence/claims.hpp"
#include "attestation/protocol/messages.hpp"
#include "policies/prediction/predict.hpp"

namespace gatehouse::test {

using host::Buffer;

struct FreeKey {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using SoftwareKey = std::unique_ptr<EVP_PKEY, FreeKey>;
[[nodiscard]] SoftwareKey make_p256_key();

// Bytes of a repeatable kind.
[[nodiscard]] Buffer sample_bytes(std::string_view seed, std::size_t size);

class SoftwareEndpoint {
  public:
    explicit SoftwareEndpoint(std::string name = "laptop-1", std::string kind = "hypervisor");

    // --- enrollment
    [[nodiscard]] Buffer ek_public() const;  // TPMT_PUBLIC: ECC P-256, template L-2 of the EK profile
    [[nodiscard]] std::string ek_hash() const;
    [[nodiscard]] EVP_PKEY* ek() const { return ek_.get(); }
    [[nodiscard]] Buffer ak_public() const;
    [[nodiscard]] std::string csr() const;  // of tls_key()
    [[nodiscard]] EVP_PKEY* tls_key() const { return tls_.get(); }
    [[nodiscard]] std::string tls_key_pem() const;
    [[nodiscard]] protocol::EnrollRequest enroll_request(const std::string& token = "") const;
    // What TPM2_ActivateCredential does (Part 1, 24). std::runtime_error if the credential is not for this EK
    // and AK.
    [[nodiscard]] Buffer activate(const protocol::EnrollChallenge& challenge) const;
    // Another attestation key and TLS key of the same TPM, as after a new installation.
    void renew_keys();
    // Another EK of the same TPM; the attestation key stays.
    void use_another_ek();
    // What TPM2_Clear does: the storage root key is another one, and so are the keys under it.
    void clear_tpm();
    // The attestation key of another endpoint.
    void take_attestation_key(const SoftwareEndpoint& other);

    // --- attestation
    [[nodiscard]] protocol::AttestRequest attest(Bytes nonce) const;

    std::string hostname;
    std::string source;
    std::uint64_t clock = 5'000'000;
    std::uint32_t reset_count = 70, restart_count = 30;
    std::uint64_t firmware_version = 0x20260101'00000001;
    evidence::Claims claims;
    bool other_kernel = false;                // measured, logged and quoted
    Buffer pcr7 = sample_bytes("pcr 7", 32);  // of source "tpm"
    bool shows_identity = true;               // as agents do that know how

  private:
    void show_identity(protocol::EnrollRequest& request) const;

    SoftwareKey ek_, ak_, tls_;
    SoftwareKey ecc_ek_, srk_;  // what the TPM makes of template L-2, and of that of the storage root key
};

// The launch of the endpoints' image.
[[nodiscard]] const policies::Prediction& reference();
// Policies (verifier/policy.hpp) that accept them; `changes` is merged into the JSON.
[[nodiscard]] std::string hypervisor_policy(const std::string& name, std::uint64_t version,
                                            const std::string& changes = "{}");
[[nodiscard]] std::string tpm_policy(const std::string& name, std::uint64_t version, const std::string& changes = "{}");

}  // namespace gatehouse::test

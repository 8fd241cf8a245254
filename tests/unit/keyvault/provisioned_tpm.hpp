// A software TPM set up as `sealed-key` sets up a real one, through tpm2-tss's ESAPI: storage root key,
// rollback counter, attestation key and a sealed secret; and an authority that signs with OpenSSL.
#pragma once

#include <openssl/evp.h>
#include <tss2/tss2_esys.h>

#include <memory>

#include "keyvault/tpm/sealing.hpp"
#include "keyvault/tpm_templates/templates.hpp"
#include "tests/unit/keyvault/software_tpm.hpp"

namespace gatehouse::test {

// ESAPI over any Transport.
class Esapi {
  public:
    explicit Esapi(tpm::Transport& transport);
    ~Esapi();
    Esapi(const Esapi&) = delete;
    Esapi& operator=(const Esapi&) = delete;
    [[nodiscard]] ESYS_CONTEXT* get() const { return context_; }

  private:
    struct Tcti;
    std::unique_ptr<Tcti> tcti_;
    ESYS_CONTEXT* context_ = nullptr;
};

// A key pair of the policy authority.
class Authority {
  public:
    enum class Kind { kEcc, kRsa2048, kRsa3072 };
    explicit Authority(Kind kind = Kind::kEcc);
    [[nodiscard]] const tpm::PublicArea& public_area() const { return public_area_; }
    [[nodiscard]] tpm::Name name() const { return tpm::name_of(public_area_.bytes()); }
    // TPMT_SIGNATURE over SHA-256 of `message`.
    [[nodiscard]] tpm::SignatureBlob sign(Bytes message) const;
    // Over an approved policy and its reference.
    [[nodiscard]] tpm::SignatureBlob approve(const Sha256Digest& policy, Bytes policy_ref) const;

  private:
    Kind kind_;
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_{nullptr, EVP_PKEY_free};
    tpm::PublicArea public_area_;
};

// A random source for tests that need no secrecy: a counter in SHA-256.
class TestRandom final : public RandomSource {
  public:
    void fill(MutableBytes out) override;

  private:
    std::uint64_t counter_ = 0;
};

struct ProvisionedTpm {
    explicit ProvisionedTpm(Authority::Kind kind = Authority::Kind::kEcc);

    // SKINIT of `image`, then the payload into PCR 18 and, if there is one, the machine into PCR 19, at locality 2; leaves
    // the TPM at locality 2.
    void launch(Bytes image, Bytes payload, Bytes machine = {});
    // By the owner.
    void increment_counter();
    // With the index's own, empty, authorization.
    [[nodiscard]] std::uint64_t read_counter();
    // Approves the machine as launch(image, payload) leaves it.
    [[nodiscard]] tpm::Approval approve(Bytes image, Bytes payload, std::uint64_t limit);
    // Approves a machine as launch(..., machine) leaves it.
    [[nodiscard]] tpm::MachineApproval approve_machine(Bytes machine);
    // The request for the approval; `approval.signature` must outlive it.
    [[nodiscard]] tpm::UnsealRequest request(const tpm::Approval& approval) const;
    struct SealedObject {
        tpm::PublicArea public_area;
        tpm::PrivateBlob private_blob;
    };
    // Seals to the authority under the storage root key: to approved releases or, `on_machine`, to approved releases on
    // approved machines.
    [[nodiscard]] SealedObject seal(Bytes data, bool on_machine = false);
    // TPM handles that are loaded now: transient objects and sessions.
    [[nodiscard]] std::size_t loaded_handles();

    SoftwareTpm device;
    tpm::Tpm tpm{device};
    TestRandom random;
    Authority authority;
    Buffer policy_ref;
    Secret<32> secret;
    tpm::Name storage_root_key{};
    tpm::PublicArea sealed_public;
    tpm::PrivateBlob sealed_private;
    tpm::PublicArea attestation_public;
    tpm::PrivateBlob attestation_private;
    std::uint64_t counter = 0;

  private:
    tpm::SignatureBlob signature_;          // of the last approval
    tpm::SignatureBlob machine_signature_;  // and of the last machine's
};

// PCR value after one extend of a PCR that is zero.
[[nodiscard]] Sha256Digest extended_once(Bytes data);

// Whether `signature` (TPMT_SIGNATURE) of the ECC P-256 key `public_area` (TPMT_PUBLIC) over `message` is
// right.
[[nodiscard]] bool verify_ecdsa(Bytes public_area, Bytes message, Bytes signature);

}  // namespace gatehouse::test

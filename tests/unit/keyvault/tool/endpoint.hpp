// An endpoint for tests: an appliance image provisioned against a software TPM by the project's own tools,
// and its dynamic launch as the SLB and the hypervisor do it, up to the quote.
#pragma once

#include <nlohmann/json.hpp>

#include "attestation/evidence/claims.hpp"
#include "keyvault/tpm/sealing.hpp"
#include "keyvault/volume/header.hpp"
#include "tests/unit/keyvault/software_tpm.hpp"
#include "tests/unit/policies/appliance.hpp"

namespace gatehouse::test {

// What the guest program would write into the evidence directory.
struct EvidenceFiles {
    Buffer quote;
    Buffer signature;
    Buffer key;  // TPM2B_PUBLIC
    Buffer claims;
    Buffer event_log;
    void write_to(const std::string& directory) const;
};

class Endpoint {
  public:
    explicit Endpoint(const std::string& authority_key_type = "EC") : appliance(authority_key_type) {}

    // srk-name, a bundle that pins this endpoint and a vault that is not there yet, image: everything before provisioning.
    void prepare(std::size_t sector_size = 512);
    // The command line of `sealed-key provision` for the image.
    [[nodiscard]] std::vector<std::string> provision_arguments() const;
    // prepare(), provision, pin the vault that was made and sign; fails the test if one of them fails.
    void provision(std::size_t sector_size = 512);
    // The second half of it: a bundle that pins `provisioned`'s vault, and its approval, on the image.
    void pin_and_sign();

    [[nodiscard]] std::string recovery_key() const { return appliance.path("recovery.key"); }
    [[nodiscard]] std::string attestation_key() const { return appliance.path("ak.pem"); }
    [[nodiscard]] Buffer vault_id() const;

    // SKINIT of the image's SLB, then all measurements until the unseal, at locality 2; `tables` are the machine's.
    void launch(const std::vector<Table>& tables = {});
    // The vault's secret, by the image's bundle and approval.
    [[nodiscard]] Result<Secret<32>> unseal();
    // Opens both copies of the header with it, the newest one last, and measures whose vault it is.
    void open_vault(volume::Header& header, volume::Keys& keys);
    void cap();
    // As after an ordinary boot of an appliance with one disk and an IOMMU.
    // The facts that launch() measures.
    [[nodiscard]] evidence::Claims claims() const;
    [[nodiscard]] EvidenceFiles attest(const volume::Header& header, const evidence::Claims& claims, Bytes nonce,
                                       std::span<const tpm::PcrSelection> selections);
    // PCRs 17, 18 and 19 of every active bank.
    [[nodiscard]] std::vector<tpm::PcrSelection> selections();

    Appliance appliance;
    SoftwareTpm device;
    tpm::Tpm tpm{device};
    nlohmann::json provisioned;  // what sealed-key printed

  private:
    void measure(std::uint32_t pcr, const evidence::Measurement* measurement, Bytes object);

    Buffer log_storage_;
    std::vector<HashAlgorithm> banks_;
    std::optional<evidence::EventLogWriter> log_;
    Random random_;
    bool seeded_ = false;
    RandomSource& random();
};

// Of a tool that was to say yes, what it printed: JSON.
nlohmann::json expect_yes(const Outcome& outcome);
// It refused, in one line that has these words.
void expect_refusal(const Outcome& outcome, const std::string& why, int status = 3);

}  // namespace gatehouse::test

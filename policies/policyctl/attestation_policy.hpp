// The subcommands that make and sign attestation policies (attestation/verifier/policy.hpp).
#pragma once

#include "attestation/verifier/policy.hpp"
#include "keyvault/host_support/support.hpp"

namespace CLI {
class App;
}

namespace gatehouse::policies {

// policyctl attestation-policy: writes a policy as JSON.
struct MakeAttestationPolicy {
    std::string name;
    std::uint64_t version = 0;
    std::vector<std::string> references;  // files that `policyctl predict --json` printed
    std::vector<std::string> images;      // or the images themselves
    std::vector<std::string> pcrs;        // BANK:PCR=HEX
    std::vector<std::string> corims;      // signed by corim_key
    std::string corim_key;
    std::uint64_t counter_floor = 0;
    std::string minimum_hypervisor;
    bool refuse_contradictions = false;  // source tpm
    bool own_storage_root = false;
    bool allow_no_iommu = false;
    std::vector<std::string> vault_ids;  // hex
    bool allow_unpinned_vault = false;
    std::vector<std::string> machine_models;     // files that `policyctl machine learn` wrote
    std::vector<std::string> minimum_microcode;  // SIGNATURE=LEVEL
    bool require_smm_lock = false;
    std::uint32_t minimum_iommus = 0;
    std::string acpi;
    std::vector<std::string> tpm_firmware;
    std::uint32_t max_crl_age_days = 0;  // 0: of no account
    std::uint32_t lease_s = verifier::Policy{}.lease_s;
    std::string out;

    void add_to(CLI::App& command);
    [[nodiscard]] host::ExitCode run() const;
};

// policyctl sign-attestation-policy: signs one as an authority.
struct SignAttestationPolicy {
    std::string key;
    std::string policy;
    std::string out;

    void add_to(CLI::App& command);
    [[nodiscard]] host::ExitCode run() const;
};

}  // namespace gatehouse::policies

// The keys of a vault, made and sealed to an endpoint's TPM.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "keyvault/tool/encryption.hpp"
#include "keyvault/tool/endpoint_tpm.hpp"

namespace gatehouse::host {

// What a vault is to be sealed to, as the operator says it.
struct SealingRequest {
    std::string tcti;
    std::string authority;  // public key, PEM file
    std::string policy_ref;
    TPM2_HANDLE counter_index = tpm::kRollbackCounter;
    bool machine_acpi = false;  // to approved releases on approved machines, not to approved releases alone
};

// The endpoint that it is sealed to. SRK and counter are made where they are missing.
struct Endpoint {
    Endpoint(EndpointTpm& tpm, const SealingRequest& request);
    tpm::Name storage_root_key{};
    tpm::PublicArea authority;
    RollbackCounter counter;
    Sha256Digest policy{};  // the sealed object's authPolicy
};

// The operating system's and the TPM's random numbers, mixed.
class EndpointRandom final : public RandomSource {
  public:
    explicit EndpointRandom(EndpointTpm& tpm);
    void fill(MutableBytes out) override { random_.fill(out); }

  private:
    Random random_;
};

// Gives `vault`, whose header has disk and layout and whose keys have a DEK, a new root secret, vault id and KEK, and slots:
// the TPM's, with a new sealed secret, and one of `recovery` unless that is null. Checks that the header opens with the
// sealed secret and gives back the same keys. The attestation key of the header is kept if the TPM can load it.
void make_vault(EndpointTpm& tpm, const Endpoint& endpoint, RandomSource& random, const volume::SlotSecret* recovery,
                OpenVault& vault);

// How the image's policy bundle fits a vault.
enum class BundleFit : std::uint8_t {
    kNone,        // there is none
    kFleet,       // it names an enrollment key: a record is wanted
    kOtherVault,  // it pins this endpoint and a vault that it does not have
    kThisVault,   // it pins this vault
};
// The bundle is measured: ToolError if it pins other values than those that the vault is sealed to, so that the vault could
// never be opened.
[[nodiscard]] BundleFit check_bundle(const Disk& disk, const SealingRequest& request, const Endpoint& endpoint,
                                     const volume::VaultId* vault_id);

// What is known of a vault from its header: {"disk", "vault_id", "label" (a proposal), "srk_name", "authority_name",
// "ak_name", "ak_public" (PEM), "generation", "key_epoch", "sector_size", "total_sectors", "encrypted_bytes", "regions"}.
[[nodiscard]] nlohmann::json vault_json(const volume::Header& header);
// Adds what it was sealed to, and "next": the commands that the endpoint needs before it boots.
void add_sealing(nlohmann::json& to, const SealingRequest& request, const Endpoint& endpoint, BundleFit fit,
                 const std::string& disk);

// The attestation key's public half as "PUBLIC KEY" PEM.
[[nodiscard]] std::string attestation_key_pem(const volume::Header& header);

}  // namespace gatehouse::host

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
    std::string owner_password;  // file; empty: the TPM's owner hierarchy has none
    bool machine_acpi = false;   // to approved releases on approved machines, not to approved releases alone
};

// The endpoint that it is sealed to. SRK and counter are made where they are missing.
struct Endpoint {
    Endpoint(EndpointTpm& tpm, const SealingRequest& request);
    tpm::Name storage_root_key{};
    tpm::PublicArea authority;
    RollbackCounter counter;
    Sha256Digest policy{};  // the sealed object's authPolicy
};

// The operating system's random numbers; for what no TPM has a part in.
class SystemRandom final : public RandomSource {
  public:
    void fill(MutableBytes out) override;
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

// Its parts. A new KEK for root secret and disk key as they are; of the slots one of `recovery` is left, if not null.
void renew_kek(RandomSource& random, const volume::SlotSecret* recovery, OpenVault& vault);
// A new sealed secret, and the TPM's slot for the KEK as it is. Checks that the header opens with it.
void seal_vault(EndpointTpm& tpm, const Endpoint& endpoint, RandomSource& random, OpenVault& vault);
void renew_attestation_key(EndpointTpm& tpm, volume::Header& header);
// Makes one only if the TPM cannot load the header's.
void keep_or_make_attestation_key(EndpointTpm& tpm, volume::Header& header);

// Whether the TPM's slot is for the TPM with this SRK.
[[nodiscard]] bool is_sealed_to(const volume::Slots& slots, const std::optional<tpm::Name>& storage_root_key);

// What the boot partition holds besides the release (policies/prediction/predict.hpp has the names); nothing if it is not there.
[[nodiscard]] std::optional<Buffer> small_boot_file(const Disk& disk, const volume::GptEntry& boot, const char* name);

// How the image's policy bundle fits a vault.
enum class BundleFit : std::uint8_t {
    kNone,        // there is none
    kFleet,       // it names an enrollment key: a record is wanted that is not there yet
    kOtherVault,  // it pins a vault, or a TPM, that this endpoint does not have
    kThisVault,   // it pins this vault, or the record does that is there
};
// The bundle is measured: ToolError if it pins other values than those that the vault is sealed to, so that the vault could
// never be opened; but for the SRK, if the endpoint gets another TPM.
enum class TpmChange : std::uint8_t { kRefused, kAllowed };
[[nodiscard]] BundleFit check_bundle(const Disk& disk, const SealingRequest& request, const Endpoint& endpoint,
                                     const volume::VaultId* vault_id, TpmChange change = TpmChange::kRefused);

// What is known of a vault from its header: {"disk", "vault_id", "label" (a proposal), "srk_name", "authority_name",
// "ak_name", "ak_public" (PEM; of a member none of these but "disk" and "vault_id"), "generation", "key_epoch", "sector_size",
// "total_sectors", "encrypted_bytes", "regions"}.
[[nodiscard]] nlohmann::json vault_json(const volume::Header& header);
// Adds what it was sealed to, and "next": the commands that the endpoint needs before it boots.
// `files`: whether those on the disk's boot partition are as the operator put them there. Of a disk that was out of hands none is
// approved where it lies: the approval is made of the release's own files.
enum class BootFiles : std::uint8_t { kOurs, kNotOurs };
void add_sealing(nlohmann::json& to, const SealingRequest& request, const Endpoint& endpoint, BundleFit fit,
                 const std::string& disk, BootFiles files = BootFiles::kOurs);

// The attestation key's public half as "PUBLIC KEY" PEM.
[[nodiscard]] std::string attestation_key_pem(const volume::Header& header);

}  // namespace gatehouse::host

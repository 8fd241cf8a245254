// What this boot may do, and on whose word: the measured bundle, and the files that it vouches for.
#pragma once

#include "attestation/evidence/claims.hpp"
#include "hypervisor/boot/payload.hpp"
#include "hypervisor/boot/vault.hpp"
#include "keyvault/tpm/sealing.hpp"

namespace gatehouse::boot {

// Views into the payload.
struct Policy {
    policies::Bundle bundle;
    policies::Approval approval;                       // untrusted
    std::optional<policies::MachineApproval> machine;  // untrusted; read if the guest gets the machine's ACPI tables
    // Of the bundle or, in a fleet, of the endpoint's record: nothing else can say which vault is this endpoint's.
    Bytes srk_name;
    Bytes vault_id;
    evidence::VaultPin pin = evidence::VaultPin::kNone;
};

// Errors: those of the parsers; kNotFound "endpoint record": wanted by the bundle and not there.
[[nodiscard]] Result<Policy> read_policy(const Payload& payload);

// Releases the boot vault's secret by the sealing policy, with what is pinned by measured data.
class TpmUnsealer final : public Unsealer {
  public:
    // All of it must outlive this. `tpm` at locality 2.
    TpmUnsealer(tpm::Tpm& tpm, RandomSource& random, const Policy& policy)
        : tpm_(tpm), random_(random), policy_(policy) {}

    // Errors: those of tpm::unseal(); kNotFound without a TPM slot.
    [[nodiscard]] Result<volume::SlotSecret> unseal(const volume::Slots& slots) override;

  private:
    tpm::Tpm& tpm_;
    RandomSource& random_;
    const Policy& policy_;
};

}  // namespace gatehouse::boot

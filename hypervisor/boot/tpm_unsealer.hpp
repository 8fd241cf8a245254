// TpmUnsealer: releases the boot vault's secret by the sealing policy, with what is pinned by measured data.
#pragma once

#include "hypervisor/boot/policy.hpp"
#include "hypervisor/boot/vault.hpp"
#include "keyvault/tpm/sealing.hpp"

namespace gatehouse::boot {

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

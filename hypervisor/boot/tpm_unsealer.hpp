// TpmUnsealer: releases a vault's secret by the sealing policy, with what the measured bundle pins.
#pragma once

#include "hypervisor/boot/vault.hpp"
#include "keyvault/tpm/sealing.hpp"
#include "policies/bundle/bundle.hpp"

namespace gatehouse::boot {

class TpmUnsealer final : public Unsealer {
  public:
    // All of it must outlive this. `tpm` at locality 2.
    TpmUnsealer(tpm::Tpm& tpm, RandomSource& random, const policies::Bundle& bundle, const policies::Approval& approval)
        : tpm_(tpm), random_(random), bundle_(bundle), approval_(approval) {}

    [[nodiscard]] Result<volume::SlotSecret> unseal(const volume::TpmSlot& slot) override;

  private:
    tpm::Tpm& tpm_;
    RandomSource& random_;
    const policies::Bundle& bundle_;
    const policies::Approval& approval_;
};

}  // namespace gatehouse::boot

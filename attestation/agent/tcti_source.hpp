// Evidence by any TPM that this program may use itself. Nothing vouches for who asked the TPM: its evidence
// says source "tpm", and a server never takes it for that of a measured hypervisor.
//
// Owner and endorsement authorization are empty. The attestation key is made under the storage root key,
// which is the one at 0x81000001 if there is one, and kept as ak.blob in the state directory.
//
// A TPM without a resource manager keeps what a program that was killed had loaded, until it has no room for more.
// What is of the agent's own templates is flushed then; what may be others' is named. leftovers.hpp
#pragma once

#include <tss2/tss2_esys.h>

#include "attestation/agent/evidence_source.hpp"
#include "attestation/agent/state_directory.hpp"

namespace gatehouse::agent {

class TctiSource final : public EvidenceSource {
  public:
    // Connects to the TPM in each call, and lets it go: other programs want it, too.
    TctiSource(std::string tcti, const std::string& state_directory, std::string firmware_log)
        : tcti_(std::move(tcti)), state_(state_directory), firmware_log_(std::move(firmware_log)) {}

    [[nodiscard]] const char* name() const override { return "tpm"; }
    // Makes an attestation key if there is none yet; or, on demand, if the TPM says that the present one is not its own.
    [[nodiscard]] Identity identity(LostKey lost) override;
    [[nodiscard]] Buffer activate(Bytes credential_blob, Bytes encrypted_secret) override;
    // A quote of PCRs 0-9 and 14 of SHA-256 over evidence::qualifying_data(nonce, no claims), with their values.
    [[nodiscard]] protocol::AttestRequest evidence(Bytes nonce) override;

  private:
    [[nodiscard]] IdentityProof proof() const;
    [[nodiscard]] Buffer firmware_log() const;
    // `step` with the TPM; once more, if it had no room and something could be flushed that an agent left behind.
    template <typename Step>
    auto with_room(Step step) const;

    std::string tcti_;
    StateDirectory state_;
    std::string firmware_log_;
};

}  // namespace gatehouse::agent

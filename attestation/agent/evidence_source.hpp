// Where evidence comes from: the hypervisor's quote channel, or a TPM that this program may use itself.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "attestation/protocol/messages.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::agent {

using host::Buffer;

// What shows which TPM it is, whatever EK goes with it (verifier/tpm_identity.hpp); empty: the TPM does not do it.
struct IdentityProof {
    std::vector<Buffer> keys;
    Buffer attest, signature;
};

// Who this endpoint is: what EnrollRequest needs of it.
struct Identity {
    Buffer ek_certificate;         // as in NV, padding included; empty: the TPM has none that fits the key
    std::vector<Buffer> ek_chain;  // NV 0x01c00100 onwards
    Buffer ek_public;              // TPMT_PUBLIC
    Buffer ak_public;              // TPMT_PUBLIC
    IdentityProof proof;
};

// Not thread-safe. Each call may throw host::ToolError or ChannelError: what the TPM or the hypervisor
// refused.
class EvidenceSource {
  public:
    virtual ~EvidenceSource() = default;
    // "hypervisor" or "tpm", as the protocol has it.
    [[nodiscard]] virtual const char* name() const = 0;
    // The same endorsement and attestation key each time. One that the TPM cannot use any more, since it is another
    // TPM or was cleared, is replaced only on demand; else, and for whatever else goes wrong, the call throws.
    enum class LostKey : bool { kKeep, kReplace };
    [[nodiscard]] virtual Identity identity(LostKey lost) = 0;
    // TPM2_ActivateCredential for the keys of identity(); both arguments with their size fields, as
    // EnrollChallenge has them.
    [[nodiscard]] virtual Buffer activate(Bytes credential_blob, Bytes encrypted_secret) = 0;
    // Evidence for `nonce`.
    [[nodiscard]] virtual protocol::AttestRequest evidence(Bytes nonce) = 0;
    // The id of the vault that the hypervisor has opened at its start; nullopt: there is none, or no hypervisor to ask.
    [[nodiscard]] virtual std::optional<Sha256Digest> vault() { return std::nullopt; }
};

// `source`: "channel", or a TCTI string as in tctildr(3): "device:/dev/tpmrm0". A TPM's attestation key is
// kept, as the blob that only that TPM can load, in `state_directory`; `firmware_log` is the path of the
// firmware's event log for a TPM's evidence, which may be absent. ToolError: no such source, or a program
// that was built without TCTI.
[[nodiscard]] std::unique_ptr<EvidenceSource> open_source(const std::string& source, const std::string& state_directory,
                                                          const std::string& firmware_log);

}  // namespace gatehouse::agent

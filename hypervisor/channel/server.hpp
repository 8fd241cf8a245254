// Answers the mailbox (mailbox.hpp): one request at a time, from a private copy, whatever the guest writes meanwhile.
#pragma once

#include "attestation/evidence/claims.hpp"
#include "hypervisor/channel/converter.hpp"

namespace gatehouse::channel {

// What the server tells about. All views stay valid until the next call.
class Source {
  public:
    [[nodiscard]] virtual evidence::Claims claims() = 0;
    // The log's text, oldest line first; the guest is given it in parts.
    [[nodiscard]] virtual Bytes log_text() = 0;
    [[nodiscard]] virtual Bytes event_log() = 0;

    struct Quote {
        Bytes attest;     // TPMS_ATTEST
        Bytes signature;  // TPMT_SIGNATURE
        Bytes key;        // TPMT_PUBLIC of the attestation key
    };
    // kState if there is no attestation key in this boot; any other failure is the TPM's.
    [[nodiscard]] virtual Result<Quote> quote(const Sha256Digest& qualifying_data) = 0;
    // tpm::read_endorsement() and tpm::activate_credential(): the size of what was written to `out`.
    // kOutOfRange: not a handle that may be asked for; kState, kNotFound and kRefused: not available; any
    // other failure is the TPM's.
    [[nodiscard]] virtual Result<std::size_t> endorsement(std::uint32_t handle, MutableBytes out) = 0;
    [[nodiscard]] virtual Result<std::size_t> activate(std::uint32_t handle, Bytes credential, Bytes secret,
                                                       MutableBytes out) = 0;

    // Of kConvert; none: there is nothing to convert.
    Converter* converter = nullptr;

  protected:
    ~Source() = default;
};

// Executes the request in `mailbox` (kMailboxSize bytes, shared with the guest) and writes the answer over
// it. The header is written last.
void serve(Source& source, MutableBytes mailbox);

}  // namespace gatehouse::channel

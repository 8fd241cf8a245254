// Measurer: extends a PCR in every active bank and writes the event, as one step.
//
// The PCR is extended before the event is logged: a log that lacks an event fails its replay, which a verifier
// notices; a log that has one too many would not mean anything either. Any failure is final for the boot: no key.
#pragma once

#include "attestation/evidence/launch_log.hpp"
#include "hypervisor/launch/layout.hpp"
#include "keyvault/tpm/tpm.hpp"

namespace gatehouse::boot {

class Measurer {
  public:
    // The banks are those of the log, at most kMaxBanks. `tpm` at locality 2.
    Measurer(tpm::Tpm& tpm, evidence::EventLogWriter& log) : tpm_(tpm), log_(log) {}

    // Good until the next call.
    [[nodiscard]] std::span<const Digest> hash_in_all_banks(Bytes object);
    // Extends the PCR of a measurement with the hash of `object`.
    [[nodiscard]] Status extend(const evidence::Measurement& measurement, Bytes object);
    // Caps PCRs 17, 18 and 19: nothing later in this boot meets the sealing policy again.
    [[nodiscard]] Status cap();

  private:
    tpm::Tpm& tpm_;
    evidence::EventLogWriter& log_;
    std::array<Digest, launch::kMaxBanks> digests_;
};

}  // namespace gatehouse::boot

// Measurer: extends a PCR in every active bank and writes the event, as one step.
//
// The PCR is extended before the event is logged: a log that lacks an event fails its replay, which a verifier
// notices; a log that has one too many would not mean anything either. Any failure is final for the boot: no key.
#pragma once

#include "attestation/evidence/event_log.hpp"
#include "keyvault/tpm/tpm.hpp"

namespace gatehouse::boot {

class Measurer {
  public:
    // The banks are those of the log. `tpm` at locality 2.
    Measurer(tpm::Tpm& tpm, evidence::EventLogWriter& log) : tpm_(tpm), log_(log) {}

    // Extends the PCR of a measurement (by its tag: a row of kMeasurements) with the hash of `object`.
    [[nodiscard]] Status extend(evidence::MeasurementTag tag, Bytes object);
    [[nodiscard]] Status extend(const evidence::Measurement& measurement, Bytes object);
    // Caps PCRs 17, 18 and 19: nothing later in this boot meets the sealing policy again.
    [[nodiscard]] Status cap();

  private:
    struct Digests {
        std::array<Digest, evidence::kMaxLogBanks> all;
        std::size_t count;
        [[nodiscard]] std::span<const Digest> span() const { return std::span(all).first(count); }
    };
    [[nodiscard]] Digests hash_in_all_banks(Bytes object) const;

    tpm::Tpm& tpm_;
    evidence::EventLogWriter& log_;
};

}  // namespace gatehouse::boot

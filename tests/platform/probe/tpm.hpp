// Reading PCRs through the TPM's TIS or CRB registers (TCG PC Client Platform TPM Profile 1.05, 6.5).
#pragma once

#include <stdint.h>

namespace probe {

inline constexpr uint32_t kTpm = 0xfed40000;

enum class TpmKind { kNone, kTis, kCrb };
TpmKind tpm_kind();

// Reads PCRs 17-22 of every active bank at locality 0 and prints "pcr WHEN BANK NUMBER DIGEST"; asks for the locality
// before, and gives it back afterwards.
void print_pcrs(const char* when);

// Gives locality 0 back (the firmware keeps it); takes it.
void tpm_relinquish();
void tpm_request();

}  // namespace probe

// The work of XtsKey by VAES on ymm registers: two blocks an instruction.
#pragma once

#include "ata/xts/xts.hpp"

namespace gatehouse::ata {

// Whether this CPU has VAES and AVX2, and XCR0 has ymm registers enabled (APM vol. 2, 11.5.2).
[[nodiscard]] bool can_use_vaes();

// As XtsKey::transform(), with the schedules of the data key, to encrypt or to decrypt, and of the tweak key. Uses
// ymm0-ymm15, and zeroes what lies above them in zmm0-zmm15.
void transform_by_vaes(bool encrypt, const std::byte* schedule, const std::byte* tweak_schedule,
                       const Sectors& sectors);

}  // namespace gatehouse::ata

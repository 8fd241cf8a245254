// The one bounded wait: for a device, another processor, or time itself.
#pragma once

#include <cstdint>

namespace gatehouse {

// Looks until `holds` or the time is over, and once more after that: whether it held. `limit` is in the units of
// `now`, a clock that never goes back and may run slow, which prolongs the wait, but not fast.
template <typename Clock, typename Condition>
[[nodiscard]] bool until(Clock now, std::uint64_t limit, Condition holds) {
    for (const std::uint64_t start = now();; __builtin_ia32_pause()) {
        const bool last = now() - start > limit;
        if (holds()) return true;
        if (last) return false;
    }
}

}  // namespace gatehouse

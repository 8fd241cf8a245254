// When the daemon does what. Pure: `unit` is a random number from 0 to 1, and time is the caller's.
#pragma once

#include <algorithm>
#include <cstdint>

namespace gatehouse::agent {

// Seconds to the next attestation: at most `interval_s` and what the server asks for (0: nothing), and up to
// a fifth earlier, so that a fleet that started together spreads out.
[[nodiscard]] inline double until_next(unsigned interval_s, unsigned asked_s, double unit) {
    const unsigned longest = asked_s == 0 ? interval_s : std::min(interval_s, asked_s);
    return std::max(1.0, longest * (1.0 - 0.2 * unit));
}

// Exponential back-off with jitter, from 5 s to 10 minutes; a server's Retry-After is the least, up to an
// hour: one wrong answer must not silence an endpoint for years.
class Backoff {
  public:
    static constexpr double kFirst = 5, kMost = 600;
    static constexpr unsigned kLongestWish = 3600;
    [[nodiscard]] double next(unsigned retry_after_s, double unit) {
        const double most = std::min(kMost, kFirst * static_cast<double>(std::uint64_t{1} << failures_));
        if (failures_ < 10) ++failures_;
        return std::max(most * (0.5 + 0.5 * unit), std::min(retry_after_s, kLongestWish) * (1.0 + 0.2 * unit));
    }
    void reset() { failures_ = 0; }

  private:
    unsigned failures_ = 0;
};

// Whether a certificate is to be renewed: less than a third of its life is left.
[[nodiscard]] inline bool renewal_due(std::int64_t from, std::int64_t until, std::int64_t now) {
    return until - now < (until - from) / 3;
}

}  // namespace gatehouse::agent

#include "attestation/server/http/limits.hpp"

#include <gtest/gtest.h>

namespace gatehouse::http {
namespace {

using std::chrono::seconds;

TEST(RateLimiter, LetsABurstPassThenTheRate) {
    RateLimiter limiter({.per_second = 2, .burst = 3});
    const RateLimiter::Clock::time_point start{};
    for (int i = 0; i < 3; ++i) EXPECT_EQ(limiter.take("a", start), 0u);
    EXPECT_EQ(limiter.take("a", start), 1u);
    EXPECT_EQ(limiter.take("b", start), 0u) << "another peer has a bucket of its own";
    EXPECT_EQ(limiter.take("a", start + seconds(1)), 0u);
    EXPECT_EQ(limiter.take("a", start + seconds(1)), 0u);
    EXPECT_EQ(limiter.take("a", start + seconds(1)), 1u);
}

TEST(RateLimiter, SaysHowLongToWait) {
    RateLimiter limiter({.per_second = 0.1, .burst = 1});
    const RateLimiter::Clock::time_point start{};
    EXPECT_EQ(limiter.take("a", start), 0u);
    EXPECT_EQ(limiter.take("a", start), 10u);
    EXPECT_EQ(limiter.take("a", start + seconds(4)), 6u);
    EXPECT_EQ(limiter.take("a", start + seconds(10)), 0u);
}

TEST(RateLimiter, AskingTakesNothing) {
    RateLimiter limiter({.per_second = 1, .burst = 1});
    const RateLimiter::Clock::time_point start{};
    EXPECT_EQ(limiter.wait_of("a", start), 0u);
    EXPECT_EQ(limiter.wait_of("a", start), 0u);
    EXPECT_EQ(limiter.take("a", start), 0u);
    EXPECT_EQ(limiter.wait_of("a", start), 1u);
}

TEST(RateLimiter, MemoryIsBoundedAgainstManyAddresses) {
    RateLimiter limiter({.per_second = 0.001, .burst = 2});
    const RateLimiter::Clock::time_point start{};
    unsigned refused = 0;
    for (std::size_t i = 0; i < 3 * RateLimiter::kMaxKeys; ++i) {
        refused += limiter.take(std::to_string(i), start) != 0 ? 1 : 0;
    }
    EXPECT_LE(limiter.keys(), RateLimiter::kMaxKeys + 16);
    EXPECT_GT(refused, 0u) << "newcomers beyond the bound share a bucket";
    EXPECT_EQ(limiter.take("late", start + seconds(10'000)), 0u) << "buckets that are full again are forgotten";
}

}  // namespace
}  // namespace gatehouse::http

#include "attestation/agent/schedule.hpp"

#include <gtest/gtest.h>

namespace gatehouse::agent {
namespace {

TEST(Schedule, NeverLaterThanTheServerAsks) {
    for (const double unit : {0.0, 0.5, 1.0}) {
        EXPECT_LE(until_next(300, 100, unit), 100);
        EXPECT_GE(until_next(300, 100, unit), 80);
        EXPECT_LE(until_next(300, 0, unit), 300);
        EXPECT_GE(until_next(1, 1, unit), 1);
    }
    EXPECT_NE(until_next(300, 0, 0.2), until_next(300, 0, 0.8));
}

TEST(Schedule, BacksOffAndHeedsRetryAfter) {
    Backoff backoff;
    double last = 0;
    for (int i = 0; i < 7; ++i) {
        const double next = backoff.next(0, 1);
        EXPECT_GT(next, last);
        last = next;
    }
    for (int i = 0; i < 100; ++i) EXPECT_LE(backoff.next(0, 1), Backoff::kMost);
    EXPECT_GE(backoff.next(3000, 0), 3000);
    EXPECT_LE(backoff.next(4'000'000'000, 1), 2 * 3600);
    backoff.reset();
    EXPECT_LE(backoff.next(0, 1), Backoff::kFirst);
}

TEST(Schedule, RenewsInTheLastThirdOfACertificatesLife) {
    EXPECT_FALSE(renewal_due(0, 900, 599));
    EXPECT_TRUE(renewal_due(0, 900, 601));
    EXPECT_TRUE(renewal_due(0, 900, 1000));
}

}  // namespace
}  // namespace gatehouse::agent

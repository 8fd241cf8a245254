// The one bounded wait, by a clock that counts how often it is read.
#include "hypervisor/base/until.hpp"

#include <gtest/gtest.h>

namespace gatehouse {
namespace {

struct Counted {
    std::uint64_t time = 0;
    unsigned looks = 0;
    bool wait(std::uint64_t limit, unsigned holds_at) {
        return until([this] { return time++; }, limit, [&] { return ++looks == holds_at; });
    }
};

TEST(Until, LooksAtOnceAndNoFurtherOnceItHolds) {
    Counted counted;
    EXPECT_TRUE(counted.wait(10, 1));
    EXPECT_EQ(counted.looks, 1u);
}

TEST(Until, NeverEndsBeforeItsLimit) {
    Counted counted;
    EXPECT_FALSE(counted.wait(10, 100));
    EXPECT_GT(counted.time - 1, 10u);
    EXPECT_EQ(counted.looks, 11u);
}

TEST(Until, LooksOnceMoreWhenTheTimeIsOver) {
    Counted counted;
    EXPECT_TRUE(counted.wait(10, 11));
}

TEST(Until, LooksOnceWithoutAnyTime) {
    Counted counted;
    EXPECT_FALSE(counted.wait(0, 100));
    EXPECT_EQ(counted.looks, 1u);
}

TEST(Until, TakesNoClockThatWrapsForOneThatIsOver) {
    Counted counted{.time = ~std::uint64_t{0} - 3};
    EXPECT_TRUE(counted.wait(10, 8));
}

}  // namespace
}  // namespace gatehouse

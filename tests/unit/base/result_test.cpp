// Result (base/result.hpp): a value is given to who may have it, and to nobody else.
#include "hypervisor/base/result.hpp"

#include <gtest/gtest.h>

namespace gatehouse {
namespace {

struct Pair {
    int first = 0;
    int second = 0;
};

Result<Pair> pair_or(Error error) {
    if (error != Error::kNone) return {error, "pair", 7};
    return Pair{1, 2};
}

TEST(Result, GivesTheValueOfASuccess) {
    const Result<Pair> constant = pair_or(Error::kNone);
    Result<Pair> pair = constant;
    pair->second = 3;
    EXPECT_EQ(pair.value().first, 1);
    EXPECT_EQ((*pair).second, 3);
    EXPECT_EQ(constant->second, 2);
    EXPECT_EQ(constant.value().first + (*constant).second, 3);
}

TEST(Result, ConstantOfASuccessIsAConstant) {
    static_assert(*Result<int>(5) == 5);
    static_assert(!Result<int>(Error::kState, "constant").ok());
}

using ResultDeathTest = testing::Test;

TEST(ResultDeathTest, DiesOfEveryWayToTheValueOfAFailure) {
    Result<Pair> pair = pair_or(Error::kTimeout);
    const Result<Pair> constant = pair;
    EXPECT_EQ(pair.failure().detail, 7u) << "why it failed may be asked";
    constexpr const char* kPanic = "panic: value of a failed Result";
    EXPECT_DEATH((void)pair.value(), kPanic);
    EXPECT_DEATH((void)*pair, kPanic);
    EXPECT_DEATH((void)pair->first, kPanic);
    EXPECT_DEATH((void)constant.value(), kPanic);
    EXPECT_DEATH((void)*constant, kPanic);
    EXPECT_DEATH((void)constant->first, kPanic);
}

Status passed_on(Error error) {
    GATEHOUSE_ASSIGN(const Pair pair, pair_or(error));
    return pair.second == 2 ? Status() : Status(Error::kMismatch, "pair");
}

TEST(ResultDeathTest, AssignLeavesWithTheFailureInsteadOfDying) {
    EXPECT_TRUE(passed_on(Error::kNone).ok());
    EXPECT_EQ(passed_on(Error::kTimeout).error(), Error::kTimeout);
}

}  // namespace
}  // namespace gatehouse

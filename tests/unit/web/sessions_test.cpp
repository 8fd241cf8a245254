#include "attestation/web/sessions.hpp"

#include <gtest/gtest.h>

namespace gatehouse::web {
namespace {

TEST(Sessions, EndWhenIdle) {
    Sessions sessions;
    const std::string name = sessions.begin(SecretText("t"), "", 1000);
    EXPECT_TRUE(sessions.find(name, 1000 + kIdleLimit - 1, true, false));
    EXPECT_TRUE(sessions.find(name, 1000 + 2 * kIdleLimit - 2, true, false));
    EXPECT_FALSE(sessions.find(name, 1000 + 3 * kIdleLimit, true, false));
    EXPECT_EQ(sessions.count(), 0u);
}

TEST(Sessions, AreNotKeptAliveByPagesThatRenewThemselves) {
    Sessions sessions;
    const std::string name = sessions.begin(SecretText("t"), "", 1000);
    EXPECT_TRUE(sessions.find(name, 1000 + kIdleLimit - 1, false, false));
    EXPECT_FALSE(sessions.find(name, 1000 + kIdleLimit, false, false));
}

TEST(Sessions, EndAfterTheAbsoluteLimitHoweverBusy) {
    Sessions sessions;
    const std::string name = sessions.begin(SecretText("t"), "", 1000);
    for (Seconds time = 1000; time < 1000 + kAbsoluteLimit; time += kIdleLimit - 1)
        EXPECT_TRUE(sessions.find(name, time, true, false)) << time;
    EXPECT_FALSE(sessions.find(name, 1000 + kAbsoluteLimit, true, false));
}

TEST(Sessions, HaveNamesAndFormTokensOfTheirOwn) {
    Sessions sessions;
    const std::string a = sessions.begin(SecretText("t"), "", 0), b = sessions.begin(SecretText("t"), "", 0);
    EXPECT_NE(a, b);
    EXPECT_EQ(a.size(), 43u);  // 32 bytes
    EXPECT_NE(sessions.find(a, 0, true, false)->csrf, sessions.find(b, 0, true, false)->csrf);
    EXPECT_NE(sessions.find(a, 0, true, false)->csrf, a);
}

TEST(Sessions, GiveANoticeOnce) {
    Sessions sessions;
    const std::string name = sessions.begin(SecretText("t"), "", 0);
    sessions.leave_notice(name, {"done", "secret"});
    EXPECT_EQ(sessions.find(name, 0, true, false)->notice.secret, "secret");
    EXPECT_EQ(sessions.find(name, 0, true, true)->notice.secret, "secret");
    EXPECT_EQ(sessions.find(name, 0, true, true)->notice.secret, "");
}

TEST(Sessions, AreBounded) {
    Sessions sessions;
    const std::string first = sessions.begin(SecretText("t"), "", 1);
    for (std::size_t i = 0; i < Sessions::kMost; ++i) (void)sessions.begin(SecretText("t"), "", 2);
    EXPECT_EQ(sessions.count(), Sessions::kMost);
    EXPECT_FALSE(sessions.find(first, 2, true, false));
}

TEST(FailureLimit, LetsABurstThroughThenSlowsDown) {
    FailureLimit limit;
    for (Seconds i = 0; i < FailureLimit::kBurst; ++i) {
        EXPECT_EQ(limit.wait("a", 100), 0);
        limit.failed("a", 100);
    }
    EXPECT_EQ(limit.wait("a", 100), FailureLimit::kStep);
    EXPECT_EQ(limit.wait("b", 100), 0);
    EXPECT_EQ(limit.wait("a", 100 + FailureLimit::kStep), 0);
    limit.failed("a", 100 + FailureLimit::kStep);
    EXPECT_EQ(limit.wait("a", 100 + FailureLimit::kStep), FailureLimit::kStep);
}

}  // namespace
}  // namespace gatehouse::web

// Logging in and out, and what a session's cookie is like.
#include "tests/unit/web/browser.hpp"

namespace gatehouse::test {
namespace {

using server::Role;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kCookie = "__Host-gatehouse";

using LogInTest = WebTest;

TEST_F(LogInTest, LeadsStrangersToTheLogInPageAndBack) {
    Browser browser(pages_);
    const auto response = browser.get("/endpoints?state=stale");
    EXPECT_EQ(response.status, 303u);
    EXPECT_EQ(header(response, "Location"), "/log-in?next=%2Fendpoints%3Fstate%3Dstale");
    (void)browser.get("/log-in");
    const auto after =
        browser.post("/log-in", {{"token", fleet_.token("t", Role::kReadOnly)}, {"next", "/endpoints?state=stale"}});
    EXPECT_EQ(header(after, "Location"), "/endpoints?state=stale");
    EXPECT_EQ(browser.get("/endpoints?state=stale").status, 200u);
}

TEST_F(LogInTest, DoesNotLeadElsewhereAfterLogIn) {
    Browser browser(pages_);
    (void)browser.get("/log-in");
    const auto response =
        browser.post("/log-in", {{"token", fleet_.token("t", Role::kReadOnly)}, {"next", "//evil.example/"}});
    EXPECT_EQ(header(response, "Location"), "/");
}

TEST_F(LogInTest, TellsAPartOfAPageToGoToTheLogInPage) {
    Browser browser(pages_);
    browser.headers["hx-request"] = "true";
    const auto response = browser.get("/?live=1");
    EXPECT_EQ(response.status, 401u);
    EXPECT_EQ(header(response, "HX-Redirect"), "/log-in");
}

TEST_F(LogInTest, LeadsAPartOfAPageBackToItsPageAndNowhereElse) {
    Browser browser(pages_);
    browser.headers["hx-request"] = "true";
    const auto redirected_from = [&](const char* page) {
        browser.headers["hx-current-url"] = page;
        return header(browser.get("/endpoints?q=a"), "HX-Redirect");
    };
    EXPECT_EQ(redirected_from("https://gatehouse.example:8443/endpoints?state=stale&q=a#results"),
              "/log-in?next=%2Fendpoints%3Fstate%3Dstale%26q%3Da");
    for (const char* other : {"https://evil.example", "https://evil.example//x.example/", "javascript:alert(1)",
                              "https://gatehouse.example:8443/\\evil.example", ""})
        EXPECT_EQ(redirected_from(other), "/log-in") << other;
}

TEST_F(LogInTest, SetsACookieThatStaysWhereItBelongs) {
    Browser browser(pages_);
    const auto response = browser.log_in(fleet_.token("t", Role::kReadOnly));
    const std::string cookie = header(response, "Set-Cookie");
    EXPECT_THAT(cookie, HasSubstr("__Host-gatehouse="));
    EXPECT_THAT(cookie, HasSubstr("; Path=/; Secure; HttpOnly; SameSite=Strict"));
    EXPECT_THAT(cookie, Not(HasSubstr("Domain")));
    EXPECT_THAT(cookie, Not(HasSubstr("Expires")));
}

TEST_F(LogInTest, NeverTakesASessionThatItDidNotBegin) {
    Browser browser(pages_);
    browser.cookies[kCookie] = "chosen-by-somebody-else";
    EXPECT_EQ(browser.get("/").status, 303u);
    (void)browser.log_in(fleet_.token("t", Role::kReadOnly));
    EXPECT_NE(browser.cookies[kCookie], "chosen-by-somebody-else");
    EXPECT_EQ(browser.get("/").status, 200u);
}

TEST_F(LogInTest, EndsTheOldSessionAtTheNextLogIn) {
    Browser browser(pages_);
    const std::string token = fleet_.token("t", Role::kReadOnly);
    (void)browser.log_in(token);
    const std::string old = browser.cookies[kCookie];
    (void)browser.log_in(token);
    EXPECT_NE(browser.cookies[kCookie], old);
    Browser other(pages_);
    other.cookies[kCookie] = old;
    EXPECT_EQ(other.get("/").status, 303u);
}

TEST_F(LogInTest, EndsAtLogOut) {
    Browser browser = logged_in(Role::kReadOnly);
    const std::string name = browser.cookies[kCookie];
    EXPECT_EQ(browser.get("/").status, 200u);
    const auto response = browser.post("/log-out", {});
    EXPECT_EQ(response.status, 303u);
    EXPECT_THAT(header(response, "Set-Cookie"), HasSubstr("Max-Age=0"));
    browser.cookies[kCookie] = name;
    EXPECT_EQ(browser.get("/").status, 303u);
}

TEST_F(LogInTest, EndsWhenItsTokenIsRevoked) {
    Browser browser = logged_in(Role::kReadOnly);
    fleet_.service().revoke_token(admin_, "test-read-only");
    EXPECT_EQ(browser.get("/").status, 303u);
    // A new token of the same name does not bring it back.
    (void)fleet_.token("test-read-only", Role::kAdmin);
    EXPECT_EQ(browser.get("/").status, 303u);
}

TEST_F(LogInTest, EndsWhenIdle) {
    Browser browser = logged_in(Role::kReadOnly);
    fleet_.set_time(fleet_.now() + 14 * 60);
    EXPECT_EQ(browser.get("/").status, 200u);
    fleet_.set_time(fleet_.now() + 14 * 60);
    browser.headers["hx-request"] = "true";
    EXPECT_EQ(browser.get("/?live=1").status, 200u);
    browser.headers.erase("hx-request");
    fleet_.set_time(fleet_.now() + 60);
    EXPECT_EQ(browser.get("/").status, 303u);
}

TEST_F(LogInTest, RefusesAWrongTokenWithoutSayingWhatIsWrong) {
    Browser browser(pages_);
    const auto unknown = browser.log_in("gh_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    EXPECT_EQ(unknown.status, 401u);
    const auto malformed = browser.log_in("x");
    EXPECT_EQ(malformed.status, 401u);
    EXPECT_THAT(unknown.body, HasSubstr("That token is not valid."));
    EXPECT_THAT(malformed.body, HasSubstr("That token is not valid."));
    EXPECT_EQ(browser.cookies.count(kCookie), 0u);
    EXPECT_THAT(unknown.body, Not(HasSubstr("gh_AAAA")));
}

TEST_F(LogInTest, LimitsAttemptsByNetwork) {
    Browser browser(pages_);
    for (int i = 0; i < 10; ++i) EXPECT_EQ(browser.log_in("wrong").status, 401u);
    const auto refused = browser.log_in(fleet_.token("t", Role::kReadOnly));
    EXPECT_EQ(refused.status, 429u);
    EXPECT_EQ(header(refused, "Retry-After"), "30");
    Browser neighbour(pages_, "2001:db8::2");  // who has a /64 has many addresses
    neighbour.network = browser.network;
    EXPECT_EQ(neighbour.log_in("wrong").status, 429u);
    Browser other(pages_, "192.0.2.2");
    EXPECT_EQ(other.log_in(fleet_.token("u", Role::kReadOnly)).status, 303u);
    fleet_.set_time(fleet_.now() + 30);
    EXPECT_EQ(browser.log_in(fleet_.token("v", Role::kReadOnly)).status, 303u);
}

TEST_F(LogInTest, RefusesALogInFormOfAnotherBrowser) {
    Browser attacker(pages_), victim(pages_);
    (void)attacker.get("/log-in");
    (void)victim.get("/log-in");
    const std::string token = fleet_.token("t", Role::kReadOnly);
    EXPECT_EQ(victim.post("/log-in", {{"token", token}, {"csrf", attacker.csrf()}}).status, 403u);
    victim.headers["sec-fetch-site"] = "cross-site";
    EXPECT_EQ(victim.log_in(token).status, 403u);
}

TEST_F(LogInTest, WritesLogInsAndTheirFailuresToTheAuditLog) {
    Browser browser(pages_);
    (void)browser.log_in("wrong");
    (void)browser.log_in(fleet_.token("alice", Role::kReadOnly));
    (void)browser.get("/");
    (void)browser.post("/log-out", {});
    std::vector<std::string> seen;
    fleet_.service().export_audit([&](const server::AuditEntry& entry) {
        if (entry.action.starts_with("session.")) seen.push_back(entry.who + " " + entry.action + " " + entry.detail);
    });
    EXPECT_THAT(seen, testing::ElementsAre(R"(anonymous session.refused {"peer":"192.0.2.1"})",
                                           R"(alice session.begin {"peer":"192.0.2.1"})",
                                           R"(alice session.end {"peer":"192.0.2.1"})"));
}

TEST_F(LogInTest, BelongsToAClientCertificateWhileItIsShown) {
    Browser browser(pages_);
    browser.certificate = server::Principal{"olga", Role::kOperator};
    EXPECT_THAT(browser.get("/log-in").body, HasSubstr("Continue as"));
    EXPECT_EQ(browser.post("/log-in", {{"with", "certificate"}}).status, 303u);
    EXPECT_THAT(browser.get("/").body, HasSubstr("olga"));
    browser.certificate->name = "oscar";
    EXPECT_EQ(browser.get("/").status, 303u);
}

TEST_F(LogInTest, TakesNoCertificateThatIsNotThere) {
    Browser browser(pages_);
    (void)browser.get("/log-in");
    EXPECT_EQ(browser.post("/log-in", {{"with", "certificate"}}).status, 401u);
}

}  // namespace
}  // namespace gatehouse::test

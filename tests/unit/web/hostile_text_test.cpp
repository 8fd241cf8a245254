// Each field that an endpoint controls, on each page that shows it.
#include "tests/unit/web/browser.hpp"

namespace gatehouse::test {
namespace {

using server::Role;
using testing::HasSubstr;
using testing::Not;

// No tag may begin that the page's own source does not have: of what is hostile here, all begins so.
void expect_harmless(const std::string& body) {
    EXPECT_THAT(body, Not(HasSubstr("<script>")));
    EXPECT_THAT(body, Not(HasSubstr("<img src=x")));
    EXPECT_THAT(body, Not(HasSubstr("<b>x")));
    EXPECT_THAT(body, Not(HasSubstr("\u202E")));
    EXPECT_THAT(body, Not(HasSubstr("\x07")));
}

class HostileTextTest : public WebTest {
  protected:
    Browser browser_ = logged_in(Role::kAdmin);
};

TEST_F(HostileTextTest, OfAHostname) {
    for (const char* name : {kScriptName, kAttributeName, kReversedName, kControlName}) {
        const auto member = fleet_.enroll(name);
        const std::string waiting = fleet_.let_wait(name);
        for (const std::string& path : {std::string("/"), std::string("/endpoints"), "/endpoints/" + member.id,
                                        "/endpoints/" + member.id + "/retire", std::string("/enrollments"),
                                        "/enrollments/" + waiting, std::string("/audit")}) {
            const auto page = browser_.get(path);
            EXPECT_EQ(page.status, 200u) << path;
            expect_harmless(page.body);
        }
        (void)browser_.post("/enrollments/" + waiting + "/approve", {{"group", "default"}});
        expect_harmless(browser_.get("/enrollments").body);  // the notice
    }
    const std::string list = browser_.get("/endpoints").body;
    EXPECT_THAT(list, HasSubstr("&lt;script&gt;alert(1)&lt;/script&gt;"));
    EXPECT_THAT(list, HasSubstr("&quot;&gt;&lt;img src=x onerror=alert(2)&gt;&#39;"));
    EXPECT_THAT(list, HasSubstr("invoice-⟨U+202E⟩gnp.exe"));
    EXPECT_THAT(list, HasSubstr("bell⟨U+0007⟩tab⟨U+0009⟩two⟨U+000A⟩lines"));
    // As it is shown it can be searched.
    for (const std::string name : {"invoice-⟨U+202E⟩gnp", "bell⟨U+0007⟩tab"}) {
        const std::string found = browser_.get("/endpoints?q=" + name).body;
        EXPECT_THAT(found, HasSubstr(">2 endpoints shown"));
        EXPECT_THAT(found, HasSubstr("value=\"" + name + "\""));
    }
}

TEST_F(HostileTextTest, OfTheTpmAndOfReasons) {
    const auto member = fleet_.enroll("a");
    const std::string waiting = fleet_.let_wait("b");
    const std::string text = "'<script>alert(1)</script>''\"' || char(7)";
    fleet_.sql("UPDATE endpoints SET state = 3, vendor = " + text + ", manufacturer = " + text + ", model = " + text +
               ", reason = " + text + ", endorsement_fault = " + text);
    fleet_.sql("UPDATE enrollments SET vendor = " + text + ", manufacturer = " + text + ", model = " + text +
               ", reason = " + text +
               ", findings = '[{\"rule\": \"<script>\", \"ok\": false, \"detail\": \"<script>\"}]'");
    for (const std::string& path : {std::string("/"), std::string("/endpoints"), "/endpoints/" + member.id,
                                    std::string("/enrollments"), "/enrollments/" + waiting}) {
        const auto page = browser_.get(path);
        EXPECT_EQ(page.status, 200u) << path;
        EXPECT_THAT(page.body, HasSubstr("&lt;script&gt;")) << path;
        expect_harmless(page.body);
    }
}

TEST_F(HostileTextTest, OfTheEventLog) {
    fleet_.assign(hypervisor_policy("p", 1), "default");
    const auto member = fleet_.enroll("a");
    member.endpoint->other_kernel = true;
    fleet_.attest(member, "<b>x\"'");
    const auto page = browser_.get("/endpoints/" + member.id);
    EXPECT_THAT(page.body, HasSubstr("&lt;b&gt;x&quot;&#39;"));
    EXPECT_THAT(page.body, HasSubstr("id=\"failing-event\""));
    expect_harmless(page.body);
}

TEST_F(HostileTextTest, OfKeptVerdicts) {
    fleet_.assign(hypervisor_policy("p", 1), "default");
    const auto member = fleet_.enroll("a");
    fleet_.attest(member);
    fleet_.sql("UPDATE history SET policy = '<script>', reason = '<script>'");
    const auto page = browser_.get("/endpoints/" + member.id);
    EXPECT_THAT(page.body, HasSubstr("&lt;script&gt;"));
    expect_harmless(page.body);
}

TEST_F(HostileTextTest, OfWhoAsks) {
    for (const char* path :
         {"/endpoints?q=<script>", "/endpoints?group=\"><script>", "/endpoints?state=<script>",
          "/endpoints?cursor=<script>", "/enrollments?state=<script>", "/<script>", "/endpoints/<script>",
          "/policies/<script>/1", "/policies/x/<script>", "/audit?cursor=<script>",
          "/assignments/change?group=<script>&policy=<script>&version=1", "/tokens/<script>/revoke"}) {
        expect_harmless(browser_.get(path).body);
    }
    Browser stranger(pages_);
    expect_harmless(stranger.get("/log-in?next=\"><script>").body);
    (void)stranger.get("/log-in");
    expect_harmless(stranger.post("/log-in", {{"token", "<script>"}, {"next", "\"><script>"}}).body);
}

}  // namespace
}  // namespace gatehouse::test

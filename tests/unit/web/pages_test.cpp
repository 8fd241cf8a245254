// What the pages show, and what every answer carries.
#include <regex>

#include "tests/unit/web/browser.hpp"

namespace gatehouse::test {
namespace {

using server::Role;
using testing::HasSubstr;
using testing::Not;

using PagesTest = WebTest;

void expect_headers(const web::Response& response, const std::string& what) {
    EXPECT_EQ(header(response, "Content-Security-Policy"),
              "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
              "form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
        << what;
    EXPECT_EQ(header(response, "X-Content-Type-Options"), "nosniff") << what;
    EXPECT_EQ(header(response, "X-Frame-Options"), "DENY") << what;
    EXPECT_EQ(header(response, "Referrer-Policy"), "same-origin") << what;
    EXPECT_EQ(header(response, "Cross-Origin-Opener-Policy"), "same-origin") << what;
}

TEST_F(PagesTest, EveryAnswerCarriesThePolicyOfItsContent) {
    Browser stranger(pages_);
    expect_headers(stranger.get("/"), "a redirection");
    expect_headers(stranger.get("/log-in"), "the log-in page");
    expect_headers(stranger.log_in("wrong"), "a refused log-in");
    Browser browser = logged_in(Role::kAdmin);
    for (const char* path :
         {"/", "/endpoints", "/endpoints/x", "/enrollments", "/policies", "/audit", "/tokens", "/settings", "/x"}) {
        const auto response = browser.get(path);
        expect_headers(response, path);
        EXPECT_EQ(header(response, "Cache-Control"), "no-store") << path;
    }
    expect_headers(browser.post("/tokens", {{"csrf", ""}}), "a refused form");
}

TEST_F(PagesTest, HasNothingInlineAndNothingFromElsewhere) {
    fleet_.assign(hypervisor_policy("p", 1), "default");
    const auto member = fleet_.enroll("a");
    member.endpoint->other_kernel = true;
    fleet_.attest(member);
    Browser browser = logged_in(Role::kAdmin);
    for (const std::string& path : {std::string("/"), std::string("/endpoints"), "/endpoints/" + member.id,
                                    std::string("/policies"), std::string("/policies/p/1"), std::string("/audit"),
                                    std::string("/tokens"), std::string("/settings"), std::string("/enrollments")}) {
        const std::string body = browser.get(path).body;
        EXPECT_THAT(body, Not(HasSubstr(" style="))) << path;
        EXPECT_THAT(body, Not(HasSubstr("<style"))) << path;
        EXPECT_THAT(body, Not(HasSubstr("http://"))) << path;
        EXPECT_THAT(body, Not(HasSubstr("https://"))) << path;
        const std::regex script("<script(?! src=\"/assets/(htmx|problem)-[0-9a-f]{16}\\.js\" defer></script>)");
        EXPECT_FALSE(std::regex_search(body, script)) << path;
    }
}

TEST_F(PagesTest, ServesAssetsForEverByTheirHash) {
    Browser browser(pages_);
    const std::string body = browser.get("/log-in").body;
    const std::regex name("/assets/[a-z]+-[0-9a-f]{16}\\.[a-z]+");
    int count = 0;
    for (std::sregex_iterator one(body.begin(), body.end(), name), end; one != end; ++one, ++count) {
        const auto asset = browser.get(one->str());
        EXPECT_EQ(asset.status, 200u) << one->str();
        EXPECT_FALSE(asset.body.empty());
        EXPECT_THAT(header(asset, "Cache-Control"), HasSubstr("immutable"));
        browser.headers["if-none-match"] = header(asset, "ETag");
        const auto again = browser.get(one->str());
        EXPECT_EQ(again.status, 304u);
        EXPECT_TRUE(again.body.empty());
        browser.headers.erase("if-none-match");
    }
    EXPECT_GE(count, 4);
    EXPECT_EQ(browser.get("/assets/gatehouse-0000000000000000.css").status,
              303u);  // to the log-in page, as all else
}

TEST_F(PagesTest, TellsFromAnotherWhatIsNotThere) {
    Browser browser = logged_in(Role::kReadOnly);
    EXPECT_EQ(browser.get("/endpoints/nobody").status, 404u);
    EXPECT_EQ(browser.get("/nothing").status, 404u);
    EXPECT_EQ(browser.get("/audit/verify").status, 405u);
    EXPECT_EQ(browser.get("/endpoints?state=purple").status, 400u);
    EXPECT_EQ(browser.get("/policies/x/y").status, 400u);
}

// How many endpoints a listing has, each once, that goes over so many pages.
std::size_t endpoints_on_pages(Browser& browser, std::string target, int expected_pages) {
    std::set<std::string> seen;
    int pages = 0;
    for (; !target.empty() && pages <= expected_pages; ++pages) {
        const std::string body = browser.get(target).body;
        const std::regex row("href=\"/endpoints/([0-9A-Z]{26})\"");
        for (std::sregex_iterator one(body.begin(), body.end(), row), end; one != end; ++one)
            EXPECT_TRUE(seen.insert((*one)[1]).second) << (*one)[1];
        std::smatch next;
        const std::regex link("rel=\"next\" href=\"([^\"#]*)(#[a-z]*)?\"");
        target = std::regex_search(body, next, link) ? std::regex_replace(next[1].str(), std::regex("&amp;"), "&") : "";
    }
    EXPECT_EQ(pages, expected_pages);
    return seen.size();
}

TEST_F(PagesTest, PagesThroughTheList) {
    for (int i = 0; i < 3; ++i) (void)fleet_.enroll("base-" + std::to_string(i));
    fleet_.add_copies(120);
    Browser browser = logged_in(Role::kReadOnly);
    EXPECT_EQ(endpoints_on_pages(browser, "/endpoints?state=new", 3), 123u);
    EXPECT_THAT(browser.get("/endpoints?q=copy-000007").body, HasSubstr("copy-000007"));
    EXPECT_THAT(browser.get("/endpoints?q=copy-000007").body, Not(HasSubstr("copy-000008")));
    EXPECT_THAT(browser.get("/endpoints?q=nowhere").body, HasSubstr("No endpoint matches"));
}

TEST_F(PagesTest, AnswersAPartOfThePageAlone) {
    (void)fleet_.enroll("a");
    Browser browser = logged_in(Role::kReadOnly);
    browser.headers["hx-request"] = "true";
    const auto list = browser.get("/endpoints?q=a");
    EXPECT_THAT(list.body, testing::StartsWith("<div id=\"results\" class="));
    EXPECT_EQ(header(list, "Vary"), "HX-Request");
    EXPECT_THAT(browser.get("/?live=1").body, testing::StartsWith("<div id=\"live\""));
}

TEST_F(PagesTest, SaysInOneLineWhyAPartOfThePageWasRefused) {
    Browser browser = logged_in(Role::kReadOnly);
    browser.headers["hx-request"] = "true";
    const auto refused = browser.get("/endpoints?state=%3Cpurple%3E");
    EXPECT_EQ(refused.status, 400u);
    EXPECT_THAT(refused.body, testing::StartsWith("<p class=\"error\" role=\"alert\">"));
    EXPECT_THAT(refused.body, Not(HasSubstr("<main")));
    browser.headers.erase("hx-request");
    EXPECT_THAT(browser.get("/endpoints?state=purple").body, HasSubstr("<main"));
}

TEST_F(PagesTest, NamesTheEventThatDoesNotBelong) {
    fleet_.assign(hypervisor_policy("p", 1), "default");
    const auto member = fleet_.enroll("a");
    fleet_.attest(member);
    Browser browser = logged_in(Role::kReadOnly);
    EXPECT_THAT(browser.get("/endpoints/" + member.id).body, Not(HasSubstr("id=\"failing-event\"")));
    member.endpoint->other_kernel = true;
    member.endpoint->clock += 1000;
    fleet_.attest(member);
    const std::string body = browser.get("/endpoints/" + member.id).body;
    const std::size_t row = body.find("<tr class=\"failing\" id=\"failing-event\">");
    ASSERT_NE(row, std::string::npos);
    EXPECT_THAT(body.substr(row, body.find("</tr>", row) - row), HasSubstr("kernel"));
    EXPECT_EQ(body.find("id=\"failing-event\"", row + 60), std::string::npos);
    // The banner leads there, and says what to do.
    const std::string banner =
        body.substr(body.find("class=\"banner"), body.find("class=\"columns\"") - body.find("class=\"banner"));
    EXPECT_THAT(banner, HasSubstr("href=\"#failing-event\""));
    EXPECT_THAT(banner, HasSubstr("href=\"#explain\""));
    EXPECT_THAT(body, HasSubstr("id=\"explain\""));
    EXPECT_THAT(body, HasSubstr("id=\"findings\""));
    // PCR 18, where the kernel is measured, differs; PCR 17 does not.
    const std::size_t pcrs = body.find("class=\"pcrs\"");
    const std::string table = body.substr(pcrs, body.find("</table>", pcrs) - pcrs);
    EXPECT_THAT(table, testing::ContainsRegex("<tr class=\"failing\"><th scope=\"row\" class=\"number\">18<"));
    EXPECT_THAT(table, testing::ContainsRegex("<tr class=\"\"><th scope=\"row\" class=\"number\">17<"));
}

TEST_F(PagesTest, ComparesWithAnotherPolicy) {
    fleet_.assign(hypervisor_policy("p", 1), "default");
    const auto added = fleet_.service().add_policy(
        admin_, fleet_.signed_policy(hypervisor_policy("p", 2, R"({"minimum_hypervisor": "200.0.0"})")));
    const auto member = fleet_.enroll("a");
    fleet_.attest(member);
    Browser browser = logged_in(Role::kReadOnly);
    EXPECT_THAT(browser.get("/endpoints/" + member.id + "?against=p:1").body, HasSubstr("meets p:1 as it is"));
    const std::string body = browser.get("/endpoints/" + member.id + "?against=p:2").body;
    EXPECT_THAT(body, HasSubstr("would be refused"));
    EXPECT_THAT(body, HasSubstr("<ul class=\"differences\"><li>"));
    EXPECT_EQ(added.version, 2u);
}

TEST_F(PagesTest, ShowsWhatAStagedPolicyWouldDo) {
    fleet_.assign(hypervisor_policy("p", 1), "default");
    fleet_.assign(hypervisor_policy("p", 2, R"({"minimum_hypervisor": "200.0.0"})"), "default", server::Stage::kReport);
    fleet_.attest(fleet_.enroll("a"));
    (void)fleet_.enroll("b");
    Browser browser = logged_in(Role::kReadOnly);
    const std::string body = browser.get("/policies").body;
    EXPECT_THAT(body,
                HasSubstr("0 would pass · <a class=\"bad-text\" href=\"/policies/p/2?group=default#effect\"><strong>1 "
                          "would fail</strong></a> · 1 not judged yet"));
    EXPECT_THAT(body, HasSubstr("1 pass · <strong class=\"quiet\">0 fail</strong> · 1 not judged yet"));
}

TEST_F(PagesTest, ListsWhomAStagedPolicyWouldRefuse) {
    fleet_.assign(hypervisor_policy("p", 1), "default");
    fleet_.assign(hypervisor_policy("p", 2, R"({"minimum_hypervisor": "200.0.0"})"), "default", server::Stage::kReport);
    const auto a = fleet_.enroll("a-<i>"), b = fleet_.enroll("b-host");
    for (const auto* each : {&a, &b}) fleet_.attest(*each);
    Browser browser = logged_in(Role::kReadOnly);
    const std::string page = browser.get("/policies/p/2").body;
    EXPECT_THAT(page, HasSubstr("a-&lt;i&gt;"));
    EXPECT_THAT(page, HasSubstr("href=\"/endpoints/" + b.id + "?against=p%3A2#explain\""));
    EXPECT_THAT(page, HasSubstr("200.0.0"));
    EXPECT_THAT(page, HasSubstr("2 shown of 2 refused in default"));
    EXPECT_THAT(browser.get("/policies/p/1").body, HasSubstr("It refuses no endpoint of this group"));
    browser.headers["hx-request"] = "true";
    const std::string part = browser.get("/policies/p/2?group=default&q=b-ho").body;
    EXPECT_THAT(part, testing::StartsWith("<div id=\"refused\">"));
    EXPECT_THAT(part, HasSubstr(b.id));
    EXPECT_THAT(part, Not(HasSubstr(a.id)));
    EXPECT_EQ(browser.get("/policies/p/2?group=nobody").status, 404u);
}

TEST_F(PagesTest, PagesThroughThoseWhoWouldBeRefused) {
    fleet_.assign(hypervisor_policy("p", 1, R"({"minimum_hypervisor": "200.0.0"})"), "default", server::Stage::kReport);
    fleet_.attest(fleet_.enroll("a"));
    fleet_.add_copies(120);
    Browser browser = logged_in(Role::kReadOnly);
    EXPECT_EQ(endpoints_on_pages(browser, "/policies/p/1", 3), 121u);
}

TEST_F(PagesTest, VerifiesTheAuditLogAndSaysWhereItIsBroken) {
    Browser browser = logged_in(Role::kReadOnly);
    EXPECT_THAT(browser.post("/audit/verify", {}).body, HasSubstr("Good:"));
    fleet_.sql("DROP TRIGGER audit_no_update; UPDATE audit SET who = 'nobody' WHERE number = 1");
    EXPECT_THAT(browser.post("/audit/verify", {}).body, HasSubstr("Broken:"));
}

TEST_F(PagesTest, KeepsTheChosenColours) {
    Browser browser = logged_in(Role::kReadOnly);
    EXPECT_THAT(browser.get("/").body, HasSubstr("data-theme=\"system\""));
    const auto response = browser.post("/theme", {{"theme", "dark"}, {"back", "/endpoints"}});
    EXPECT_EQ(header(response, "Location"), "/endpoints");
    EXPECT_THAT(browser.get("/").body, HasSubstr("data-theme=\"dark\""));
    EXPECT_EQ(header(browser.post("/theme", {{"theme", "system"}, {"back", "//evil.example"}}), "Location"), "/");
    EXPECT_THAT(browser.get("/").body, HasSubstr("data-theme=\"system\""));
}

TEST_F(PagesTest, SaysWhatToDoWhereThereIsNothing) {
    Browser browser = logged_in(Role::kReadOnly);
    EXPECT_THAT(browser.get("/endpoints").body, HasSubstr("No endpoints yet"));
    EXPECT_THAT(browser.get("/enrollments").body, HasSubstr("No enrollment waits"));
    EXPECT_THAT(browser.get("/policies").body, HasSubstr("No policy is assigned"));
    EXPECT_THAT(browser.get("/").body, HasSubstr("Nothing needs attention"));
}

}  // namespace
}  // namespace gatehouse::test

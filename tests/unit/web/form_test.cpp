// Whose forms are taken, and from whom.
#include "attestation/web/routes.hpp"
#include "tests/unit/web/browser.hpp"

namespace gatehouse::test {
namespace {

using server::Role;
using testing::HasSubstr;
using testing::Not;

std::string filled(std::string_view pattern, const std::string& part) {
    std::string path(pattern);
    for (std::size_t at; (at = path.find('*')) != std::string::npos;) path.replace(at, 1, part);
    return path;
}

using FormTest = WebTest;

TEST_F(FormTest, RefusesEveryFormWithoutItsToken) {
    Browser browser = logged_in(Role::kAdmin);
    for (const web::Route& route : web::routes()) {
        if (route.method != "POST") continue;
        const std::string path = filled(route.pattern, "x");
        EXPECT_EQ(browser.post(path, {{"csrf", ""}}).status, 403u) << path;
        EXPECT_EQ(browser.post(path, {{"csrf", "wrong"}}).status, 403u) << path;
    }
    EXPECT_EQ(browser.post("/log-out", {{"csrf", "wrong"}}).status, 403u);
    EXPECT_EQ(browser.post("/theme", {{"csrf", "wrong"}}).status, 403u);
    EXPECT_EQ(browser.get("/").status, 200u);
}

TEST_F(FormTest, RefusesTheTokenOfAnotherSession) {
    Browser other = logged_in(Role::kAdmin);
    Browser browser = logged_in(Role::kOperator);
    ASSERT_NE(other.csrf(), browser.csrf());
    EXPECT_EQ(browser.post("/settings/groups", {{"name", "g"}, {"csrf", other.csrf()}}).status, 403u);
    EXPECT_EQ(browser.post("/settings/groups", {{"name", "g"}}).status, 303u);
}

TEST_F(FormTest, RefusesWhatAnotherSiteSends) {
    Browser browser = logged_in(Role::kAdmin);
    browser.headers["sec-fetch-site"] = "cross-site";
    EXPECT_EQ(browser.post("/settings/groups", {{"name", "a"}}).status, 403u);
    browser.headers["sec-fetch-site"] = "same-site";
    EXPECT_EQ(browser.post("/settings/groups", {{"name", "a"}}).status, 403u);
    browser.headers["sec-fetch-site"] = "same-origin";
    browser.headers["origin"] = "https://evil.example";
    EXPECT_EQ(browser.post("/settings/groups", {{"name", "a"}}).status, 403u);
    browser.headers["origin"] = "null";
    EXPECT_EQ(browser.post("/settings/groups", {{"name", "a"}}).status, 403u);
    browser.headers["origin"] = "http://gatehouse.example:8443";
    EXPECT_EQ(browser.post("/settings/groups", {{"name", "a"}}).status, 403u);
    EXPECT_THAT(fleet_.service().groups(admin_), Not(testing::Contains("a")));
    browser.headers["origin"] = "https://gatehouse.example:8443";
    EXPECT_EQ(browser.post("/settings/groups", {{"name", "a"}}).status, 303u);
    EXPECT_THAT(fleet_.service().groups(admin_), testing::Contains("a"));
}

TEST_F(FormTest, RefusesWhatTheRoleMayNot) {
    for (const Role role : {Role::kReadOnly, Role::kOperator}) {
        Browser browser = logged_in(role);
        for (const web::Route& route : web::routes()) {
            if (route.role <= role) continue;
            const std::string path = filled(route.pattern, "x");
            const unsigned status = route.method == "POST" ? browser.post(path, {}).status : browser.get(path).status;
            EXPECT_EQ(status, 403u) << route.method << ' ' << path << " as " << server::name_of(role);
        }
    }
}

TEST_F(FormTest, OffersNobodyWhatWouldBeRefused) {
    fleet_.assign(hypervisor_policy("p", 1), "default");
    const auto member = fleet_.enroll("a");
    const std::string waiting = fleet_.let_wait("b");
    for (const Role role : {Role::kReadOnly, Role::kOperator}) {
        Browser browser = logged_in(role);
        for (const std::string& path :
             {std::string("/"), std::string("/endpoints"), "/endpoints/" + member.id, std::string("/enrollments"),
              "/enrollments/" + waiting, std::string("/policies"), std::string("/policies/p/1"), std::string("/audit"),
              std::string("/settings")}) {
            const auto page = browser.get(path);
            ASSERT_EQ(page.status, 200u) << path;
            for (const web::Route& route : web::routes()) {
                if (route.role <= role || route.pattern.find('*') != std::string_view::npos) continue;
                const std::string action = "action=\"" + std::string(route.pattern) + "\"";
                const std::string link = "href=\"" + std::string(route.pattern) + "\"";
                EXPECT_THAT(page.body, Not(HasSubstr(route.method == "POST" ? action : link))) << path;
            }
            for (const char* word : {"/approve\"", "/reject\"", "/retire\"", "/attest\"", "/group\""}) {
                if (role != Role::kReadOnly) continue;
                EXPECT_THAT(page.body, Not(HasSubstr(word))) << path;
            }
        }
    }
}

TEST_F(FormTest, RemovesVendorsAndAuthoritiesOnPagesOfTheirOwn) {
    fleet_.assign(hypervisor_policy("p", 1), "default");
    fleet_.sql(
        "INSERT INTO vendors (name, content) VALUES ('A & B', "
        "'{\"roots\": [], \"intermediates\": [], \"revocations\": []}')");
    Browser admin = logged_in(Role::kAdmin);
    Browser other = logged_in(Role::kOperator);
    // A browser sends "A%20%26%20B".
    const std::string vendor = "/settings/vendors/A & B/remove";
    const std::string authority = "/settings/authorities/security-team/remove";
    for (const auto& [path, sent] :
         {std::pair(vendor, std::string("/settings/vendors/A%20%26%20B/remove")), std::pair(authority, authority)}) {
        EXPECT_THAT(admin.get("/settings").body, HasSubstr("href=\"" + sent + "\"")) << path;
        EXPECT_THAT(other.get("/settings").body, Not(HasSubstr(sent))) << path;
        EXPECT_THAT(admin.get(path).body, HasSubstr("action=\"" + sent + "\"")) << path;
    }
    EXPECT_EQ(admin.post(vendor, {}).status, 303u);
    EXPECT_THAT(admin.get("/settings").body, Not(HasSubstr("A%20%26%20B")));
    const auto refused = admin.post(authority, {});
    EXPECT_EQ(refused.status, 409u);
    EXPECT_THAT(refused.body, HasSubstr("withdraw it first"));
    EXPECT_THAT(admin.get("/settings").body, HasSubstr(authority));
}

TEST_F(FormTest, ShowsWhatIsWrongBesideTheFormAndKeepsWhatWasFilledIn) {
    Browser browser = logged_in(Role::kAdmin);
    const auto page = browser.post("/tokens", {{"name", "Not <allowed>"}, {"role", "operator"}, {"lifetime", "86400"}});
    EXPECT_EQ(page.status, 400u);
    EXPECT_THAT(page.body, HasSubstr("id=\"token-error\""));
    EXPECT_THAT(page.body, HasSubstr("value=\"Not &lt;allowed&gt;\""));
    EXPECT_THAT(page.body, HasSubstr("<option value=\"operator\" selected>"));
}

TEST_F(FormTest, ShowsANewTokenOnce) {
    Browser browser = logged_in(Role::kAdmin);
    EXPECT_EQ(browser.post("/tokens", {{"name", "ci"}, {"role", "operator"}, {"lifetime", "86400"}}).status, 303u);
    const std::string body = browser.get("/tokens").body;
    const std::size_t at = body.find("gh_");
    ASSERT_NE(at, std::string::npos);
    const std::string token = body.substr(at, body.find('<', at) - at);
    const auto who = fleet_.service().authenticate(token);
    ASSERT_TRUE(who);
    EXPECT_EQ(who->role, Role::kOperator);
    EXPECT_THAT(browser.get("/tokens").body, Not(HasSubstr(token)));
}

TEST_F(FormTest, ApprovesAnEnrollment) {
    fleet_.service().create_group(admin_, "laptops");
    const std::string id = fleet_.let_wait("laptop-1");
    Browser browser = logged_in(Role::kOperator);
    EXPECT_EQ(browser.post("/enrollments/" + id + "/approve", {{"group", "laptops"}}).status, 303u);
    EXPECT_EQ(fleet_.service().enrollment(admin_, id).state, "approved");
    const auto endpoints = fleet_.service().endpoints(admin_, {}).rows;
    ASSERT_EQ(endpoints.size(), 1u);
    EXPECT_EQ(endpoints[0].group, "laptops");
}

TEST_F(FormTest, AsksBeforeItRetires) {
    const auto member = fleet_.enroll("a");
    Browser browser = logged_in(Role::kOperator);
    EXPECT_THAT(browser.get("/endpoints/" + member.id + "/retire").body, HasSubstr("Retire this endpoint"));
    EXPECT_EQ(fleet_.service().endpoint(admin_, member.id).state, server::State::kNew);
    EXPECT_EQ(browser.post("/endpoints/" + member.id + "/retire", {{"reason", ""}}).status, 400u);
    EXPECT_EQ(browser.post("/endpoints/" + member.id + "/retire", {{"reason", "sold"}}).status, 303u);
    EXPECT_EQ(fleet_.service().endpoint(admin_, member.id).state, server::State::kRetired);
}

TEST_F(FormTest, UploadsAssignsAndUnassignsAPolicy) {
    Browser browser = logged_in(Role::kOperator);
    std::string jws = fleet_.signed_policy(hypervisor_policy("p", 1));
    EXPECT_EQ(browser.post("/policies", {{"jws", jws.substr(0, 100) + "\r\n" + jws.substr(100) + "\n"}}).status, 303u);
    jws.back() = jws.back() == 'A' ? 'B' : 'A';
    EXPECT_EQ(browser.post("/policies", {{"jws", jws}}).status, 422u);
    EXPECT_EQ(
        browser.post("/assignments/assign", {{"policy", "p:1"}, {"group", "default"}, {"stage", "report"}}).status,
        303u);
    ASSERT_EQ(fleet_.service().assignments(admin_).size(), 1u);
    EXPECT_EQ(fleet_.service().assignments(admin_)[0].stage, server::Stage::kReport);
    EXPECT_THAT(browser.get("/assignments/change?group=default&policy=p&version=1&to=enforce").body,
                HasSubstr("Enforce"));
    const Fields change{
        {"policy", "p"}, {"group", "default"}, {"version", "1"}, {"stage", "enforce"}, {"to", "enforce"}};
    EXPECT_EQ(browser.post("/assignments/assign", change).status, 303u);
    EXPECT_EQ(fleet_.service().assignments(admin_)[0].stage, server::Stage::kEnforce);
    EXPECT_THAT(browser.get("/assignments/change?group=default&policy=p&version=1&to=none").body,
                HasSubstr("It is the only enforced policy of the group"));
    EXPECT_EQ(browser.post("/assignments/unassign", change).status, 303u);
    EXPECT_TRUE(fleet_.service().assignments(admin_).empty());
}

}  // namespace
}  // namespace gatehouse::test

#include "attestation/server/http/target.hpp"

#include <gmock/gmock.h>

#include "attestation/server/http/message.hpp"

namespace gatehouse::http {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

unsigned refusal_of(std::string_view target) {
    try {
        (void)parse_target(target);
    } catch (const HttpError& error) {
        return error.status;
    }
    return 0;
}

TEST(Target, SplitsAndDecodes) {
    const Target target = parse_target("/v1/groups/a%20b%C3%A9?limit=5&search=x+y%26z");
    EXPECT_EQ(target.path, "/v1/groups/a b\xc3\xa9");
    EXPECT_THAT(target.segments, ElementsAre("v1", "groups", "a b\xc3\xa9"));
    EXPECT_THAT(target.query, UnorderedElementsAre(Pair("limit", "5"), Pair("search", "x y&z")));
    EXPECT_THAT(parse_target("/").segments, IsEmpty());
    EXPECT_EQ(parse_target("/a+b").path, "/a+b") << "a plus is a space in a query only";
}

class RefusedTarget : public testing::TestWithParam<const char*> {};

TEST_P(RefusedTarget, IsABadRequest) { EXPECT_EQ(refusal_of(GetParam()), 400u) << GetParam(); }

INSTANTIATE_TEST_SUITE_P(, RefusedTarget,
                         testing::Values("", "v1", "*", "https://host/v1", "//v1", "/v1//ca", "/v1/", "/v1/ca/",
                                         "/v1/../metrics", "/v1/./ca", "/v1/%2e%2e/metrics", "/v1/.%2E/x", "/v1%2fca",
                                         "/v1%5cca", "/v1\\ca", "/v1/%00", "/v1/a%0d%0ab", "/v1/a\tb", "/v1/%",
                                         "/v1/%4", "/v1/%zz", "/v1/%c0%ae%c0%ae/x", "/v1/%ed%a0%80", "/v1/%ff",
                                         "/v1/ca#x", "/v1/ca?a=1&a=2", "/v1/ca?a=%0a", "/v1/ca?%ff=1",
                                         "/v1/%f5%80%80%80"));

TEST(Target, DecodesOnce) {
    EXPECT_EQ(parse_target("/v1/%252e%252e/x").path, "/v1/%2e%2e/x");
    EXPECT_EQ(parse_target("/v1/x?a=%2541").query.at("a"), "%41");
}

TEST(Target, RefusesMoreThan64Fields) {
    std::string query = "/x?";
    for (int i = 0; i < 64; ++i) query += "a" + std::to_string(i) + "=1&";
    EXPECT_EQ(refusal_of(query), 0u);
    EXPECT_EQ(refusal_of(query + "b=1"), 400u);
}

TEST(Form, KeepsLineBreaks) {
    EXPECT_THAT(parse_form("key=a%0D%0Ab&empty="), UnorderedElementsAre(Pair("key", "a\r\nb"), Pair("empty", "")));
    EXPECT_THROW((void)parse_form("key=%00"), HttpError);
}

TEST(Cookies, PassesOverWhatIsNotAPair) {
    EXPECT_THAT(parse_cookies("a=1; b; =c;  d=e=f"), UnorderedElementsAre(Pair("a", "1"), Pair("d", "e=f")));
}

TEST(Host, IsANameOrAnAddress) {
    for (const char* good : {"attest.example", "attest.example:8443", "127.0.0.1:1", "[::1]", "[2001:db8::1]:8443"}) {
        EXPECT_TRUE(is_host(good)) << good;
    }
    for (const char* bad : {"", ":8443", "a b", "a/b", "a@b", "a:", "a:b", "a:123456", "[::1", "[::1]x", "[]",
                            "<script>", "a\r\nX: y", "a,b", "a:1:2"}) {
        EXPECT_FALSE(is_host(bad)) << bad;
    }
}

}  // namespace
}  // namespace gatehouse::http

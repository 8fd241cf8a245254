// Files by HTTP from servers and URLs that are not to be trusted.
#include "attestation/server/fetch.hpp"

#include <gmock/gmock.h>

#include "tests/unit/server/file_server.hpp"

namespace gatehouse::test {
namespace {

using server::Fetched;
using server::FetchRules;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::string text_of(const Fetched& got) { return {reinterpret_cast<const char*>(got.body.data()), got.body.size()}; }

class Fetch : public testing::Test {
  protected:
    [[nodiscard]] Fetched get(const std::string& url, const server::Validators& known = {}) const {
        return server::fetch(url, known, rules_, {});
    }
    FileServer files_;
    FetchRules rules_{.proxy = {}, .private_addresses = true, .most_bytes = 1000, .patience = std::chrono::minutes(5)};
};

TEST_F(Fetch, TakesAFileWithWhatTellsItFromTheNext) {
    files_.give("/a.crl?x=1", "content", "ETag: \"7\"\r\nLast-Modified: Mon, 23 Nov 2026 03:54:00 GMT\r\n");
    const Fetched got = get(files_.url("/a.crl?x=1"));
    EXPECT_EQ(got.fault, "");
    EXPECT_TRUE(got.changed);
    EXPECT_EQ(text_of(got), "content");
    EXPECT_EQ(got.validators.tag, "\"7\"");
    EXPECT_EQ(files_.requests().at(0).find("If-"), std::string::npos);

    files_.answer("/a.crl?x=1", "HTTP/1.1 304 x\r\n\r\n");
    const Fetched again = get(files_.url("/a.crl?x=1"), got.validators);
    EXPECT_EQ(again.fault, "");
    EXPECT_FALSE(again.changed);
    EXPECT_THAT(files_.requests().at(1), HasSubstr("\r\nIf-None-Match: \"7\"\r\n"));
    EXPECT_THAT(files_.requests().at(1), HasSubstr("\r\nIf-Modified-Since: Mon, 23 Nov 2026 03:54:00 GMT\r\n"));
    EXPECT_THAT(files_.requests().at(1), HasSubstr("\r\nHost: " + files_.authority() + "\r\n"));
}

TEST_F(Fetch, NothingHasChangedOnlyIfThatWasAsked) {
    files_.answer("/", "HTTP/1.1 304 x\r\n\r\n");
    EXPECT_EQ(get(files_.url("")).fault, "answered with status 304");
}

TEST_F(Fetch, SizeIsBoundedHoweverItIsSent) {
    files_.give("/fits", std::string(1000, 'x'));
    EXPECT_EQ(get(files_.url("/fits")).fault, "");
    files_.give("/large", std::string(1001, 'x'));
    EXPECT_EQ(get(files_.url("/large")).fault, "larger than the settings allow");
    std::string chunks = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 200; ++i) chunks += "a\r\n0123456789\r\n";
    files_.answer("/chunks", chunks + "0\r\n\r\n");
    EXPECT_EQ(get(files_.url("/chunks")).fault, "larger than the settings allow");
    files_.answer("/open", "HTTP/1.0 200 x\r\n\r\n" + std::string(5000, 'x'));
    EXPECT_EQ(get(files_.url("/open")).fault, "larger than the settings allow");
    // What is neither header nor body: the line before a chunk, and the fields after the last one.
    const std::string begin = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n", much(1 << 20, 'x');
    files_.answer("/extension", begin + "1;a=" + much + "\r\nz\r\n0\r\n\r\n");
    EXPECT_EQ(get(files_.url("/extension")).fault, "larger than the settings allow");
    files_.answer("/trailer", begin + "1\r\nz\r\n0\r\nA: " + much + "\r\n\r\n");
    EXPECT_EQ(get(files_.url("/trailer")).fault, "larger than the settings allow");
    files_.answer("/header", "HTTP/1.1 200 x\r\nA: " + std::string(100'000, 'x') + "\r\n\r\n");
    EXPECT_NE(get(files_.url("/header")).fault, "");
}

TEST_F(Fetch, WhatIsNoWholeAnswerIsNone) {
    files_.answer("/cut", "HTTP/1.1 200 x\r\nContent-Length: 10\r\n\r\n12345");
    files_.answer("/noise", "220 mail.example ESMTP\r\n");
    files_.give("/empty", "");
    files_.give("/gzip", "x", "Content-Encoding: gzip\r\n");
    for (const char* path : {"/cut", "/noise", "/empty", "/gzip", "/missing"})
        EXPECT_NE(get(files_.url(path)).fault, "") << path;
}

TEST_F(Fetch, RedirectsAreBoundedAndJudgedEach) {
    const auto redirect = [this](const std::string& from, const std::string& to) {
        files_.answer(from, "HTTP/1.1 302 x\r\nLocation: " + to + "\r\nContent-Length: 0\r\n\r\n");
    };
    files_.give("/end", "content");
    redirect("/3", files_.url("/2"));
    redirect("/2", "/1");
    redirect("/1", "//" + files_.authority() + "/end");
    EXPECT_EQ(text_of(get(files_.url("/3"))), "content");
    redirect("/4", "/3");
    EXPECT_EQ(get(files_.url("/4")).fault, "redirects more than 3 times");
    redirect("/round", "/round");
    EXPECT_EQ(get(files_.url("/round")).fault, "redirects more than 3 times");
    for (const char* to :
         {"https://crl.example/", "file:///etc/passwd", "gopher://127.0.0.1/x", "", "http://user@crl.example/"}) {
        redirect("/elsewhere", to);
        EXPECT_THAT(get(files_.url("/elsewhere")).fault, testing::StartsWith("redirects to a URL that ")) << to;
    }
}

TEST_F(Fetch, OneThatSaysNothingIsLeft) {
    files_.be_silent("/");
    rules_.patience = std::chrono::milliseconds(200);
    EXPECT_EQ(get(files_.url("/")).fault, "took too long");
    std::stop_source stop;
    stop.request_stop();
    rules_.patience = std::chrono::minutes(5);
    EXPECT_EQ(server::fetch(files_.url("/"), {}, rules_, stop.get_token()).fault, "the server ends");
}

TEST_F(Fetch, AddressesThatAreNotOfTheInternetAreNotAsked) {
    rules_.private_addresses = false;
    const std::string port = files_.authority().substr(files_.authority().find(':'));
    for (const char* host : {"127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.0x1", "0.0.0.0",
                             "localhost", "x.localhost", "LOCALHOST", "x.LocalHost", "[::1]", "[::ffff:127.0.0.1]",
                             "[::]", "169.254.169.254", "[fe80::1]", "10.0.0.1"}) {
        const Fetched got = get("http://" + std::string(host) + port + "/");
        EXPECT_NE(got.fault, "") << host;
        EXPECT_THAT(got.fault, testing::AnyOf(HasSubstr("public internet"), HasSubstr("this host"),
                                              HasSubstr("neither an address nor a name")))
            << host;
    }
    EXPECT_THAT(files_.requests(), IsEmpty());
}

TEST_F(Fetch, ProxyIsAskedForTheWholeUrlAndLooksNamesUp) {
    files_.give("http://crl.example.invalid:8080/a", "content");
    rules_.proxy = files_.url("");
    rules_.private_addresses = false;  // that of the proxy is the operator's
    EXPECT_EQ(text_of(get("http://crl.example.invalid:8080/a")), "content");
    EXPECT_THAT(files_.requests().at(0), HasSubstr("\r\nHost: crl.example.invalid:8080\r\n"));
    EXPECT_THAT(get("http://169.254.169.254/latest").fault, HasSubstr("public internet"));
    EXPECT_THAT(get("http://LocalHost/").fault, HasSubstr("this host"));
    EXPECT_THAT(files_.requests(), SizeIs(1));
}

TEST_F(Fetch, OnlyHttpIsFetched) {
    for (const char* url : {"https://crl.example/a", "ldap://crl.example/a", "ftp://crl.example/a", "",
                            "http:", "http://", "http://a b/", "http://crl.example/\r\nX: y"}) {
        EXPECT_NE(get(url).fault, "") << url;
    }
}

TEST(PublicAddress, IsWhatIanaGaveOut) {
    for (const char* one : {"8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0",
                            "192.169.0.0", "198.17.255.255", "223.255.255.255", "2606:4700::1111", "2a00::1"}) {
        EXPECT_TRUE(server::is_public_address(one)) << one;
    }
    for (const char* one : {"0.0.0.0",
                            "0.255.255.255",
                            "10.255.255.255",
                            "100.64.0.0",
                            "100.127.255.255",
                            "127.255.255.255",
                            "169.254.169.254",
                            "168.63.129.16",
                            "172.16.0.0",
                            "172.31.255.255",
                            "192.0.0.8",
                            "192.0.2.1",
                            "192.168.255.255",
                            "198.18.0.0",
                            "198.19.255.255",
                            "198.51.100.1",
                            "203.0.113.1",
                            "224.0.0.1",
                            "240.0.0.1",
                            "255.255.255.255",
                            "::",
                            "::1",
                            "::ffff:8.8.8.8",
                            "64:ff9b::808:808",
                            "100::1",
                            "2001::1",
                            "2001:1ff::1",
                            "2001:db8::1",
                            "2002:7f00:1::",
                            "3fff::1",
                            "fc00::1",
                            "fd00::1",
                            "fe80::1",
                            "fec0::1",
                            "ff02::1",
                            "crl.example",
                            ""}) {
        EXPECT_FALSE(server::is_public_address(one)) << one;
    }
}

}  // namespace
}  // namespace gatehouse::test

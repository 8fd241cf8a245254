// Answers of a server, and its address, as hostile text.
#include "attestation/agent/server_client.hpp"

#include <gtest/gtest.h>

#include "attestation/agent/client_key.hpp"
#include "attestation/agent/http_answer.hpp"
#include "attestation/agent/tls_stream.hpp"

namespace gatehouse::agent {
namespace {

using host::ToolError;

TEST(HttpAnswer, IsReadByteByByte) {
    HttpAnswer answer(100);
    for (const char c : std::string_view("HTTP/1.1 429 Slow\r\nRetry-After: 17\r\nContent-Length: 5\r\n\r\nhello")) {
        ASSERT_FALSE(answer.done());
        answer.take({&c, 1});
    }
    ASSERT_TRUE(answer.done());
    EXPECT_EQ(answer.status(), 429u);
    EXPECT_EQ(answer.retry_after(), 17u);
    EXPECT_TRUE(answer.keep_alive());
    EXPECT_EQ(answer.take_body(), "hello");
}

TEST(HttpAnswer, KnowsChunksAndAnswersWithoutABody) {
    HttpAnswer chunked(100);
    chunked.take("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
    ASSERT_TRUE(chunked.done());
    EXPECT_EQ(chunked.take_body(), "abcde");
    HttpAnswer empty(100);
    empty.take("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    ASSERT_TRUE(empty.done());
    EXPECT_FALSE(empty.keep_alive());
}

TEST(HttpAnswer, RefusesMoreThanItsLimits) {
    HttpAnswer declared(10);
    EXPECT_THROW(declared.take("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"), ToolError);
    HttpAnswer chunked(10);
    EXPECT_THROW(chunked.take("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n"), ToolError);
    HttpAnswer header(10);
    EXPECT_THROW(header.take("HTTP/1.1 200 OK\r\nX: " + std::string(20000, 'x')), ToolError);
}

// Such a line counts as neither header nor body.
TEST(HttpAnswer, RefusesAChunkWhoseLineNeverEnds) {
    constexpr std::string_view kBegin = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (const char* line : {"1;x=", "0\r\nX: "}) {
        HttpAnswer answer(100);
        answer.take(std::string(kBegin) + line);
        const std::string part(4096, 'x');
        const auto go_on = [&] {
            for (int i = 0; i < 16; ++i) answer.take(part);
        };
        EXPECT_THROW(go_on(), ToolError) << line;
    }
}

TEST(HttpAnswer, RefusesWhatIsNoAnswer) {
    for (const char* text :
         {"SSH-2.0-x\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"}) {
        HttpAnswer answer(100);
        EXPECT_THROW(answer.take(text), ToolError) << text;
    }
    HttpAnswer after(100);
    EXPECT_THROW(after.take("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab"), ToolError);
}

TEST(HttpAnswer, RefusesAnEndInTheMiddle) {
    constexpr std::string_view kWhole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
    for (std::size_t size = 0; size < kWhole.size(); ++size) {
        HttpAnswer answer(100);
        if (size != 0) answer.take(kWhole.substr(0, size));
        EXPECT_THROW(answer.end(), ToolError) << size;
    }
}

TEST(TlsContext, BelievesNobodyWithoutACertificateOfTheCa) {
    for (const std::string& ca : {std::string(), std::string("\n"), make_private_key()})
        EXPECT_THROW(TlsContext(ca, ""), ToolError);
    EXPECT_THROW(HttpsConnection({.url = "https://a", .ca = {}, .identity = {}}), ToolError);
}

TEST(ServerUrl, NamesHostAndPort) {
    EXPECT_EQ(parse_server_url("https://a.example").text(), "a.example:443");
    EXPECT_EQ(parse_server_url("https://10.0.2.2:8443/").text(), "10.0.2.2:8443");
    const ServerAddress six = parse_server_url("https://[::1]:8443");
    EXPECT_EQ(six.host, "::1");
    EXPECT_EQ(six.text(), "[::1]:8443");
}

TEST(ServerUrl, RefusesEverythingElse) {
    for (const char* url : {"", "http://a", "https://", "https://a:", "https://a:0", "https://a:65536", "https://a:1x",
                            "https://a/b", "https://u@a", "https://[::1", "https://a\r\nX: y", "https://[::1]8443"}) {
        EXPECT_THROW((void)parse_server_url(url), ToolError) << url;
    }
}

}  // namespace
}  // namespace gatehouse::agent

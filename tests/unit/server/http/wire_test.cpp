#include "attestation/server/http/wire.hpp"

#include <gmock/gmock.h>

namespace gatehouse::http {
namespace {

using testing::HasSubstr;
using testing::Not;

// What a request comes to: its status if it is refused, 0 if not.
struct Outcome {
    unsigned status = 0;
    Request request;
    std::size_t left = 0;  // bytes after it
};

Outcome read(std::string bytes, std::size_t most_body = 1024) {
    Outcome outcome;
    try {
        const std::size_t length = head_length(bytes);
        if (length == 0) {
            outcome.status = 1;  // waits for more
            return outcome;
        }
        RequestReader reader(std::string_view(bytes).substr(0, length));
        reader.limit_body(most_body);
        std::string_view rest = std::string_view(bytes).substr(length);
        rest.remove_prefix(reader.put(rest));
        outcome.left = rest.size();
        if (!reader.is_done()) outcome.status = 1;
        reader.finish();
        outcome.request = reader.request();
    } catch (const HttpError& error) {
        outcome.status = error.status;
    }
    return outcome;
}

const std::string kHost = "Host: attest.example\r\n";

TEST(Wire, ReadsARequestAndLeavesTheNext) {
    const auto outcome = read("POST /v1/x?a=b HTTP/1.1\r\n" + kHost + "X-One: 1\r\nContent-Length: 4\r\n\r\nbodyGET /");
    EXPECT_EQ(outcome.status, 0u);
    EXPECT_EQ(outcome.request.method, "POST");
    EXPECT_EQ(outcome.request.target, "/v1/x?a=b");
    EXPECT_EQ(outcome.request.header("x-one"), "1");
    EXPECT_EQ(outcome.request.body, "body");
    EXPECT_EQ(outcome.left, 5u);
}

TEST(Wire, ReadsChunks) {
    const auto outcome =
        read("POST / HTTP/1.1\r\n" + kHost + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nrest");
    EXPECT_EQ(outcome.status, 0u);
    EXPECT_EQ(outcome.request.body, "abcde");
    EXPECT_EQ(outcome.left, 4u);
}

struct Smuggled {
    const char* name;
    std::string fields;
    unsigned status;
    std::string body = {};
};
class Smuggling : public testing::TestWithParam<Smuggled> {};

TEST_P(Smuggling, IsRefused) {
    EXPECT_EQ(read("POST / HTTP/1.1\r\n" + GetParam().fields + "\r\n" + GetParam().body).status, GetParam().status);
}

INSTANTIATE_TEST_SUITE_P(
    , Smuggling,
    testing::Values(
        Smuggled{"TwoLengths", kHost + "Content-Length: 4\r\nContent-Length: 5\r\n", 400, "abcde"},
        Smuggled{"SameLengthTwice", kHost + "Content-Length: 4\r\nContent-Length: 4\r\n", 400, "abcd"},
        Smuggled{"LengthList", kHost + "Content-Length: 4, 4\r\n", 400, "abcd"},
        Smuggled{"SignedLength", kHost + "Content-Length: +4\r\n", 400, "abcd"},
        Smuggled{"HexLength", kHost + "Content-Length: 0x4\r\n", 400, "abcd"},
        Smuggled{"HugeLength", kHost + "Content-Length: 99999999999999999999\r\n", 400},
        Smuggled{"LengthThenChunked", kHost + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", 400, "0\r\n\r\n"},
        Smuggled{"ChunkedThenLength", kHost + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", 400, "0\r\n\r\n"},
        Smuggled{"OtherCoding", kHost + "Transfer-Encoding: gzip\r\n", 501},
        Smuggled{"CodingList", kHost + "Transfer-Encoding: gzip, chunked\r\n", 501, "0\r\n\r\n"},
        Smuggled{"ChunkedTwice", kHost + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400,
                 "0\r\n\r\n"},
        Smuggled{"ChunkedWithJunk",
                 kHost + "Transfer-Encoding: \x0b"
                         "chunked\r\n",
                 400, "0\r\n\r\n"},
        Smuggled{"xchunked", kHost + "Transfer-Encoding: xchunked\r\n", 501, "0\r\n\r\n"},
        Smuggled{"FoldedLine", kHost + "X-A: b\r\n c\r\n", 400},
        Smuggled{"FoldedCoding", kHost + "Transfer-Encoding:\r\n chunked\r\n", 400, "0\r\n\r\n"},
        Smuggled{"BareLineFeed", kHost + "X-A: b\nX-B: c\r\n", 400},
        Smuggled{"BareReturn", kHost + "X-A: b\rX-B: c\r\n", 400},
        Smuggled{"Null", kHost + std::string("X-A: b\0c\r\n", 10), 400},
        Smuggled{"SpaceBeforeColon", kHost + "Content-Length : 4\r\n", 400, "abcd"},
        Smuggled{"NoColon", kHost + "Content-Length 4\r\n", 400, "abcd"}, Smuggled{"NoHost", "X-A: b\r\n", 400},
        Smuggled{"TwoHosts", kHost + kHost, 400}, Smuggled{"HostileHost", "Host: a/../b\r\n", 400},
        Smuggled{"HostWithUser", "Host: user@attest.example\r\n", 400},
        Smuggled{"ChunkExtension", kHost + "Transfer-Encoding: chunked\r\n", 400, "3;a=b\r\nabc\r\n0\r\n\r\n"},
        Smuggled{"LineFeedInChunkExtension", kHost + "Transfer-Encoding: chunked\r\n", 400,
                 "3;a=\"\nb\"\r\nabc\r\n0\r\n\r\n"},
        Smuggled{"LastChunkExtension", kHost + "Transfer-Encoding: chunked\r\n", 400,
                 "3\r\nabc\r\n0;a=\"\nb\"\r\n\r\n"},
        Smuggled{"BadChunkSize", kHost + "Transfer-Encoding: chunked\r\n", 400, "zz\r\nabc\r\n0\r\n\r\n"},
        Smuggled{"HugeChunkSize", kHost + "Transfer-Encoding: chunked\r\n", 400, "fffffffffffffffff\r\nabc"}),
    [](const auto& each) { return each.param.name; });

// Byte by byte, as from a hostile client: Beast aborts the process if it sees "0 CR LF" and then one byte
// more.
TEST(Wire, ChunksArriveInPiecesOfAnySize) {
    const std::string head = "POST / HTTP/1.1\r\n" + kHost + "Transfer-Encoding: chunked\r\n\r\n";
    for (const std::string body : {"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "1\r\na\r\n0\r\nX: y\r\n\r\n"}) {
        RequestReader reader(head);
        reader.limit_body(16);
        std::string in;
        for (const char c : body) {
            EXPECT_FALSE(reader.is_done());
            in += c;
            in.erase(0, reader.put(in));
        }
        EXPECT_TRUE(reader.is_done()) << body;
        EXPECT_EQ(in, "");
    }
}

TEST(Wire, AChunkSizeEndsWithCrLfOnly) {
    const std::string start = "POST / HTTP/1.1\r\n" + kHost + "Transfer-Encoding: chunked\r\n\r\n";
    EXPECT_EQ(read(start + "3\nabc\n0\n\n").status, 1u) << "still waits for the end of the size's line";
    EXPECT_EQ(read(start + "3\r\nabc\n0\r\n\r\n").status, 400u);
}

TEST(Wire, RefusesOtherVersionsAndMalformedLines) {
    EXPECT_EQ(read("GET / HTTP/1.0\r\n" + kHost + "\r\n").status, 505u);
    for (const char* line :
         {"GET /", "GET  / HTTP/1.1", "GET / HTTP/1.1 ", "G@T / HTTP/1.1", "GET / HTTP/2.0", "GET / http/1.1"}) {
        const unsigned status = read(std::string(line) + "\r\n" + kHost + "\r\n").status;
        EXPECT_TRUE(status == 400 || status == 505) << line << ": " << status;
    }
    EXPECT_EQ(read("GET / HTTP/1.1\n" + kHost + "\n").status, 400u);
    EXPECT_EQ(read("\nGET / HTTP/1.1\r\n").status, 400u);
}

TEST(Wire, BoundsTheHeader) {
    const std::string start = "GET / HTTP/1.1\r\n" + kHost;
    const auto with_field = [&](std::size_t total) {
        return start + "X: " + std::string(total - start.size() - 7, 'a') + "\r\n\r\n";
    };
    EXPECT_EQ(with_field(kMaxHead).size(), kMaxHead);
    EXPECT_EQ(read(with_field(kMaxHead)).status, 0u);
    EXPECT_EQ(read(with_field(kMaxHead + 1)).status, 431u);
    EXPECT_EQ(head_length(std::string(kMaxHead - 1, 'a')), 0u);
    std::string many = start;
    for (int i = 0; i < 70; ++i) many += "X: y\r\n";
    EXPECT_EQ(read(many + "\r\n").status, 431u);
}

TEST(Wire, BoundsTheBody) {
    EXPECT_EQ(read("POST / HTTP/1.1\r\n" + kHost + "Content-Length: 10\r\n\r\n0123456789", 10).status, 0u);
    EXPECT_EQ(read("POST / HTTP/1.1\r\n" + kHost + "Content-Length: 11\r\n\r\n", 10).status, 413u);
    const std::string chunked = "POST / HTTP/1.1\r\n" + kHost + "Transfer-Encoding: chunked\r\n\r\n";
    EXPECT_EQ(read(chunked + "6\r\n012345\r\n5\r\n01234\r\n0\r\n\r\n", 10).status, 413u);
    EXPECT_EQ(read(chunked + "6\r\n012345\r\n4\r\n0123\r\n0\r\n\r\n", 10).status, 0u);
}

TEST(Wire, TrailersDoNotBecomeHeaders) {
    const auto outcome = read("POST / HTTP/1.1\r\n" + kHost +
                              "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nAuthorization: Bearer gh_x\r\n\r\n");
    EXPECT_EQ(outcome.status, 0u);
    EXPECT_FALSE(outcome.request.has_header("authorization"));
}

TEST(Wire, AnswersHaveWhatEveryAnswerHas) {
    Response response;
    response.headers.emplace_back("X-Good", "yes");
    response.headers.emplace_back("X-Split", "a\r\nSet-Cookie: b");
    const std::string head = response_head(response, 5, true);
    for (const char* field : {"HTTP/1.1 200 OK\r\n", "\r\nDate: ", "\r\nStrict-Transport-Security: max-age=",
                              "\r\nX-Content-Type-Options: nosniff\r\n", "\r\nCache-Control: no-store\r\n",
                              "\r\nContent-Length: 5\r\n", "\r\nConnection: close\r\n", "\r\nX-Good: yes\r\n"}) {
        EXPECT_THAT(head, HasSubstr(field));
    }
    EXPECT_THAT(head, Not(HasSubstr("Set-Cookie")));
    EXPECT_THAT(head, Not(HasSubstr("Server:")));
    EXPECT_TRUE(head.ends_with("\r\n\r\n"));
    EXPECT_THAT(response_head(response, std::nullopt, false), HasSubstr("Transfer-Encoding: chunked"));
    EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
}

}  // namespace
}  // namespace gatehouse::http

// CBOR and COSE_Sign1: RFC 8949's examples, and what must not be read.
#include "attestation/formats/cbor.hpp"

#include <gmock/gmock.h>

#include "attestation/formats/cose.hpp"
#include "tests/unit/formats/keys.hpp"

namespace gatehouse::formats {
namespace {

using host::from_hex;
using host::hex;
using host::ToolError;
using testing::HasSubstr;
using Kind = CborItem::Kind;

CborItem read(std::string_view digits) {
    static std::vector<std::unique_ptr<Buffer>> kept;  // the items are views
    kept.push_back(std::make_unique<Buffer>(from_hex(digits, "test")));
    return read_cbor(*kept.back(), "test");
}

std::string refusal(std::string_view digits) {
    try {
        (void)read(digits);
    } catch (const ToolError& error) {
        return error.what();
    }
    return "accepted";
}

// RFC 8949, appendix A.
TEST(Cbor, WritesTheShortestForm) {
    const auto written = [](std::int64_t value) { return hex(CborWriter().integer(value).out()); };
    EXPECT_EQ(written(0), "00");
    EXPECT_EQ(written(23), "17");
    EXPECT_EQ(written(24), "1818");
    EXPECT_EQ(written(1000), "1903e8");
    EXPECT_EQ(written(1000000), "1a000f4240");
    EXPECT_EQ(written(1000000000000), "1b000000e8d4a51000");
    EXPECT_EQ(written(-1), "20");
    EXPECT_EQ(written(-1000), "3903e7");
    EXPECT_EQ(hex(CborWriter().text("IETF").out()), "6449455446");
    EXPECT_EQ(hex(CborWriter().bytes(from_hex("01020304", "")).out()), "4401020304");
    EXPECT_EQ(hex(CborWriter().map(1).text("a").array(2).integer(2).integer(3).out()), "a16161820203");
    EXPECT_EQ(hex(CborWriter().tag(32).text("a").out()), "d8206161");
}

TEST(Cbor, ReadsEachKind) {
    const CborItem array = read("8a1818390101410061618100a0c100f5f6fb3ff199999999999a");
    ASSERT_EQ(array.items.size(), 10u);
    EXPECT_EQ(array.items[0].integer(), 24);
    EXPECT_EQ(array.items[1].integer(), -258);
    EXPECT_EQ(hex(array.items[2].bytes), "00");
    EXPECT_EQ(array.items[3].text(), "a");
    EXPECT_TRUE(array.items[4].is(Kind::kArray));
    EXPECT_TRUE(array.items[5].is(Kind::kMap));
    EXPECT_EQ(array.items[6].tagged(1)->integer(), 0);
    EXPECT_EQ(array.items[6].tagged(2), nullptr);
    EXPECT_EQ(array.items[7].number, 1u);
    EXPECT_TRUE(array.items[8].is(Kind::kNull));
    EXPECT_TRUE(array.items[9].is(Kind::kFloat));
    EXPECT_EQ(read("1bffffffffffffffff").integer(), std::nullopt);
    EXPECT_EQ(read("3bffffffffffffffff").integer(), std::nullopt);
}

TEST(Cbor, FindsByKey) {
    const CborItem map = read("a2013903e76161820203");
    EXPECT_EQ(map.find(1)->integer(), -1000);
    EXPECT_EQ(map.find("a")->items.size(), 2u);
    EXPECT_EQ(map.find(2), nullptr);
    EXPECT_EQ(map.find("b"), nullptr);
}

TEST(Cbor, RefusesWhatIsNoItem) {
    EXPECT_THAT(refusal(""), HasSubstr("ends too early"));
    EXPECT_THAT(refusal("0000"), HasSubstr("follows"));
    EXPECT_THAT(refusal("1c"), HasSubstr("not well-formed"));
    EXPECT_THAT(refusal("18"), HasSubstr("ends too early"));
    EXPECT_THAT(refusal("5affffffff00"), HasSubstr("ends too early"));
    EXPECT_THAT(refusal("9bffffffffffffffff00"), HasSubstr("ends too early"));
    EXPECT_THAT(refusal("bbffffffffffffffff00"), HasSubstr("ends too early"));
    EXPECT_THAT(refusal("bb800000000000000000"), HasSubstr("ends too early")) << "twice the pairs is zero";
    EXPECT_THAT(refusal("9f01ff"), HasSubstr("indefinite"));
    EXPECT_THAT(refusal("5f4101ff"), HasSubstr("indefinite"));
    EXPECT_THAT(refusal("ff"), HasSubstr("offset 0"));
    EXPECT_THAT(refusal("a201000100"), HasSubstr("two equal keys"));
    EXPECT_THAT(refusal("a2616100616101"), HasSubstr("two equal keys"));
    EXPECT_THAT(refusal("a1f500"), HasSubstr("key"));
    for (const char* const text : {"61ff", "62c080", "63eda080", "64f4908080", "61c3"})
        EXPECT_THAT(refusal(text), HasSubstr("UTF-8")) << text;
    EXPECT_EQ(read("63e282ac").text(), "\xe2\x82\xac");
}

TEST(Cbor, BoundsDepthAndNumber) {
    std::string deep;
    for (int i = 0; i < 33; ++i) deep += "81";
    EXPECT_THAT(refusal(deep + "00"), HasSubstr("deeply"));
    EXPECT_EQ(refusal(deep.substr(2) + "00"), "accepted");
    Buffer many = CborWriter().array(kMaxCborItems).out();
    many.resize(many.size() + kMaxCborItems);
    EXPECT_THAT(refusal(hex(many)), HasSubstr("too many"));
}

TEST(Cose, SignsAndVerifies) {
    const auto key = test::signing_key();
    const Buffer payload = from_hex("a10102", "");
    const Buffer message = sign_cose(payload, {{kCoseContentType, CborWriter().text("a/b").out()}}, key.get());
    const CoseSign1 read = verify_cose(message, key.get(), "message");
    EXPECT_EQ(read.payload, payload);
    EXPECT_EQ(hex(read.protected_header).substr(0, 16), "a301260363612f62") << "{1: -7, 3: \"a/b\", 4: ...}";
    EXPECT_THROW((void)verify_cose(message, test::signing_key().get(), "message"), ToolError);
    for (std::size_t i = 0; i < message.size(); ++i) {
        Buffer changed = message;
        changed[i] ^= std::byte{1};
        EXPECT_THROW((void)verify_cose(changed, key.get(), "message"), ToolError) << i;
        EXPECT_THROW((void)verify_cose(Bytes(message).first(i), key.get(), "message"), ToolError) << i;
    }
}

}  // namespace
}  // namespace gatehouse::formats

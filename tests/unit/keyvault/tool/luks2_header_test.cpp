// The segment of a LUKS2 header that cryptsetup made, changed; cryptsetup reads what it has become.
#include "keyvault/tool/luks2_header.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "hypervisor/base/hash.hpp"
#include "tests/unit/policies/appliance.hpp"

namespace gatehouse::host {
namespace {

constexpr std::size_t kCopySize = 16 * 1024;
constexpr Luks2Segment kSegment{
    .offset = 123 * 4096, .size = std::uint64_t{1} << 42, .first_tweak = 123 * 8, .sector_size = 4096};

// As cryptsetup makes it, with the passphrase "x".
const Buffer& made_by_cryptsetup() {
    static const Buffer kHeader = [] {
        const test::Directory directory;
        const std::string path = directory.path() + "/header";
        create_file(path, Buffer(std::size_t{1} << 20), 0600);
        (void)run_program(
            {"cryptsetup", "luksFormat", "-q", "--type", "luks2", "--luks2-metadata-size=16k",
             "--luks2-keyslots-size=256k", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--key-file=-", path},
            literal_bytes("x"), 1 << 16);
        return read_file(path, 1 << 20);
    }();
    return kHeader;
}

nlohmann::json json_of(Bytes copy) {
    return nlohmann::json::parse(std::string(reinterpret_cast<const char*>(copy.data()) + 4096));
}

void seal(MutableBytes copy) {
    std::ranges::fill(copy.subspan(448, 64), std::byte{0});
    copy_bytes(copy.subspan(448), sha256(copy));
}

void expect_refused(Buffer header, const char* word) {
    const Buffer before = header;
    try {
        set_segment(header, kSegment);
        ADD_FAILURE() << "was accepted; wanted: " << word;
    } catch (const ToolError& error) {
        EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
    EXPECT_TRUE(header == before);
}

TEST(Luks2Header, GetsTheSegmentInBothCopiesAndNothingElse) {
    Buffer header = made_by_cryptsetup();
    set_segment(header, kSegment);
    for (const std::size_t at : {std::size_t{0}, kCopySize}) {
        const Bytes copy = Bytes(header).subspan(at, kCopySize);
        nlohmann::json expected = json_of(Bytes(made_by_cryptsetup()).subspan(at));
        nlohmann::json& segment = expected["segments"]["0"];
        ASSERT_EQ(segment["iv_tweak"], "0");
        segment["offset"] = "503808";
        segment["size"] = "4398046511104";
        segment["iv_tweak"] = "984";
        segment["sector_size"] = 4096;
        EXPECT_EQ(json_of(copy), expected);
        EXPECT_TRUE(equal_bytes(copy.first(448), Bytes(made_by_cryptsetup()).subspan(at, 448)));
        EXPECT_FALSE(equal_bytes(copy.subspan(448, 32), Bytes(made_by_cryptsetup()).subspan(at + 448, 32)));
    }
    EXPECT_TRUE(equal_bytes(Bytes(header).subspan(2 * kCopySize), Bytes(made_by_cryptsetup()).subspan(2 * kCopySize)));
}

// Of a copy whose checksum did not hold it would make the other one again, or refuse both.
TEST(Luks2Header, IsReadByCryptsetupFromEitherCopy) {
    Buffer header = made_by_cryptsetup();
    set_segment(header, kSegment);
    for (const std::size_t spoilt : {std::size_t{0}, kCopySize}) {
        const test::Directory directory;
        const std::string path = directory.path() + "/header";
        Buffer one = header;
        one[spoilt + 5000] ^= std::byte{1};
        create_file(path, one, 0600);
        const Buffer dump = run_program({"cryptsetup", "luksDump", "--dump-json-metadata", path}, {}, 1 << 16);
        const auto content =
            nlohmann::json::parse(std::string(reinterpret_cast<const char*>(dump.data()), dump.size()));
        EXPECT_EQ(content["segments"]["0"]["iv_tweak"], "984");
        (void)run_program({"cryptsetup", "open", "--test-passphrase", "--key-file=-", path}, literal_bytes("x"), 4096);
    }
}

TEST(Luks2Header, IsRefusedUnlessBothCopiesAreGood) {
    const auto changed = [&](std::size_t at, std::byte mask) {
        Buffer header = made_by_cryptsetup();
        header[at] ^= mask;
        return header;
    };
    expect_refused({}, "truncated");
    expect_refused(Buffer(made_by_cryptsetup().begin(), made_by_cryptsetup().begin() + 2 * kCopySize - 1), "bad size");
    for (const std::size_t copy : {std::size_t{0}, kCopySize}) {
        expect_refused(changed(copy, std::byte{1}), "magic");
        expect_refused(changed(copy + 7, std::byte{3}), "version");
        expect_refused(changed(copy + 8, std::byte{1}), "bad size");
        expect_refused(changed(copy + 77, std::byte{1}), "SHA-256");
        expect_refused(changed(copy + 262, std::byte{1}), "wrong place");
        expect_refused(changed(copy + 100, std::byte{1}), "checksum");
        expect_refused(changed(copy + 5000, std::byte{1}), "checksum");
    }
}

TEST(Luks2Header, IsRefusedWithoutOneSegment) {
    const auto with_json = [&](const std::string& text) {
        Buffer header = made_by_cryptsetup();
        const MutableBytes copy = MutableBytes(header).subspan(kCopySize, kCopySize);
        std::ranges::fill(copy.subspan(4096), std::byte{0});
        copy_bytes(copy.subspan(4096), text_bytes(text));
        seal(copy);
        return header;
    };
    expect_refused(with_json(""), "JSON");
    expect_refused(with_json("[]"), "JSON");
    expect_refused(with_json("{\"segments\": {}}"), "one segment");
    expect_refused(with_json("{\"segments\": {\"0\": {}, \"1\": {}}}"), "one segment");
    expect_refused(with_json("{\"segments\": {\"0\": 1}}"), "one segment");
    expect_refused(with_json("{\"segments\": [{}]}"), "one segment");
    expect_refused(with_json("{\"segments\":{\"0\":{}},\"x\":\"" + std::string(12'200, 'x') + "\"}"), "no room");
}

}  // namespace
}  // namespace gatehouse::host

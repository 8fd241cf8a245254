// Text that somebody else chose, on a terminal and in what is kept.
#include "attestation/protocol/text.hpp"

#include <gtest/gtest.h>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::protocol {
namespace {

using host::one_line;

TEST(OneLine, CannotSteerATerminalOrForgeALineOfTheJournal) {
    EXPECT_EQ(one_line("a\nverdict: trusted\x1b[2J\x7f \xc2\x9b"
                       "1mb"),
              "a\\x0averdict: trusted\\x1b[2J\\x7f \\xc2\\x9b1mb");
    EXPECT_EQ(one_line("büro-ß 東京 القاهرة 😀 C:\\a"), "büro-ß 東京 القاهرة 😀 C:\\a");
    const std::string once = one_line("\x1b\u202E");
    EXPECT_EQ(one_line(once), once);
}

// Else "invoice-exe.png" is shown of what ends otherwise, or a verdict is read from the wrong end.
TEST(OneLine, ShowsWhatHidesOrReordersText) {
    for (const char* const hidden : {"\u202A", "\u202E", "\u2066", "\u2069", "\u200E", "\u200F", "\u061C", "\u200B",
                                     "\u00AD", "\u2028", "\u2029", "\uFEFF", "\U000E0041"}) {
        std::string expected = "a";
        for (const char& byte : std::string(hidden)) expected += "\\x" + host::hex(host::text_bytes({&byte, 1}));
        EXPECT_EQ(one_line("a" + std::string(hidden) + "b"), expected + "b");
    }
}

// A terminal of another encoding takes 0x9b alone for a control.
TEST(OneLine, ShowsBytesThatAreNotUtf8) {
    EXPECT_EQ(one_line("a\x9b[2J"), "a\\x9b[2J");
    EXPECT_EQ(one_line("\xe2\x80"), "\\xe2\\x80");
    EXPECT_EQ(one_line("\xc3<"), "\\xc3<");
    EXPECT_EQ(one_line(""), "");
}

TEST(CleanText, IsUtf8WithoutNulAndNotCutWithinACharacter) {
    const auto text = [](std::string_view bytes) { return clean_text(bytes, 100); };
    EXPECT_EQ(text(std::string_view("a\0b", 3)), "a\uFFFDb");
    EXPECT_EQ(text("\xc0\xbc\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82"),
              "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD");
    EXPECT_EQ(text("東\u202E😀\U0010FFFF"), "東\u202E😀\U0010FFFF");
    EXPECT_EQ(clean_text("ab東", 4), "ab");
    EXPECT_EQ(clean_text("ab\xff", 4), "ab");
}

}  // namespace
}  // namespace gatehouse::protocol

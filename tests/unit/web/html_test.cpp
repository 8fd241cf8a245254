#include "attestation/web/html.hpp"

#include <gtest/gtest.h>

namespace gatehouse::web {
namespace {

TEST(Html, EscapesWhatMarkupIsMadeOf) {
    EXPECT_EQ(piece("<p title=\"{}\">{}</p>", "\"'>", "<b>&amp;").text(),
              "<p title=\"&quot;&#39;&gt;\">&lt;b&gt;&amp;amp;</p>");
}

TEST(Html, KeepsTextOfAllLanguages) {
    const char* text = "büro-ß 東京 القاهرة 😀";
    EXPECT_EQ(escaped(text), text);
}

TEST(Html, ShowsWhatHidesOrReordersText) {
    EXPECT_EQ(escaped("a\u202Eb"), "a⟨U+202E⟩b");       // right-to-left override
    EXPECT_EQ(escaped("a\u2066b"), "a⟨U+2066⟩b");       // isolate
    EXPECT_EQ(escaped("a\u200Bb"), "a⟨U+200B⟩b");       // no width
    EXPECT_EQ(escaped("a\u00ADb"), "a⟨U+00AD⟩b");       // soft hyphen
    EXPECT_EQ(escaped("a\U000E0041b"), "a⟨U+E0041⟩b");  // tag
    EXPECT_EQ(escaped(std::string_view("a\0b", 3)), "a⟨U+0000⟩b");
    EXPECT_EQ(escaped("a\x1b[31mb"), "a⟨U+001B⟩[31mb");
    EXPECT_EQ(escaped("a\nb"), "a⟨U+000A⟩b");
    EXPECT_EQ(escaped("a\u0085b"), "a⟨U+0085⟩b");
}

// What is shown can be copied into a search; text that looks like it is not taken for it.
TEST(Html, WhatIsShownStandsForOneTextAlone) {
    for (const char* const text : {"a\u202Eb", "\u200B", "\u00AD\U000E0041", "plain", "⟨U+202E⟩", "⟨U+", "⟨0xFF⟩", "⟨⟩",
                                   "⟨U+27E8⟩U+202E⟩", "⟨U+⟩", "a⟨U+110000⟩", "⟨U+ffffffffff⟩", "⟨U+20 2E⟩", "東京"}) {
        const std::string shown = escaped(text);
        EXPECT_EQ(as_meant(shown), text) << shown;
    }
    EXPECT_NE(escaped("⟨U+202E⟩"), escaped("\u202E"));
    EXPECT_NE(escaped("⟨0xFF⟩"), escaped("\xff"));
    EXPECT_EQ(as_meant("⟨U+202e⟩"), "\u202E");
    for (const char* const none : {"⟨U+-1⟩", "⟨U+ffffffffff⟩", "⟨U+110000⟩", "⟨U+⟩", "⟨U+20", "⟨U+202E "})
        EXPECT_EQ(as_meant(none), none);
}

TEST(Html, KeepsLinesOnlyWhereTheyBelong) {
    EXPECT_EQ(escaped("a\r\nb\tc", true), "a\nb\tc");
    EXPECT_EQ(escaped("a\rb", true), "a⟨U+000D⟩b");
    EXPECT_EQ(piece("<pre>{}</pre>", Lines{"a\n<b>"}).text(), "<pre>a\n&lt;b&gt;</pre>");
}

TEST(Html, ShowsBytesThatAreNotUtf8) {
    EXPECT_EQ(escaped("a\xff"), "a⟨0xFF⟩");
    EXPECT_EQ(escaped("\xc0\xbc"), "⟨0xC0⟩⟨0xBC⟩");            // overlong <
    EXPECT_EQ(escaped("\xe0\x80\xbc"), "⟨0xE0⟩⟨0x80⟩⟨0xBC⟩");  // overlong <
    EXPECT_EQ(escaped("\xed\xa0\x80"), "⟨0xED⟩⟨0xA0⟩⟨0x80⟩");  // surrogate
    EXPECT_EQ(escaped("\xe2\x82"), "⟨0xE2⟩⟨0x82⟩");            // cut off
    EXPECT_EQ(escaped("\xc3<"), "⟨0xC3⟩&lt;");                 // swallows nothing
}

TEST(Html, PutsMarkupOnlyAsMarkup) {
    EXPECT_EQ(piece("<td>{}</td>", piece("<b>{}</b>", "<")).text(), "<td><b>&lt;</b></td>");
}

TEST(Html, WritesFlagsOrNot) {
    EXPECT_EQ(piece("<option{}>{}</option>", Flag("selected").when(true), 5).text(), "<option selected>5</option>");
    EXPECT_EQ(piece("<option{}>{}</option>", Flag("selected").when(false), -5).text(), "<option>-5</option>");
}

TEST(Url, EncodesEachPart) {
    EXPECT_EQ(Url("/endpoints/{}/retire", "a/../b?c#d\"<").text(), "/endpoints/a%2F..%2Fb%3Fc%23d%22%3C/retire");
    EXPECT_EQ(Url("/endpoints").with("q", "a&b=c d").with("state", "").with("group", "x").text(),
              "/endpoints?q=a%26b%3Dc%20d&group=x");
}

TEST(Url, TakesFromABrowserOnlyPathsOfThisServer) {
    EXPECT_EQ(Url::from_browser("/endpoints?state=stale").text(), "/endpoints?state=stale");
    for (const char* bad : {"", "https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)",
                            "/a\r\nb", "/<script>", "/a\tb"}) {
        EXPECT_EQ(Url::from_browser(bad).text(), "/") << bad;
    }
    EXPECT_EQ(Url::of_path("/a b/<c>").text(), "/a%20b/%3Cc%3E");
    EXPECT_EQ(Url::of_path("//evil.example").text(), "/");
}

// The checks of patterns happen when the program is compiled; the checker is run here as it is there.
bool is_accepted(std::string_view pattern, std::initializer_list<html_detail::Kind> kinds) {
    try {
        html_detail::Checker(pattern, std::span(kinds.begin(), kinds.size())).run();
        return true;
    } catch (const char*) {
        return false;
    }
}

TEST(Pattern, RefusesWhatWouldNotBeEscapedOrNotBeServed) {
    using enum html_detail::Kind;
    EXPECT_TRUE(is_accepted("<a href=\"{}\" title=\"x {}\"{}>{}</a>", {kUrl, kText, kFlag, kMarkup}));
    EXPECT_FALSE(is_accepted("<a href=\"{}\">", {kText}));  // javascript:
    EXPECT_FALSE(is_accepted("<a href=\"x{}\">", {kUrl}));  // not the whole address
    EXPECT_FALSE(is_accepted("<p title={}>", {kText}));     // not quoted
    EXPECT_FALSE(is_accepted("<p title='{}'>", {kText}));
    EXPECT_FALSE(is_accepted("<p title=\"{}\">", {kMarkup}));
    EXPECT_FALSE(is_accepted("<p {}>", {kText}));
    EXPECT_FALSE(is_accepted("<p>{}", {kFlag}));
    EXPECT_FALSE(is_accepted("<p style=\"color:red\">", {}));
    EXPECT_FALSE(is_accepted("<p onclick=\"x\">", {}));
    EXPECT_FALSE(is_accepted("<p hx-on:click=\"x\">", {}));
    EXPECT_FALSE(is_accepted("<p hx-vals=\"{}\">", {kText}));  // js:
    EXPECT_FALSE(is_accepted("<p hx-trigger=\"{}\">", {kText}));
    EXPECT_TRUE(is_accepted("<p hx-get=\"{}\" hx-target=\"#x\">", {kUrl}));
    EXPECT_FALSE(is_accepted("<style>", {}));
    EXPECT_FALSE(is_accepted("<script>", {}));
    EXPECT_FALSE(is_accepted("<script src=\"{}\" defer></script>{}", {kUrl}));
    EXPECT_FALSE(is_accepted("{}", {}));
    EXPECT_FALSE(is_accepted("x", {kText}));
    EXPECT_FALSE(is_accepted("<p title=\"", {}));
}

}  // namespace
}  // namespace gatehouse::web

#include "attestation/web/html.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace gatehouse::web {
namespace {

struct Range {
    char32_t first, last;
};
// What is not seen, or changes how other text is seen: C0 and C1 controls, Unicode's general category Cf,
// line and paragraph separators, blanks that are no spaces, variation selectors, private use, noncharacters.
constexpr std::array kHidden{
    Range{0x0000, 0x001f},    Range{0x007f, 0x009f}, Range{0x00ad, 0x00ad},   Range{0x034f, 0x034f},
    Range{0x0600, 0x0605},    Range{0x061c, 0x061c}, Range{0x06dd, 0x06dd},   Range{0x070f, 0x070f},
    Range{0x115f, 0x1160},    Range{0x17b4, 0x17b5}, Range{0x180b, 0x180f},   Range{0x200b, 0x200f},
    Range{0x2028, 0x202e},    Range{0x2060, 0x206f}, Range{0x3164, 0x3164},   Range{0xe000, 0xf8ff},
    Range{0xfdd0, 0xfdef},    Range{0xfe00, 0xfe0f}, Range{0xfeff, 0xfeff},   Range{0xffa0, 0xffa0},
    Range{0xfff0, 0xfffb},    Range{0xfffe, 0xffff}, Range{0x1bca0, 0x1bca3}, Range{0x1d173, 0x1d17a},
    Range{0xe0000, 0x10ffff},
};

bool is_hidden(char32_t c) {
    const auto after = std::ranges::upper_bound(kHidden, c, {}, &Range::first);
    return after != kHidden.begin() && c <= std::prev(after)->last;
}

// One character of UTF-8 at the front; size 0 if it is not well-formed.
struct Decoded {
    char32_t value = 0;
    std::size_t size = 0;
};
Decoded decode(std::string_view text) {
    const auto lead = static_cast<unsigned char>(text.front());
    if (lead < 0x80) return {lead, 1};
    const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < size) return {};
    char32_t value = lead & (0x7fu >> size);
    for (std::size_t i = 1; i < size; ++i) {
        const auto next = static_cast<unsigned char>(text[i]);
        if ((next & 0xc0) != 0x80) return {};
        value = value << 6 | (next & 0x3f);
    }
    const bool overlong = (size == 3 && value < 0x800) || (size == 4 && value < 0x10000);
    if (overlong || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return {};
    return {value, size};
}

void append_number(std::string& out, const char* format, unsigned value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), format, value);
    out += text.data();
}

void append_escaped(std::string& out, std::string_view text, bool keep_lines) {
    while (!text.empty()) {
        const Decoded one = decode(text);
        if (one.size == 0) {
            append_number(out, "⟨0x%02X⟩", static_cast<unsigned char>(text.front()));
            text.remove_prefix(1);
            continue;
        }
        if (one.value == '&') {
            out += "&amp;";
        } else if (one.value == '<') {
            out += "&lt;";
        } else if (one.value == '>') {
            out += "&gt;";
        } else if (one.value == '"') {
            out += "&quot;";
        } else if (one.value == '\'') {
            out += "&#39;";
        } else if (keep_lines && (one.value == '\n' || one.value == '\t')) {
            out += static_cast<char>(one.value);
        } else if (keep_lines && text.starts_with("\r\n")) {
            out += '\n';
            text.remove_prefix(1);
        } else if (is_hidden(one.value)) {
            append_number(out, "⟨U+%04X⟩", static_cast<unsigned>(one.value));
        } else {
            out += text.substr(0, one.size);
        }
        text.remove_prefix(one.size);
    }
}

void append_percent_encoded(std::string& out, std::string_view text) {
    for (const char c : text) {
        const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                                c == '-' || c == '.' || c == '_' || c == '~';
        if (unreserved) {
            out += c;
        } else {
            append_number(out, "%%%02X", static_cast<unsigned char>(c));
        }
    }
}

}  // namespace

Url::Url(Pattern pattern, std::initializer_list<std::string_view> parts) {
    std::string_view rest = pattern.text;
    for (const std::string_view part : parts) {
        const std::size_t at = rest.find("{}");
        text_ += rest.substr(0, at);
        append_percent_encoded(text_, part);
        rest.remove_prefix(at == std::string::npos ? rest.size() : at + 2);
    }
    text_ += rest;
}

Url Url::from_browser(std::string_view text) {
    constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%/?&=";
    Url url("/");
    if (!text.starts_with('/') || text.starts_with("//") || text.find_first_not_of(allowed) != std::string::npos)
        return url;
    url.text_ = text;
    return url;
}

Url Url::of_path(std::string_view path) {
    Url url("/");
    if (!path.starts_with('/')) return url;
    url.text_.clear();
    while (!path.empty()) {
        path.remove_prefix(1);
        url.text_ += '/';
        append_percent_encoded(url.text_, path.substr(0, path.find('/')));
        path.remove_prefix(std::min(path.size(), path.find('/')));
    }
    return from_browser(url.text_);
}

Url Url::with(std::string_view name, std::string_view value) const {
    Url url = *this;
    if (value.empty()) return url;
    url.text_ += url.text_.find('?') == std::string::npos ? '?' : '&';
    append_percent_encoded(url.text_, name);
    url.text_ += '=';
    append_percent_encoded(url.text_, value);
    return url;
}

Url Url::at(std::string_view fragment) const {
    Url url = *this;
    url.text_ += '#';
    append_percent_encoded(url.text_, fragment);
    return url;
}

html_detail::Argument::Argument(const Html& markup) : kind(Kind::kMarkup), text(markup.text()) {}

void Html::write(std::string_view pattern, std::span<const html_detail::Argument> arguments) {
    for (const html_detail::Argument& one : arguments) {
        const std::size_t at = pattern.find("{}");
        text_ += pattern.substr(0, at);
        pattern.remove_prefix(at + 2);
        switch (one.kind) {
            case html_detail::Kind::kMarkup: text_ += one.text; break;
            case html_detail::Kind::kFlag:
                if (!one.text.empty()) text_.append(" ").append(one.text);
                break;
            case html_detail::Kind::kUrl: append_escaped(text_, one.text, false); break;
            case html_detail::Kind::kText: append_escaped(text_, one.number.empty() ? one.text : one.number, one.lines);
        }
    }
    text_ += pattern;
}

std::string escaped(std::string_view text, bool keep_lines) {
    std::string out;
    append_escaped(out, text, keep_lines);
    return out;
}

}  // namespace gatehouse::web

#include "attestation/web/html.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>

#include "keyvault/host_support/text.hpp"

namespace gatehouse::web {
namespace {

void append_number(std::string& out, const char* format, unsigned value) {
    std::array<char, 32> text{};
    std::snprintf(text.data(), text.size(), format, value);
    out += text.data();
}

constexpr std::string_view kNumber = "⟨U+", kByte = "⟨0x", kNumberEnd = "⟩";

// What is shown like this is what it says, and no text that was written so.
bool is_like_a_number(std::string_view text) { return text.starts_with(kNumber) || text.starts_with(kByte); }

// Empty if there is no such character.
std::string utf8(std::uint32_t value) {
    const auto tail = [value](unsigned shift) { return static_cast<char>(0x80 | (value >> shift & 0x3f)); };
    std::string out;
    if (value < 0x80) {
        out = {static_cast<char>(value)};
    } else if (value < 0x800) {
        out = {static_cast<char>(0xc0 | value >> 6), tail(0)};
    } else if (value < 0x10000) {
        out = {static_cast<char>(0xe0 | value >> 12), tail(6), tail(0)};
    } else if (value < 0x110000) {
        out = {static_cast<char>(0xf0 | value >> 18), tail(12), tail(6), tail(0)};
    }
    return out;
}

void append_escaped(std::string& out, std::string_view text, bool keep_lines) {
    while (!text.empty()) {
        const host::Character one = host::first_character(text);
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
        } else if (host::is_hidden(one.value) || is_like_a_number(text)) {
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

std::string as_meant(std::string_view shown) {
    std::string out;
    while (!shown.empty()) {
        const std::size_t end = shown.starts_with(kNumber) ? shown.find(kNumberEnd) : std::string_view::npos;
        std::string one;
        if (end != std::string_view::npos) {
            std::uint32_t value = 0;
            const auto [stop, error] = std::from_chars(shown.data() + kNumber.size(), shown.data() + end, value, 16);
            if (stop == shown.data() + end && error == std::errc()) one = utf8(value);
        }
        out += one.empty() ? shown.substr(0, 1) : one;
        shown.remove_prefix(one.empty() ? 1 : end + kNumberEnd.size());
    }
    return out;
}

std::string escaped(std::string_view text, bool keep_lines) {
    std::string out;
    append_escaped(out, text, keep_lines);
    return out;
}

}  // namespace gatehouse::web

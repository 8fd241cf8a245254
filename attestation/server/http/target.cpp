#include "attestation/server/http/target.hpp"

#include <algorithm>

#include "attestation/server/http/message.hpp"
#include "keyvault/host_support/text.hpp"

namespace gatehouse::http {
namespace {

constexpr std::size_t kMaxFields = 64;

[[noreturn]] void refuse(const char* message) { throw HttpError{400, "bad_target", message}; }

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

enum class Where { kPath, kQuery, kForm };

std::string decode(std::string_view text, Where where) {
    std::string out;
    out.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (c == '+' && where != Where::kPath) {
            out.push_back(' ');
            continue;
        }
        if (c == '%') {
            const int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
            const int low = high >= 0 ? hex_digit(text[i + 2]) : -1;
            if (low < 0) refuse("malformed percent-encoding: a % takes two hexadecimal digits");
            c = static_cast<char>(high * 16 + low);
            i += 2;
            if (where == Where::kPath && (c == '/' || c == '\\')) refuse("encoded separator in the path");
        }
        const bool line_break = where == Where::kForm && (c == '\n' || c == '\r' || c == '\t');
        if (is_control(c) && !line_break) refuse("control character in the target");
        out.push_back(c);
    }
    if (!host::is_utf8(out)) refuse("the target is not UTF-8");
    return out;
}

std::map<std::string, std::string> parse_fields(std::string_view text, Where where) {
    std::map<std::string, std::string> fields;
    while (!text.empty()) {
        const auto field = text.substr(0, text.find('&'));
        text.remove_prefix(std::min(text.size(), field.size() + 1));
        if (field.empty()) continue;
        const auto equals = field.find('=');
        auto name = decode(field.substr(0, equals), where);
        auto value = equals == std::string::npos ? std::string() : decode(field.substr(equals + 1), where);
        if (fields.size() == kMaxFields) refuse("too many fields");
        if (!fields.emplace(std::move(name), std::move(value)).second) refuse("a field comes twice");
    }
    return fields;
}

}  // namespace

Target parse_target(std::string_view target) {
    if (target.empty() || target.front() != '/') refuse("the target must be a path: /...");
    if (target.find('#') != std::string::npos) refuse("a fragment does not belong into a request");
    Target out;
    const auto question = target.find('?');
    if (question != std::string::npos) out.query = parse_fields(target.substr(question + 1), Where::kQuery);
    std::string_view rest = target.substr(1, question == std::string::npos ? std::string::npos : question - 1);
    out.path.assign(1, '/');  // GCC 12 warns of its own library where a literal is assigned
    while (!rest.empty()) {
        const auto raw = rest.substr(0, rest.find('/'));
        rest.remove_prefix(std::min(rest.size(), raw.size() + 1));
        auto segment = decode(raw, Where::kPath);
        if (segment.empty()) refuse("empty segment in the path");
        if (segment == "." || segment == "..") refuse("dot segment in the path");
        if (segment.find('\\') != std::string::npos) refuse("backslash in the path");
        if (out.path.size() > 1) out.path += '/';
        out.path += segment;
        out.segments.push_back(std::move(segment));
        if (rest.empty() && raw.end() != target.substr(0, question).end()) refuse("empty segment in the path");
    }
    return out;
}

std::map<std::string, std::string> parse_form(std::string_view text) { return parse_fields(text, Where::kForm); }

std::map<std::string, std::string> parse_cookies(std::string_view text) {
    std::map<std::string, std::string> cookies;
    while (!text.empty() && cookies.size() < kMaxFields) {
        auto pair = text.substr(0, text.find(';'));
        text.remove_prefix(std::min(text.size(), pair.size() + 1));
        while (!pair.empty() && pair.front() == ' ') pair.remove_prefix(1);
        const auto equals = pair.find('=');
        if (equals == std::string::npos || equals == 0) continue;
        cookies.emplace(pair.substr(0, equals), pair.substr(equals + 1));
    }
    return cookies;
}

bool is_host(std::string_view text) {
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    std::string_view port;
    if (!text.empty() && text.front() == '[') {
        const auto end = text.find(']');
        if (end == std::string::npos || end < 3) return false;
        const auto address = text.substr(1, end - 1);
        if (!std::ranges::all_of(address, [](char c) { return hex_digit(c) >= 0 || c == ':' || c == '.'; })) {
            return false;
        }
        port = text.substr(end + 1);
    } else {
        const auto colon = text.find(':');
        const auto name = text.substr(0, colon);
        port = colon == std::string::npos ? std::string_view{} : text.substr(colon);
        const auto allowed = [&](char c) {
            return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.' || c == '_';
        };
        if (name.empty() || name.size() > 253 || !std::ranges::all_of(name, allowed)) return false;
    }
    if (port.empty()) return true;
    port.remove_prefix(1);
    return !port.empty() && port.size() <= 5 && std::ranges::all_of(port, is_digit);
}

}  // namespace gatehouse::http

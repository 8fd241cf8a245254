#include "attestation/server/http/accept.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include "attestation/server/http/message.hpp"

namespace gatehouse::http {
namespace {

using formats::ResultForm;
using formats::ResultProfile;

constexpr std::size_t kMostRanges = 32;
constexpr ResultProfile kDefaultProfile = ResultProfile::kIetf03;

[[noreturn]] void refuse() { throw HttpError{400, "bad_accept", "Accept: is not a list of media ranges"}; }

std::string_view trimmed(std::string_view text) {
    const std::size_t first = text.find_first_not_of(" \t");
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return out;
}

// At `separator`, but not inside a quoted string.
std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    bool quoted = false;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (quoted && text[i] == '\\') {
            ++i;
        } else if (text[i] == '"') {
            quoted = !quoted;
        } else if (!quoted && text[i] == separator) {
            parts.push_back(trimmed(text.substr(begin, i - begin)));
            begin = i + 1;
        }
        if (parts.size() > kMostRanges) refuse();
    }
    if (quoted) refuse();
    parts.push_back(trimmed(text.substr(begin)));
    return parts;
}

std::string unquoted(std::string_view value) {
    if (!value.starts_with('"')) return std::string(value);
    if (value.size() < 2 || !value.ends_with('"')) refuse();
    std::string out;
    for (std::size_t i = 1; i + 1 < value.size(); ++i) {
        if (value[i] == '\\') ++i;
        out += value[i];
    }
    return out;
}

// Thousandths (RFC 9110, section 12.4.2).
unsigned quality(std::string_view text) {
    if (text.empty() || text.size() > 5 || (text[0] != '0' && text[0] != '1')) refuse();
    unsigned value = text[0] == '1' ? 1000 : 0;
    if (text.size() == 1) return value;
    if (text[1] != '.') refuse();
    unsigned place = 100;
    for (const char c : text.substr(2)) {
        if (c < '0' || c > '9') refuse();
        value += static_cast<unsigned>(c - '0') * place;
        place /= 10;
    }
    return std::min(value, 1000u);
}

struct Range {
    unsigned q = 1000;
    bool json = false;  // this interface's own form
    std::optional<ResultForm> form;
    std::optional<ResultProfile> profile = kDefaultProfile;  // null: one that there is not
};

Range range_of(std::string_view text) {
    const auto parts = split(text, ';');
    const std::string type = lower(parts.front());
    if (type.find('/') == std::string::npos) refuse();
    Range range;
    range.json = type == "application/json" || type == "application/*" || type == "*/*";
    if (type == "application/eat+jwt" || type == "application/eat-jwt") range.form = ResultForm::kJwt;
    if (type == "application/eat+cwt" || type == "application/eat-cwt") range.form = ResultForm::kCwt;
    for (std::size_t i = 1; i < parts.size(); ++i) {
        const std::size_t equals = parts[i].find('=');
        if (equals == std::string_view::npos) refuse();
        const std::string name = lower(trimmed(parts[i].substr(0, equals)));
        const std::string value = unquoted(trimmed(parts[i].substr(equals + 1)));
        if (name == "q") range.q = quality(value);
        if (name == "eat_profile") range.profile = formats::result_profile(value);
    }
    return range;
}

}  // namespace

std::optional<WantedResult> wanted_result(std::string_view accept) {
    if (trimmed(accept).empty()) return std::nullopt;
    std::optional<WantedResult> best;
    unsigned best_q = 0;
    bool asked = false;  // for a form of results
    bool answer = false;
    for (const std::string_view text : split(accept, ',')) {
        if (text.empty()) continue;
        const Range range = range_of(text);
        asked = asked || range.form.has_value();
        const bool offered = range.form && range.profile && formats::is_offered(*range.profile, *range.form);
        if ((!offered && !range.json) || range.q <= best_q) continue;
        answer = true;
        best_q = range.q;
        best.reset();
        if (offered) best = WantedResult{*range.profile, *range.form};
    }
    if (!asked || answer) return best;
    throw HttpError{
        406, "not_acceptable",
        "no such result: JWT and CWT by eat_profile " + formats::result_profiles() + "; gatehouse as JWT only"};
}

}  // namespace gatehouse::http

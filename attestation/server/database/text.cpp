#include "attestation/server/database/text.hpp"

#include <algorithm>

namespace gatehouse::server {

std::string lower_case(std::string text) {
    std::ranges::transform(text, text.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    return text;
}

std::string like_pattern(const std::string& search) {
    std::string pattern = "%";
    for (const char c : lower_case(clean_text(search, 256))) {
        if (c == '%' || c == '_' || c == '\\') pattern += '\\';
        pattern += c;
    }
    return pattern + "%";
}

}  // namespace gatehouse::server

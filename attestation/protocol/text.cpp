#include "attestation/protocol/text.hpp"

#include <algorithm>

namespace gatehouse::protocol {
namespace {

// Length of the well-formed sequence at the front (Unicode 15, table 3-7); 0 if there is none.
std::size_t sequence(std::string_view text) {
    const auto at = [&text](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
    const auto tail = [&at](std::size_t i) { return (at(i) & 0xc0u) == 0x80; };
    const unsigned first = at(0);
    if (first < 0x80) return first == 0 ? 0 : 1;
    if (first >= 0xc2 && first <= 0xdf) return tail(1) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        const bool second = (first != 0xe0 || at(1) >= 0xa0) && (first != 0xed || at(1) <= 0x9f);
        return second && tail(1) && tail(2) ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        const bool second = (first != 0xf0 || at(1) >= 0x90) && (first != 0xf4 || at(1) <= 0x8f);
        return second && tail(1) && tail(2) && tail(3) ? 4 : 0;
    }
    return 0;
}

}  // namespace

std::string clean_text(std::string_view text, std::size_t limit) {
    constexpr std::string_view replacement = "\xef\xbf\xbd";
    std::string clean;
    while (!text.empty()) {
        const std::size_t size = sequence(text);
        const std::string_view part = size == 0 ? replacement : text.substr(0, size);
        if (clean.size() + part.size() > limit) break;
        clean += part;
        text.remove_prefix(std::max<std::size_t>(size, 1));
    }
    return clean;
}

}  // namespace gatehouse::protocol

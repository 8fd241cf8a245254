#include "keyvault/host_support/text.hpp"

#include <algorithm>
#include <array>
#include <iterator>

namespace gatehouse::host {
namespace {

struct Range {
    char32_t first, last;
};
// C0 and C1 controls, Unicode's general category Cf, line and paragraph separators, blanks that are no spaces, variation
// selectors, private use, noncharacters.
constexpr std::array kHidden{
    Range{0x0000, 0x001f},    Range{0x007f, 0x009f}, Range{0x00ad, 0x00ad},   Range{0x034f, 0x034f},
    Range{0x0600, 0x0605},    Range{0x061c, 0x061c}, Range{0x06dd, 0x06dd},   Range{0x070f, 0x070f},
    Range{0x115f, 0x1160},    Range{0x17b4, 0x17b5}, Range{0x180b, 0x180f},   Range{0x200b, 0x200f},
    Range{0x2028, 0x202e},    Range{0x2060, 0x206f}, Range{0x3164, 0x3164},   Range{0xe000, 0xf8ff},
    Range{0xfdd0, 0xfdef},    Range{0xfe00, 0xfe0f}, Range{0xfeff, 0xfeff},   Range{0xffa0, 0xffa0},
    Range{0xfff0, 0xfffb},    Range{0xfffe, 0xffff}, Range{0x1bca0, 0x1bca3}, Range{0x1d173, 0x1d17a},
    Range{0xe0000, 0x10ffff},
};

}  // namespace

Character first_character(std::string_view text) {
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

bool is_utf8(std::string_view text) {
    while (!text.empty()) {
        const std::size_t size = first_character(text).size;
        if (size == 0) return false;
        text.remove_prefix(size);
    }
    return true;
}

bool is_hidden(char32_t character) {
    const auto after = std::ranges::upper_bound(kHidden, character, {}, &Range::first);
    return after != kHidden.begin() && character <= std::prev(after)->last;
}

}  // namespace gatehouse::host

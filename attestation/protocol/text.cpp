#include "attestation/protocol/text.hpp"

#include <algorithm>

#include "keyvault/host_support/text.hpp"

namespace gatehouse::protocol {

std::string clean_text(std::string_view text, std::size_t limit) {
    constexpr std::string_view replacement = "\xef\xbf\xbd";
    std::string clean;
    while (!text.empty()) {
        const host::Character one = host::first_character(text);
        const std::string_view part = one.size == 0 || one.value == 0 ? replacement : text.substr(0, one.size);
        if (clean.size() + part.size() > limit) break;
        clean += part;
        text.remove_prefix(std::max<std::size_t>(one.size, 1));
    }
    return clean;
}

}  // namespace gatehouse::protocol

// Hostile text, made fit to be kept and shown.
#pragma once

#include <string>
#include <string_view>

namespace gatehouse::protocol {

// Valid UTF-8 without NUL, at most `limit` bytes: what is not becomes U+FFFD.
[[nodiscard]] std::string clean_text(std::string_view text, std::size_t limit);

}  // namespace gatehouse::protocol

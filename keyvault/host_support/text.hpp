// Text that somebody else chose, character by character.
#pragma once

#include <cstddef>
#include <string_view>

namespace gatehouse::host {

// One character of UTF-8 (Unicode 15, table 3-7) and how many bytes it has.
struct Character {
    char32_t value = 0;
    std::size_t size = 0;
};
// The one at the front of `text`, which is not empty; size 0 if it is not well-formed.
[[nodiscard]] Character first_character(std::string_view text);
[[nodiscard]] bool is_utf8(std::string_view text);

// Whether it is not seen, or changes how other text is seen: controls, what reorders a line, blanks that are no spaces.
[[nodiscard]] bool is_hidden(char32_t character);

}  // namespace gatehouse::host

// Text as a column can hold it, and as it is looked for.
#pragma once

#include <string>

#include "attestation/protocol/text.hpp"

namespace gatehouse::server {

using protocol::clean_text;
[[nodiscard]] std::string lower_case(std::string text);
// For LIKE ... ESCAPE '\': lower-case text that has `search` in it.
[[nodiscard]] std::string like_pattern(const std::string& search);

}  // namespace gatehouse::server

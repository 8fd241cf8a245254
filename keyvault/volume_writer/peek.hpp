// What a header claims, before anything in it is authenticated: for what tools tell people, and for nothing else.
#pragma once

#include "keyvault/volume/header.hpp"

namespace gatehouse::volume {

// Reads a whole copy without a key. Anybody may have written it. Errors as preview() and validate().
[[nodiscard]] Status peek(Bytes copy, Header& header);

}  // namespace gatehouse::volume

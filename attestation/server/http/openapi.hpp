// attestation/server/openapi.json, as built in.
#pragma once

#include <string_view>

namespace gatehouse::http {

[[nodiscard]] std::string_view openapi_document();

}  // namespace gatehouse::http

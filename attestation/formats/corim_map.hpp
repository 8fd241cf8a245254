// What a signed CoRIM is around: for who has checked the signature, and for tests of the reader alone.
#pragma once

#include "attestation/formats/corim.hpp"

namespace gatehouse::formats {

// A corim-map (tag 501). Errors as read_corim().
[[nodiscard]] Corim read_corim_map(Bytes payload, std::int64_t now, const std::string& what);

}  // namespace gatehouse::formats

// Which form of a result a request's Accept asks for (RFC 9110, section 12.5.1; media types: RFC 9782).
#pragma once

#include <optional>
#include <string_view>

#include "attestation/formats/ear.hpp"

namespace gatehouse::http {

struct WantedResult {
    formats::ResultProfile profile;
    formats::ResultForm form;
};

// Nullopt: the interface's own JSON, which is also what comes if no form of result is named. "application/eat+jwt" and
// "application/eat+cwt" (or, as draft-ietf-rats-ear writes them, "eat-jwt" and "eat-cwt") name one, with the profile in
// eat_profile; without that, draft-ietf-rats-ear-03's. The highest q counts, of equals the first. HttpError 406 naming the
// profiles that there are if results are named but none of these is offered and JSON is not named; 400 for a header that is not
// well-formed, or has more than 32 ranges.
[[nodiscard]] std::optional<WantedResult> wanted_result(std::string_view accept);

}  // namespace gatehouse::http

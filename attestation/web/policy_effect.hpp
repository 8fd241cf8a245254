// Which endpoints a policy refuses, or would refuse if it were enforced.
#pragma once

#include "attestation/web/parts.hpp"

namespace gatehouse::web {

// The page of a policy's version.
[[nodiscard]] Url url_of_policy(const std::string& name, std::uint64_t version);
// The same, at the list of what it refuses in a group.
[[nodiscard]] Url url_of_effect(const server::Assignment& one);

// `assignments`: of the version, at least one; which of them is shown, and from where on, is of the query
// ("group", "q", "cursor"). ServiceError (404) if it is not assigned to that group.
[[nodiscard]] Html effect_card(const Context& context, const std::vector<server::Assignment>& assignments);
// The list alone, as a search asks for it.
[[nodiscard]] Html refused_list(const Context& context, const std::vector<server::Assignment>& assignments);

}  // namespace gatehouse::web

// Findings as one column: [{"rule", "ok", "detail"}...].
#pragma once

#include <string>
#include <vector>

#include "attestation/verifier/finding.hpp"

namespace gatehouse::server {

[[nodiscard]] std::string findings_json(const std::vector<verifier::Finding>& findings);
[[nodiscard]] std::vector<verifier::Finding> findings_from_json(const std::string& json);

}  // namespace gatehouse::server

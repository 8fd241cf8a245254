// What an endpoint's evidence was found to be.
#pragma once

#include "attestation/web/parts.hpp"
#include "attestation/web/verdict_view.hpp"

namespace gatehouse::web {

// "Findings": rule by rule, those that fail first.
[[nodiscard]] Html findings_table(const std::vector<verifier::Finding>& findings);
// Findings, PCRs side by side, event log with what does not belong marked, coverage, quirks, claims.
// `all_events`: a long log whole, not just around the events that fail.
[[nodiscard]] Html verdict_parts(const VerdictView& view, const Url& page, bool all_events);

}  // namespace gatehouse::web

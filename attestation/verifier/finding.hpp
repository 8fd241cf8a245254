// What a check found, and the verdict that all findings make.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace gatehouse::verifier {

// One rule and what came of it. `detail` names in words what failed and where, or what was found.
struct Finding {
    std::string rule;  // short, stable name: "nonce", "ek chain", "events"
    bool ok = false;
    std::string detail;
};

// How much of what the evidence says was compared with something that the policy expects.
struct Coverage {
    unsigned events = 0;         // in all logs
    unsigned events_judged = 0;  // of them, vouched for by the quote, and compared with a reference value or
                                 // recomputed
    unsigned pcrs = 0;           // quoted, in all banks
    unsigned pcrs_judged = 0;    // of them, compared with a reference value
};

// All findings must hold, and there must be some: an empty list accepts nothing.
[[nodiscard]] inline bool all_hold(const std::vector<Finding>& findings) {
    return !findings.empty() && std::ranges::all_of(findings, [](const Finding& one) { return one.ok; });
}

}  // namespace gatehouse::verifier

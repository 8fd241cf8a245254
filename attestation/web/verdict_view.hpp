// A verdict as the server keeps it (server::verdict_json), read for showing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attestation/verifier/finding.hpp"

namespace gatehouse::web {

struct VerdictView {
    std::vector<verifier::Finding> findings;
    verifier::Coverage coverage;
    std::vector<std::string> quirks;
    std::string policy;
    struct Pcr {
        std::int64_t pcr = 0;
        std::string expected, found;  // hex; expected may be empty: the policy has no value
        [[nodiscard]] bool differs() const { return !expected.empty() && expected != found; }
    };
    std::vector<Pcr> pcrs;
    struct Event {
        std::int64_t number = 0, offset = 0, pcr = 0, type = 0;
        std::string name, digest;
        std::string hashed;  // verifier::Verdict::EventView; empty: of an older version, which did not say
        bool ok = false;
        // Whether a digest that is quoted covers the name.
        [[nodiscard]] bool name_is_covered() const { return hashed == "as logged" || hashed == "as expected"; }
    };
    std::vector<Event> events;
    std::string vault_pinned_by;  // "policy", "image", "enrollment"; empty: nobody who is asked says whose vault it is
    struct Table {
        std::string name;
        bool ok = false, logged = false;  // not logged: the approved machine model has it, the machine has not
    };
    std::vector<Table> tables;                                // ACPI, if they are the machine's
    std::vector<std::pair<std::string, std::string>> claims;  // flattened: "disks 1 state", "encrypted"
};

// nullopt if it is not such a verdict. A member that is missing is empty: verdicts of older versions are
// kept.
[[nodiscard]] std::optional<VerdictView> read_verdict(std::string_view text_of_verdict);

// JSON, indented; as it is if it cannot be read.
[[nodiscard]] std::string indented(const std::string& json);
// "group: laptops, version: 7" of a flat JSON object; as it is if it is something else.
[[nodiscard]] std::string flat(const std::string& json);

}  // namespace gatehouse::web

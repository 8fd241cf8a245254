// A machine model: what PCR 19 holds on one kind of machine with one set of firmware, learned from a golden machine's event
// log, for an authority to look at and to approve.
//
// As a file it is JSON:
//   {"gatehouse_machine_model": 1,
//    "facts": HEX,                          encoded machine facts (evidence/machine_facts.hpp); empty: not known
//    "events": [{"tag", "name", "digests": {BANK: HEX}}...]}   of PCR 19, before the cap: machine, then each ACPI table
// Nothing else decides: the PCR's value follows from the events, and facts that are given must be those of the first one.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "policies/prediction/predict.hpp"

namespace gatehouse::policies {

struct ModelEvent {
    std::uint32_t tag = 0;  // MeasurementTag: kMachineFacts for the first, kAcpiTable for the others
    std::string name;
    std::vector<Digest> digests;                           // in the order of the model's banks
    [[nodiscard]] Bytes digest(HashAlgorithm bank) const;  // empty if it has none
};

struct MachineModel {
    Buffer facts;  // encoded; empty if they are not known
    std::vector<ModelEvent> events;

    // PCR 19 when the sealing policy is met; ToolError if an event has no digest of that bank.
    [[nodiscard]] Digest pcr19(HashAlgorithm bank) const;
    [[nodiscard]] bool has_tables() const { return events.size() > 1; }
};

// From the events of a launch. `claims`, if not empty, are the encoded claims of the same boot, for their facts. ToolError
// if the log is malformed or measures other things into PCR 19, or the claims have other facts than were measured.
[[nodiscard]] MachineModel learn_model(Bytes event_log, Bytes claims);
// A file as above; ToolError naming what is wrong with it.
[[nodiscard]] MachineModel read_model(Bytes file);
[[nodiscard]] std::string model_file(const MachineModel& model);

// {"kind": "machine model", "pcr19": {BANK: HEX}, "machine": {"processor_signature", "microcode", "smm_locked", "processors",
//  "iommus": [...]} or null, "machine_digest": HEX, "tables": [{"signature", "oem_table_id", "sha256"}...]}
[[nodiscard]] nlohmann::json describe(const MachineModel& model);

// One line for each fact and each table that is not the same, in people's words; empty if both models give one PCR 19.
[[nodiscard]] std::vector<std::string> differences(const MachineModel& one, const MachineModel& other);

}  // namespace gatehouse::policies

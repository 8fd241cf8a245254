// What this boot may do, and on whose word: the measured bundle, and the files that it vouches for.
#pragma once

#include <optional>

#include "attestation/evidence/claims.hpp"
#include "hypervisor/boot/payload.hpp"

namespace gatehouse::boot {

// Views into the payload.
struct Policy {
    policies::Bundle bundle;
    policies::Approval approval;                       // untrusted
    std::optional<policies::MachineApproval> machine;  // untrusted; read if the guest gets the machine's ACPI tables
    // Of the bundle or, in a fleet, of the endpoint's record: nothing else can say which vault is this endpoint's.
    Bytes srk_name;
    Bytes vault_id;
    evidence::VaultPin pin = evidence::VaultPin::kNone;
};

// Errors: those of the parsers; kNotFound "endpoint record": wanted by the bundle and not there.
[[nodiscard]] Result<Policy> read_policy(const Payload& payload);

}  // namespace gatehouse::boot

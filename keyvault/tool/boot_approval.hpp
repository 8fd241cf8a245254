// The policy authority's approval on a disk's boot partition, held against what lies beside it: what the TPM will say of it at
// the next launch, as far as the files tell.
#pragma once

#include <string>

#include "keyvault/host_support/disk.hpp"
#include "policies/bundle/bundle.hpp"

namespace gatehouse::host {

// Why the approval does not open the vault, as a clause that names what is at fault: its policy is of other measured
// files than those that are there, or of another counter, or its signature is not by the authority that the bundle names.
// Empty: nothing is at fault. The PCR values that it names are believed of nothing but which files are others; the rollback
// counter is not looked at.
[[nodiscard]] std::string approval_fault(const Disk& disk, const volume::GptEntry& boot,
                                         const policies::Approval& approval);

}  // namespace gatehouse::host

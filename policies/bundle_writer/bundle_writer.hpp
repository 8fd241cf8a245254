// Writes the files that bundle.hpp reads. For operators' tools and tests.
#pragma once

#include "policies/bundle/bundle.hpp"

namespace gatehouse::policies {

// Each returns the size written. kNoSpace if `out` is too small, kBadValue if a field is outside of its domain.
[[nodiscard]] Result<std::size_t> write_bundle(const Bundle& bundle, MutableBytes out);
[[nodiscard]] Result<std::size_t> write_approval(const Approval& approval, MutableBytes out);
[[nodiscard]] Result<std::size_t> write_machine_approval(const MachineApproval& approval, MutableBytes out);
// A record without its signature, which is to be over SHA-256 of what is written here; the signature's 64 bytes follow.
[[nodiscard]] Result<std::size_t> write_unsigned_record(const Record& record, MutableBytes out);

}  // namespace gatehouse::policies

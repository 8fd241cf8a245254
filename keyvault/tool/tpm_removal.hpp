// What an endpoint's TPM keeps for its vault, removed.
#pragma once

#include "keyvault/tool/endpoint_tpm.hpp"

namespace gatehouse::host {

enum class Removal : std::uint8_t { kRemoved, kAbsent, kKept, kRefused };
struct RemovalResult {
    Removal what = Removal::kAbsent;
    std::string why;  // it was refused
};
struct TpmRemoval {
    RemovalResult storage_root_key;  // at tpm::kStorageRootKey
    RemovalResult counter;
};

// Evicts the storage root key and undefines the rollback counter, and looks whether they are gone. What is at their places
// and is neither is left alone (kRefused). With `keep` it only looks. ToolError if the TPM cannot be reached.
[[nodiscard]] TpmRemoval remove_tpm_objects(const std::string& tcti, const std::string& owner_password,
                                            TPM2_HANDLE counter_index, bool keep);

// "removed", "absent", "kept", "refused: WHY".
[[nodiscard]] std::string text_of(const RemovalResult& result);

}  // namespace gatehouse::host

// Looking at a vault.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "keyvault/tool/endpoint_tpm.hpp"

namespace gatehouse::host {

struct StatusRequest {
    std::string disk;
    std::string tcti;          // empty: the TPM is not asked
    std::string recovery_key;  // file; empty: the header is not authenticated
};
// {"state": "provisioned" | "provisioning" | "changing the disk key" | "decrypting" | "version 1" (of the release before:
// upgrade it) | "interrupted" (by the release before: lost) | "none", "copies": [generation or null, ...], ...} and, if there
// is a header, {"percent", "generation", "disk", "vault_id", "slots": {"tpm": {"srk_name", "authority_name"}, "recovery": bool,
// "member": bool}, "counter_limit" (of the approval on the boot partition), "next_boot" (a sentence: whether the next boot will
// open the vault, by what can be seen from here, and if not, why and what to do), with --tcti "tpm": {"srk_name", "srk_match",
// "counter": {"index", "value"}}, with a recovery key "authenticated": bool and, if so, what vault_json() says}. Both copies
// are looked at: one that is missing or damaged beside a good one is "next": what to do. `ok` becomes false unless the state is
// "provisioned" and the next boot seems to open the vault, and if the SRK is another one or the recovery key does not open it.
// Never a secret.
[[nodiscard]] nlohmann::json status(const StatusRequest& request, bool& ok);

}  // namespace gatehouse::host

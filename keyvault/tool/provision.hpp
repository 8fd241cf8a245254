// Making a vault, and looking at one.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "keyvault/tool/endpoint_tpm.hpp"
#include "keyvault/tool/layout.hpp"

namespace gatehouse::host {

struct ProvisionRequest {
    std::string disk;
    std::string tcti;
    std::string authority;  // public key, PEM file
    std::string policy_ref;
    TPM2_HANDLE counter_index = tpm::kRollbackCounter;
    std::string recovery_key_out;     // file to make; empty: no recovery slot
    std::string attestation_key_out;  // PEM file to make; empty: none
};

// Makes SRK and counter where they are missing, keys, and the vault; encrypts everything that is not plain,
// in place. Refuses a disk that has a vault, or on which an earlier run was interrupted (part of it is
// encrypted with a key that is lost), and an image whose policy bundle pins another SRK, authority, policy
// reference or counter. Answers with what `sealed-key provision --json` prints: {"disk", "srk_name",
// "authority_name", "policy_ref", "counter": {"index", "value"}, "ak_name", "ak_public" (PEM), "generation",
// "key_epoch", "sector_size", "total_sectors", "regions": [{"first", "count", "kind"}], "encrypted_bytes",
// "seconds"}.
[[nodiscard]] nlohmann::json provision(const ProvisionRequest& request);

struct StatusRequest {
    std::string disk;
    std::string tcti;          // empty: the TPM is not asked
    std::string recovery_key;  // file; empty: the header is not authenticated
};
// {"state": "provisioned" | "interrupted" | "none", "copies": [generation or null, ...], ...} and, if there
// is a header,
// {"generation", "disk", "slots": {"tpm": {"srk_name", "authority_name"}, "recovery": bool}, "counter_limit"
// (of the approval on the boot partition), with --tcti "tpm": {"srk_name", "srk_match", "counter": {"index",
// "value"}}, with a recovery key "authenticated": bool and, if so, "key_epoch", "sector_size",
// "total_sectors", "regions"}. `ok` becomes false if there is no header, the SRK is another one, or the
// recovery key does not open it. Never a secret.
[[nodiscard]] nlohmann::json status(const StatusRequest& request, bool& ok);

// Opens the newest authentic header with the key in a recovery key file.
void open_with_recovery_key(const Disk& disk, const std::string& key_file, volume::Header& header, volume::Keys& keys);

}  // namespace gatehouse::host

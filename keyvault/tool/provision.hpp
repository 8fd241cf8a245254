// Making a vault: identity, keys, encryption in place.
//
// What is on the disk, and what a cut in each step leaves:
//
//     new GUIDs, backup table, then primary     an image as it was, but for GUIDs: provision() can be run again
//     header with its keys, copy 1, then 0      from the first on: resume()
//     windows of 16 MiB, each with a journal    resume()
//     idle cursor, both copies                  resume(), which finds nothing to do but the second copy
//
// The recovery key, or its blob, is on its own medium before the first of them.
#pragma once

#include "keyvault/tool/recovery_key.hpp"
#include "keyvault/tool/vault_maker.hpp"

namespace gatehouse::host {

struct ProvisionRequest {
    std::string disk;
    SealingRequest sealing;
    std::string recovery_key_out;  // file to make
    std::string escrow_key;        // public key, PEM, of ...
    std::string escrow_out;  // ... a blob to make (escrow.hpp); without either file no recovery slot, and no resume
    std::string attestation_key_out;  // PEM file to make; empty: none
};

// Makes SRK and counter where they are missing, new GUIDs, keys and the vault; encrypts everything that is not plain, in
// place. Refuses a disk that has a vault, or on which an earlier run was interrupted; if only one copy of a vault's header
// is there, the other one is made again from it. Refuses an image whose policy bundle has another SRK, authority, policy
// reference, counter or kind of ACPI. Answers with what `sealed-key provision --json` prints: vault_json(), add_sealing()
// and "seconds". What a failure says ends with what to do next.
[[nodiscard]] nlohmann::json provision(const ProvisionRequest& request);

// Goes on after a cut, with the recovery key; needs no TPM. vault_json() and "seconds".
[[nodiscard]] nlohmann::json resume(const std::string& path, const RecoverySource& recovery_key);

// The writing part of provision(): `vault` is as make_vault() leaves it, laid out for `tables`.
void put_vault(BlockDevice& disk, const PartitionTables& tables, OpenVault& vault,
               std::size_t window_size = volume::kWindowSize);

}  // namespace gatehouse::host

// A disk that the release before provisioned (header version 1) gets a vault of this release, in place.
#pragma once

#include "keyvault/tool/vault_maker.hpp"

namespace gatehouse::host {

struct UpgradeRequest {
    std::string disk;
    SealingRequest sealing;
    std::string recovery_key;  // file; stays the recovery key of the new vault
};

// The disk key stays, so that nothing is encrypted again; root secret, vault id, KEK and sealed secret are made anew, and the
// disk gets GUIDs of its own. The old header stays until the new one is on the medium; after a cut the same command goes
// on. The TPM must be the endpoint's. Refuses as provision() what the image's policy bundle has otherwise, and a disk whose
// partitions are not those that the old header was made for. Answers as provision().
[[nodiscard]] nlohmann::json upgrade(const UpgradeRequest& request);

// The writing part: `vault` is as make_vault() leaves it, laid out for `tables`; its `copy` is the number of the old copy
// that it was made from.
void replace_vault(BlockDevice& disk, const PartitionTables& tables, OpenVault& vault);

}  // namespace gatehouse::host

// A disk that the release before provisioned (header version 1) gets a vault of this release, in place.
#pragma once

#include <functional>

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

// The parts of it that know no TPM.
//
// Gives a vault its keys and slots, as make_vault() does.
using VaultMaker = std::function<void(OpenVault& vault)>;
// Converts the vault that `recovery` opens; on success `vault` is the new one. ToolError, also where the disk has no vault
// of version 1 that opens; what is on the disk then is the old vault or, after a cut behind the first new copy, the new one.
void convert_vault(BlockDevice& disk, const volume::SlotSecret& recovery, RandomSource& random, const VaultMaker& make,
                   OpenVault& vault);
// Of a disk whose vault, opened as `vault`, is new already: makes its other copy new as well.
void finish_conversion(BlockDevice& disk, const OpenVault& vault);

}  // namespace gatehouse::host

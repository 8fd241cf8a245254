// Further disks of an endpoint, which its boot vault opens: members (keyvault/volume/header.hpp).
//
// What opens them is the boot vault's root secret, which nothing rotates: who has had a key to a copy of the boot vault can open
// members for as long as both vaults live.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace gatehouse::host {

struct AddDiskRequest {
    std::string disk;          // the disk that becomes a member
    std::string boot_disk;     // the endpoint's, on the same machine
    std::string recovery_key;  // file; opens the boot vault, and the member as well
    bool format = false;       // give the disk a partition table: a vault, and one partition for data
};

// Makes a vault on the disk, encrypts it in place and lists it in the boot vault, whose root secret opens it from the next
// boot on. The disk has a partition table with a vault partition (at least 1 MiB, aligned to 4,096 bytes), and no boot
// partition; on an empty disk `format` makes one. Needs no TPM. After a cut the same command, without
// `format`, goes on. {"boot_disk", "members", "seconds"} and what vault_json() says of the member. ToolError that says what to
// do, also for `format` of a disk that is not empty, one with another vault, and for more than volume::kMaximumMembers.
[[nodiscard]] nlohmann::json add_disk(const AddDiskRequest& request);

// Takes a member, by its vault id in hex, off the boot vault's list: the next boot leaves its disk absent. Nothing on that disk
// changes, and the recovery key still opens it. {"boot_disk", "removed", "members"}.
[[nodiscard]] nlohmann::json remove_disk(const std::string& boot_disk, const std::string& recovery_key,
                                         const std::string& vault_id);

}  // namespace gatehouse::host

// What of a disk is plain, hidden, overlaid or encrypted.
//
//   protective MBR, GPT headers and arrays   read-only, but for
//   the GPT sectors that name the vault      overlay: the guest sees tables without it, CRCs right
//   boot partition, BIOS boot partition      read-only
//   vault partition                          hidden
//   everything else                          encrypted
#pragma once

#include "keyvault/tool/partition_tables.hpp"

namespace gatehouse::host {

// A boot disk has one boot partition, a member none.
enum class DiskRole : std::uint8_t { kBoot, kMember };
// Fills in disk identity, geometry, regions and overlay, for a disk with these tables. The vault must be large enough and
// aligned to 4,096 bytes, else ToolError.
void lay_out(const BlockDevice& disk, const PartitionTables& tables, volume::Header& header,
             DiskRole role = DiskRole::kBoot);

struct Extent {
    std::uint64_t first = 0;  // LBA
    std::uint64_t count = 0;  // sectors
};
// The sectors in no region.
[[nodiscard]] std::vector<Extent> encrypted_extents(const volume::Header& header);

// The table for `dmsetup create` that gives the whole disk in the clear by stock targets: crypt for what is
// encrypted, zero for the vault, linear for the rest. `device` is the block device with the disk. Holds the
// key.
void write_dmsetup_table(const volume::Header& header, const volume::Dek& dek, const std::string& device,
                         const std::function<void(Bytes line)>& write);

}  // namespace gatehouse::host

// What of a disk is plain, hidden, overlaid or encrypted; and the encryption of the last kind, in place.
//
//   protective MBR, GPT headers and arrays   read-only, but for
//   the GPT sectors that name the vault      overlay: the guest sees tables without it, CRCs right
//   boot partition, BIOS boot partition      read-only
//   vault partition                          hidden
//   everything else                          encrypted
#pragma once

#include "keyvault/tool/disk.hpp"

namespace gatehouse::host {

// Fills in disk identity, geometry, regions and overlay. Both copies of the partition table must be good,
// agree, and lie at both ends of the disk; the vault must be large enough and aligned to 4,096 bytes; else
// ToolError.
void lay_out(const Disk& disk, volume::Header& header);

struct Extent {
    std::uint64_t first = 0;  // LBA
    std::uint64_t count = 0;  // sectors
};
// The sectors in no region.
[[nodiscard]] std::vector<Extent> encrypted_extents(const volume::Header& header);

// Encrypts the extents in place, on all CPUs, and flushes.
void encrypt_in_place(Disk& disk, const std::vector<Extent>& extents, const volume::Dek& dek);

// The vault's header copies, kMaximumHeaderSize bytes each.
[[nodiscard]] std::array<Buffer, volume::kCopies> read_header_copies(const Disk& disk, const volume::GptEntry& vault);

// The table for `dmsetup create` that gives the whole disk in the clear by stock targets: crypt for what is
// encrypted, zero for the vault, linear for the rest. `device` is the block device with the disk. Holds the
// key.
void write_dmsetup_table(const volume::Header& header, const volume::Dek& dek, const std::string& device,
                         const std::function<void(Bytes line)>& write);

}  // namespace gatehouse::host

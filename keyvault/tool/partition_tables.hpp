// Both copies of a disk's partition table: read, given an identity of their own, and written.
//
// Images of one release are equal byte for byte, the GUIDs of disk and partitions too; a disk that is provisioned gets its
// own, so that no two endpoints have disks that can be taken for each other.
#pragma once

#include "keyvault/host_support/disk.hpp"
#include "keyvault/random.hpp"

namespace gatehouse::host {

struct PartitionTables {
    PartitionTable primary;
    PartitionTable backup;
    std::uint32_t vault = 0;  // number of the vault's entry, from 0
    [[nodiscard]] volume::GptEntry vault_entry() const { return volume::gpt_entry(primary.entries(), vault); }
};

// The copy at `lba`; nothing if it is not good, and then, unless an earlier one has said it, `why_not`.
[[nodiscard]] std::optional<PartitionTable> try_partition_table(const BlockDevice& disk, std::uint64_t lba,
                                                                std::string& why_not);

// The backup must be at the end of the disk, and there must be one vault. If one of the copies is
// damaged, or both are good and differ in GUIDs alone (a run of write() was cut), the primary is preferred and the other
// one made anew from it; copies that differ in partitions are refused. ToolError.
[[nodiscard]] PartitionTables read_partition_tables(const BlockDevice& disk);

// New random GUIDs (version 4, RFC 9562) for the disk and each of its partitions, with all CRCs.
void renew_identity(PartitionTables& tables, RandomSource& random);

// For a disk of `total_sectors`, no fewer than the tables' own: the backup goes to its end, and what is before that is usable.
// The last partition ends there, too, at a multiple of 4,096 bytes, if it is one whose file system is to grow (attribute 59,
// Discoverable Partitions Specification); the others stay as they are.
void fit_to_disk(PartitionTables& tables, std::uint64_t total_sectors);

// The backup and then the primary, each flushed, after the primary as it is read: it may be damaged, or in the system's cache
// only. One of them is good at any moment. What is in the partitions, and the
// protective MBR, stay as they are.
void write_partition_tables(BlockDevice& disk, const PartitionTables& tables);

}  // namespace gatehouse::host

// What the tools that lay a disk out know of partition tables besides:
// the whole table's rules, and the other partitions.
#pragma once

#include "keyvault/volume_writer/partition.hpp"

namespace gatehouse::volume {

// c12a7328-f81f-11d2-ba4b-00a0c93ec93b: EFI system partition. The boot partition is the one named
// kBootPartitionName.
inline constexpr Guid kBootPartitionType{std::byte{0x28}, std::byte{0x73}, std::byte{0x2a}, std::byte{0xc1},
                                         std::byte{0x1f}, std::byte{0xf8}, std::byte{0xd2}, std::byte{0x11},
                                         std::byte{0xba}, std::byte{0x4b}, std::byte{0x00}, std::byte{0xa0},
                                         std::byte{0xc9}, std::byte{0x3e}, std::byte{0xc9}, std::byte{0x3b}};
inline constexpr const char* kBootPartitionName = "gatehouse-boot";
// 21686148-6449-6e6f-744e-656564454649: BIOS boot partition, GRUB's second stage.
inline constexpr Guid kBiosBootPartitionType{std::byte{0x48}, std::byte{0x61}, std::byte{0x68}, std::byte{0x21},
                                             std::byte{0x49}, std::byte{0x64}, std::byte{0x6f}, std::byte{0x6e},
                                             std::byte{0x74}, std::byte{0x4e}, std::byte{0x65}, std::byte{0x65},
                                             std::byte{0x64}, std::byte{0x45}, std::byte{0x46}, std::byte{0x49}};

// Offset of the array's CRC-32 in a header, which an editor of the table must
// recompute; then the header's own, with its own CRC zero (kGptHeaderCrcAt).
inline constexpr std::size_t kGptEntriesCrcAt = 88;

// `table`: table_size() bytes. The CRC holds, and used entries are well-formed, in the usable range and
// disjoint. Errors: kBadLength, kBadChecksum; kOutOfRange, kOverlap (detail: number of the entry, from 0).
[[nodiscard]] Status check_gpt_entries(const GptHeader& header, Bytes table);

}  // namespace gatehouse::volume

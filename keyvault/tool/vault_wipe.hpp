// A vault partition overwritten, so that nothing opens the disk by it any more.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "keyvault/host_support/disk.hpp"
#include "keyvault/random.hpp"

namespace gatehouse::host {

// Reads whole sectors from the medium, past whatever keeps a copy of them in memory.
using ReadBack = std::function<void(std::uint64_t lba, MutableBytes out)>;

// Overwrites every sector of the partition with random bytes and then with zeros, each flushed, read back and compared. The
// partition need not hold a vault, nor be large enough for one.
//
// In this order: the first sector of both copies of the header, flush, both copies, flush, everything, flush; zeros, flush.
// So a cut leaves each copy whole or without its magic: none that looks like a header and is damaged behind. The same again
// ends what was cut.
//
// Goes on past sectors that cannot be written; then, and if something else was read back, a ToolError says at the end how
// many those are. Errors of flush() and of `read_back` are its caller's.
void wipe_vault(BlockDevice& disk, const volume::GptEntry& vault, RandomSource& random, const ReadBack& read_back);
// With the system's random numbers, read back by an UncachedReader. {"partition": {"first", "sectors"}, "bytes_overwritten",
// "passes", "read_back" (UncachedReader::method())}.
[[nodiscard]] nlohmann::json wipe_vault(Disk& disk, const volume::GptEntry& vault);

}  // namespace gatehouse::host

// An image put onto one disk, so that a cut at any moment leaves a disk that does not boot, or one that is right.
//
//     clear    the first and the last MiB become zeros, flushed: no MBR, no partition table at either end
//     write    each chunk of the map, hashed from the memory that is written; the other chunks become zeros, so that nothing old
//              stays where the image has none; flushed. Where a table is to be, zeros still. What lies behind the image's end
//              is left as it is, but for the last MiB
//     verify   every chunk is read back, past the cache, and held against the manifest
//     tables   with a GUID of its own, fitted to the disk (tables.hpp); the backup, the primary, the MBR, and read back
//
// To resume is to do the same once more, and to leave out writing what is right already by the manifest.
#pragma once

#include "image/flash/image_manifest.hpp"
#include "image/flash/tables.hpp"
#include "image/flash/target.hpp"

namespace gatehouse::flash {

enum class Phase : std::uint8_t { kCheck, kClear, kWrite, kVerify, kTables };
[[nodiscard]] const char* name_of(Phase phase);  // "check", "clear", ...

// Told how far a phase is, in bytes; at 0 when it begins and at `total` when it ends.
using Observer = std::function<void(Phase phase, std::uint64_t done, std::uint64_t total)>;

struct Flashed {
    volume::Guid disk{};        // its own GUID
    std::uint64_t written = 0;  // bytes, of chunks in the map
    std::uint64_t zeroed = 0;   // of the others
    std::uint64_t kept = 0;     // that were right already
};

// ToolError (kNo) that says why this image does not go onto this disk: too small, other sectors.
void demand_fit(const host::BlockDevice& disk, const Manifest& manifest);

// `image` is what check_image() has passed, and is checked once more on the way. ToolError that names the target and the byte;
// the target is not to be used then.
[[nodiscard]] Flashed flash(const host::BlockDevice& image, const Manifest& manifest, Target& target, bool resume,
                            RandomSource& random, const Observer& observer);

}  // namespace gatehouse::flash

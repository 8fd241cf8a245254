// A LUKS2 header's data segment: which range of a device it encrypts, and how.
//
// libcryptsetup makes headers whose segment reaches to the end of the device and whose tweaks count from its own
// beginning; a partition that was encrypted as a part of the whole disk needs an end, and tweaks that count from the
// disk's. The format has fields for both, the library no function; and cryptsetup 2.6 does not use "iv_tweak" when it opens
// (only while it re-encrypts), so that a segment is to begin where its tweaks do.
//
// LUKS2 On-Disk Format Specification 1.1.x, chapters "Binary Header", "JSON Area" and "Segments Object": a header is in two
// copies, one behind the other, each of 4,096 bytes of binary header (big-endian) and the JSON area, zero-padded:
//
//     offset  size
//          0     6  magic "LUKS" ba be; of the second copy "SKUL" ba be
//          6     2  version, 2
//          8     8  size of the copy, both parts
//         72    32  checksum algorithm, "sha256"
//        256     8  offset of the copy
//        448    64  checksum over the whole copy, these 64 bytes as zeros
//       4096     .  JSON text
#pragma once

#include "keyvault/host_support/support.hpp"

namespace gatehouse::host {

struct Luks2Segment {
    std::uint64_t offset = 0;       // on the data device, bytes
    std::uint64_t size = 0;         // bytes
    std::uint64_t first_tweak = 0;  // of the first sector; units of 512 bytes
    std::uint32_t sector_size = 512;
};

// Makes this the only segment of a header that has one, in both copies, and their checksums right; cipher and digest stay.
// `header`: both copies, whatever follows them is left alone. ToolError if it is no such header, its checksums do not hold
// or the text does not fit;
// the header is then as it was.
void set_segment(MutableBytes header, const Luks2Segment& segment);

}  // namespace gatehouse::host

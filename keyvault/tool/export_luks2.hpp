// A detached LUKS2 header with which stock cryptsetup opens one partition of the disk.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace gatehouse::host {

struct ExportLuks2Request {
    std::string disk;
    std::string recovery_key;     // file
    std::string header_out;       // file to make
    std::uint32_t partition = 0;  // number in the partition table, from 1; 0: the only one that is encrypted
};

// Makes the header (mode 0600; it must not exist yet) for the whole of a partition that lies in a range that is encrypted.
// Its only passphrase is the text of the recovery key file without the end of its line, its volume key the disk key: it
// opens as long as that is not rotated. The disk is only read. ToolError as open_finished_vault(), and if there is no such
// partition, or several and none is named: those that there are. Answers with
// {"header", "partition", "name", "first" (LBA), "offset", "size" (of the partition, bytes), "sector_size", "uuid", "open",
// "mount": the commands that open it}. What is opened is the disk from its beginning to the partition's end, as that is where
// tweaks count from: the partition lies in it at its offset, and what is plain before it reads as noise.
[[nodiscard]] nlohmann::json export_luks2(const ExportLuks2Request& request);

}  // namespace gatehouse::host

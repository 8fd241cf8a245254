// The vault partition of a disk, and the two copies of the header in it.
#pragma once

#include "keyvault/host_support/disk.hpp"
#include "keyvault/volume_writer/header_writer.hpp"

namespace gatehouse::host {

using HeaderCopies = std::array<Buffer, volume::kCopies>;  // volume::kMaximumHeaderSize bytes each

// Errors of the disk are ToolErrors here as well; write() and flush() never return a failure.
class VaultStore final : public volume::Store {
  public:
    // `vault` is to be at least kMinimumVaultSize long and aligned to 4,096 bytes (ToolError).
    VaultStore(BlockDevice& disk, const volume::GptEntry& vault);

    Status write(std::uint64_t offset, Bytes data) override;
    Status flush() override;
    [[nodiscard]] Buffer read(std::uint64_t offset, std::size_t size) const;

    // Puts a whole copy in the place of another one, or of none, and flushes. Its first sector, which alone makes it a
    // header, is written when all the rest is on the medium: what is there after a cut is the old copy, no header, or
    // the new one.
    void put_copy(std::size_t number, Bytes copy);

  private:
    BlockDevice& disk_;
    volume::GptEntry vault_;
};

// A copy that cannot be read is one without a header, zeros, if there is something in the other one; if not, nobody knows
// whether the disk has a vault: ToolError.
[[nodiscard]] HeaderCopies read_header_copies(const BlockDevice& disk, const volume::GptEntry& vault);

// What a copy looks like; nothing is authenticated.
enum class CopyKind : std::uint8_t {
    kNone,      // no header
    kMarker,    // what the release before wrote in place of a header while it encrypted
    kVersion1,  // a header of the release before
    kHeader,    // a header of this one
};
[[nodiscard]] CopyKind kind_of(Bytes copy);

// How much of what is to be encrypted has been, in percent; 100 if the cursor is idle.
[[nodiscard]] unsigned percent_done(const volume::Header& header);

}  // namespace gatehouse::host

// Finds and opens the vault of a disk, before the guest starts.
//
// Everything read from the disk is hostile: the partition table only says where to look; what counts is the vault
// header, once its MAC has been verified with a key that the TPM released.
#pragma once

#include "keyvault/volume/header.hpp"
#include "keyvault/volume/partition.hpp"

namespace gatehouse::boot {

// One disk, read by the hypervisor's own commands.
class SectorSource {
  public:
    [[nodiscard]] virtual std::size_t sector_size() const = 0;  // bytes, 512 or 4,096
    [[nodiscard]] virtual std::uint64_t total_sectors() const = 0;
    // `out` is a whole number of sectors.
    [[nodiscard]] virtual Status read(std::uint64_t lba, MutableBytes out) = 0;

  protected:
    ~SectorSource() = default;
};

// Gets the slot's secret out of the TPM.
class Unsealer {
  public:
    [[nodiscard]] virtual Result<volume::SlotSecret> unseal(const volume::TpmSlot& slot) = 0;

  protected:
    ~Unsealer() = default;
};

struct VaultPlace {
    volume::Guid disk{};
    std::uint64_t first = 0;  // LBA
    std::uint64_t count = 0;  // sectors
};

// Working memory for both functions; large, make it static.
struct VaultScratch {
    std::array<std::byte, volume::kGptMaxTableSize> table;
    std::array<std::byte, volume::kMaximumSectorSize> sector;
    std::array<std::array<std::byte, volume::kMaximumHeaderSize>, volume::kCopies> copies;
    volume::Preview preview;
};

// The vault partition by the primary partition table or, if that is broken, by the backup. kNotFound: the disk has
// a good table and no vault in it. Other errors: the disk's, or those of the tables.
[[nodiscard]] Result<VaultPlace> find_vault(SectorSource& disk, VaultScratch& scratch);

// Opens the newest header copy that is authentic. The header must be of this disk: GUID, sector size and capacity.
// Errors: kNotFound (no header), those of Unsealer and open_header() for the newest copy, kMismatch.
[[nodiscard]] Status open_vault(SectorSource& disk, const VaultPlace& place, Unsealer& unsealer, VaultScratch& scratch,
                                volume::Header& header, volume::Keys& keys);

}  // namespace gatehouse::boot

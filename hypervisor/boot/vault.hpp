// Finds and opens the vaults of this endpoint, before the guest starts.
//
// Everything read from a disk is hostile: the partition table only says where to look; what counts is the vault header,
// once its MAC has been verified, and the vault id that its root secret proves. Anybody can seal a vault of his own to
// the same policy: so only the vault whose id is pinned is opened with the TPM (the *boot vault*), and with its root
// secret the disks that its header lists (*members*). Every other disk stays absent, whatever is on it, or is shown as it
// is, read-only, if the policy says so (disks.hpp).
#pragma once

#include "keyvault/volume/header.hpp"

namespace gatehouse::boot {

// One disk: read by the hypervisor's own commands, and given to the guest.
class VaultDisk {
  public:
    [[nodiscard]] virtual std::uint32_t port() const = 0;       // for messages
    [[nodiscard]] virtual std::size_t sector_size() const = 0;  // bytes, 512 or 4,096
    [[nodiscard]] virtual std::uint64_t total_sectors() const = 0;
    // `out` is a whole number of sectors.
    [[nodiscard]] virtual Status read(std::uint64_t lba, MutableBytes out) = 0;
    // The guest will see this disk. `header` stays where it is.
    [[nodiscard]] virtual Status attach(const volume::Header& header, const volume::Dek& dek) = 0;

  protected:
    ~VaultDisk() = default;
};

// Gets the secret of a slot.
class Unsealer {
  public:
    [[nodiscard]] virtual Result<volume::SlotSecret> unseal(const volume::Slots& slots) = 0;

  protected:
    ~Unsealer() = default;
};

// Working memory; large, make it static.
struct VaultScratch {
    std::array<std::byte, 16384> table;  // the least that a partition table's entries have; 128 in use everywhere
    std::array<std::byte, volume::kMaximumSectorSize> sector;
    std::array<std::array<std::byte, volume::kMaximumHeaderSize>, volume::kCopies> copies;
    volume::Header header;
};

// Reads the header's copies in the vault partition, the first one of the primary partition table or, if that does not
// lead to a header, of the backup. No checksum of a table is looked at: it would tell of accidents, and so does a
// place without a header. What of the copies cannot be read, is no header or is that of another disk is left as zeros.
// kNotFound: no vault here. kBadLength: its partition is too small. Other errors: the disk's, or no table.
[[nodiscard]] Status load_vault(VaultDisk& disk, VaultScratch& scratch);

struct OpenVault {
    VaultDisk* disk = nullptr;
    volume::Header header;
};

// The open vaults, the boot vault first. Large: static.
class Vaults {
  public:
    // Opens and attaches the boot vault, whose id is `pinned`, then its members. A vault that
    // claims the pinned id and does not prove it is passed over. Of a header's copies the newest
    // authentic one counts; its disk's GUID, sector size and capacity must be the disk's. A disk
    // that stays absent is logged with the reason. Whatever comes of it, no secret is left here.
    // Errors: "boot vault: on no disk", or why the first one that claims the pinned id does not open: those of
    // Unsealer, open_header() and attach(), kMismatch, kRefused (interrupted provisioning).
    [[nodiscard]] Status open(std::span<VaultDisk* const> disks, const volume::VaultId& pinned, Unsealer& tpm);
    [[nodiscard]] std::span<const OpenVault> all() const { return std::span(open_).first(count_); }

  private:
    [[nodiscard]] Status open_boot_vault(std::span<VaultDisk* const> disks, const volume::VaultId& pinned,
                                         Unsealer& tpm);
    [[nodiscard]] bool is_open(const volume::VaultId& id) const;
    // `tpm`: null for a member.
    [[nodiscard]] Status open_one(VaultDisk& disk, std::span<const volume::VaultId> wanted, Unsealer* tpm);
    [[nodiscard]] Status open_copy(Bytes copy, Unsealer* tpm);

    std::array<OpenVault, 1 + volume::kMaximumMembers> open_{};
    std::size_t count_ = 0;
    volume::Keys keys_;
    volume::Root root_;  // of the boot vault
    VaultScratch scratch_{};
};

}  // namespace gatehouse::boot

// Finds and opens the vaults of this endpoint, before the guest starts.
//
// Everything read from a disk is hostile: the partition table only says where to look; what counts is the vault header,
// once its MAC has been verified, and the vault id that its root secret proves. Anybody can seal a vault of his own to
// the same policy: so only the vault whose id is pinned is opened with the TPM (the *boot vault*), and with its root
// secret the disks that its header lists (*members*). Every other disk stays absent, whatever is on it, or is shown as it
// is, read-only, if the policy says so (disks.hpp).
#pragma once

#include "hypervisor/boot/online_conversion.hpp"
#include "hypervisor/platform/pci.hpp"

namespace gatehouse::boot {

// A disk at a port of a controller.
struct PortDisk {
    // The guest will see this disk. `header` stays where it is. Errors: those of XtsKey::set().
    [[nodiscard]] virtual Status attach(const volume::Header& header, const volume::Dek& dek);

    ata::Disk* disk = nullptr;          // has told its geometry
    platform::FunctionId function = 0;  // its controller
    ata::XtsKey key;
    std::array<Region, volume::kMaximumRegions> regions{};  // those of the header, with their overlays
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
    std::uint64_t first = 0;  // LBA of the partition
};

// Reads the header's copies in the vault partition, the first one of the primary partition table or, if that does not
// lead to a header, of the backup. No checksum of a table is looked at: it would tell of accidents, and so does a
// place without a header. What of the copies cannot be read, is no header or is that of another disk is left as zeros.
// kNotFound: no vault here. kBadLength: its partition is too small. Other errors: the disk's, or no table.
[[nodiscard]] Status load_vault(ata::Disk& disk, VaultScratch& scratch);

struct OpenVault {
    const PortDisk* disk = nullptr;
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
    // Unsealer, open_header(), attach() and, if a change of the disk's key or its encryption is under way,
    // OnlineConversion::begin(); kMismatch.
    [[nodiscard]] Status open(std::span<PortDisk* const> disks, const volume::VaultId& pinned, Unsealer& tpm);
    [[nodiscard]] std::span<const OpenVault> all() const { return std::span(open_).first(count_); }
    [[nodiscard]] OnlineConversion& conversion() { return conversion_; }

  private:
    [[nodiscard]] Status open_boot_vault(std::span<PortDisk* const> disks, const volume::VaultId& pinned,
                                         Unsealer& tpm);
    [[nodiscard]] bool is_open(const volume::VaultId& id) const;
    // `tpm`: null for a member.
    [[nodiscard]] Status open_one(PortDisk& disk, std::span<const volume::VaultId> wanted, Unsealer* tpm);
    [[nodiscard]] Status open_copy(Bytes copy, Unsealer* tpm);

    std::array<OpenVault, 1 + volume::kMaximumMembers> open_{};
    std::size_t count_ = 0;
    volume::Keys keys_;
    volume::Root root_;  // of the boot vault
    VaultScratch scratch_{};
    OnlineConversion conversion_;
};

}  // namespace gatehouse::boot

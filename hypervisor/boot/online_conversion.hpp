// A change of a disk's key, or its first encryption, that goes on while the guest works on the disk
// (keyvault/volume/conversion.hpp): its keys, its place in the mediator, and the guest's request for the next window.
//
// One disk at a time, of an AHCI controller: the boot vault's comes first. The next one that is under way is refused
// as on other controllers: it is sealed-key's to end.
#pragma once

#include "ata/volume.hpp"
#include "attestation/evidence/claims.hpp"
#include "hypervisor/channel/converter.hpp"
#include "keyvault/volume/conversion.hpp"

namespace gatehouse::boot {

// Large: static.
class OnlineConversion final : public channel::Converter, private volume::Medium {
  public:
    // Before the guest runs, of a disk that is not attached yet; nothing, if its cursor is idle. What is under way is checked,
    // its window brought to its end. The arguments are Conversion::open()'s. A disk that does not take what is to be written
    // stays usable, but for that window, with a line that says so. Errors: kRefused: go on with sealed-key;
    // Conversion::open()'s, XtsKey::set()'s.
    [[nodiscard]] Status begin(ata::Disk& disk, std::uint64_t vault, std::size_t number, Bytes copy,
                               volume::Header& header, const volume::Keys& keys);
    // Whether the policy lets a change go on in use (BundleFlag::kChangeInUse); if not, begin() refuses every one.
    void allow(bool in_use) { allowed_ = in_use; }
    [[nodiscard]] Result<std::size_t> convert(std::uint32_t windows, MutableBytes out) override;
    // Forgets the keys; nothing is to be read or written afterwards.
    void wipe();

  private:
    [[nodiscard]] Status read(std::uint64_t lba, MutableBytes out) override { return disk_->read_sectors(lba, out); }
    [[nodiscard]] Status write(std::uint64_t lba, Bytes data) override {
        return disk_->own_commands()->write_sectors(lba, data);
    }
    [[nodiscard]] Status flush() override { return disk_->own_commands()->flush(); }
    void convert(std::uint64_t lba, MutableBytes data) override;
    void move_boundary();

    ata::Disk* disk_ = nullptr;
    bool allowed_ = false, from_key_ = false;  // from_key_: else from plaintext
    ata::XtsKey from_, to_;
    volume::Conversion conversion_;
};

// What is claimed of an open vault: while its key is being changed, the epoch before; while it is encrypted, that it is not yet.
[[nodiscard]] evidence::DiskClaim claim_of(const volume::Header& header);

}  // namespace gatehouse::boot

// A change of the disk's key, or its first encryption, gone on with while the disk is in use: the same cursor, journals and
// record of the key before as the offline tool has (journal.hpp, previous_key.hpp), so that either goes on with what the other
// has begun.
//
//     open()      of a header whose cursor is not idle: what is under way is found out and checked; nothing is written
//     go_on()     before the disk is used: ends the window that was under way, takes away the journal of no sector with which the
//                 tool begins, since it says what the guest may change, and puts both copies of the header behind the window
//     step()      one window of at most 256 KiB, or, behind the last, the end; the disk's user is at rest
//
//     a window    read; locked
//                 journal written, in the area that the cursor does not name; flush
//                 cursor = window, in the older copy of the header; flush
//                 window written; flush
//                 cursor = behind the window, in one copy; flush; and in the other; flush; no longer locked: five flushes
//
// Unlike offline, sectors are written between windows. So a copy of the header that names a window, or stands before it, must
// not be left behind when the window is used again: by it what was written since would be converted once more. And journals say
// nothing of the window behind theirs: whether a vault was put back is seen in the midst of a window alone, or in what
// the tool left, and that its header was, without the journals, if one of them is of a later window. What cannot be brought to its end stays locked: nobody reads or writes it, until a later step() has done it.
#pragma once

#include "hypervisor/base/extent.hpp"
#include "keyvault/volume/journal.hpp"
#include "keyvault/volume/wrap.hpp"

namespace gatehouse::volume {

// The epoch of a disk key that is being taken off the disk (volume_writer/decryption.hpp): no boot goes on with that.
inline constexpr std::uint32_t kPlaintextEpoch = 0xffff'ffff;

// The disk, while nobody else uses it. LBAs and whole sectors.
class Medium {
  public:
    [[nodiscard]] virtual Status read(std::uint64_t lba, MutableBytes out) = 0;
    [[nodiscard]] virtual Status write(std::uint64_t lba, Bytes data) = 0;
    // Returns when everything written before is on stable media.
    [[nodiscard]] virtual Status flush() = 0;
    // What the disk held from `lba` on, to what it is to hold.
    virtual void convert(std::uint64_t lba, MutableBytes data) = 0;

  protected:
    ~Medium() = default;
};

// Large: static. Errors of the medium are its own.
class Conversion {
  public:
    static constexpr std::size_t kWindow = 256 * 1024;  // bytes

    // `copy` is number `number` of the vault that begins at LBA `vault`, and has been opened by `kek` as `header`, which is kept
    // up to date from then on. `before`: the key of the epoch before; untouched if that is plaintext.
    // After an error it wants clear(). kRefused: it is being decrypted. kBadMagic, kMismatch, kAuthFailed: neither record of
    // the key before is good. kBadMac: a window's journal is not. kMismatch: disk, header and journals are not of the same time.
    [[nodiscard]] Status open(Medium& medium, std::uint64_t vault, std::size_t number, Bytes copy, Header& header,
                              const Kek& kek, Dek& before);
    // After a failure, too, the disk can be used, but for what is locked().
    [[nodiscard]] Status go_on();
    // While is_active(), also after one that failed.
    [[nodiscard]] Status step();

    // There are sectors yet to be converted, or copies and records to be written.
    [[nodiscard]] bool is_active() const { return journal_.has_value(); }
    // Sectors below this LBA are under the header's key, those from it on under the one before.
    [[nodiscard]] std::uint64_t changed() const {
        const Cursor& cursor = header_->cursor;
        return cursor.state == CursorState::kIdle ? header_->total_sectors : cursor.next + cursor.count;
    }
    // LBAs that are neither to be read nor written.
    [[nodiscard]] const Extent& locked() const { return locked_; }
    // Forgets the keys.
    void clear() {
        mac_key_.clear();
        journal_.reset();
    }

  private:
    [[nodiscard]] std::uint64_t sectors(std::uint64_t bytes) const { return bytes / header_->sector_size; }
    [[nodiscard]] MutableBytes window(std::uint64_t n) { return MutableBytes(window_).first(n * header_->sector_size); }
    [[nodiscard]] Extent encrypted_from(std::uint64_t lba) const;
    [[nodiscard]] Status find_key(const Kek& kek, Dek& before);
    [[nodiscard]] Status find_window();
    [[nodiscard]] Status check_unchanged(Bytes macs, const std::optional<Journal::Before>& before);
    [[nodiscard]] Status load_journal(std::uint32_t number) {
        return medium_->read(vault_ + sectors(kJournalOffset[number]), area_);
    }
    [[nodiscard]] Status put(std::uint64_t offset, Bytes data);
    [[nodiscard]] Status update(const Cursor& cursor);
    [[nodiscard]] Status settle(std::uint64_t next);
    [[nodiscard]] Status finish_window();
    [[nodiscard]] Status end();

    Medium* medium_ = nullptr;
    Header* header_ = nullptr;
    std::uint64_t vault_ = 0;                          // LBA
    std::size_t copy_ = 0, size_ = 0, cursor_at_ = 0;  // newest copy's number; a copy's size, its cursor's offset
    bool is_settled_ = false;                          // both copies say where the cursor is
    Extent locked_;
    WrappingKey mac_key_;
    std::optional<Journal> journal_;
    std::array<std::byte, kMaximumHeaderSize> raw_{};
    std::array<std::byte, kWindow> window_{};
    std::array<std::byte, kJournalHeadSize + kWindowSize / 512 * kSectorMacSize> area_{};
};

}  // namespace gatehouse::volume

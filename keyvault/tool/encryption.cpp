#include "keyvault/tool/encryption.hpp"

#include <algorithm>
#include <deque>
#include <future>
#include <optional>
#include <stdexcept>
#include <thread>

#include "ata/xts/xts.hpp"
#include "keyvault/volume_writer/decryption.hpp"
#include "keyvault/volume_writer/previous_key_writer.hpp"

namespace gatehouse::host {
namespace {

using volume::Cursor;
using volume::CursorState;

std::vector<Extent> windows_from(const volume::Header& header, std::uint64_t next, std::size_t window_size) {
    const std::uint64_t step = window_size / header.sector_size;
    std::vector<Extent> windows;
    for (const Extent& extent : encrypted_extents(header)) {
        const std::uint64_t end = extent.first + extent.count;
        for (std::uint64_t at = std::max(next, extent.first); at < end; at += step) {
            windows.push_back({at, std::min(step, end - at)});
        }
    }
    if (!windows.empty() && windows.back().count > 1) {  // the last one is one sector (journal.hpp)
        const Extent last = windows.back();
        windows.back().count -= 1;
        windows.push_back({last.first + last.count - 1, 1});
    }
    return windows;
}

std::uint64_t sectors_of(const std::vector<Extent>& extents) {
    std::uint64_t sectors = 0;
    for (const Extent& extent : extents) sectors += extent.count;
    return sectors;
}

// What cannot be read may be one.
bool may_be_previous_key(const VaultStore& store, std::uint64_t offset) try {
    return volume::looks_like_previous_key(store.read(offset, volume::kPreviousKeySize));
} catch (const ToolError&) {
    return true;
}

// What the journals of one epoch tell that lie in the vault.
struct JournalsFound {
    bool of_no_window = false;            // there is one, or an area that cannot be read and may hold it
    std::optional<std::uint64_t> window;  // LBA where the window of one begins
};
JournalsFound journals_in(const VaultStore& store, const volume::Journal& journal) {
    JournalsFound found;
    for (const std::uint64_t offset : volume::kJournalOffset) {
        try {
            const Buffer area = store.read(offset, volume::kJournalSize);
            const auto window = journal.window(area);
            if (window.ok() && window->length != 0) found.window = window->base;
            found.of_no_window = found.of_no_window || (window.ok() && window->length == 0);
        } catch (const ToolError&) {
            found.of_no_window = true;
        }
    }
    return found;
}

// The header says that nothing has been converted yet, and the journals know better.
[[noreturn]] void refuse_header_of_before(const BlockDevice& disk) {
    throw ToolError(
        disk.path() +
        ": its header says that no sector has been converted yet, its journals that some have been: they are "
        "not of the same time (was a copy of the header put back?); nothing has been changed; bring disk and "
        "vault to the same time");
}

class Conversion {
  public:
    Conversion(BlockDevice& disk, VaultStore& store, OpenVault& vault)
        : disk_(disk),
          store_(store),
          vault_(vault),
          journal_(vault.keys.kek, vault.header.data_key.epoch),
          scratch_(volume::kMaximumHeaderSize) {
        const bool decrypts = volume::is_being_decrypted(vault.header);
        expect((decrypts ? from_ : to_).emplace().set(vault.keys.dek.bytes()), "disk key");
        if (!decrypts && cursor().state == CursorState::kChangingKey) use_previous_key();
    }

    // The journal of no sector, before a change of keys.
    void begin() {
        const std::vector<Extent> extents = encrypted_extents(vault_.header);
        if (extents.empty()) return;
        const std::uint64_t first = extents.front().first;
        (void)store_.write(volume::kJournalOffset[0], prepare({first, 0}, first).journal);
        (void)store_.flush();
    }

    void run(std::size_t window_size) {
        go_on();
        const std::vector<Extent> windows = windows_left(window_size);
        Progress progress(!to_    ? "decrypting"
                          : from_ ? "changing the disk key"
                                  : "encrypting",
                          sectors_of(windows) * disk_.sector_size());
        // Windows are prepared, which is the work, while those before them are written, which is the waiting.
        const std::size_t ahead = std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
        std::deque<std::future<Window>> prepared;
        std::uint64_t done = 0;
        for (std::size_t i = 0; i < windows.size(); ++i) {
            for (std::size_t j = i + prepared.size(); j < windows.size() && prepared.size() < ahead; ++j) {
                const std::optional<std::uint64_t> next =
                    j + 1 < windows.size() ? std::optional(windows[j + 1].first) : std::nullopt;
                prepared.push_back(std::async(std::launch::async,
                                              [this, extent = windows[j], next] { return prepare(extent, next); }));
            }
            const Window window = prepared.front().get();
            prepared.pop_front();
            commit(window);
            done += window.content.size();
            progress.at(done);
        }
        end();
    }

  private:
    struct Window {
        Extent extent;
        Buffer content;  // as it is to be
        Buffer journal;
    };

    [[nodiscard]] const Cursor& cursor() const { return vault_.header.cursor; }

    // The first of the two records that is good.
    void use_previous_key() {
        Status newest{Error::kBadMagic, "record of the key before"};
        for (const std::uint64_t offset : volume::kPreviousKeyOffset) {
            volume::Dek dek;
            newest = read_record(offset, dek);
            if (!newest.ok()) continue;
            expect(from_.emplace().set(dek.bytes()), "disk key");
            return;
        }
        throw ToolError(disk_.path() + ": the disk key that part of the disk is encrypted with is not to be found: " +
                        describe(newest.failure()) + "; nothing has been changed");
    }
    [[nodiscard]] Status read_record(std::uint64_t offset, volume::Dek& dek) const try {
        return volume::read_previous_key(store_.read(offset, volume::kPreviousKeySize), vault_.header, vault_.keys.kek,
                                         dek);
    } catch (const ToolError&) {
        return {Error::kDeviceError, "record of the key before: it cannot be read"};
    }

    // What the disk holds from sector `first` on, to what it is to hold.
    void convert(std::uint64_t first, MutableBytes data) const {
        using enum ata::XtsKey::Direction;
        const auto size = static_cast<std::uint32_t>(disk_.sector_size());
        const std::size_t count = data.size() / size;
        if (from_) from_->transform(kDecrypt, data.data(), data.data(), count, size, first);
        if (to_) to_->transform(kEncrypt, data.data(), data.data(), count, size, first);
    }

    [[nodiscard]] volume::Journal::SectorMac mac_on_disk(std::uint64_t lba) const {
        return journal_.mac(lba, disk_.read_sectors(lba, 1));
    }

    // `next`: where the window behind it begins.
    [[nodiscard]] Window prepare(const Extent& extent, std::optional<std::uint64_t> next) const {
        Window window{extent, disk_.read_sectors(extent.first, extent.count), Buffer(volume::kJournalSize)};
        volume::Journal::Before before;
        if (extent.count != 0) {
            before.first = journal_.mac(extent.first, Bytes(window.content).first(disk_.sector_size()));
            convert(extent.first, window.content);
        }
        if (next) before = {before.first, *next, mac_on_disk(*next)};
        window.journal.resize(expect(
            journal_.write(extent.first, window.content, disk_.sector_size(), before, window.journal), "journal"));
        return window;
    }

    // Of the last window that a change of keys has begun, and of its journal: ToolError unless the sectors that tell are as it
    // left them.
    void demand_unchanged(std::uint32_t journal, const Extent& window) const {
        if (!from_) return;  // plaintext may be written by whoever has it
        const Buffer area = journal_area(journal, window.count == 0);
        const Result<Bytes> macs = journal_.read(window.first, window.count, area);
        if (!macs.ok() && window.count == 0) return;  // behind everything, begun by the release before, or lost
        expect(macs, disk_.path());
        const std::optional<volume::Journal::Before> before = volume::Journal::before(area);
        if (!before) return;
        if (window.count != 0) {
            const auto now = mac_on_disk(window.first);
            demand_same(window.first, now == before->first || equal_bytes(now, macs->first(now.size())));
        }
        if (before->next == ~std::uint64_t{0}) return;
        demand_same(before->next, mac_on_disk(before->next) == before->next_mac);
    }
    [[nodiscard]] Buffer journal_area(std::uint32_t journal, bool may_be_lost) const try {
        return store_.read(volume::kJournalOffset[journal], volume::kJournalSize);
    } catch (const ToolError&) {
        if (!may_be_lost) throw;
        return {};
    }
    void demand_same(std::uint64_t lba, bool same) const {
        if (same) return;
        throw ToolError(
            disk_.path() + ": sector " + std::to_string(lba) +
            " is not as the change of its keys left it: disk and vault are not of the same time (was a copy of "
            "one put back?); nothing has been changed; bring both to the same time");
    }

    void update(const Cursor& next) {
        vault_.header.cursor = next;
        expect(volume::update(store_, vault_.header, vault_.keys.kek, vault_.copy, scratch_), "vault header");
    }

    void commit(const Window& window) {
        const std::uint32_t journal = 1 - cursor().journal;
        (void)store_.write(volume::kJournalOffset[journal], window.journal);
        (void)store_.flush();
        update({cursor().state, journal, window.extent.first, window.extent.count});
        disk_.write(window.extent.first, window.content);
        disk_.flush();
    }

    [[nodiscard]] std::vector<Extent> windows_left(std::size_t window_size) const {
        if (cursor().state == CursorState::kIdle) return {};
        return windows_from(vault_.header, cursor().next + cursor().count, window_size);
    }

    // What an earlier run left under way. Whatever of it is gone on from is written again, for write_again()'s
    // reason.
    void go_on() {
        std::uint64_t next = next_under_way();
        if (next == 0) {
            demand_first_window();
            demand_unchanged(cursor().journal, {cursor().next, cursor().count});
        }
        write_again(store_, vault_);
        if (cursor().count != 0 && next == 0) finish_window();
        for (; next != 0; next = next_under_way()) {
            const std::uint64_t first = windows_left(volume::kWindowSize).front().first;
            demand_unchanged(1 - cursor().journal, {first, next});
            (void)store_.write(volume::kJournalOffset[1 - cursor().journal], other_journal());
            (void)store_.flush();
            update({cursor().state, 1 - cursor().journal, first, next});
            finish_window();
        }
    }

    // Before its first window, of which no journal is there, a change has left the journal of no window at most: that of a later
    // one comes only when neither copy of the header stands here any more. Without it nothing becomes plaintext from here, since
    // that is what a vault looks like whose header was put back after the end.
    void demand_first_window() const {
        const std::vector<Extent> extents = encrypted_extents(vault_.header);
        const bool first = !extents.empty() && cursor().next == extents.front().first && cursor().count == 0;
        if (cursor().state == CursorState::kIdle || !first) return;
        const JournalsFound found = journals_in(store_, journal_);
        if (found.window || (!to_ && !found.of_no_window)) refuse_header_of_before(disk_);
    }

    // Sectors of the window behind the cursor's if it has been begun, and the copy of the header that says so is lost: its
    // journal is there. The cursor's own window was on the medium before that was written. 0: none.
    [[nodiscard]] std::uint64_t next_under_way() const {
        const std::vector<Extent> sectors = windows_left(volume::kWindowSize);
        if (sectors.empty()) return 0;
        const auto window = journal_.window(other_journal());
        return window.ok() && window->base == sectors.front().first ? window->length : 0;
    }

    // The area that the cursor does not name; nothing if it cannot be read and there is no newer copy that might name it.
    [[nodiscard]] Buffer other_journal() const try {
        return store_.read(volume::kJournalOffset[1 - cursor().journal], volume::kJournalSize);
    } catch (const ToolError&) {
        volume::Header other;
        const Buffer copy = store_.read(volume::kCopyOffset[1 - vault_.copy], volume::kMaximumHeaderSize);
        if (!volume::preview(copy, other).ok() || other.generation > vault_.header.generation) throw;
        return {};
    }

    // The window that the cursor names, of which any sector may be on the disk or not; all of it is written, also what
    // reads as if it were there.
    void finish_window() {
        const Extent extent{cursor().next, cursor().count};
        const std::size_t size = disk_.sector_size();
        const Buffer area = store_.read(volume::kJournalOffset[cursor().journal], volume::kJournalSize);
        const Bytes macs = expect(journal_.read(extent.first, extent.count, area), disk_.path());
        Buffer data = disk_.read_sectors(extent.first, extent.count);
        for (std::uint64_t i = 0; i < extent.count; ++i) {
            const MutableBytes sector = MutableBytes(data).subspan(i * size, size);
            const auto mac = journal_.mac(extent.first + i, sector);
            if (!equal_bytes(mac, macs.subspan(i * mac.size(), mac.size()))) convert(extent.first + i, sector);
        }
        disk_.write(extent.first, data);
        disk_.flush();
    }

    // Both copies end idle; the last that does not stands behind everything, so that nobody who opens it by mistake
    // takes what the guest has written since for plaintext. Of plaintext both end with that one.
    void end() {
        const Cursor behind{cursor().state, cursor().journal, vault_.header.total_sectors, 0};
        if (cursor().state != CursorState::kIdle) update(behind);
        if (!to_) return update(behind);
        if (cursor().state != CursorState::kIdle) update({});
        update({});
        forget_previous_key(store_);
    }

    BlockDevice& disk_;
    VaultStore& store_;
    OpenVault& vault_;
    volume::Journal journal_;
    std::optional<ata::XtsKey> from_;  // none: what is converted is plaintext
    std::optional<ata::XtsKey> to_;    // none: it becomes plaintext
    Buffer scratch_;
};

}  // namespace

Buffer whole_copy(const OpenVault& vault) {
    Buffer copy(volume::kMaximumHeaderSize);
    copy.resize(expect(volume::serialise(vault.header, vault.keys.kek, copy), "vault header"));
    return copy;
}

void write_again(VaultStore& store, const OpenVault& vault) { store.put_copy(vault.copy, whole_copy(vault)); }

void put_both_copies(VaultStore& store, OpenVault& vault) {
    const Buffer copy = whole_copy(vault);
    for (const std::size_t number : {1 - vault.copy, vault.copy}) store.put_copy(number, copy);
}

void begin_encryption(VaultStore& store, OpenVault& vault, CursorState state) {
    const std::vector<Extent> extents = encrypted_extents(vault.header);
    vault.header.cursor = {state, 0, extents.empty() ? 0 : extents.front().first, 0};
    put_both_copies(store, vault);
}

void demand_not_begun(const BlockDevice& disk, const VaultStore& store, const OpenVault& vault, std::uint32_t epoch) {
    if (journals_in(store, volume::Journal(vault.keys.kek, epoch)).window) refuse_header_of_before(disk);
}

void begin_change(BlockDevice& disk, VaultStore& store, OpenVault& vault) {
    Conversion(disk, store, vault).begin();
    begin_encryption(store, vault, CursorState::kChangingKey);
}

void keep_previous_key(VaultStore& store, const volume::DataKey& key) {
    Buffer record(volume::kPreviousKeySize);
    volume::write_previous_key(key, record);
    for (const std::uint64_t offset : volume::kPreviousKeyOffset) {
        (void)store.write(offset, record);
        (void)store.flush();
    }
}

void forget_previous_key(VaultStore& store) {
    bool found = false;
    for (const std::uint64_t offset : volume::kPreviousKeyOffset) {
        if (!may_be_previous_key(store, offset)) continue;
        (void)store.write(offset, Buffer(volume::kPreviousKeySize));
        found = true;
    }
    if (found) (void)store.flush();
}

void encrypt(BlockDevice& disk, VaultStore& store, OpenVault& vault, std::size_t window_size) {
    demand_not_decrypted(disk, vault.header);
    Conversion(disk, store, vault).run(window_size);
}

void decrypt(BlockDevice& disk, VaultStore& store, OpenVault& vault, std::size_t window_size) {
    if (!volume::is_being_decrypted(vault.header)) throw std::logic_error("nothing has begun to be decrypted");
    Conversion(disk, store, vault).run(window_size);
}

void demand_not_decrypted(const BlockDevice& disk, const volume::Header& header) {
    if (!volume::is_being_decrypted(header)) return;
    throw ToolError(disk.path() + ": it is being brought back to plaintext, " + std::to_string(percent_done(header)) +
                    " % of it are; go on with: sealed-key decrypt " + disk.path() + " --recovery-key FILE");
}

void demand_readable(const BlockDevice& disk, const volume::Header& header, std::size_t window_size) {
    const std::uint64_t step = window_size / disk.sector_size();
    for (const Extent& extent : encrypted_extents(header)) {
        for (std::uint64_t at = 0; at < extent.count; at += step) {
            (void)disk.read_sectors(extent.first + at, std::min(step, extent.count - at));
        }
    }
}

}  // namespace gatehouse::host

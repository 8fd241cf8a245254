#include "keyvault/tool/encryption.hpp"

#include <algorithm>
#include <deque>
#include <future>
#include <thread>

#include "ata/xts/xts.hpp"

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
    return windows;
}

std::uint64_t sectors_of(const std::vector<Extent>& extents) {
    std::uint64_t sectors = 0;
    for (const Extent& extent : extents) sectors += extent.count;
    return sectors;
}

class Encryption {
  public:
    Encryption(BlockDevice& disk, VaultStore& store, OpenVault& vault)
        : disk_(disk), store_(store), vault_(vault), journal_(vault.keys.kek), scratch_(volume::kMaximumHeaderSize) {
        expect(key_.set(vault.keys.dek.bytes()), "disk key");
    }

    void run(std::size_t window_size) {
        go_on();
        const std::vector<Extent> windows = windows_left(window_size);
        Progress progress("encrypting", sectors_of(windows) * disk_.sector_size());
        // Windows are prepared, which is the work, while those before them are written, which is the waiting.
        const std::size_t ahead = std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
        std::deque<std::future<Window>> prepared;
        std::uint64_t done = 0;
        for (std::size_t i = 0; i < windows.size(); ++i) {
            for (std::size_t j = i + prepared.size(); j < windows.size() && prepared.size() < ahead; ++j) {
                prepared.push_back(
                    std::async(std::launch::async, [this, extent = windows[j]] { return prepare(extent); }));
            }
            const Window window = prepared.front().get();
            prepared.pop_front();
            commit(window);
            done += window.ciphertext.size();
            progress.at(done);
        }
        finish();
    }

  private:
    struct Window {
        Extent extent;
        Buffer ciphertext;
        Buffer journal;
    };

    [[nodiscard]] const Cursor& cursor() const { return vault_.header.cursor; }

    void encrypt(std::uint64_t first, MutableBytes data) const {
        const auto size = static_cast<std::uint32_t>(disk_.sector_size());
        key_.transform(ata::XtsKey::Direction::kEncrypt, data.data(), data.data(), data.size() / size, size, first);
    }

    [[nodiscard]] Window prepare(const Extent& extent) const {
        Window window{extent, disk_.read_sectors(extent.first, extent.count), Buffer(volume::kJournalSize)};
        encrypt(extent.first, window.ciphertext);
        window.journal.resize(
            expect(journal_.write(extent.first, window.ciphertext, disk_.sector_size(), window.journal), "journal"));
        return window;
    }

    // The newest copy, once more in its place: after a flush that failed it may be in the system's cache only, which shows it
    // as if it were on the medium, and the other copy, which is on it, would be overwritten next.
    void write_again() {
        Buffer copy(volume::kMaximumHeaderSize);
        copy.resize(expect(volume::serialise(vault_.header, vault_.keys.kek, copy), "vault header"));
        store_.put_copy(vault_.copy, copy);
    }

    void update(const Cursor& next) {
        vault_.header.cursor = next;
        expect(volume::update(store_, vault_.header, vault_.keys.kek, vault_.copy, scratch_), "vault header");
    }

    void commit(const Window& window) {
        const std::uint32_t journal = 1 - cursor().journal;
        (void)store_.write(volume::kJournalOffset[journal], window.journal);
        (void)store_.flush();
        update({CursorState::kEncrypting, journal, window.extent.first, window.extent.count});
        disk_.write(window.extent.first, window.ciphertext);
        disk_.flush();
    }

    [[nodiscard]] std::vector<Extent> windows_left(std::size_t window_size) const {
        if (cursor().state == CursorState::kIdle) return {};
        return windows_from(vault_.header, cursor().next + cursor().count, window_size);
    }

    // What an earlier run left under way. Whatever of it is gone on from is written again, for write_again()'s reason.
    void go_on() {
        write_again();
        std::uint64_t next = next_under_way();
        if (cursor().count != 0 && next == 0) finish_window();
        for (; next != 0; next = next_under_way()) {
            const std::uint64_t first = windows_left(volume::kWindowSize).front().first;
            (void)store_.write(volume::kJournalOffset[1 - cursor().journal], other_journal());
            (void)store_.flush();
            update({CursorState::kEncrypting, 1 - cursor().journal, first, next});
            finish_window();
        }
    }

    // Sectors of the window behind the cursor's if it has been begun, and the copy of the header that says so is lost: its
    // journal is there. The cursor's own window was on the medium before that was written. 0: none.
    [[nodiscard]] std::uint64_t next_under_way() const {
        const std::vector<Extent> sectors = windows_left(volume::kWindowSize);
        if (sectors.empty()) return 0;
        const Result<std::uint64_t> count = journal_.window(sectors.front().first, other_journal());
        return count.ok() ? count.value() : 0;
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
            if (!equal_bytes(mac, macs.subspan(i * mac.size(), mac.size()))) encrypt(extent.first + i, sector);
        }
        disk_.write(extent.first, data);
        disk_.flush();
    }

    // Both copies end idle; the last that does not stands behind everything, so that nobody who opens it by mistake
    // takes what the guest has written since for plaintext.
    void finish() {
        if (cursor().state != CursorState::kIdle) {
            update({CursorState::kEncrypting, cursor().journal, vault_.header.total_sectors, 0});
            update({});
        }
        update({});
    }

    BlockDevice& disk_;
    VaultStore& store_;
    OpenVault& vault_;
    volume::Journal journal_;
    ata::XtsKey key_;
    Buffer scratch_;
};

}  // namespace

void begin_encryption(VaultStore& store, OpenVault& vault) {
    const std::vector<Extent> extents = encrypted_extents(vault.header);
    vault.header.cursor = {CursorState::kEncrypting, 0, extents.empty() ? 0 : extents.front().first, 0};
    Buffer copy(volume::kMaximumHeaderSize);
    copy.resize(expect(volume::serialise(vault.header, vault.keys.kek, copy), "vault header"));
    store.put_copy(1, copy);
    store.put_copy(0, copy);
    vault.copy = 0;
}

void encrypt(BlockDevice& disk, VaultStore& store, OpenVault& vault, std::size_t window_size) {
    Encryption(disk, store, vault).run(window_size);
}

}  // namespace gatehouse::host

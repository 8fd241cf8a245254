#include "keyvault/volume/conversion.hpp"

#include <algorithm>

#include "keyvault/volume/format.hpp"
#include "keyvault/volume/previous_key.hpp"

namespace gatehouse::volume {

// --- What is under way

Status Conversion::open(Medium& medium, std::uint64_t vault, std::size_t number, Bytes copy, Header& header,
                        const Kek& kek, Dek& before) {
    if (header.data_key.epoch == kPlaintextEpoch) return {Error::kRefused, "decryption began; go on with sealed-key"};
    medium_ = &medium;
    header_ = &header;
    vault_ = vault;
    copy_ = number;
    GATEHOUSE_ASSIGN(const Bytes covered, covered_bytes(copy));
    Reader reader(covered);
    GATEHOUSE_TRY(read_front(reader, header));
    GATEHOUSE_TRY(read_body(reader, header));
    cursor_at_ = reader.offset() - 24;
    size_ = covered.size() + kMacSize;
    copy_bytes(raw_, copy.first(size_));
    mac_key_ = derive_key(kek.bytes(), mac_label());
    journal_.emplace(kek, header.data_key.epoch);
    if (header.cursor.state == CursorState::kChangingKey) GATEHOUSE_TRY(find_key(kek, before));
    return find_window();
}

// The first of the two records that is good.
Status Conversion::find_key(const Kek& kek, Dek& before) {
    const auto find = [&](std::uint64_t offset) -> Status {
        const MutableBytes record = MutableBytes(window_).first(kPreviousKeySize);
        GATEHOUSE_TRY(medium_->read(vault_ + sectors(offset), record));
        return read_previous_key(record, *header_, kek, before);
    };
    const Status found = find(kPreviousKeyOffset[0]);
    return found ? found : find(kPreviousKeyOffset[1]);
}

// The cursor's window, or the one behind it if that has been begun, and the copy of the header that says so is lost: its journal
// is there. Whatever the older copy may still name is locked: that window as well, or the one that the newer copy is behind. No
// journal is that of a later window: it would be a later vault's, whose header was put back.
Status Conversion::find_window() {
    Cursor& cursor = header_->cursor;
    const std::uint64_t behind = encrypted_from(cursor.next + cursor.count).base;
    GATEHOUSE_TRY(load_journal(1 - cursor.journal));
    const Result<Extent> other = journal_->window(area_);
    locked_ = cursor.count != 0 ? Extent{cursor.next, cursor.count} : Extent();
    if (other && other->length != 0 && other->base == behind) {
        locked_ = {cursor.next, other->end() - cursor.next};
        cursor = {cursor.state, 1 - cursor.journal, behind, other->length};
    } else if (const Status loaded = load_journal(cursor.journal); !loaded) {
        if (cursor.count != 0) return loaded;
        area_.fill(std::byte{0});
    }
    const Result<Extent> own = journal_->window(area_);
    const bool is_later = cursor.count == 0 && own && encrypted_from(own->end()).base != behind;
    if (is_later || (other && other->base > behind)) return {Error::kMismatch, "vault header: older than the journals"};
    if (cursor.count == 0 && own) locked_ = own->length != 0 ? *own : Extent{cursor.next, 1};
    // The tool's journal tells of the sector behind its window, too, by which it is known later.
    const std::optional<Journal::Before> before = Journal::before(area_);
    if (own && before && before->next != ~std::uint64_t{0}) locked_.length = before->next + 1 - locked_.base;
    if (cursor.count == 0 && (!own || own->length != 0)) return {};
    GATEHOUSE_ASSIGN(const Bytes macs, journal_->read(cursor.next, cursor.count, area_));
    return check_unchanged(macs, before);
}

// The sectors that tell are as the tool, or step(), left them. Plaintext may be written by whoever has it.
Status Conversion::check_unchanged(Bytes macs, const std::optional<Journal::Before>& before) {
    const Cursor& cursor = header_->cursor;
    if (!before || cursor.state != CursorState::kChangingKey) return {};
    const auto demand = [&](std::uint64_t lba, const Journal::SectorMac& one, Bytes other) -> Status {
        GATEHOUSE_TRY(medium_->read(lba, window(1)));
        const Journal::SectorMac now = journal_->mac(lba, window(1));
        if (now == one || equal_bytes(now, other)) return {};
        return {Error::kMismatch, "disk and vault are not of the same time: sector", lba};
    };
    if (cursor.count != 0) GATEHOUSE_TRY(demand(cursor.next, before->first, macs.first(kSectorMacSize)));
    return before->next == ~std::uint64_t{0} ? Status() : demand(before->next, before->next_mac, {});
}

// The sectors from `lba` on, up to the next region or the end of the disk, that are encrypted in the end.
Extent Conversion::encrypted_from(std::uint64_t lba) const {
    for (const Region& region : header_->region_table()) {
        if (region.first > lba) return {lba, region.first - lba};
        lba = std::max(lba, region.first + region.count);
    }
    return {lba, header_->total_sectors - lba};
}

// --- Its way

Status Conversion::put(std::uint64_t offset, Bytes data) {
    GATEHOUSE_TRY(medium_->write(vault_ + sectors(offset), data));
    return medium_->flush();
}

// In place of the older copy of the header, as the next generation.
Status Conversion::update(const Cursor& cursor) {
    Writer writer(MutableBytes(raw_).subspan(cursor_at_));
    writer.u32(static_cast<std::uint32_t>(cursor.state));
    writer.u32(cursor.journal);
    writer.u64(cursor.next);
    writer.u64(cursor.count);
    store(raw_.data() + kGenerationAt, header_->generation + 1, Endian::kLittle);
    const MutableBytes covered = MutableBytes(raw_).first(size_ - kMacSize);
    copy_bytes(MutableBytes(raw_).subspan(covered.size()), hmac_sha256(mac_key_.bytes(), {covered}));
    GATEHOUSE_TRY(put(kCopyOffset[1 - copy_], Bytes(raw_).first(size_)));
    copy_ = 1 - copy_;
    ++header_->generation;
    header_->cursor = cursor;
    return {};
}

// Both copies, and then nothing is locked.
Status Conversion::settle(std::uint64_t next) {
    const Cursor behind{header_->cursor.state, header_->cursor.journal, next, 0};
    is_settled_ = false;
    for (std::size_t i = 0; i < kCopies; ++i) GATEHOUSE_TRY(update(behind));
    is_settled_ = true;
    locked_ = {};
    return {};
}

// The window that the cursor names, of which any sector may be on the disk or not; all of it is written.
Status Conversion::finish_window() {
    const Cursor& cursor = header_->cursor;
    GATEHOUSE_TRY(load_journal(cursor.journal));
    GATEHOUSE_ASSIGN(Bytes macs, journal_->read(cursor.next, cursor.count, area_));
    for (std::uint64_t at = 0, part = 0; at < cursor.count; at += part) {
        part = std::min(cursor.count - at, sectors(kWindow));
        GATEHOUSE_TRY(medium_->read(cursor.next + at, window(part)));
        for (std::uint64_t i = at; i < at + part; ++i, macs = macs.subspan(kSectorMacSize)) {
            const MutableBytes sector = window(part).subspan((i - at) * header_->sector_size, header_->sector_size);
            const Journal::SectorMac mac = journal_->mac(cursor.next + i, sector);
            if (!equal_bytes(mac, macs.first(mac.size()))) medium_->convert(cursor.next + i, sector);
        }
        GATEHOUSE_TRY(medium_->write(cursor.next + at, window(part)));
    }
    return medium_->flush();
}

Status Conversion::go_on() {
    const Cursor& cursor = header_->cursor;
    if (cursor.count != 0) GATEHOUSE_TRY(finish_window());
    // By the tool's journal, of no window: it says what that sector is.
    if (cursor.count == 0 && locked_.base == cursor.next) {
        area_.fill(std::byte{0});
        GATEHOUSE_TRY(put(kJournalOffset[cursor.journal], Bytes(area_).first(kJournalHeadSize)));
    }
    return settle(changed());
}

Status Conversion::step() {
    const Cursor& cursor = header_->cursor;
    if (cursor.state == CursorState::kIdle) return end();
    if (cursor.count != 0 || !is_settled_) return go_on();
    Extent next = encrypted_from(cursor.next);
    if (next.length == 0) return end();
    next.length = std::min(next.length, sectors(kWindow));
    const MutableBytes data = window(next.length);
    GATEHOUSE_TRY(medium_->read(next.base, data));
    locked_ = next;
    const std::uint32_t journal = 1 - cursor.journal;
    const Journal::Before before{.first = journal_->mac(next.base, data.first(header_->sector_size))};
    medium_->convert(next.base, data);
    GATEHOUSE_ASSIGN(const std::size_t size, journal_->write(next.base, data, header_->sector_size, before, area_));
    GATEHOUSE_TRY(put(kJournalOffset[journal], Bytes(area_).first(size)));
    GATEHOUSE_TRY(update({cursor.state, journal, next.base, next.length}));
    is_settled_ = false;
    GATEHOUSE_TRY(medium_->write(next.base, data));
    GATEHOUSE_TRY(medium_->flush());
    return settle(next.end());
}

// Behind everything; then idle, in both copies; then no record of the key before is needed.
Status Conversion::end() {
    const Cursor& cursor = header_->cursor;
    if (cursor.state != CursorState::kIdle) GATEHOUSE_TRY(settle(header_->total_sectors));
    for (std::size_t i = 0; i < kCopies; ++i) GATEHOUSE_TRY(update({}));
    const MutableBytes none = MutableBytes(window_).first(kPreviousKeySize);
    wipe(none);
    for (const std::uint64_t offset : kPreviousKeyOffset) GATEHOUSE_TRY(put(offset, none));
    clear();
    return {};
}

}  // namespace gatehouse::volume

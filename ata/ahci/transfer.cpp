// A slot's data: descriptors, encryption, decryption.
#include <algorithm>
#include <bit>

#include "ata/ahci/port.hpp"

namespace gatehouse::ata::ahci {

namespace {

constexpr std::uint32_t kSinkSize = Port::kTablesOffset - Port::kSinkOffset;
constexpr std::uint32_t kMaximumPieces = 64;  // of one sector

}  // namespace

ScatterList Port::shadow(const Slot& slot) const {
    return {*environment_.memory, table(slot) + kDescriptorOffset, slot.descriptors};
}

void Port::add_descriptor(Slot& slot, std::uint64_t physical, std::uint32_t size) const {
    const std::size_t at = kDescriptorOffset + std::size_t{slot.descriptors++} * kDescriptorSize;
    Writer writer(MutableBytes(table(slot) + at, kDescriptorSize));
    writer.u64(physical);
    writer.u32(0);
    writer.u32(size - 1);
}

// `size` bytes of guest memory, in however many pieces.
bool Port::map_pieces(Slot& slot, std::uint32_t size) {
    const std::uint32_t limit = slot.descriptors + kMaximumPieces;
    while (size != 0) {
        const std::uint32_t piece = std::min(size, slot.guest.contiguous());
        const std::uint64_t physical = slot.guest.address();
        if (piece == 0 || slot.descriptors == limit || slot.guest.take(piece) == nullptr) return false;
        add_descriptor(slot, physical, piece);
        size -= piece;
    }
    return true;
}

bool Port::map_blocks(Slot& slot) {
    std::uint32_t blocks = slot.command.count;
    while (blocks != 0 && slot.descriptors + kMaximumPieces <= kDescriptors && map_pieces(slot, kPageSize))
        --blocks;
    return blocks == 0;
}

// Descriptors for as many sectors as fit. What the guest must not see goes to the sink, and the guest's bytes
// are filled at once: until the command is complete, nobody may expect anything of them.
bool Port::map_read(Slot& slot) {
    const std::uint32_t size = volume_.geometry.sector_size;
    const std::uint32_t left = slot.command.count - slot.done;
    while (slot.part < left && slot.descriptors + kMaximumPieces <= kDescriptors) {
        const Volume::Run run = volume_.run_at(slot.command.lba + slot.done + slot.part, left - slot.part);
        const bool hidden = run.kind == RegionClass::kHidden || run.kind == RegionClass::kOverlay;
        const std::uint32_t gapless = hidden ? kSinkSize : slot.guest.contiguous();
        const std::uint32_t count = std::clamp<std::uint32_t>(gapless / size, 1, run.count);
        const std::uint32_t bytes = count * size;
        if (run.kind == RegionClass::kHidden && !slot.guest.zero(bytes)) return false;
        if (run.kind == RegionClass::kOverlay && !slot.guest.copy_in(Bytes(run.overlay, bytes))) return false;
        if (hidden) add_descriptor(slot, arena_.physical + kSinkOffset, bytes);
        if (!hidden && !map_pieces(slot, bytes)) return false;
        slot.part += count;
    }
    return true;
}

// In place, through the shadow's descriptors. They lie in memory that the device can write, so every address
// is looked up again: at worst the guest's own memory is garbled.
void Port::decrypt_read(const Slot& slot) {
    const std::uint32_t size = volume_.geometry.sector_size;
    ScatterList data = shadow(slot);
    std::uint32_t count = 0;
    for (std::uint32_t at = 0; at < slot.part; at += count) {
        const std::uint64_t lba = slot.command.lba + slot.done + at;
        const Volume::Run run = volume_.run_at(lba, slot.part - at);
        count = run.count;
        if (run.kind != RegionClass::kEncrypted) {
            data.skip(count * size);
            continue;
        }
        enter_vectors();
        count = std::min(data.contiguous() / size, count);
        ScatterList back = data;
        std::byte* sectors = count != 0 ? data.take(count * size) : sector_.data();
        if (sectors == nullptr || (count == 0 && !data.copy_out(MutableBytes(sectors, size)))) return;
        volume_.key->decrypt(sectors, sectors, std::max(count, 1u), size, lba);
        if (count == 0) (void)back.copy_in(Bytes(sectors, size));
        count = std::max(count, 1u);
    }
}

// Sectors of the next part of a write: what is left, at most a command's share of the bounce memory.
std::uint32_t Port::share(const Slot& slot) const {
    const std::uint32_t share = std::min(kShareUnits, units_) * (kUnitSize / volume_.geometry.sector_size);
    return std::min(slot.command.count - slot.done, share);
}

bool Port::has_units(const Slot& slot) const {
    const std::uint32_t bytes = share(slot) * volume_.geometry.sector_size;
    return static_cast<std::uint32_t>(std::popcount(free_)) >= (bytes + kUnitSize - 1) / kUnitSize;
}

void Port::release_units(Slot& slot) {
    free_ |= slot.units;
    slot.units = 0;
}

bool Port::encrypt_write(Slot& slot) {
    const std::uint32_t size = volume_.geometry.sector_size;
    const std::uint32_t sectors = share(slot);
    enter_vectors();
    while (slot.part < sectors) {
        const std::uint64_t unit = free_ & (~free_ + 1);
        slot.units |= unit;
        free_ &= ~unit;
        const std::uint64_t offset =
            kBounceOffset + static_cast<std::uint32_t>(std::countr_zero(unit)) * kUnitSize;
        const std::uint32_t end = std::min(sectors, slot.part + kUnitSize / size);
        add_descriptor(slot, arena_.physical + offset, (end - slot.part) * size);
        for (std::byte* to = arena_.data + offset; slot.part < end;) {
            const std::uint32_t whole = std::min(slot.guest.contiguous() / size, end - slot.part);
            const std::uint32_t count = std::max(whole, 1u);
            const std::byte* from = whole != 0 ? slot.guest.take(whole * size) : to;
            if (from == nullptr || (whole == 0 && !slot.guest.copy_out(MutableBytes(to, size)))) return false;
            volume_.key->encrypt(from, to, count, size, slot.command.lba + slot.done + slot.part);
            to += count * size;
            slot.part += count;
        }
    }
    return true;
}

void Port::filter_block(const Slot& slot) {
    const Filter filter = slot.command.filter;
    ScatterList data = shadow(slot);
    ScatterList back = data;
    const Page page(sector_.data(), kPageSize);
    if (filter == Filter::kNone || !data.copy_out(page)) return;
    if (filter == Filter::kIdentify) filter_identify(page);
    if (filter == Filter::kDirectory) filter_log_directory(page);
    if (filter == Filter::kQueuedError && refused_tag_ < kSlots) {
        write_queued_error(page, static_cast<std::uint8_t>(refused_tag_));
        refused_tag_ = kSlots;
    }
    (void)back.copy_in(page);
}

}  // namespace gatehouse::ata::ahci

// A slot's data: descriptors, encryption, decryption.
#include <algorithm>

#include "ata/ahci/port.hpp"

namespace gatehouse::ata::ahci {

namespace {

constexpr std::uint64_t kSinkOffset = 0x1000;
constexpr std::uint32_t kSinkSize = 0x1000;
constexpr std::uint32_t kMaximumPieces = 64;  // of one sector

}  // namespace

void Port::add_descriptor(std::uint32_t index, Slot& slot, std::uint64_t address, std::uint32_t size) {
    const std::size_t at = kDescriptorOffset + std::size_t{slot.descriptors} * kDescriptorSize;
    Writer writer(MutableBytes(table(index) + at, kDescriptorSize));
    writer.u64(address);
    writer.u32(0);
    writer.u32(size - 1);
    ++slot.descriptors;
}

// `size` bytes of guest memory, in however many pieces.
bool Port::map_pieces(std::uint32_t index, Slot& slot, std::uint32_t size) {
    const std::uint32_t limit = slot.descriptors + kMaximumPieces;
    while (size != 0) {
        const std::uint32_t part = std::min(size, slot.guest.contiguous());
        const std::uint64_t address = slot.guest.address();
        if (part == 0 || slot.descriptors == limit || slot.guest.take(part) == nullptr) return false;
        add_descriptor(index, slot, address, part);
        size -= part;
    }
    return true;
}

bool Port::map_page_data(std::uint32_t index, Slot& slot) {
    for (std::uint32_t i = 0; i < slot.command.count; ++i) {
        if (slot.descriptors + kMaximumPieces > kDescriptors || !map_pieces(index, slot, kPageSize))
            return false;
    }
    return true;
}

// Descriptors for as many sectors as fit. What the guest must not see goes to the sink, and the guest's bytes
// are filled at once: until the command is complete, nobody may expect anything of them.
bool Port::map_read(std::uint32_t index, Slot& slot) {
    const std::uint32_t size = volume_.geometry.sector_size;
    const std::uint32_t left = slot.command.count - slot.done;
    while (slot.part < left && slot.descriptors + kMaximumPieces <= kDescriptors) {
        const Volume::Run run = volume_.run_at(slot.command.lba + slot.done + slot.part, left - slot.part);
        const bool hidden = run.kind == RegionClass::kHidden || run.kind == RegionClass::kOverlay;
        const std::uint32_t gapless = hidden ? kSinkSize : slot.guest.contiguous();
        const auto count =
            static_cast<std::uint32_t>(std::clamp<std::uint64_t>(gapless / size, 1, run.count));
        const std::uint32_t bytes = count * size;
        if (hidden) {
            const bool filled = run.overlay == nullptr ? slot.guest.zero(bytes)
                                                       : slot.guest.copy_in(Bytes(run.overlay, bytes));
            if (!filled) return false;
            add_descriptor(index, slot, arena_.physical + kSinkOffset, bytes);
        } else if (!map_pieces(index, slot, bytes)) {
            return false;
        }
        slot.part += count;
    }
    return true;
}

// In place, through the shadow's descriptors. They lie in memory that the device can write, so every address
// is looked up again: at worst the guest's own memory is garbled.
void Port::decrypt_read(std::uint32_t index, const Slot& slot, VectorSection& vectors) {
    const std::uint32_t size = volume_.geometry.sector_size;
    ScatterList data(*environment_.memory, table(index) + kDescriptorOffset, slot.descriptors);
    for (std::uint64_t at = 0; at < slot.part;) {
        const std::uint64_t lba = slot.command.lba + slot.done + at;
        const Volume::Run run = volume_.run_at(lba, slot.part - at);
        if (run.kind != RegionClass::kEncrypted) {
            data.skip(run.count * size);
            at += run.count;
            continue;
        }
        vectors.enter();
        const auto whole =
            static_cast<std::uint32_t>(std::min<std::uint64_t>(data.contiguous() / size, run.count));
        if (whole != 0) {
            std::byte* sectors = data.take(whole * size);
            if (sectors == nullptr) return;
            volume_.key->decrypt(sectors, sectors, whole, size, lba);
            at += whole;
        } else {
            ScatterList back = data;
            const MutableBytes sector = MutableBytes(sector_).first(size);
            if (!data.copy_out(sector)) return;
            volume_.key->decrypt(sector.data(), sector.data(), 1, size, lba);
            (void)back.copy_in(sector);
            ++at;
        }
    }
}

// Sectors of the next part of a write: what is left, at most a command's share of the bounce memory.
std::uint32_t Port::write_part(const Slot& slot) const {
    const std::uint32_t share = std::min(kShareUnits, units_) * (kUnitSize / volume_.geometry.sector_size);
    return std::min(slot.command.count - slot.done, share);
}

std::uint32_t Port::write_units(const Slot& slot) const {
    const std::uint32_t per_unit = kUnitSize / volume_.geometry.sector_size;
    return (write_part(slot) + per_unit - 1) / per_unit;
}

bool Port::encrypt_write(std::uint32_t index, Slot& slot, VectorSection& vectors) {
    const std::uint32_t size = volume_.geometry.sector_size;
    vectors.enter();
    slot.part = write_part(slot);
    for (std::uint32_t at = 0; at < slot.part;) {
        const std::uint32_t unit = free_.take();
        slot.units.add(unit);
        const std::uint32_t end = std::min(slot.part, at + kUnitSize / size);
        add_descriptor(index, slot, arena_.physical + unit_offset(unit), (end - at) * size);
        for (std::byte* to = arena_.data + unit_offset(unit); at < end;) {
            const std::uint32_t whole = std::min(slot.guest.contiguous() / size, end - at);
            const std::uint32_t count = std::max(whole, 1u);
            const std::byte* from = to;
            if (whole != 0) {
                from = slot.guest.take(whole * size);
            } else if (!slot.guest.copy_out(MutableBytes(to, size))) {
                from = nullptr;
            }
            if (from == nullptr) return false;
            volume_.key->encrypt(from, to, count, size, slot.command.lba + slot.done + at);
            to += std::size_t{count} * size;
            at += count;
        }
    }
    return true;
}

void Port::filter_page(std::uint32_t index, const Slot& slot) {
    if (slot.command.filter == Filter::kNone) return;
    ScatterList data(*environment_.memory, table(index) + kDescriptorOffset, slot.descriptors);
    ScatterList back = data;
    const Page page(sector_.data(), kPageSize);
    if (!data.copy_out(page)) return;
    switch (slot.command.filter) {
        case Filter::kNone:
            break;
        case Filter::kIdentify:
            filter_identify(page);
            break;
        case Filter::kDirectory:
            filter_log_directory(page);
            break;
        case Filter::kQueuedError:
            if (refused_tag_ < kSlots) write_queued_error(page, static_cast<std::uint8_t>(refused_tag_));
            refused_tag_ = kSlots;
            break;
    }
    (void)back.copy_in(page);
}

}  // namespace gatehouse::ata::ahci

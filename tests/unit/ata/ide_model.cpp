#include "tests/unit/ata/ide_model.hpp"

#include <algorithm>

namespace gatehouse::ata::testing {

namespace {

constexpr std::uint8_t kBusy = 0x80, kReady = 0x50, kData = 0x08, kError = 0x01;
constexpr std::uint8_t kAbort = 0x04, kNotFound = 0x10, kUncorrectable = 0x40;

bool is_one_of(std::uint8_t opcode, std::initializer_list<std::uint8_t> list) {
    return std::find(list.begin(), list.end(), opcode) != list.end();
}
bool reads(std::uint8_t o) { return is_one_of(o, {0x20, 0x24, 0x25, 0xc8}); }
bool writes(std::uint8_t o) { return is_one_of(o, {0x30, 0x34, 0x35, 0x3d, 0xca}); }
bool pages(std::uint8_t o) { return is_one_of(o, {0xec, 0x2f, 0x47, 0xb0}); }
bool by_dma(std::uint8_t o) { return is_one_of(o, {0x25, 0x35, 0x3d, 0x47, 0xc8, 0xca}); }
bool extended(std::uint8_t o) { return is_one_of(o, {0x24, 0x25, 0x2f, 0x34, 0x35, 0x3d, 0x42, 0x47, 0xea}); }
bool harmless(std::uint8_t o) {
    return is_one_of(o, {0x00, 0x40, 0x42, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0xe7, 0xea, 0xef});
}

}  // namespace

void IdeModel::plug(unsigned channel, unsigned device, DiskModel& disk, bool packet) {
    Channel& c = channels_[channel];
    c.disks[device] = &disk;
    c.packet[device] = packet;
    signature(c);
}

void IdeModel::signature(Channel& c) {
    for (unsigned device = 0; device < 2; ++device) {
        const auto mid = static_cast<std::uint8_t>(c.packet[device] ? 0x14 : 0);
        const auto high = static_cast<std::uint8_t>(c.packet[device] ? 0xeb : 0);
        c.shown[device] = {0, 1, 1, 1, mid, high};
        c.status[device] = c.packet[device] ? 0 : kReady;
        c.error[device] = 1;
    }
    c.busy = c.in = c.out = false;
}

std::uint64_t IdeModel::microseconds() {
    time_ += 50;
    if (!paused) (void)step();
    return time_;
}

std::uint32_t IdeModel::read(std::uint32_t offset) {
    ++accesses;
    const unsigned size = offset >> 16, port = offset & 0xffff;
    for (unsigned i = 0; i < 2; ++i) {
        Channel& c = channels_[i];
        const unsigned block = port - ide::kCommandBlocks[i], master = port - kMasters - 8 * i;
        const bool data = block == 0 && size == 2;
        violations += !data && size != 1 && (block < 8 || master < 8) ? 1 : 0;
        if ((block < 8 || block == 0x206) && (vanished || (c.disks[0] == nullptr && c.disks[1] == nullptr)))
            return 0xffff >> (16 - 8 * size);
        if (data) {
            if (!c.in || c.at + 2 > c.block.size()) return 0xdead;
            const auto value = load<std::uint16_t>(c.block.data() + c.at, Endian::kLittle);
            c.at += 2;
            if (c.at == c.block.size()) {
                c.in = false;
                c.status[c.device >> 4 & 1] = kReady;
                if (++c.done < c.count) c.busy = true, c.status[c.device >> 4 & 1] = kBusy;
            }
            return value;
        }
        if (block < 8) return read_block(c, block);
        if (block == 0x206) return read_block(c, 8);
        if (master == 0) return c.master;
        if (master == 2 && ends_on_look) (void)step();
        if (master == 2) return c.master_status | (master_stuck ? 1 : 0);
    }
    return 0xff;
}

std::uint8_t IdeModel::read_block(Channel& c, unsigned reg) {
    const unsigned device = c.device >> 4 & 1;
    if (c.disks[device] == nullptr) return 0;
    if (reg == 1) return c.error[device];
    if (reg == 6) return c.device;
    if (reg < 6) return c.shown[device][reg];
    if (reg == 7) c.interrupt = false;
    if ((c.control & 4) != 0) return kBusy;
    return static_cast<std::uint8_t>(c.status[device] | (spurious_data ? kData : 0));
}

void IdeModel::write(std::uint32_t offset, std::uint32_t value) {
    ++accesses;
    const unsigned size = offset >> 16, port = offset & 0xffff;
    const auto byte = static_cast<std::uint8_t>(value);
    for (unsigned i = 0; i < 2; ++i) {
        Channel& c = channels_[i];
        const unsigned block = port - ide::kCommandBlocks[i], master = port - kMasters - 8 * i;
        const bool data = block == 0 && size == 2;
        violations += !data && !(master == 4 && size == 4) && size != 1 && (block < 8 || master < 8) ? 1 : 0;
        if (vanished && (block < 8 || block == 0x206)) return;
        if (data) {
            violations += c.out ? 0 : 1;
            if (!c.out) return;
            store(c.block.data() + c.at, static_cast<std::uint16_t>(value), Endian::kLittle);
            c.at += 2;
            if (c.at == c.block.size()) {
                c.out = false;
                copy_bytes(c.disks[c.device >> 4 & 1]->sector(c.lba + c.done), c.block);
                ++c.done;
                c.busy = true;
                c.status[c.device >> 4 & 1] = kBusy;
            }
        } else if (block < 8) {
            write_block(c, block, byte);
        } else if (block == 0x206) {
            violations += (byte & ~0x86u) != 0 ? 1 : 0;
            if ((byte & ~c.control & 4) != 0) signature(c);
            c.control = byte;
        } else if (master == 0) {
            if ((byte & 1) == 0 && (c.master & 1) != 0) {
                const bool media = reads(c.opcode) || writes(c.opcode);
                if (late_transfers && c.busy && c.dma && media) late_.push_back(c);
                c.master_status &= 0xfe;
            }
            if ((byte & ~c.master & 1) != 0) c.master_status |= 1;
            c.master = byte & 9;
        } else if (master == 2) {
            c.master_status =
                static_cast<std::uint8_t>((c.master_status & 1) | (c.master_status & ~byte & 6) | (byte & 0x60));
        } else if (master == 4) {
            c.table = value;
        }
    }
}

void IdeModel::write_block(Channel& c, unsigned reg, std::uint8_t value) {
    const unsigned device = c.device >> 4 & 1;
    violations += reg == 6 && (value & 0x10) != 0 ? 1 : 0;
    if ((c.status[device] & (kBusy | kData)) != 0 && c.disks[device] != nullptr) {
        ++violations;
        return;
    }
    if (reg == 6) c.device = value;
    if (reg >= 1 && reg <= 5) {
        c.before[reg] = std::exchange(c.now[reg], value);
        if (reg > 1) c.shown[0][reg] = c.shown[1][reg] = value;
    }
    if (reg == 7 && c.disks[device] != nullptr) start(c, value);
}

void IdeModel::start(Channel& c, std::uint8_t opcode) {
    const unsigned device = c.device >> 4 & 1;
    DiskModel& disk = *c.disks[device];
    ++commands;
    disk.opcodes_seen.insert(opcode);
    ++disk.opcode_count[opcode];
    const bool known = harmless(opcode) || reads(opcode) || writes(opcode) || pages(opcode);
    if (!known) ++refused_executed;
    c.interrupt = false;
    c.opcode = opcode;
    c.dma = by_dma(opcode);
    c.count = extended(opcode) ? c.before[2] << 8 | c.now[2] : c.now[2];
    if (c.count == 0) c.count = extended(opcode) ? 65536 : 256;
    if (opcode == 0xec || opcode == 0xb0) c.count = 1;
    c.lba = c.now[3] | c.now[4] << 8 | c.now[5] << 16;
    if (extended(opcode)) {
        c.lba |= std::uint64_t{c.before[3]} << 24 | std::uint64_t{c.before[4]} << 32 | std::uint64_t{c.before[5]} << 40;
    } else {
        c.lba |= std::uint64_t{c.device & 0xfu} << 24;
    }
    c.done = 0;
    c.in = c.out = false;
    c.busy = true;
    c.status[device] = kBusy;
    c.error[device] = 0;
}

bool IdeModel::step() {
    if (stuck_busy) return false;
    bool any = false;
    for (Channel& c : channels_) {
        if (!c.busy || (c.dma && (c.master & 1) == 0)) continue;
        advance(c);
        any = true;
    }
    return any;
}

void IdeModel::raise(Channel& c) {
    if ((c.control & 2) != 0) return;
    c.interrupt = true;
    c.master_status |= 4;
}

void IdeModel::end(Channel& c, std::uint8_t error) {
    const unsigned device = c.device >> 4 & 1;
    c.busy = false;
    c.error[device] = error;
    c.status[device] = static_cast<std::uint8_t>(kReady | (error != 0 ? kError : 0));
    raise(c);
}

void IdeModel::advance(Channel& c) {
    const unsigned device = c.device >> 4 & 1;
    DiskModel& disk = *c.disks[device];
    const bool media = reads(c.opcode) || writes(c.opcode);
    if (c.packet[device]) return end(c, kAbort);
    if (!media && !pages(c.opcode)) {
        if (c.opcode == 0xe5) c.shown[device][2] = 0xff;
        return end(c, harmless(c.opcode) && c.opcode != 0 ? 0 : kAbort);
    }
    if (media && c.lba + c.count > disk.sectors) return end(c, kNotFound);
    if (reads(c.opcode) && disk.unreadable_lba >= c.lba && disk.unreadable_lba < c.lba + c.count)
        return end(c, kUncorrectable);
    std::vector<std::byte> page(512 * std::size_t{media ? 0 : c.count});
    if (c.opcode == 0xec) copy_bytes(page, disk.identify());
    if (c.opcode == 0x2f || c.opcode == 0x47) std::fill(page.begin(), page.end(), std::byte{0x11});
    if (c.dma && std::exchange(c.fault, false)) {
        c.master_status &= 0xfe;
        return end(c, 0);
    }
    if (c.dma) {
        const std::uint32_t sectors = short_transfer && c.count > 1 ? c.count - 1 : c.count;
        const MutableBytes data = media ? disk.sector(c.lba, sectors) : MutableBytes(page);
        if (!transfer(c, data, !writes(c.opcode))) c.master_status |= 2;
        if (!short_transfer) c.master_status &= 0xfe;
        if (writes(c.opcode)) disk.sectors_written += sectors;
        return end(c, 0);
    }
    if (c.done == c.count) return end(c, 0);
    const std::size_t size = media ? disk.sector_size : 512;
    c.block.assign(size, std::byte{0});
    c.at = 0;
    c.busy = false;
    c.status[device] = kReady | kData;
    c.in = !writes(c.opcode);
    c.out = writes(c.opcode);
    if (c.in) copy_bytes(c.block, media ? Bytes(disk.sector(c.lba + c.done)) : Bytes(page).subspan(512 * c.done, 512));
    if (c.in || c.done != 0) raise(c);
}

// Follows the descriptors, as SFF-8038i says. False: they end early.
bool IdeModel::transfer(Channel& c, MutableBytes data, bool to_memory) {
    const bool media = reads(c.opcode) || writes(c.opcode);
    vault_moved += media && vault.overlaps({c.lba, c.count}) ? 1 : 0;
    const DmaArena arena = memory_.arena();
    for (std::uint64_t table = c.table & ~3u; !data.empty(); table += 8) {
        if (table < arena.physical.value() || table + 8 > arena.physical.value() + arena.size) {
            ++foreign_tables;
            return false;
        }
        std::array<std::byte, 8> entry{};
        memory_.device_read(table, entry);
        const auto address = load<std::uint32_t>(entry.data(), Endian::kLittle);
        const auto control = load<std::uint32_t>(entry.data() + 4, Endian::kLittle);
        const std::size_t size = (control & 0xffff) == 0 ? 65536 : control & 0xffff;
        const MutableBytes part = data.first(std::min(size, data.size()));
        const bool forbidden = (address - arena.physical.value()) % ide::Channel::kArena >= ide::Channel::kBounce;
        forbidden_writes += to_memory && forbidden ? 1 : 0;
        if (to_memory) memory_.device_write(address, part);
        if (!to_memory) memory_.device_read(address, part);
        data = data.subspan(part.size());
        if (control >> 31 != 0) break;
    }
    return data.empty();
}

void IdeModel::land_late() {
    for (Channel& c : late_) {
        DiskModel& disk = *c.disks[c.device >> 4 & 1];
        if (c.lba + c.count > disk.sectors) continue;
        (void)transfer(c, disk.sector(c.lba, c.count), reads(c.opcode));
    }
    late_.clear();
}

}  // namespace gatehouse::ata::testing

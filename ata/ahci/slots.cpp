// A slot's way from PxCI to completion, and its data.
#include <algorithm>
#include <bit>

#include "ata/ahci/port.hpp"

namespace gatehouse::ata::ahci {

using enum CommandKind;
using enum PortRegister;

namespace {

constexpr std::uint32_t kSinkSize = Port::kTablesOffset - Port::kSinkOffset;
constexpr std::uint32_t kMaximumPieces = 64;  // of one sector

std::uint32_t lowest(std::uint32_t set) { return static_cast<std::uint32_t>(std::countr_zero(set)); }

}  // namespace

void Port::issue(std::uint32_t value) {
    for (std::uint32_t fresh = value & ~(waiting_ | running_); fresh != 0; fresh &= fresh - 1) {
        Slot& slot = slots_[lowest(fresh)];
        slot = {.index = lowest(fresh), .ticket = next_ticket_++};
        slot.command = fetch_command(slot);
        waiting_ |= slot.bit();
    }
    start_waiting();
}

// The private copy of a command, classified: what may not be sent is kRefused.
Command Port::fetch_command(Slot& slot) {
    Command refused;
    const std::byte* header = environment_->map(address(kCommandList) + slot.index * kHeaderSize, kHeaderSize).data;
    if (header == nullptr) return refused;
    const auto [first, second] = fetch<2>(header);
    const auto flags = static_cast<std::uint32_t>(first);
    const GuestPhysical base{second & ~std::uint64_t{0x7f}};
    const std::uint32_t descriptors = flags >> 16;
    if ((flags & bits(Header::kForbidden)) != 0) return refused;

    const std::byte* guest_table = environment_->map(base, kDescriptorOffset + descriptors * kDescriptorSize).data;
    if (guest_table == nullptr) return refused;
    slot.guest = ScatterList(*environment_, guest_table + kDescriptorOffset, descriptors);
    slot.header = flags & bits(Header::kSoftReset);
    const auto fis = fetch<3>(guest_table);
    Result<TaskFile> task = parse_task_file(std::as_bytes(std::span(fis)).first<kTaskFileFisSize>());
    if (!task.ok()) return refused;

    if (device_ == kPacketDevice) task->packet = fetch<2>(guest_table + kPacketOffset);
    Command command = classify(*task, trim_, device_);
    if ((command.kind == kPacket) != ((flags & bits(Header::kPacket)) != 0)) return refused;
    if (command.kind == kPacket) command.count = descriptors;
    if (command.queued && (tag_of(command.task) != slot.index || (active_ & slot.bit()) == 0)) return refused;
    refused.queued = command.queued;  // so that the error log can name its tag
    return command;
}

void Port::start_waiting() {
    while (waiting_ != 0 && aborting_ == 0 && !failed_) {  // after an error nothing starts before ST has been cleared
        Slot* oldest = &slots_[lowest(waiting_)];
        for (std::uint32_t rest = waiting_; rest != 0; rest &= rest - 1) {
            if (slots_[lowest(rest)].ticket < oldest->ticket) oldest = &slots_[lowest(rest)];
        }
        // In the device, queued and other commands are never mixed, and a refused one is alone.
        const bool alone = oldest->command.kind == kRefused;
        const std::uint32_t foreign = alone ? ~0u : oldest->command.queued ? ~queued_ : queued_;
        if ((running_ & foreign) != 0 || !start(*oldest)) return;
    }
}

// Hands the slot's next part to the device. False: there is not enough bounce memory now. A command that turns out to be
// forbidden, as it may while it waits, since ranges are locked between commands, stays waiting, as refused.
bool Port::start(Slot& slot) {
    const CommandKind kind = slot.command.kind;
    TaskFile task = kind != kRefused ? slot.command.task : device_ == kDisk ? kCheckPowerMode : kNoPacketCommand;
    slot.descriptors = slot.part = 0;
    const bool writes = kind == kMediaWrite || kind == kTrim;
    const bool reads = kind == kMediaRead || kind == kDataIn || kind == kPacket;
    if (writes && share(slot) > static_cast<std::uint32_t>(std::popcount(free_)) * sectors_per_unit()) return false;
    const bool failed = kind == kTrim ? !copy_ranges(slot) : writes ? !encrypt_write(slot) : reads && !map_read(slot);
    if (failed || (kind != kReset && is_lost(slot.command.task))) {
        free_ |= std::exchange(slot.units, 0);
        slot.command.kind = kRefused;
        return true;
    }
    if (kind == kMediaRead || kind == kMediaWrite) task = slot.command.part(slot.done, slot.part);
    store_command(slot, task, writes ? bits(Header::kWrite) : kind == kReset ? slot.header : 0);

    if (running_ == 0) forget_fis();  // what has been shown must not be taken for the answer to this one
    waiting_ &= ~slot.bit();
    running_ |= slot.bit();
    const bool more = slot.part != 0 && slot.done + slot.part < slot.command.count;
    split_ = more ? split_ | slot.bit() : split_ & ~slot.bit();
    if (kind == kRefused) aborting_ |= slot.bit(), route_interrupts();
    if (slot.command.queued) refused_tag_ = kind == kRefused ? slot.index : kSlots;
    if (slot.command.queued && kind != kRefused) queued_ |= slot.bit(), hardware_.write(kSataActive, slot.bit());
    hardware_.write(kCommandIssue, slot.bit());
    return true;
}

// Writes shadow table and header; the descriptors are in place already.
void Port::store_command(const Slot& slot, const TaskFile& task, std::uint32_t header) const {
    if (task.command == kNoPacketCommand.command) header |= bits(Header::kPacket);
    copy_bytes({table(slot) + kPacketOffset, sizeof(task.packet)}, std::as_bytes(std::span(task.packet)));
    store_task_file(task, std::span<std::byte, kTaskFileFisSize>(table(slot), kTaskFileFisSize));
    std::byte* to = arena_.data + slot.index * kHeaderSize;
    store(to, std::uint64_t{header | kTaskFileFisSize / 4 | slot.descriptors << 16}, Endian::kLittle);
    store(to + 8, arena_.physical.value() + static_cast<std::uint64_t>(table(slot) - arena_.data), Endian::kLittle);
}

// Finishes what the device has finished, then starts what waits; as collect().
std::uint32_t Port::process() {
    if (draining_) return 0;
    const std::uint32_t hidden = collect();
    start_waiting();
    return hidden;
}

// Finishes what the device has finished. Returns the PxIS bits that it cleared because they announced no more than a
// part of a command.
std::uint32_t Port::collect() {
    const std::uint32_t issued = running_ == 0 ? 0 : hardware_.read(kCommandIssue);
    const std::uint32_t active = running_ == 0 ? 0 : hardware_.read(kSataActive);
    accepted_ |= running_ & queued_ & ~issued;
    // While the task file shows an error, no command is finished that is not queued: it may be the one that failed (QEMU
    // before 8.1 clears PxCI all the same). Nor is any on a port that runs no more: its registers were reset.
    std::uint32_t finished = running_ & ~(issued | active);
    if (finished != 0 && (hardware_.read(kCommand) & bits(PortCommand::kStart)) == 0) finished = 0;
    if ((finished & ~queued_) != 0 && (hardware_.read(kTaskFile) & bits(TaskBit::kError)) != 0) finished &= queued_;
    if ((finished & aborting_) != 0) refuse(finished & aborting_);
    finished &= ~aborting_;
    for (std::uint32_t rest = finished; rest != 0; rest &= rest - 1) finish(slots_[lowest(rest)]);
    publish_fis();

    if ((finished & ~split_) != 0) announced_ = true;
    if (finished == 0 || running_ != 0 || announced_) return 0;  // else it was only a part
    hardware_.write(kInterruptStatus, bits(PortInterrupt::kProgress));
    return bits(PortInterrupt::kProgress);
}

// The device has interrupted for a refused command: its abort, in registers and in the FIS. It does so again if the
// guest has acknowledged it already, as it may along with the command before.
void Port::refuse(std::uint32_t slots) {
    running_ &= ~slots;
    std::byte* fis = arena_.data + kCommandListSize + kRegisterFisOffset;
    store(fis + 2, static_cast<std::uint16_t>(kRefusal), Endian::kLittle);
    store(fis + 12, std::uint16_t{0}, Endian::kLittle);  // COUNT had the power mode
    const bool announced = (hardware_.read(kInterruptStatus) & bits(PortInterrupt::kRegisterFis)) != 0;
    if (announced) errors_ = bits(PortInterrupt::kRefusal);
    if (!announced) waiting_ |= slots, aborting_ &= ~slots;
}

// The device is through with the slot's part.
void Port::finish(Slot& slot) {
    running_ &= ~slot.bit();
    queued_ &= ~slot.bit();
    ScatterList data = shadow(slot);
    if (slot.command.kind == kMediaRead) (void)transform(data, nullptr, slot.command.lba + slot.done, slot.part);
    if (slot.command.kind == kDataIn) filter_block(slot);
    free_ |= std::exchange(slot.units, 0);
    slot.done += slot.part;
    const std::uint32_t count_offset = slot.index * kHeaderSize + sizeof(std::uint32_t);
    slot.transferred += load<std::uint32_t>(arena_.data + count_offset, Endian::kLittle);
    if ((split_ & slot.bit()) != 0) {
        waiting_ |= slot.bit();
        return;
    }
    accepted_ &= ~slot.bit();
    if (slot.command.queued) active_ &= ~slot.bit();
    std::byte* count = environment_->map(address(kCommandList) + count_offset, sizeof(std::uint32_t)).data;
    if (count != nullptr) store(count, slot.transferred, Endian::kLittle);
}

// Copies received FISes to the guest: never one that tells of a command which is not finished.
void Port::publish_fis() const {
    std::byte* area = fis_enabled_ ? environment_->map(address(kFis), kFisAreaSize).data : nullptr;
    if (area == nullptr) return;
    // While a command is under way that will end with a register FIS, that may be it: show it if it reports
    // an error.
    const bool open = ((running_ & ~queued_) | (split_ & ~active_)) != 0;
    for (const auto& [offset, size] : kFisPlaces) {
        const std::byte* from = arena_.data + kCommandListSize + offset;
        std::uint64_t word = fetch<1>(from)[0];
        const bool failed = offset == kRegisterFisOffset && (word >> 16 & bits(TaskBit::kError)) != 0;
        if ((word & 0xff) == 0 || (open && !failed)) continue;
        // Set Device Bits: of the tags that it reports, only those that the guest may know of.
        if (offset == kDeviceBitsOffset) word &= ~(std::uint64_t{active_} << 32);
        store(area + offset, word, Endian::kLittle);
        for (std::size_t at = 8; at < size; at += 8) store(area + offset + at, fetch<1>(from + at)[0], Endian::kLittle);
    }
}

// --- Data ---

ScatterList Port::shadow(const Slot& slot) const {
    return {*environment_, table(slot) + kDescriptorOffset, slot.descriptors};
}

void Port::add_descriptor(Slot& slot, HostPhysical physical, std::uint32_t size) const {
    std::byte* to = table(slot) + kDescriptorOffset + std::size_t{slot.descriptors++} * kDescriptorSize;
    store(to, physical.value(), Endian::kLittle);
    store(to + 8, std::uint64_t{size - 1} << 32, Endian::kLittle);
}

// `size` bytes of guest memory, in however many pieces.
bool Port::map_pieces(Slot& slot, std::uint32_t size) {
    const std::uint32_t limit = slot.descriptors + kMaximumPieces;
    while (size != 0) {
        const std::uint32_t piece = std::min(size, slot.guest.contiguous());
        const GuestBytes taken = slot.guest.take(piece);
        if (piece == 0 || slot.descriptors == limit || taken.data == nullptr) return false;
        add_descriptor(slot, taken.physical, piece);
        size -= piece;
    }
    return true;
}

// Descriptors for as many sectors, or blocks, as fit. What the guest must not see goes to the sink, and the
// guest's bytes are filled at once: until the command is complete, nobody may expect anything of them.
bool Port::map_read(Slot& slot) {
    const bool media = slot.command.kind == kMediaRead;
    const std::uint32_t left = slot.command.count - slot.done;
    if (media && !volume_.permits(slot.command.lba + slot.done, left, false)) return false;
    while (slot.part < left && slot.descriptors + kMaximumPieces <= kDescriptors) {
        Volume::Run run{RegionClass::kReadOnly, left - slot.part, nullptr};
        if (media) run = volume_.run_at(slot.command.lba + slot.done + slot.part, run.count);
        const bool hidden = run.kind == RegionClass::kHidden || run.kind == RegionClass::kOverlay;
        const std::uint32_t gapless = hidden ? kSinkSize : slot.guest.contiguous();
        // A packet command has no blocks, and a count of descriptors.
        const std::uint32_t block = slot.command.kind == kPacket ? std::max(gapless, 1u) : kPageSize;
        const std::uint32_t size = media ? volume_.geometry.sector_size : block;
        const std::uint32_t count = std::clamp<std::uint32_t>(gapless / size, 1, run.count);
        const std::uint32_t bytes = count * size;
        const std::byte* shown = run.kind == RegionClass::kOverlay ? run.overlay : sector_.data();
        if (run.kind == RegionClass::kHidden) wipe(sector_);
        if (hidden) add_descriptor(slot, arena_.physical + kSinkOffset, bytes);
        if (hidden ? !slot.guest.copy_in(Bytes(shown, bytes)) : !map_pieces(slot, bytes)) return false;
        slot.part += count;
    }
    return media || slot.part == left;
}

// Sectors of the next part of a write: what is left, at most a command's share of the bounce memory.
std::uint32_t Port::share(const Slot& slot) const {
    return std::min(slot.command.count - slot.done, std::min(kShareUnits, units_) * sectors_per_unit());
}

// A free bounce unit, for `size` bytes of the slot's.
std::byte* Port::take_unit(Slot& slot, std::uint32_t size) {
    const auto unit = static_cast<std::uint64_t>(std::countr_zero(free_));
    slot.units |= std::uint64_t{1} << unit;
    free_ &= free_ - 1;
    const std::uint64_t offset = kBounceOffset + unit * kUnitSize;
    add_descriptor(slot, arena_.physical + offset, size);
    return arena_.data + offset;
}

// The ranges of a TRIM, all of them sectors that the guest may write. Bounce memory gets nothing of the guest's before it
// is checked, here, or encrypted, below: a transfer that the device should have given up may still read there.
bool Port::copy_ranges(Slot& slot) {
    const Page page(sector_.data(), kPageSize);
    std::byte* to = take_unit(slot, slot.command.count * kPageSize);
    for (std::uint32_t left = slot.command.count; left != 0; --left, to += kPageSize) {
        if (!slot.guest.copy_out(page)) return false;
        for (Reader reader(page); reader.remaining() != 0;) {
            const std::uint64_t range = reader.u64();  // LBA in bits 47:0, sectors in 63:48 (ACS-4 section 7.6.3)
            if (!volume_.permits(range << 16 >> 16, static_cast<std::uint32_t>(range >> 48), true)) return false;
        }
        copy_bytes(MutableBytes(to, kPageSize), page);
    }
    return true;
}

bool Port::encrypt_write(Slot& slot) {
    if (!volume_.permits(slot.command.lba + slot.done, slot.command.count - slot.done, true)) return false;
    for (const std::uint32_t sectors = share(slot); slot.part < sectors;) {
        const std::uint32_t count = std::min(sectors - slot.part, sectors_per_unit());
        std::byte* const to = take_unit(slot, count * volume_.geometry.sector_size);
        if (!transform(slot.guest, to, slot.command.lba + slot.done + slot.part, count)) return false;
        slot.part += count;
    }
    return true;
}

void Port::filter_block(const Slot& slot) {
    const Filter filter = slot.command.filter;
    const Page page(sector_.data(), kPageSize);
    if (filter == Filter::kNone || !shadow(slot).copy_out(page)) return;
    filter_page(page, filter, trim_);
    if (filter == Filter::kQueuedError && refused_tag_ < kSlots) {
        write_queued_error(page, static_cast<std::uint8_t>(refused_tag_));
        refused_tag_ = kSlots;
    }
    (void)shadow(slot).copy_in(page);
}

}  // namespace gatehouse::ata::ahci

// A slot's way from PxCI to completion.
#include <bit>

#include "ata/ahci/port.hpp"

namespace gatehouse::ata::ahci {

using enum CommandKind;
using enum PortRegister;

namespace {

constexpr std::uint64_t kTableAlignment = 128;

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
    GuestMemory& memory = *environment_.memory;
    const std::byte* header = memory.map(address(kCommandList) + slot.index * kHeaderSize, kHeaderSize);
    if (header == nullptr) return refused;
    std::array<std::byte, kHeaderSize> header_copy{};
    fetch(header_copy, header);
    Reader reader(header_copy);
    const std::uint32_t flags = reader.u32();
    reader.skip(sizeof(std::uint32_t));
    const std::uint64_t table_address = reader.u64() & ~(kTableAlignment - 1);
    const std::uint32_t descriptors = flags >> 16;
    if ((flags & bits(Header::kForbidden)) != 0) return refused;
    if ((flags & bits(Header::kFisDwords)) < kTaskFileFisSize / 4) return refused;

    const std::byte* guest_table =
        memory.map(table_address, kDescriptorOffset + descriptors * kDescriptorSize);
    if (guest_table == nullptr) return refused;
    slot.guest = ScatterList(memory, guest_table + kDescriptorOffset, descriptors);
    slot.header = flags & bits(Header::kSoftReset);
    std::array<std::byte, kTaskFileFisSize> fis{};
    fetch(fis, guest_table);
    const Result<TaskFile> task = parse_task_file(fis);
    if (!task.ok()) return refused;

    const Command command = classify(*task);
    const bool tag_fits = tag_of(command.task) == slot.index && (active_ & slot.bit()) != 0;
    if (command.queued && !tag_fits) return refused;
    refused.queued = command.queued;  // so that the error log can name its tag
    const bool writes = command.kind == kMediaWrite;
    if (!writes && command.kind != kMediaRead) return command;
    if (!volume_.geometry.contains(command.lba, command.count)) return refused;
    return writes && !volume_.writable(command.lba, command.count) ? refused : command;
}

void Port::start_waiting() {
    while (waiting_ != 0) {
        Slot* oldest = &slots_[lowest(waiting_)];
        for (std::uint32_t rest = waiting_; rest != 0; rest &= rest - 1) {
            if (slots_[lowest(rest)].ticket < oldest->ticket) oldest = &slots_[lowest(rest)];
        }
        const bool queued = oldest->command.queued && oldest->command.kind != kRefused;
        const bool mixed = (running_ & (queued ? ~queued_ : queued_)) != 0;
        if (mixed || !start(*oldest)) return;
    }
}

// Hands the slot's next part to the device. False: there is not enough bounce memory now. A command that
// turns out to be forbidden stays waiting, as refused.
bool Port::start(Slot& slot) {
    const CommandKind kind = slot.command.kind;
    TaskFile task = kind == kRefused ? always_aborted() : slot.command.task;
    bool valid = true;
    slot.descriptors = slot.part = 0;
    if (kind == kMediaWrite && !has_units(slot)) return false;
    if (kind == kMediaWrite) valid = encrypt_write(slot);
    if (kind == kMediaRead) valid = map_read(slot);
    if (kind == kDataIn) valid = map_blocks(slot);
    if (!valid) {
        release_units(slot);
        slot.command.kind = kRefused;
        return true;
    }
    if (slot.part != 0) task = slot.command.part(slot.done, slot.part);
    const std::uint32_t header = kind == kMediaWrite ? bits(Header::kWrite) : slot.header;
    store_command(slot, task, kind == kMediaWrite || kind == kReset ? header : 0);

    waiting_ &= ~slot.bit();
    running_ |= slot.bit();
    const bool more = slot.part != 0 && slot.done + slot.part < slot.command.count;
    split_ = more ? split_ | slot.bit() : split_ & ~slot.bit();
    if (kind == kRefused) aborting_ |= slot.bit();
    if (slot.command.queued) refused_tag_ = kind == kRefused ? slot.index : kSlots;
    if (slot.command.queued && kind != kRefused) {
        queued_ |= slot.bit();
        hardware_.write(kSataActive, slot.bit());
    }
    hardware_.write(kCommandIssue, slot.bit());
    return true;
}

// Writes shadow table and header; the descriptors are in place already.
void Port::store_command(const Slot& slot, const TaskFile& task, std::uint32_t header) const {
    store_task_file(task, std::span<std::byte, kTaskFileFisSize>(table(slot), kTaskFileFisSize));
    Writer writer(MutableBytes(arena_.data + slot.index * kHeaderSize, kHeaderSize));
    writer.u32(header | kTaskFileFisSize / 4 | slot.descriptors << 16);
    writer.u32(0);
    writer.u64(arena_.physical + table_offset(slot));
}

// Finishes what the device has finished, then starts what waits. Returns the PxIS bits that it cleared
// because they announced no more than a part of a command.
std::uint32_t Port::process() {
    const std::uint32_t issued = running_ == 0 ? 0 : hardware_.read(kCommandIssue);
    const std::uint32_t active = running_ == 0 ? 0 : hardware_.read(kSataActive);
    accepted_ |= running_ & queued_ & ~issued;
    // A refused command is never finished, only dropped. Nor is, while the task file shows an error, any
    // command that is not queued: it may be the one that failed (QEMU before 8.1 clears PxCI all the same).
    std::uint32_t finished = running_ & ~(issued | active | aborting_);
    const bool unqueued = (finished & ~queued_) != 0;
    if (unqueued && (hardware_.read(kTaskFile) & bits(DeviceStatus::kError)) != 0) finished &= queued_;
    for (std::uint32_t rest = finished; rest != 0; rest &= rest - 1) finish(slots_[lowest(rest)]);
    publish_fis();

    if ((finished & ~split_) != 0) announced_ = true;
    const bool only_part = finished != 0 && running_ == 0 && !announced_;
    const std::uint32_t hidden = only_part ? bits(PortInterrupt::kProgress) : 0;
    if (only_part) hardware_.write(kInterruptStatus, hidden);
    start_waiting();
    return hidden;
}

// The device is through with the slot's part.
void Port::finish(Slot& slot) {
    running_ &= ~slot.bit();
    queued_ &= ~slot.bit();
    if (slot.command.kind == kMediaRead) decrypt_read(slot);
    if (slot.command.kind == kDataIn) filter_block(slot);
    release_units(slot);
    slot.done += slot.part;
    const std::uint32_t count_offset = slot.index * kHeaderSize + sizeof(std::uint32_t);
    slot.transferred += load<std::uint32_t>(arena_.data + count_offset, Endian::kLittle);
    if ((split_ & slot.bit()) != 0) {
        waiting_ |= slot.bit();
        return;
    }
    accepted_ &= ~slot.bit();
    if (slot.command.queued) active_ &= ~slot.bit();
    std::byte* count = environment_.memory->map(address(kCommandList) + count_offset, sizeof(std::uint32_t));
    if (count != nullptr) store(count, slot.transferred, Endian::kLittle);
}

// Copies received FISes to the guest: never one that tells of a command which is not finished.
void Port::publish_fis() const {
    std::byte* area = fis_enabled_ ? environment_.memory->map(address(kFis), kFisAreaSize) : nullptr;
    if (area == nullptr) return;
    std::array<std::byte, kFisAreaSize> copy{};
    fetch(copy, arena_.data + kCommandListSize);
    // Set Device Bits: of the tags that it reports, only those that the guest may know of.
    std::byte* tags = copy.data() + kDeviceBitsTags;
    store(tags, load<std::uint32_t>(tags, Endian::kLittle) & ~active_, Endian::kLittle);
    // While a command is under way that will end with a register FIS, that may be it: show it if it reports
    // an error.
    bool open = (running_ & ~queued_) != 0;
    for (std::uint32_t rest = split_; rest != 0; rest &= rest - 1)
        open |= !slots_[lowest(rest)].command.queued;
    const auto status = std::to_integer<std::uint32_t>(copy[kRegisterFisOffset + 2]);
    const bool failed = (status & bits(DeviceStatus::kError)) != 0;
    for (const FisPlace& place : kFisPlaces) {
        const bool shown = !open || (failed && place.offset == kRegisterFisOffset);
        const Bytes fis = Bytes(copy).subspan(place.offset, place.size);
        if (shown && fis[0] != std::byte{0}) copy_bytes(MutableBytes(area + place.offset, fis.size()), fis);
    }
}

}  // namespace gatehouse::ata::ahci

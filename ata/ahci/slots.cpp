// A slot's way from PxCI to completion.
#include <algorithm>

#include "ata/ahci/port.hpp"

namespace gatehouse::ata::ahci {

namespace {

constexpr std::uint32_t bit(std::uint32_t index) { return 1u << index; }
std::uint32_t lowest(std::uint32_t set) { return static_cast<std::uint32_t>(std::countr_zero(set)); }

// PxIS bits that announce progress rather than trouble.
constexpr std::uint32_t kProgress =
    bits(PortInterrupt::kRegisterFis, PortInterrupt::kPioSetup, PortInterrupt::kDmaSetup,
         PortInterrupt::kSetDeviceBits, PortInterrupt::kDescriptorProcessed);

constexpr std::uint64_t kTableAlignment = 128;

}  // namespace

void Port::issue(std::uint32_t value, VectorSection& vectors) {
    if (!started_) return;
    std::uint32_t fresh = value & slot_mask_ & ~(waiting_ | running_);
    for (; fresh != 0; fresh &= fresh - 1) {
        const std::uint32_t index = lowest(fresh);
        Slot& slot = slots_[index];
        slot = Slot{};
        slot.ticket = next_ticket_++;
        slot.command = fetch_command(index, slot);
        waiting_ |= bit(index);
    }
    start_waiting(vectors);
}

// The private copy of a command, classified: what may not be sent is kRefused.
Command Port::fetch_command(std::uint32_t index, Slot& slot) {
    Command refused;
    GuestMemory& memory = *environment_.memory;
    const std::byte* header = memory.map(command_list_ + std::uint64_t{index} * kHeaderSize, kHeaderSize);
    if (header == nullptr) return refused;
    std::array<std::byte, kHeaderSize> header_copy{};
    fetch(header_copy, header);
    Reader reader(header_copy);
    const std::uint32_t flags = reader.u32();
    reader.skip(sizeof(std::uint32_t));
    const std::uint64_t address = reader.u64() & ~(kTableAlignment - 1);
    const std::uint32_t descriptors = flags >> 16;
    constexpr std::uint32_t kForbidden = bits(Header::kMultiplierPort, Header::kBist, Header::kAtapi);
    if ((flags & kForbidden) != 0 || (flags & bits(Header::kFisDwords)) < kTaskFileFisSize / 4)
        return refused;

    const std::byte* guest_table = memory.map(address, kDescriptorOffset + descriptors * kDescriptorSize);
    if (guest_table == nullptr) return refused;
    slot.guest = ScatterList(memory, guest_table + kDescriptorOffset, descriptors);
    slot.header = flags & bits(Header::kClearBusy, Header::kReset);
    std::array<std::byte, kTaskFileFisSize> fis{};
    fetch(fis, guest_table);
    const Result<TaskFile> task = parse_task_file(fis);
    if (!task.ok()) return refused;

    const Command command = classify(*task);
    // A refused queued command keeps its tag for the error log.
    const bool tag_fits = tag_of(command.task) == index && (active_ & bit(index)) != 0;
    if (command.queued && !tag_fits) return refused;
    refused.queued = command.queued;
    const bool writes = command.kind == CommandKind::kMediaWrite;
    if (writes || command.kind == CommandKind::kMediaRead) {
        const bool allowed = volume_.contains(command.lba, command.count) &&
                             (!writes || volume_.writable(command.lba, command.count));
        if (!allowed) return refused;
    }
    return command;
}

void Port::start_waiting(VectorSection& vectors) {
    while (waiting_ != 0) {
        std::uint32_t oldest = lowest(waiting_);
        for (std::uint32_t rest = waiting_; rest != 0; rest &= rest - 1) {
            if (slots_[lowest(rest)].ticket < slots_[oldest].ticket) oldest = lowest(rest);
        }
        const Command& command = slots_[oldest].command;
        const bool queued = command.queued && command.kind != CommandKind::kRefused;
        if ((running_ & (queued ? ~queued_ : queued_)) != 0) return;
        if (!start(oldest, vectors)) return;
    }
}

// Hands the slot's next part to the device. False: there is not enough bounce memory now. A command that
// turns out to be forbidden stays waiting, as refused.
bool Port::start(std::uint32_t index, VectorSection& vectors) {
    Slot& slot = slots_[index];
    TaskFile task = slot.command.task;
    std::uint32_t header = 0;
    bool valid = true;
    slot.descriptors = slot.part = 0;
    switch (slot.command.kind) {
        case CommandKind::kRefused:
            task = always_aborted();
            break;
        case CommandKind::kNoData:
            break;
        case CommandKind::kReset:
            header = slot.header;
            break;
        case CommandKind::kDataIn:
            valid = map_page_data(index, slot);
            break;
        case CommandKind::kMediaRead:
            valid = map_read(index, slot);
            break;
        case CommandKind::kMediaWrite:
            if (write_units(slot) > free_.size()) return false;
            valid = encrypt_write(index, slot, vectors);
            header = bits(Header::kWrite);
            break;
    }
    if (!valid) {
        free_.add(slot.units);
        slot.units = {};
        slot.command.kind = CommandKind::kRefused;
        return true;
    }
    if (slot.part != 0) task = slot.command.part(slot.done, slot.part);
    store_command(index, task, header, slot.descriptors);

    const bool refused = slot.command.kind == CommandKind::kRefused;
    waiting_ &= ~bit(index);
    running_ |= bit(index);
    split_ &= ~bit(index);
    if (slot.part != 0 && slot.done + slot.part < slot.command.count) split_ |= bit(index);
    if (refused) {
        aborting_ |= bit(index);
        if (slot.command.queued) refused_tag_ = index;
    } else if (slot.command.queued) {
        refused_tag_ = kSlots;
        queued_ |= bit(index);
        hardware_.write(PortRegister::kSataActive, bit(index));
    }
    hardware_.write(PortRegister::kCommandIssue, bit(index));
    return true;
}

// Writes shadow table and header; the descriptors are in place already.
void Port::store_command(std::uint32_t index, const TaskFile& task, std::uint32_t header,
                         std::uint32_t descriptors) {
    store_task_file(task, std::span<std::byte, kTaskFileFisSize>(table(index), kTaskFileFisSize));
    Writer writer(MutableBytes(arena_.data + std::size_t{index} * kHeaderSize, kHeaderSize));
    writer.u32(header | kTaskFileFisSize / 4 | descriptors << 16);
    writer.u32(0);
    writer.u64(arena_.physical + table_offset(index));
}

// Finishes what the device has finished, then starts what waits. Returns the PxIS bits that it cleared
// because they announced no more than a part of a command.
std::uint32_t Port::process(VectorSection& vectors) {
    const std::uint32_t issued = running_ == 0 ? 0 : hardware_.read(PortRegister::kCommandIssue);
    const std::uint32_t active = running_ == 0 ? 0 : hardware_.read(PortRegister::kSataActive);
    accepted_ |= running_ & queued_ & ~issued;
    // A refused command is never finished, only dropped. Nor is, while the task file shows an error, any
    // command that is not queued: it may be the one that failed (a drive that clears PxCI all the same has
    // been seen).
    std::uint32_t finished = running_ & ~(issued | active | aborting_);
    if (finished != 0 && (hardware_.read(PortRegister::kTaskFile) & bits(DeviceStatus::kError)) != 0) {
        finished &= queued_;
    }
    for (std::uint32_t rest = finished; rest != 0; rest &= rest - 1) finish(lowest(rest), vectors);
    publish_fis();

    std::uint32_t hidden = 0;
    if ((finished & ~split_) != 0) announced_ = true;
    if (finished != 0 && running_ == 0 && !announced_) {
        hidden = kProgress;
        hardware_.write(PortRegister::kInterruptStatus, hidden);
    }
    start_waiting(vectors);
    return hidden;
}

// The device is through with the slot's part.
void Port::finish(std::uint32_t index, VectorSection& vectors) {
    Slot& slot = slots_[index];
    running_ &= ~bit(index);
    queued_ &= ~bit(index);
    if (slot.command.kind == CommandKind::kMediaRead) decrypt_read(index, slot, vectors);
    if (slot.command.kind == CommandKind::kDataIn) filter_page(index, slot);
    free_.add(slot.units);
    slot.units = {};
    slot.done += slot.part;
    const std::size_t header = std::size_t{index} * kHeaderSize + sizeof(std::uint32_t);
    slot.transferred += load<std::uint32_t>(arena_.data + header, Endian::kLittle);
    if ((split_ & bit(index)) != 0) {
        waiting_ |= bit(index);
        return;
    }
    accepted_ &= ~bit(index);
    if (slot.command.queued) active_ &= ~bit(index);
    std::byte* count = environment_.memory->map(command_list_ + header, sizeof(std::uint32_t));
    if (count != nullptr) store(count, slot.transferred, Endian::kLittle);
}

// Copies the received FIS to the guest: never one that tells of a command which is not finished.
void Port::publish_fis() const {
    std::byte* area = fis_enabled_ ? environment_.memory->map(fis_, kFisAreaSize) : nullptr;
    if (area == nullptr) return;
    std::array<std::byte, kFisAreaSize> copy{};
    fetch(copy, arena_.data + kCommandListSize);
    std::uint32_t open = running_ & ~queued_;
    for (std::uint32_t rest = split_; rest != 0; rest &= rest - 1) {
        if (!slots_[lowest(rest)].command.queued) open |= bit(lowest(rest));
    }
    if (open == 0) {
        // Set Device Bits: of the tags that it reports, only those that the guest may know of.
        std::byte* tags = copy.data() + kDeviceBitsOffset + sizeof(std::uint32_t);
        store(tags, load<std::uint32_t>(tags, Endian::kLittle) & ~active_, Endian::kLittle);
        copy_bytes(MutableBytes(area, copy.size()), copy);
        return;
    }
    // A command is under way that will end with a register FIS. This may be it: show it if it reports an
    // error.
    const Bytes fis = Bytes(copy).subspan(kRegisterFisOffset, kRegisterFisSize);
    if ((std::to_integer<std::uint32_t>(fis[2]) & bits(DeviceStatus::kError)) != 0) {
        copy_bytes(MutableBytes(area + kRegisterFisOffset, fis.size()), fis);
    }
}

}  // namespace gatehouse::ata::ahci

#include "ata/ahci/port.hpp"

#include <algorithm>

namespace gatehouse::ata::ahci {

namespace {

constexpr std::uint64_t kStopLimit = 500 * kMillisecond;
constexpr std::uint64_t kReadyLimit = 10'000 * kMillisecond;  // a disk may still be spinning up
constexpr std::uint64_t kCommandLimit = 10'000 * kMillisecond;

// PxCMD bits that the guest may set; and those that it does not see.
constexpr std::uint32_t kGuestCommandBits =
    bits(PortCommand::kInterfaceControl, PortCommand::kAggressivePartial, PortCommand::kLedOnAtapi,
         PortCommand::kFisEnable, PortCommand::kOverride, PortCommand::kPowerSpin, PortCommand::kStart);
constexpr std::uint32_t kHiddenCommandBits =
    bits(PortCommand::kPartialToSlumber, PortCommand::kFisSwitching, PortCommand::kPortMultiplier);

std::uint64_t with_low(std::uint64_t old, std::uint32_t value, std::uint32_t alignment) {
    return (old & ~std::uint64_t{0xffffffff}) | (value & ~(alignment - 1));
}
std::uint64_t with_high(std::uint64_t old, std::uint32_t value) {
    return (old & 0xffffffff) | std::uint64_t{value} << 32;
}

}  // namespace

Status PortHardware::stop(Clock& clock) const {
    const auto cleared = [&](PortCommand control, PortCommand running) {
        write(PortRegister::kCommand, read(PortRegister::kCommand) & ~bits(control));
        return wait_for(clock, kStopLimit,
                        [&] { return (read(PortRegister::kCommand) & bits(running)) == 0; });
    };
    if (!cleared(PortCommand::kStart, PortCommand::kListRunning) ||
        !cleared(PortCommand::kFisEnable, PortCommand::kFisRunning)) {
        return {Error::kTimeout, "AHCI port: does not stop", read(PortRegister::kCommand)};
    }
    write(PortRegister::kInterruptEnable, 0);
    write(PortRegister::kSataError, ~0u);
    write(PortRegister::kInterruptStatus, ~0u);
    return {};
}

// --- Before the guest ---

void Port::place_shadow() const {
    const auto put = [&](PortRegister low, PortRegister high, std::uint64_t address) {
        hardware_.write(low, static_cast<std::uint32_t>(address));
        hardware_.write(high, static_cast<std::uint32_t>(address >> 32));
    };
    put(PortRegister::kCommandList, PortRegister::kCommandListUpper, arena_.physical);
    put(PortRegister::kFis, PortRegister::kFisUpper, arena_.physical + kCommandListSize);
}

Status Port::open(const Environment& environment, std::uint32_t number, std::uint32_t slots,
                  const DmaArena& arena) {
    environment_ = environment;
    hardware_ = PortHardware(*environment.registers, number);
    arena_ = arena;
    number_ = number;
    slot_mask_ = static_cast<std::uint32_t>((std::uint64_t{1} << slots) - 1);
    units_ =
        std::min(static_cast<std::uint32_t>((arena.size - kBounceOffset) / kUnitSize), UnitSet::kMaximum);
    wipe(arena_.data, unit_offset(units_));
    place_shadow();
    const std::uint32_t command = hardware_.read(PortRegister::kCommand) | bits(PortCommand::kFisEnable);
    hardware_.write(PortRegister::kCommand, command);
    const bool ready = wait_for(*environment.clock, kReadyLimit, [&] {
        return (hardware_.read(PortRegister::kTaskFile) &
                bits(DeviceStatus::kBusy, DeviceStatus::kDataRequest)) == 0;
    });
    if (!ready) return {Error::kTimeout, "disk: busy", number};
    const std::uint32_t signature = hardware_.read(PortRegister::kSignature);
    if (signature != kSignatureAta) return {Error::kNotFound, "disk: not ATA", signature};
    hardware_.write(PortRegister::kCommand, command | bits(PortCommand::kStart));
    open_ = true;
    return {};
}

// Runs a command that reads `size` bytes into the bounce memory.
Status Port::execute(const TaskFile& task, std::uint32_t size) {
    slots_[0].descriptors = 0;
    add_descriptor(0, slots_[0], arena_.physical + kBounceOffset, size);
    store_command(0, task, 0, 1);
    hardware_.write(PortRegister::kCommandIssue, 1);
    const bool over = wait_for(*environment_.clock, kCommandLimit, [&] {
        return (hardware_.read(PortRegister::kCommandIssue) & 1) == 0 ||
               (hardware_.read(PortRegister::kInterruptStatus) & bits(PortInterrupt::kTaskFileError)) != 0;
    });
    const std::uint32_t task_file = hardware_.read(PortRegister::kTaskFile);
    if (!over) return {Error::kTimeout, "disk: command not finished", task.command};
    if ((task_file & bits(DeviceStatus::kError)) == 0) return {};
    GATEHOUSE_TRY(stop());
    GATEHOUSE_TRY(open(environment_, number_, static_cast<std::uint32_t>(std::popcount(slot_mask_)), arena_));
    return {Error::kDeviceError, "disk: command failed", task_file};
}

Result<Geometry> Port::identify(Page raw) {
    GATEHOUSE_TRY(execute(identify_device(), kPageSize));
    copy_bytes(raw, Bytes(arena_.data + kBounceOffset, kPageSize));
    GATEHOUSE_ASSIGN(geometry_, parse_geometry(raw));
    return geometry_;
}

Status Port::read_sectors(std::uint64_t lba, MutableBytes out) {
    const std::uint32_t size = geometry_.sector_size;
    if (size == 0) return {Error::kState, "disk: read before identify"};
    if (out.size() % size != 0) return {Error::kBadLength, "disk: read", out.size()};
    if (lba > geometry_.sectors || out.size() / size > geometry_.sectors - lba) {
        return {Error::kOutOfRange, "disk: read", lba};
    }
    while (!out.empty()) {
        const std::size_t bytes = std::min<std::size_t>(out.size(), 16 * kUnitSize);
        const auto sectors = static_cast<std::uint32_t>(bytes / size);
        GATEHOUSE_TRY(execute(read_dma_ext(lba, sectors), static_cast<std::uint32_t>(bytes)));
        copy_bytes(out.first(bytes), Bytes(arena_.data + kBounceOffset, bytes));
        out = out.subspan(bytes);
        lba += sectors;
    }
    return {};
}

Status Port::attach(const Volume& volume) {
    GATEHOUSE_TRY(volume.check());
    if (volume.geometry.sector_size != geometry_.sector_size ||
        volume.geometry.sectors != geometry_.sectors) {
        return {Error::kMismatch, "volume: geometry of another disk", volume.geometry.sectors};
    }
    volume_ = volume;
    attached_ = true;
    return {};
}

// --- The guest's accesses ---

std::uint32_t Port::read(PortRegister reg) {
    const SpinGuard guard(lock_);
    VectorSection vectors(*environment_.vectors);
    switch (reg) {
        case PortRegister::kCommandList:
            return static_cast<std::uint32_t>(command_list_);
        case PortRegister::kCommandListUpper:
            return static_cast<std::uint32_t>(command_list_ >> 32);
        case PortRegister::kFis:
            return static_cast<std::uint32_t>(fis_);
        case PortRegister::kFisUpper:
            return static_cast<std::uint32_t>(fis_ >> 32);
        case PortRegister::kInterruptStatus: {
            const std::uint32_t status = hardware_.read(reg);
            return status & ~process(vectors);
        }
        case PortRegister::kCommand:
            return hardware_.read(reg) & ~kHiddenCommandBits;
        case PortRegister::kTaskFile:
            (void)process(vectors);
            return hardware_.read(reg);
        case PortRegister::kSataActive:
            (void)process(vectors);
            return active_;
        case PortRegister::kCommandIssue:
            (void)process(vectors);
            return (waiting_ | running_) & ~accepted_;
        case PortRegister::kInterruptEnable:
        case PortRegister::kSignature:
        case PortRegister::kSataStatus:
        case PortRegister::kSataControl:
        case PortRegister::kSataError:
            return hardware_.read(reg);
    }
    return 0;
}

void Port::write(PortRegister reg, std::uint32_t value) {
    const SpinGuard guard(lock_);
    VectorSection vectors(*environment_.vectors);
    switch (reg) {
        case PortRegister::kCommandList:
            command_list_ = with_low(command_list_, value, kCommandListSize);
            break;
        case PortRegister::kCommandListUpper:
            command_list_ = with_high(command_list_, value);
            break;
        case PortRegister::kFis:
            fis_ = with_low(fis_, value, kFisAreaSize);
            break;
        case PortRegister::kFisUpper:
            fis_ = with_high(fis_, value);
            break;
        case PortRegister::kInterruptStatus:
            // First clear, then go on with waiting and split commands: an interrupt of theirs is never lost.
            hardware_.write(reg, value);
            announced_ = false;
            if ((waiting_ | split_) != 0) (void)process(vectors);
            break;
        case PortRegister::kCommand:
            write_command(value, vectors);
            break;
        case PortRegister::kSataControl:
            hardware_.write(reg, value & kSataControlMask);
            break;
        case PortRegister::kSataActive:
            if (started_) active_ |= value & slot_mask_;
            break;
        case PortRegister::kCommandIssue:
            issue(value, vectors);
            break;
        case PortRegister::kInterruptEnable:
        case PortRegister::kSataError:
            hardware_.write(reg, value);
            break;
        case PortRegister::kTaskFile:
        case PortRegister::kSignature:
        case PortRegister::kSataStatus:
            break;
    }
}

void Port::write_command(std::uint32_t value, VectorSection& vectors) {
    constexpr std::uint32_t kStart = bits(PortCommand::kStart);
    value &= kGuestCommandBits;
    fis_enabled_ = (value & bits(PortCommand::kFisEnable)) != 0;
    if (started_ && (value & kStart) == 0) {
        (void)process(vectors);  // the last look at what was finished
        drop_slots();
    } else if (!started_ && (value & kStart) != 0) {
        if ((hardware_.read(PortRegister::kCommand) & bits(PortCommand::kListRunning)) != 0) {
            value &= ~kStart;  // still stopping: shadow tables and bounce memory are the device's
        } else {
            drop_slots();
            free_ = UnitSet::first(units_);
            started_ = true;
        }
    }
    hardware_.write(PortRegister::kCommand, value);
}

void Port::drop_slots() {
    started_ = false;
    active_ = waiting_ = running_ = queued_ = aborting_ = split_ = accepted_ = 0;
}

void Port::poll() {
    const SpinGuard guard(lock_);
    VectorSection vectors(*environment_.vectors);
    (void)process(vectors);
}

void Port::begin_reset() {
    const SpinGuard guard(lock_);
    drop_slots();
    fis_enabled_ = false;
}

void Port::end_reset() {
    const SpinGuard guard(lock_);
    place_shadow();
}

}  // namespace gatehouse::ata::ahci

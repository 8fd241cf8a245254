#include "ata/ahci/port.hpp"

#include <algorithm>

namespace gatehouse::ata::ahci {

using enum PortRegister;

constexpr std::uint64_t kStopLimit = 500;  // milliseconds
constexpr std::uint64_t kGrace = 100'000;  // microseconds

// PxCMD bits that the guest may set, and how PxCLB, PxCLBU, PxFB and PxFBU are aligned.
constexpr std::uint32_t kGuestCommandBits =
    bits(PortCommand::kPower, PortCommand::kFisEnable, PortCommand::kOverride, PortCommand::kStart);
constexpr std::uint32_t kAddressMasks[] = {~(kCommandListSize - 1), ~0u, ~(kFisAreaSize - 1), ~0u};

constexpr std::uint32_t kLine = bits(PortInterrupt::kRegisterFis);  // by which the mediator's own PxIS bits interrupt
constexpr std::uint32_t kDeviceError = bits(PortInterrupt::kTaskFileError);

constexpr bool is_one_of(PortRegister reg, auto... of) { return ((reg == of) || ...); }

Status PortHardware::stop() const {
    const auto cleared = [&](PortCommand control, PortCommand running) {
        write(kCommand, read(kCommand) & ~bits(control));
        return wait_for(*controller, kStopLimit, [&] { return (read(kCommand) & bits(running)) == 0; });
    };
    const bool stopped = cleared(PortCommand::kStart, PortCommand::kListRunning) &&
                         cleared(PortCommand::kFisEnable, PortCommand::kFisRunning);
    if (!stopped) return {Error::kTimeout, "AHCI port: does not stop", read(kCommand)};
    write(kInterruptEnable, 0);
    write(kSataError, ~0u);
    write(kInterruptStatus, ~0u);
    return {};
}

// --- Before the guest ---

void Port::place_shadow() const {
    const std::uint64_t list = arena_.physical.value(), fis = list + kCommandListSize;
    hardware_.write(kCommandList, static_cast<std::uint32_t>(list));
    hardware_.write(kCommandListUpper, static_cast<std::uint32_t>(list >> 32));
    hardware_.write(kFis, static_cast<std::uint32_t>(fis));
    hardware_.write(kFisUpper, static_cast<std::uint32_t>(fis >> 32));
    forget_fis();
}

Status Port::open(Environment& environment, std::uint32_t number, std::uint32_t slot_mask, const DmaArena& arena) {
    environment_ = &environment;
    number_ = number;
    hardware_ = {&environment, kPortBase + number * kPortStride};
    arena_ = arena;
    tables_ = {(arena.physical + kTablesOffset).value(), kSlots * kTableSize};
    slot_mask_ = slot_mask;
    units_ = static_cast<std::uint32_t>((std::min(arena.size, kMaximumArena) - kBounceOffset) / kUnitSize);
    place_shadow();
    const std::uint32_t command = hardware_.read(kCommand) | bits(PortCommand::kFisEnable);
    hardware_.write(kCommand, command);
    const auto idle = [&] { return (hardware_.read(kTaskFile) & bits(TaskBit::kBusyOrData)) == 0; };
    if (!wait_for(environment, kLimit, idle)) return {Error::kTimeout, "disk: busy", number};
    const std::uint32_t signature = hardware_.read(kSignature);
    device_ = signature == kSignaturePacket ? kPacketDevice : kDisk;
    if (device_ == kDisk && signature != kSignatureAta) return {Error::kNotFound, "disk: not ATA", signature};
    hardware_.write(kCommand, command | bits(PortCommand::kStart));
    return {};
}

// --- The guest's accesses ---

std::uint32_t Port::read(PortRegister reg) {
    const Access access(*this);
    if (resetting_) return 0;
    if (bits(reg) < sizeof(address_)) return address_[bits(reg) / 4];
    std::uint32_t status = reg == kInterruptStatus ? hardware_.read(reg) : 0;  // before process(), not after it
    failed_ = failed_ || (status & kDeviceError) != 0;
    if (is_one_of(reg, kInterruptStatus, kTaskFile, kSataActive, kCommandIssue)) status &= ~process();
    if (reg == kInterruptStatus) return (errors_ != 0 ? status & ~kLine : status) | errors_;
    if (reg == kInterruptEnable) return enabled_;
    if (reg == kTaskFile && (aborting_ & ~running_) != 0) return kRefusal;
    if (reg == kSataActive) return active_;
    if (reg == kCommandIssue) return started_ ? (waiting_ | running_ | aborting_) & ~accepted_ : 0;
    if (reg == kCommand) {
        settle();
        const std::uint32_t value = hardware_.read(reg) & ~bits(PortCommand::kNotOffered);
        return draining_ ? (value & ~bits(PortCommand::kStart)) | bits(PortCommand::kListRunning) : value;
    }
    return is_one_of(reg, kTaskFile, kSignature, kSataStatus, kSataControl, kSataError) ? hardware_.read(reg) : 0;
}

void Port::write(PortRegister reg, std::uint32_t value) {
    const Access access(*this);
    if (resetting_) return;
    if (bits(reg) < sizeof(address_)) address_[bits(reg) / 4] = value & kAddressMasks[bits(reg) / 4];
    if (reg == kSataError) hardware_.write(reg, value);
    if (reg == kInterruptEnable) enabled_ = value, route_interrupts();
    if (reg == kSataControl) {
        value &= kSataControlMask;
        forget_fis();  // what came before a link reset must not be taken for what comes after
        if ((value & kDetectionMask) == kDetectionReset) {  // it ends whatever is in flight
            hardware_.write(kCommand, hardware_.read(kCommand) & ~bits(PortCommand::kStart));
            drop_slots(false);
            refused_tag_ = kSlots;
        } else {  // once it is over: QEMU's link that is turned off instead has not been reset
            hardware_.write(reg, value & ~kDetectionMask);
        }
        hardware_.write(reg, value);
    }
    if (reg == kCommand) write_command(value);
    if (reg == kSataActive && started_) active_ |= value & slot_mask_;
    if (reg == kCommandIssue && started_) issue(value & slot_mask_);
    if (reg == kInterruptStatus) {
        const std::uint32_t before = std::exchange(errors_, errors_ & ~value);
        if (before != 0) value = errors_ != 0 ? value & ~kLine : value | kLine;
        hardware_.write(reg, value);
        if (before != 0) route_interrupts();
        // Cleared first, then waiting and split commands go on: an interrupt of theirs is never lost.
        announced_ = false;
        if ((waiting_ | split_ | aborting_) != 0) (void)process();
    }
}

// A refused command's stand-in ends with DHRS. It stays pending, and is enabled, for as long as bits of the refusal are.
void Port::route_interrupts() const {
    const std::uint32_t own = (running_ & aborting_) != 0 ? bits(PortInterrupt::kRefusal) : errors_;
    hardware_.write(kInterruptEnable, own == 0 ? enabled_ : (enabled_ & ~kLine) | ((own & enabled_) != 0 ? kLine : 0));
}

void Port::write_command(std::uint32_t value) {
    constexpr std::uint32_t kStart = bits(PortCommand::kStart);
    value &= kGuestCommandBits;
    fis_enabled_ = (value & bits(PortCommand::kFisEnable)) != 0;
    if (started_ && (value & kStart) == 0) {
        (void)collect();  // the last look at what was finished
        drained_since_ = environment_->microseconds();
        drop_slots(running_ != 0);
    } else if (!started_ && (value & kStart) != 0) {
        settle();
        // While the engine is still stopping, or the link reset not over, shadow tables and bounce memory are the device's.
        started_ = !draining_ && (hardware_.read(kCommand) & bits(PortCommand::kListRunning)) == 0 &&
                   (hardware_.read(kSataControl) & kDetectionMask) != kDetectionReset;
        // An error from before the start says nothing of what the device holds from now on.
        if (started_) failed_ = false, errors_ = 0, hardware_.write(kInterruptStatus, kDeviceError), route_interrupts();
        if (!started_) value &= ~kStart;
        if (!draining_) free_ = ~std::uint64_t{0} >> (kMaximumUnits - units_);
    }
    next_command_ = value & ~bits(PortCommand::kOverride);
    if (!draining_) hardware_.write(kCommand, value);
}

// What the guest no longer sees. The device may still hold running_.
void Port::drop_slots(bool draining) {
    draining_ = draining;
    started_ = false;
    active_ = waiting_ = queued_ = aborting_ = split_ = accepted_ = 0;
    if (!draining_) running_ = 0;
    route_interrupts();
}

// Stops the device once it holds no command any more, or, in error, has had time to let go of all.
void Port::settle() {
    if (!draining_) return;
    const std::uint32_t held = running_ & (hardware_.read(kCommandIssue) | hardware_.read(kSataActive));
    failed_ = failed_ || (hardware_.read(kTaskFile) & bits(TaskBit::kError)) != 0;
    if (std::exchange(running_, held) != held || !failed_) drained_since_ = environment_->microseconds();
    if (held != 0 && environment_->microseconds() - drained_since_ < kGrace) return;
    draining_ = false;
    running_ = 0;
    hardware_.write(kCommand, next_command_);
}

void Port::reset(bool is_over) {
    const Access access(*this);
    enabled_ = errors_ = 0;
    drop_slots(false);
    refused_tag_ = kSlots;
    resetting_ = !is_over;
    fis_enabled_ = false;
    if (is_over) place_shadow();
}

}  // namespace gatehouse::ata::ahci

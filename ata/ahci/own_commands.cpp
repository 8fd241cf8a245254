// The mediator's own commands at an AHCI port: polled, by slot 0 and bounce memory, while no slot of the guest's is in the
// device's hands. Before the guest runs that is always so; later, between rest() and resume(), with the lock held.
//
// What the guest finds afterwards is what it would have found without them: PxIS has the bits that it has not cleared yet, the
// received FIS is that of its own last command, which it had before, and PxIE was zero meanwhile. An own command that fails leaves the port stopped
// and started again, and the drive's error taken out of PxTFD by CHECK POWER MODE, since a queued command that meets it would
// fail as well. That has cleared PxIS: if the guest was still to see a bit there, DHRS of CHECK POWER MODE stands in for it.
#include <algorithm>

#include "ata/ahci/port.hpp"

namespace gatehouse::ata {

// --- Any disk

Volume::Run Volume::encrypted_at(std::uint64_t lba, std::uint32_t count) const {
    if (lba >= boundary.changed) return {RegionClass::kEncrypted, count, nullptr, boundary.before};
    count = static_cast<std::uint32_t>(std::min<std::uint64_t>(count, boundary.changed - lba));
    return {RegionClass::kEncrypted, count, nullptr, key};
}

namespace ahci {

using enum PortRegister;

constexpr std::uint8_t kWriteDmaExt = 0x35, kFlushCache = 0xe7,
                       kFlushCacheExt = 0xea;                       // ACS-4 sections 7.52, 7.14, 7.15
constexpr std::uint32_t kFailed = 1u << 5 | bits(TaskBit::kError);  // STATUS: DF, ERR
constexpr std::uint32_t kStarted = bits(PortCommand::kStart);
constexpr std::uint32_t kErrorBit = bits(PortInterrupt::kTaskFileError);

// --- One command

// `out` is copied from bounce memory; what is to be written is there already.
Status Port::execute(const TaskFile& task, MutableBytes out) {
    // PxCI would be zero.
    if ((hardware_.read(kCommand) & kStarted) == 0) return {Error::kState, "disk: its port is stopped"};
    const bool writes = task.command == kWriteDmaExt;
    Slot slot;
    if (!out.empty()) add_descriptor(slot, arena_.physical + kBounceOffset, static_cast<std::uint32_t>(out.size()));
    store_command(slot, task, writes ? bits(Header::kWrite) : 0);
    hardware_.write(kCommandIssue, 1);
    const std::uint64_t now = environment_->microseconds();
    const std::uint64_t limit = until_ == 0 ? kLimit : (std::max(until_, now) - now) / 1000;
    const bool over = wait_for(*environment_, limit, [&] {
        return (hardware_.read(kInterruptStatus) & kErrorBit) != 0 || (hardware_.read(kCommandIssue) & 1) == 0;
    });
    const std::uint32_t task_file = hardware_.read(kTaskFile);
    if (!writes) copy_bytes(out, Bytes(arena_.data + kBounceOffset, out.size()));
    if (over && (task_file & kFailed) == 0) return {};
    lost_ = lost_ || task.command == kFlushCacheExt;
    restart();
    return {over ? Error::kDeviceError : Error::kTimeout, "disk: command failed", task_file};
}

// A port that does not stop, or whose disk stays busy, is not started (AHCI 1.3.1 section 10.3.1): the guest's commands do not
// end, until it resets the link, as drivers do then.
void Port::restart() {
    const bool stopped = stop().ok();
    const auto clears = [&](PortRegister reg, std::uint32_t mask) {
        return wait_for(*environment_, kRestartLimit, [&] { return (hardware_.read(reg) & mask) == 0; });
    };
    const std::uint32_t command = hardware_.read(kCommand) | bits(PortCommand::kFisEnable);
    hardware_.write(kCommand, command);
    pending_ = pending_ != 0 ? bits(PortInterrupt::kRegisterFis) : 0;
    if (!stopped || !clears(kTaskFile, bits(TaskBit::kBusyOrData))) return;
    hardware_.write(kCommand, command | kStarted);
    store_command(Slot{}, kCheckPowerMode, 0);
    hardware_.write(kCommandIssue, 1);
    (void)clears(kCommandIssue, 1);
}

Status Port::write_sectors(std::uint64_t lba, Bytes data) {
    const std::uint32_t size = geometry().sector_size, count = static_cast<std::uint32_t>(data.size()) / size;
    const bool fits = data.size() <= kOwnUnits * kUnitSize && geometry().contains(lba, count);
    if (!fits) return {Error::kOutOfRange, "disk: write", lba};
    const MutableBytes bounce(arena_.data + kBounceOffset, data.size());
    copy_bytes(bounce, data);
    TaskFile task = read_dma_ext(lba, count);
    task.command = kWriteDmaExt;
    return execute(task, bounce);
}

Status Port::flush() { return execute({.command = kFlushCacheExt, .control = kCheckPowerMode.control}, {}); }

// A FLUSH of the guest's, which after one of ours that failed fails as well, once: what was lost may be the guest's.
bool Port::is_lost(const TaskFile& task) {
    return (task.command == kFlushCache || task.command == kFlushCacheExt) && std::exchange(lost_, false);
}

// --- Between the guest's

Status Port::rest() {
    lock_.lock();
    const auto failed = [this] {
        return failed_ || aborting_ != 0 || (hardware_.read(kTaskFile) & kFailed) != 0 ||
               (hardware_.read(kInterruptStatus) & kErrorBit) != 0 || (hardware_.read(kCommand) & kStarted) == 0;
    };
    const auto ended = [&] { return failed() || (static_cast<void>(collect()), running_ == 0); };
    if (!started_ || !wait_for(*environment_, kRestLimit, ended) || failed()) {
        resume();
        return {Error::kState, "disk: the guest's commands do not rest"};
    }
    until_ = environment_->microseconds() + kWorkLimit * 1000;
    pending_ = hardware_.read(kInterruptStatus);
    hardware_.write(kInterruptEnable, 0);
    return {};
}

// Also of a rest that did not come about.
void Port::resume() {
    if (std::exchange(until_, 0) != 0) {
        forget_fis();
        hardware_.write(kInterruptStatus, hardware_.read(kInterruptStatus) & ~pending_);
        route_interrupts();
    }
    if (started_) start_waiting();
    if (std::exchange(in_vectors_, false)) environment_->end_vectors();
    lock_.unlock();
}

}  // namespace ahci
}  // namespace gatehouse::ata

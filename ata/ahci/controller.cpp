#include "ata/ahci/controller.hpp"

#include <algorithm>

namespace gatehouse::ata::ahci {

constexpr std::uint64_t kHandOffLimit = 2'000;  // milliseconds, AHCI 1.3.1 section 10.6.3
constexpr std::uint32_t kAhciEnable = bits(GlobalControl::kAhciEnable);

Status Controller::take_over(Environment& environment, const DmaArena& arena) {
    environment_ = &environment;
    count_ = 0;
    if ((hardware(Hba::kCapabilities2) & kHandOffSupported) != 0) {
        // Firmware that does not answer in time has lost its claim: its engines are stopped below all the same.
        const auto let_go = [&] { return (hardware(Hba::kHandOff) & bits(HandOff::kBios)) == 0; };
        environment.write(bits(Hba::kHandOff), hardware(Hba::kHandOff) | bits(HandOff::kOsOwned));
        (void)wait_for(environment, kHandOffLimit, let_go);
    }
    environment.write(bits(Hba::kControl), kAhciEnable);
    capabilities_ = hardware(Hba::kCapabilities);
    if ((capabilities_ & bits(Capability::k64Bit)) == 0) {
        return {Error::kUnsupported, "AHCI: controller without 64-bit addresses", capabilities_};
    }

    const std::uint32_t implemented = hardware(Hba::kPortsImplemented);
    std::array<std::uint32_t, kMaximumDisks> candidates{};
    std::size_t count = 0;
    for (std::uint32_t number = 0; number < kPorts; ++number) {
        if ((implemented >> number & 1) == 0) continue;
        const PortHardware port{&environment, kPortBase + number * kPortStride};
        GATEHOUSE_TRY(port.stop());
        const bool up = (port.read(PortRegister::kSataStatus) & kDetectionMask) == kDetectionUp;
        if (up && count < kMaximumDisks) candidates[count++] = number;
    }
    if (count == 0) return {};

    const std::uint64_t share = arena.size / count / Port::kTableSize * Port::kTableSize;
    if (share < Port::kMinimumArena) return {Error::kNoSpace, "AHCI: DMA arena", arena.size};
    const std::uint32_t slot_mask = ~0u >> (31 - (capabilities_ / bits(Capability::kSlotsUnit) & 31));
    for (std::size_t i = 0; i < count; ++i) {
        const DmaArena part{arena.data + i * share, arena.physical + i * share, share};
        Port& port = ports_[count_];
        if (port.open(environment, candidates[i], slot_mask, part)) {
            ++count_;
        } else if (const Status stopped = port.stop(); !stopped) {  // it may be anybody's
            count_ = 0;
            return stopped;
        }
    }
    return {};
}

Status Controller::hand_over() {
    for (const Port& port : disks()) {
        GATEHOUSE_TRY(port.stop());
        if (port.is_attached()) visible_ports_ |= 1u << port.number();
    }
    environment_->write(bits(Hba::kControl), kAhciEnable);
    environment_->write(bits(Hba::kInterruptStatus), ~0u);
    return {};
}

void Controller::stop() {
    for (const Port& port : disks()) (void)port.stop();
}

std::uint64_t Controller::read(std::uint32_t offset, std::uint32_t size) {
    const std::uint32_t shift = 8 * (offset % 4);
    const std::uint64_t low = read_register(offset & ~3u);
    const std::uint64_t high = shift + 8 * size > 32 ? read_register((offset & ~3u) + 4) : 0;
    const std::uint64_t value = (low | high << 32) >> shift;
    return size >= 8 ? value : value & ((std::uint64_t{1} << 8 * size) - 1);
}

void Controller::write(std::uint32_t offset, std::uint32_t size, std::uint64_t value) {
    if (offset % 4 != 0 || size < 4) return;
    write_register(offset, static_cast<std::uint32_t>(value));
    if (size == 8) write_register(offset + 4, static_cast<std::uint32_t>(value >> 32));
}

std::uint32_t Controller::read_register(std::uint32_t offset) {
    if (resetting_) finish_reset();
    if (Port* port = visible(offset)) return port->read(PortRegister{offset % kPortStride});
    const Hba reg{offset};
    if (reg == Hba::kCapabilities) return capabilities_ & ~bits(Capability::kNotOffered);
    if (reg == Hba::kPortsImplemented) return visible_ports_;
    if (reg == Hba::kInterruptStatus) return hardware(reg) & visible_ports_;
    if (reg == Hba::kControl) return hardware(reg) | kAhciEnable;
    return reg == Hba::kVersion ? hardware(reg) : 0;
}

void Controller::write_register(std::uint32_t offset, std::uint32_t value) {
    if (resetting_) finish_reset();
    if (Port* port = visible(offset)) port->write(PortRegister{offset % kPortStride}, value);
    if (Hba{offset} == Hba::kInterruptStatus) environment_->write(offset, value & visible_ports_);
    if (Hba{offset} != Hba::kControl) return;
    const SpinGuard guard(lock_);
    if (resetting_) return;
    resetting_ = (value & bits(GlobalControl::kReset)) != 0;
    for (Port& port : disks().first(resetting_ ? count_ : 0)) port.reset(false);
    environment_->write(offset, (value & bits(GlobalControl::kReset, GlobalControl::kInterruptEnable)) | kAhciEnable);
}

// A port of the guest's, by the offset of one of its registers.
Port* Controller::visible(std::uint32_t offset) {
    if (offset < kPortBase) return nullptr;
    const auto port = std::ranges::find(disks(), (offset - kPortBase) / kPortStride, &Port::number);
    return port != disks().end() && port->is_attached() ? &*port : nullptr;
}

// Once the controller is out of reset (AHCI 1.3.1 section 10.4.3): into AHCI mode, and shadows in place.
void Controller::finish_reset() {
    const SpinGuard guard(lock_);
    if (!resetting_ || (hardware(Hba::kControl) & bits(GlobalControl::kReset)) != 0) return;
    environment_->write(bits(Hba::kControl), kAhciEnable);
    for (Port& port : disks()) port.reset(true);
    resetting_ = false;
}

}  // namespace gatehouse::ata::ahci

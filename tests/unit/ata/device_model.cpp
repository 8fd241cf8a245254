#include "tests/unit/ata/device_model.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace gatehouse::ata::testing {

using ahci::bits;
using ahci::PortCommand;
using ahci::PortInterrupt;
using ahci::PortRegister;

namespace {

constexpr std::uint32_t kPowered = 0x6;                   // PxCMD: POD, SUD
constexpr std::uint32_t kClearBusy = 1u << 10;            // command header: C
constexpr std::uint32_t kPacketBit = 1u << 5;             // A
constexpr std::uint32_t kRegisterFisInterrupt = 1u << 0;  // PxIS
constexpr std::uint32_t kPioSetupInterrupt = 1u << 1;
constexpr std::uint32_t kDeviceBitsInterrupt = 1u << 3;
constexpr std::uint32_t kDeviceBitsOffset = 0x58;  // in the received FIS area

constexpr std::uint8_t kReady = 0x50;  // DRDY and the bit formerly known as DSC
constexpr std::uint8_t kBusy = 0x80;
constexpr std::uint8_t kError = 0x01;
constexpr std::uint8_t kUncorrectable = 0x40;
constexpr std::uint8_t kNotFound = 0x10;

bool is_queued(std::uint8_t opcode) { return opcode == 0x60 || opcode == 0x61; }
bool is_read(std::uint8_t o) {
    return o == 0x20 || o == 0x24 || o == 0x25 || o == 0x29 || o == 0xc4 || o == 0xc8 || o == 0x60;
}
bool is_write(std::uint8_t o) {
    return o == 0x30 || o == 0x34 || o == 0x35 || o == 0x39 || o == 0x3d || o == 0xc5 || o == 0xca || o == 0xce ||
           o == 0x61;
}
bool is_extended(std::uint8_t o) {
    return o == 0x24 || o == 0x25 || o == 0x29 || o == 0x34 || o == 0x35 || o == 0x39 || o == 0x3d || o == 0xce ||
           is_queued(o);
}
bool is_pio_in(std::uint8_t o) {
    return o == 0x20 || o == 0x24 || o == 0x29 || o == 0xc4 || o == 0xec || o == 0x2f || o == 0xb0;
}

}  // namespace

// --- SparseBytes ---

SparseBytes::SparseBytes(std::size_t size) {
    void* const place = mmap(nullptr, std::max<std::size_t>(size, 1), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (place == MAP_FAILED) throw std::bad_alloc();
    bytes_ = {static_cast<std::byte*>(place), size};
}

SparseBytes::~SparseBytes() { (void)munmap(bytes_.data(), std::max<std::size_t>(bytes_.size(), 1)); }

// --- PhysicalMemory ---

PhysicalMemory::PhysicalMemory(std::uint64_t size, std::uint64_t hole, std::uint64_t hole_size,
                               std::uint64_t arena_size)
    : bytes_(size), hole_(hole), hole_size_(hole_size), arena_size_(arena_size) {
    std::ranges::fill(bytes_.all().subspan(hole, hole_size), std::byte{0x5a});
}

bool PhysicalMemory::is_guest(std::uint64_t physical, std::uint64_t size) const {
    const std::uint64_t end = physical + size;
    return end >= physical && end <= bytes_.size() && (end <= hole_ || physical >= hole_ + hole_size_);
}

bool PhysicalMemory::is_arena(std::uint64_t physical, std::uint64_t size) const {
    const std::uint64_t end = physical + size;
    return end >= physical && physical >= hole_ && end <= hole_ + arena_size_;
}

GuestBytes PhysicalMemory::map(GuestPhysical address, std::uint64_t size) {
    const std::uint64_t physical = address.unchecked();
    return is_guest(physical, size) ? GuestBytes{bytes_.data() + physical, HostPhysical(physical)} : GuestBytes{};
}

std::byte* PhysicalMemory::guest(std::uint64_t physical, std::uint64_t size) {
    EXPECT_TRUE(is_guest(physical, size));
    return bytes_.data() + physical;
}

void PhysicalMemory::device_write(std::uint64_t physical, Bytes data) {
    if (is_guest(physical, data.size())) {
        guest_dma_writes += data.size();
        if (!never_in_guest.empty() &&
            std::search(data.begin(), data.end(), never_in_guest.begin(), never_in_guest.end()) != data.end()) {
            ++leaks;
        }
    } else if (!is_arena(physical, data.size())) {
        ++stray_accesses;
        return;
    }
    copy_bytes(bytes_.all().subspan(physical), data);
}

void PhysicalMemory::device_read(std::uint64_t physical, MutableBytes data) {
    if (!is_guest(physical, data.size()) && !is_arena(physical, data.size())) {
        ++stray_accesses;
        return;
    }
    copy_bytes(data, bytes_.all().subspan(physical, data.size()));
}

bool PhysicalMemory::guest_contains(Bytes pattern) const {
    const auto in = [&](std::uint64_t from, std::uint64_t to) {
        return memmem(bytes_.data() + from, to - from, pattern.data(), pattern.size()) != nullptr;
    };
    return in(0, hole_) || in(hole_ + hole_size_, bytes_.size());
}

bool PhysicalMemory::hypervisor_untouched() const {
    return std::ranges::all_of(bytes_.all().subspan(hole_ + arena_size_, hole_size_ - arena_size_),
                               [](std::byte b) { return b == std::byte{0x5a}; });
}

// --- DiskModel ---

DiskModel::DiskModel(std::uint32_t size, std::uint64_t count) : sector_size(size), sectors(count), data_(size * count) {
    for (std::size_t i = 0; i < 255; ++i) set_identify_word(i, 0xffff);  // a drive that claims everything
    set_identify_word(0, 0x0040);
    set_identify_word(49, 0x2f00);
    set_identify_word(53, 0x0007);
    set_identify_word(69, 0xfff7);
    set_identify_word(106, size == 512 ? 0x4000 : 0x5000);
    set_identify_word(117, static_cast<std::uint16_t>(size / 2));
    set_identify_word(118, 0);
    for (std::size_t i = 0; i < 4; ++i) {
        set_identify_word(100 + i, static_cast<std::uint16_t>(count >> (16 * i)));
    }
    identify_[510] = std::byte{0xa5};
}

MutableBytes DiskModel::sector(std::uint64_t lba, std::uint64_t count) {
    return data_.all().subspan(lba * sector_size, count * sector_size);
}

void DiskModel::set_identify_word(std::size_t index, std::uint16_t value) {
    store(identify_.data() + 2 * index, value, Endian::kLittle);
}

std::array<std::byte, 512> DiskModel::identify() const {
    auto page = identify_;
    unsigned sum = 0;
    for (std::size_t i = 0; i < 511; ++i) sum += std::to_integer<unsigned>(page[i]);
    page[511] = static_cast<std::byte>(0x100 - (sum & 0xff));
    return page;
}

// --- HbaModel ---

HbaModel::HbaModel(PhysicalMemory& memory, std::uint32_t seed) : memory_(memory), random_(seed) {}

void HbaModel::plug(std::uint32_t port, DiskModel& disk, std::uint32_t signature) {
    PortModel& p = ports_[port];
    p.disk = &disk;
    p.signature = signature;
    reg(port, PortRegister::kSignature) = signature;
    reg(port, PortRegister::kSataStatus) = 0x123;
    reg(port, PortRegister::kTaskFile) = kReady;
    reg(port, PortRegister::kCommand) = kPowered;
}

void HbaModel::maybe_step() {
    if (chaos != 0 && !stepping_) {
        while (chance(100) < chaos && step()) {}
    }
}

std::uint64_t HbaModel::microseconds() {
    const std::lock_guard lock(mutex);
    time_ += 100;
    if (hand_off_delay_ > 0 && (hand_off_ & 2) != 0 && --hand_off_delay_ == 0) hand_off_ &= ~1u;
    step();
    return time_;
}

std::uint32_t HbaModel::read(std::uint32_t offset) {
    const std::lock_guard lock(mutex);
    ++register_accesses;
    maybe_step();
    std::uint32_t value = 0;
    if (offset >= ahci::kPortBase) {
        const std::uint32_t port = (offset - ahci::kPortBase) / ahci::kPortStride;
        const std::uint32_t r = (offset - ahci::kPortBase) % ahci::kPortStride;
        if (r == bits(PortRegister::kTaskFile) && ports_[port].disk == nullptr) return 0x7f;
        if (r == bits(PortRegister::kTaskFile) && (busy_ports >> port & 1) != 0) return 0x80;
        value = ports_[port].registers[r];
    } else {
        switch (offset) {
            case 0x00: value = 0xffffffc7u; break;  // CAP: everything
            case 0x04: value = control_ | 4; break;
            case 0x08: value = status_; break;
            case 0x0c:
                for (const auto& [number, p] : ports_) value |= 1u << number;
                value |= 0x80;  // an empty port
                break;
            case 0x10: value = 0x00010301; break;
            case 0x14: value = 0xcccccccc; break;
            case 0x24: value = 0x3f; break;
            case 0x28: value = hand_off_; break;
            default: value = 0xdeadbeef; break;
        }
    }
    maybe_step();
    return value;
}

void HbaModel::write(std::uint32_t offset, std::uint32_t value) {
    const std::lock_guard lock(mutex);
    ++register_accesses;
    maybe_step();
    if (offset >= ahci::kPortBase) {
        write_port((offset - ahci::kPortBase) / ahci::kPortStride, (offset - ahci::kPortBase) % ahci::kPortStride,
                   value);
    } else if (offset == 0x04) {
        if ((value & 1) != 0 && (control_ & 1) == 0) reset_delay_ = 5;
        control_ = value & 0x80000003;
        update_interrupts(false);
    } else if (offset == 0x08) {
        status_ &= ~value;
        update_interrupts(true);
    } else if (offset == 0x28) {
        hand_off_ |= value & 2;
    } else {
        ++protocol_violations;
    }
    maybe_step();
}

bool HbaModel::take_interrupt() {
    const std::lock_guard lock(mutex);
    if (interrupts_ == 0) return false;
    --interrupts_;
    return true;
}

// IS bits follow PxIS and PxIE. A message goes out when a bit of IS is newly set, and when software clears
// some bits and others remain (AHCI 1.3.1 section 10.7.2.3): nothing else makes one.
void HbaModel::update_interrupts(bool acknowledged) {
    const std::uint32_t before = status_;
    for (auto& [number, p] : ports_) {
        const std::uint32_t pending =
            p.registers[bits(PortRegister::kInterruptStatus)] & p.registers[bits(PortRegister::kInterruptEnable)];
        if (pending != 0) status_ |= 1u << number;
    }
    const bool fresh = (status_ & ~before) != 0 || (acknowledged && status_ != 0);
    if (fresh && (control_ & 2) != 0) ++interrupts_;
}

void HbaModel::raise(std::uint32_t port, std::uint32_t set) {
    reg(port, PortRegister::kInterruptStatus) |= set;
    update_interrupts(false);
}

void HbaModel::reset_port(std::uint32_t port) {
    PortModel& p = ports_[port];
    p.current.reset();
    p.queue.clear();
    p.late.clear();
    p.halted = false;
    p.stopping = 0;
    for (const auto r : {PortRegister::kInterruptStatus, PortRegister::kInterruptEnable, PortRegister::kSataError,
                         PortRegister::kSataActive, PortRegister::kCommandIssue, PortRegister::kSataControl}) {
        reg(port, r) = 0;
    }
    reg(port, PortRegister::kCommand) = kPowered;
    if (p.disk != nullptr) {
        reg(port, PortRegister::kTaskFile) = kReady;
        p.disk->queued_error_tag = 0x80;
    }
}

void HbaModel::lose_registers() {
    const std::lock_guard lock(mutex);
    for (auto& [number, p] : ports_) reset_port(number);
    control_ = 0;
    status_ = 0;
}

void HbaModel::write_port(std::uint32_t port, std::uint32_t offset, std::uint32_t value) {
    PortModel& p = ports_[port];
    const std::uint32_t command = reg(port, PortRegister::kCommand);
    switch (PortRegister{offset}) {
        case PortRegister::kCommandList:
        case PortRegister::kCommandListUpper:
            if ((command & bits(PortCommand::kListRunning)) != 0) ++protocol_violations;
            p.registers[offset] = value;
            break;
        case PortRegister::kFis:
        case PortRegister::kFisUpper:
            if ((command & bits(PortCommand::kFisRunning)) != 0) ++protocol_violations;
            p.registers[offset] = value;
            break;
        case PortRegister::kInterruptStatus:
        case PortRegister::kSataError: p.registers[offset] &= ~value; break;
        case PortRegister::kInterruptEnable:
            p.registers[offset] = value;
            update_interrupts(false);
            break;
        case PortRegister::kCommand: {
            constexpr std::uint32_t kOwn = bits(PortCommand::kListRunning, PortCommand::kFisRunning);
            const bool was = (command & 1) != 0;
            const bool is = (value & 1) != 0;
            std::uint32_t next = (value & ~kOwn & ~bits(PortCommand::kOverride)) | (command & kOwn);
            if ((value & bits(PortCommand::kOverride)) != 0) reg(port, PortRegister::kTaskFile) &= ~0x88u;
            next = (value & bits(PortCommand::kFisEnable)) != 0 ? next | bits(PortCommand::kFisRunning)
                                                                : next & ~bits(PortCommand::kFisRunning);
            if (!was && is) {
                if ((command & bits(PortCommand::kListRunning)) != 0) ++protocol_violations;
                next |= bits(PortCommand::kListRunning);
                p.halted = false;
                p.next_slot = 0;
            } else if (was && !is) {
                reg(port, PortRegister::kCommandIssue) = 0;
                reg(port, PortRegister::kSataActive) = 0;
                p.stopping = 6;
                if (late_transfers) {
                    if (p.current) p.queue.push_back(*p.current);
                    for (const Inflight& c : p.queue) {
                        if (c.phase == 0) p.late.push_back(c);
                    }
                    p.queue.clear();
                    p.current.reset();
                }
            }
            reg(port, PortRegister::kCommand) = next;
            break;
        }
        case PortRegister::kSataControl:
            if ((value & 0xf) == 1) p.link_reset = 1;  // COMRESET is being sent
            if ((value & 0xf) == 0 && p.link_reset == 1) p.link_reset = 3;
            if ((value & 0xf) > 1 && p.link_reset == 1) p.link_reset = 0;  // and nothing was reset
            if (p.disk != nullptr) {
                reg(port, PortRegister::kSataStatus) = p.link_reset != 0 ? 0 : (value & 0xf) > 1 ? 4 : 0x123;
            }
            p.registers[offset] = value;
            break;
        case PortRegister::kSataActive:
            if ((command & 1) != 0) p.registers[offset] |= value;
            break;
        case PortRegister::kCommandIssue:
            for (const Inflight& c : p.queue) {
                if (c.phase < 2 && (value >> c.slot & 1) != 0) ++protocol_violations;
            }
            if ((value & p.registers[offset]) != 0) ++protocol_violations;
            if ((command & 1) != 0) p.registers[offset] |= value;
            break;
        default: ++protocol_violations; break;
    }
}

bool HbaModel::step() {
    if (stepping_ || paused) return false;
    stepping_ = true;
    bool done = false;
    if (reset_delay_ > 0 && !never_leaves_reset) {
        if (--reset_delay_ == 0) {
            for (auto& [number, p] : ports_) reset_port(number);
            control_ = 0;
            status_ = 0;
        }
        done = true;
    }
    std::vector<std::uint32_t> order;
    for (const auto& [number, p] : ports_) order.push_back(number);
    std::shuffle(order.begin(), order.end(), random_);
    for (const std::uint32_t number : order) {
        if (done) break;
        done = step_port(number);
    }
    stepping_ = false;
    return done;
}

void HbaModel::run() {
    for (;;) {
        const std::lock_guard lock(mutex);
        if (!step()) return;
    }
}

bool HbaModel::step_port(std::uint32_t port) {
    PortModel& p = ports_[port];
    if (p.disk == nullptr) return false;
    const std::uint32_t command = reg(port, PortRegister::kCommand);
    if (p.link_reset > 1) {
        if (--p.link_reset == 1) {
            p.link_reset = 0;
            p.current.reset();
            p.queue.clear();
            p.late.clear();
            reg(port, PortRegister::kSataStatus) = 0x123;
            reg(port, PortRegister::kSignature) = p.signature;
            reg(port, PortRegister::kSataError) |= 1u << 26;
            post_register_fis(port, kReady, 1, false);
            reg(port, PortRegister::kTaskFile) = kReady | 1u << 8;
            raise(port, 1u << 6);  // PCS
        }
        return true;
    }
    const bool running = (command & bits(PortCommand::kListRunning)) != 0;
    if (!p.late.empty() && chance(16) == 0) {
        execute(port, p.late.back());
        p.late.pop_back();
        return true;
    }
    if (!running) return !p.late.empty();
    if ((command & 1) == 0) {
        // Told to stop, but not there yet: what is in flight may still move data.
        if (p.stopping > 1) {
            --p.stopping;
            if (p.current && chance(2) == 0 && p.current->phase == 0) execute(port, *p.current);
            if (!p.queue.empty() && chance(2) == 0) {
                Inflight& any = p.queue[chance(static_cast<unsigned>(p.queue.size()))];
                if (any.phase == 0) execute(port, any);
            }
            return true;
        }
        if (never_stops) return false;
        p.stopping = 0;
        p.current.reset();
        p.queue.clear();
        reg(port, PortRegister::kCommand) &= ~bits(PortCommand::kListRunning);
        return true;
    }
    if (p.halted || never_answers) return !p.late.empty();
    for (unsigned tries = 0; tries < 4; ++tries) {
        switch (chance(3)) {
            case 0:
                if (fetch_next(port)) return true;
                break;
            case 1:
                if (p.current) {
                    advance(port, *p.current);
                    return true;
                }
                break;
            default:
                if (!p.queue.empty()) {
                    // Once its FIS is posted, a command is finished before any other.
                    auto it = std::ranges::find_if(p.queue, [](const Inflight& c) { return c.phase != 0; });
                    if (it == p.queue.end()) it = p.queue.begin() + chance(static_cast<unsigned>(p.queue.size()));
                    advance(port, *it);
                    return true;
                }
                break;
        }
    }
    return p.current.has_value() || !p.queue.empty() || reg(port, PortRegister::kCommandIssue) != 0;
}

bool HbaModel::fetch_next(std::uint32_t port) {
    PortModel& p = ports_[port];
    std::uint32_t issued = reg(port, PortRegister::kCommandIssue);
    if (p.current || issued == 0) return false;
    if (std::ranges::any_of(p.queue, [](const Inflight& c) { return c.phase != 0; })) return false;
    while ((issued >> p.next_slot & 1) == 0) p.next_slot = (p.next_slot + 1) % 32;
    const std::uint32_t slot = p.next_slot;

    Inflight c;
    c.slot = slot;
    const std::uint64_t list =
        std::uint64_t{reg(port, PortRegister::kCommandListUpper)} << 32 | reg(port, PortRegister::kCommandList);
    c.header = list + slot * 32;
    std::array<std::byte, 32> header{};
    memory_.device_read(c.header, header);
    const auto flags = load<std::uint32_t>(header.data(), Endian::kLittle);
    c.descriptors = flags >> 16;
    c.packet = (flags & kPacketBit) != 0;
    c.table = load<std::uint64_t>(header.data() + 8, Endian::kLittle);
    memory_.device_read(c.table, c.fis);
    if ((flags & 0x1f) != 5 || c.fis[0] != std::byte{0x27} || (flags & 0xf000) != 0) ++protocol_violations;
    const auto opcode = std::to_integer<std::uint8_t>(c.fis[2]);
    if (c.packet != (opcode == 0xa0) || (c.packet && p.signature == 0x101)) ++protocol_violations;
    // What no packet bit announces is not there either.
    std::array<std::byte, 16> packet{};
    memory_.device_read(c.table + 0x40, packet);
    if (!c.packet && std::ranges::any_of(packet, [](std::byte one) { return one != std::byte{0}; }))
        ++protocol_violations;
    if (std::to_integer<unsigned>(c.fis[1]) == 0) {
        soft_reset(port, slot, std::to_integer<std::uint8_t>(c.fis[15]), (flags & kClearBusy) != 0);
        return true;
    }
    ++commands;
    p.disk->opcodes_seen.insert(opcode);
    ++p.disk->opcode_count[opcode];
    c.queued = is_queued(opcode);
    if (!c.queued && !p.queue.empty()) ++protocol_violations;
    if (c.queued) {
        const std::uint32_t tag = std::to_integer<std::uint32_t>(c.fis[12]) >> 3;
        if (tag != slot || (reg(port, PortRegister::kSataActive) >> slot & 1) == 0) ++protocol_violations;
        p.queue.push_back(c);
        deepest_queue = std::max<std::uint64_t>(deepest_queue, p.queue.size());
        if (error_stays && (reg(port, PortRegister::kTaskFile) & kError) != 0) {
            p.halted = true;
            raise(port, bits(PortInterrupt::kTaskFileError));
            return true;
        }
        if (std::ranges::any_of(p.late, [&](const Inflight& other) { return other.slot == slot; })) p.queue.pop_back();
        post_register_fis(port, kReady, 0, false);
        reg(port, PortRegister::kTaskFile) = kReady;
        reg(port, PortRegister::kCommandIssue) &= ~(1u << slot);
    } else {
        if ((reg(port, PortRegister::kSataActive) >> slot & 1) != 0) ++protocol_violations;
        p.current = c;
        reg(port, PortRegister::kTaskFile) = kBusy;
    }
    return true;
}

void HbaModel::soft_reset(std::uint32_t port, std::uint32_t slot, std::uint8_t control, bool clear_busy) {
    PortModel& p = ports_[port];
    if (!p.queue.empty()) ++protocol_violations;
    if ((control & 4) != 0) {
        if (clear_busy) reg(port, PortRegister::kCommandIssue) &= ~(1u << slot);
        return;
    }
    post_register_fis(port, kReady, 1, false);
    reg(port, PortRegister::kTaskFile) = kReady | 1u << 8;
    reg(port, PortRegister::kSignature) = p.signature;
    reg(port, PortRegister::kCommandIssue) &= ~(1u << slot);
    raise(port, kRegisterFisInterrupt);
}

void HbaModel::post_fis(std::uint32_t port, std::uint32_t offset, Bytes fis) {
    if ((reg(port, PortRegister::kCommand) & bits(PortCommand::kFisEnable)) == 0) return;
    const std::uint64_t base = std::uint64_t{reg(port, PortRegister::kFisUpper)} << 32 | reg(port, PortRegister::kFis);
    memory_.device_write(base + offset, fis);
}

void HbaModel::post_register_fis(std::uint32_t port, std::uint8_t status, std::uint8_t error, bool interrupt,
                                 std::uint8_t count) {
    std::array<std::byte, 20> fis{};
    fis[0] = std::byte{0x34};
    fis[1] = interrupt ? std::byte{0x40} : std::byte{0};
    fis[2] = std::byte{status};
    fis[3] = std::byte{error};
    fis[12] = std::byte{count};
    post_fis(port, ahci::kRegisterFisOffset, fis);
}

// A command's completion in three steps: data and FIS in memory; task file, PxCI, PxSACT; PxIS.
void HbaModel::advance(std::uint32_t port, Inflight& c) {
    PortModel& p = ports_[port];
    const std::uint32_t mask = 1u << c.slot;
    if (c.phase == 0) {
        execute(port, c);
        const std::uint8_t status = c.failed ? kReady | kError : kReady;
        const std::uint8_t error = c.failed ? c.result_count : 0;
        c.phase = 1;
        if (c.queued) {
            std::array<std::byte, 8> fis{std::byte{0xa1}, std::byte{0x40}, std::byte{status}, std::byte{error}};
            store<std::uint32_t>(fis.data() + 4, c.failed ? 0 : mask, Endian::kLittle);
            post_fis(port, kDeviceBitsOffset, fis);
            if (c.failed) p.disk->queued_error_tag = static_cast<std::uint8_t>(c.slot);
        } else if (c.pio_in && !c.failed) {
            std::array<std::byte, 20> fis{std::byte{0x5f}, std::byte{0x60}, std::byte{0x58}};
            fis[15] = std::byte{kReady};
            post_fis(port, 0x20, fis);
        } else {
            post_register_fis(port, status, error, true, c.failed ? 0 : c.result_count);
        }
        return;
    }
    const bool failed = c.failed;
    const bool queued = c.queued;
    if (c.phase == 1) {
        reg(port, PortRegister::kTaskFile) = failed ? kReady | kError | static_cast<std::uint32_t>(c.result_count) << 8
                                             : device_fault ? kReady | 0x20u
                                                            : kReady;
        if (queued && !failed) reg(port, PortRegister::kSataActive) &= ~mask;
        if (!queued && (!failed || clear_issue_on_error)) reg(port, PortRegister::kCommandIssue) &= ~mask;
        if (failed) p.halted = queued ? !ends_after_error : !clear_issue_on_error;
        c.phase = 2;
        if (failed) {  // the error interrupt comes at once: a halted port takes no further steps
            raise(port, bits(PortInterrupt::kTaskFileError) | (queued ? kDeviceBitsInterrupt : kRegisterFisInterrupt));
            if (!queued) p.current.reset();
        }
        return;
    }
    const bool pio = c.pio_in;
    const bool quiet = (std::to_integer<unsigned>(c.fis[15]) & 2) != 0;
    if (queued) {
        std::erase_if(p.queue, [&](const Inflight& other) { return &other == &c; });
    } else {
        p.current.reset();
    }
    if (quiet && !queued) return;
    raise(port, queued ? kDeviceBitsInterrupt : (pio ? kPioSetupInterrupt : kRegisterFisInterrupt));
}

// The header's W bit must say which way the data go.
void HbaModel::check_direction(const Inflight& c, bool out) {
    std::array<std::byte, 4> header{};
    memory_.device_read(c.header, header);
    if (((header[0] & std::byte{1 << 6}) != std::byte{0}) != out) ++protocol_violations;
}

void HbaModel::transfer_in(Inflight& c, Bytes data) {
    check_direction(c, false);
    std::uint32_t moved = 0;
    for (std::uint32_t i = 0; i < c.descriptors && !data.empty(); ++i) {
        std::array<std::byte, 16> d{};
        memory_.device_read(c.table + 0x80 + i * 16, d);
        const auto address = load<std::uint64_t>(d.data(), Endian::kLittle);
        const std::size_t size = (load<std::uint32_t>(d.data() + 12, Endian::kLittle) & 0x3fffff) + 1;
        if ((address & 1) != 0 || (size & 1) != 0) ++protocol_violations;
        const std::size_t part = std::min(size, data.size());
        memory_.device_write(address, data.first(part));
        moved += static_cast<std::uint32_t>(part);
        data = data.subspan(part);
    }
    if (!data.empty()) ++short_tables;
    std::array<std::byte, 4> count{};
    store(count.data(), moved, Endian::kLittle);
    memory_.device_write(c.header + 4, count);
}

std::vector<std::byte> HbaModel::transfer_out(Inflight& c, std::size_t size) {
    check_direction(c, true);
    std::vector<std::byte> data(size);
    MutableBytes rest(data);
    for (std::uint32_t i = 0; i < c.descriptors && !rest.empty(); ++i) {
        std::array<std::byte, 16> d{};
        memory_.device_read(c.table + 0x80 + i * 16, d);
        const auto address = load<std::uint64_t>(d.data(), Endian::kLittle);
        const std::size_t bytes = (load<std::uint32_t>(d.data() + 12, Endian::kLittle) & 0x3fffff) + 1;
        const std::size_t part = std::min(bytes, rest.size());
        memory_.device_read(address, rest.first(part));
        rest = rest.subspan(part);
    }
    if (!rest.empty()) ++short_tables;
    std::array<std::byte, 4> count{};
    store(count.data(), static_cast<std::uint32_t>(size - rest.size()), Endian::kLittle);
    memory_.device_write(c.header + 4, count);
    return data;
}

// A drive with a disc of sectors of 2,048 bytes, which would write if it were told to.
void HbaModel::execute_packet(DiskModel& drive, Inflight& c) {
    std::array<std::byte, 16> packet{};
    memory_.device_read(c.table + 0x40, packet);
    const auto operation = std::to_integer<std::uint8_t>(packet[0]);
    ++drive.packets[operation];
    const auto check_condition = [&](std::uint8_t key) {
        drive.sense_key = key;
        c.failed = true;
        c.result_count = static_cast<std::uint8_t>(key << 4);
    };
    switch (operation) {
        case 0x00: return drive.sectors == 0 ? check_condition(2) : void();  // TEST UNIT READY
        case 0x03: {                                                         // REQUEST SENSE
            std::array<std::byte, 18> sense{std::byte{0x70}, std::byte{0}, std::byte{drive.sense_key}};
            return transfer_in(c, sense);
        }
        case 0x12: return transfer_in(c, Bytes(drive.identify()).first(36));  // INQUIRY
        case 0x28: {                                                          // READ (10)
            const auto lba = load<std::uint32_t>(&packet[2], Endian::kBig);
            const auto count = load<std::uint16_t>(&packet[7], Endian::kBig);
            if (lba > drive.sectors || count > drive.sectors - lba) return check_condition(5);
            return transfer_in(c, drive.sector(lba, count));
        }
        case 0x7f: return check_condition(5);
        case 0x2a:  // WRITE (10), FORMAT UNIT, WRITE BUFFER, MODE SELECT (10), SEND KEY, BLANK
        case 0x04:
        case 0x3b:
        case 0x55:
        case 0xa3:
        case 0xa1: ++drive.dangerous_commands; return;
        default: return check_condition(0);
    }
}

void HbaModel::execute(std::uint32_t port, Inflight& c) {
    DiskModel& disk = *ports_[port].disk;
    const auto at = [&](std::size_t i) { return std::to_integer<std::uint64_t>(c.fis[i]); };
    const auto opcode = static_cast<std::uint8_t>(at(2));
    const std::uint64_t features = at(3) | at(11) << 8;
    std::uint64_t lba = at(4) | at(5) << 8 | at(6) << 16;
    std::uint64_t count = at(12);
    c.phase = 1;
    c.pio_in = is_pio_in(opcode);
    c.failed = false;
    c.result_count = 0;
    if (is_extended(opcode) || opcode == 0x06 || opcode == 0x2f || opcode == 0x47) {
        lba |= at(8) << 24 | at(9) << 32 | at(10) << 40;
        count |= at(13) << 8;
        if (c.queued) count = features;
        if (count == 0) count = 65536;
    } else {
        lba |= (at(7) & 0xf) << 24;
        if (count == 0) count = 256;
    }
    const auto fail = [&](std::uint8_t error) {
        c.failed = true;
        c.result_count = error;
    };
    if (ports_[port].signature != 0x101) {
        c.pio_in = opcode == 0xa1;
        if (opcode == 0xa0) return execute_packet(disk, c);
        if (opcode == 0xa1) return transfer_in(c, disk.identify());
        if (opcode < 0xe0) ++disk.dangerous_commands;
        return;
    }
    if (is_read(opcode) || is_write(opcode)) {
        if ((at(7) & 0x40) == 0) ++protocol_violations;
        if (lba >= disk.sectors || count > disk.sectors - lba) return fail(kNotFound);
        if (is_read(opcode)) {
            if (disk.unreadable_lba >= lba && disk.unreadable_lba < lba + count) return fail(kUncorrectable);
            transfer_in(c, disk.sector(lba, count));
        } else {
            const auto data = transfer_out(c, count * disk.sector_size);
            copy_bytes(disk.sector(lba, count), data);
            disk.sectors_written += count;
        }
        return;
    }
    switch (opcode) {
        case 0xec: transfer_in(c, disk.identify()); return;
        case 0x2f:
        case 0x47: {
            std::vector<std::byte> log(512 * at(12), static_cast<std::byte>(at(4)));
            if (at(4) == 0x10) {
                std::fill(log.begin(), log.end(), std::byte{0});
                log[0] = std::byte{disk.queued_error_tag};
                log[511] = static_cast<std::byte>(0x100 - disk.queued_error_tag);
                disk.queued_error_tag = 0x80;
            }
            if (at(4) == 0) std::fill(log.begin(), log.end(), std::byte{1});
            transfer_in(c, log);
            return;
        }
        case 0x06: {
            const auto ranges = transfer_out(c, 512 * count);
            if (features != 1) ++disk.dangerous_commands;
            for (std::size_t i = 0; i < ranges.size(); i += 8) {
                const auto range = load<std::uint64_t>(&ranges[i], Endian::kLittle);
                wipe(disk.sector(range & 0xffffffffffff, range >> 48));
            }
            return;
        }
        case 0xb0:
            c.pio_in = features == 0xd0 || features == 0xd1 || features == 0xd5;
            if (c.pio_in) {
                std::vector<std::byte> page(512 * (features == 0xd5 ? at(12) : 1), std::byte{0xd0});
                page[367] = page[368] = std::byte{0xff};  // every test that there is
                transfer_in(c, page);
            } else if (features == 0xd4 && (at(4) <= 2 || at(4) == 0x7f)) {
                ++disk.self_tests;
            } else if (features != 0xd8 && features != 0xda) {
                ++disk.dangerous_commands;
            }
            return;
        case 0xe5: c.result_count = 0xff; return;
        case 0x40:
        case 0x42:
        case 0xc6:
        case 0xe0:
        case 0xe1:
        case 0xe2:
        case 0xe3:
        case 0xe6:
        case 0xe7:
        case 0xea:
        case 0xef: return;
        default: ++disk.dangerous_commands; return;
    }
}

}  // namespace gatehouse::ata::testing

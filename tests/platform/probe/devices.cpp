#include "tests/platform/probe/devices.hpp"

#include "tests/platform/probe/hardware.hpp"

namespace probe {
namespace {

constexpr uint32_t kTarget = 0x05000000;  // ordinary memory

// Seconds of the real-time clock, the first one not a whole one.
void wait_seconds(uint32_t seconds) {
    const auto now = [] {
        out8(0x70, 0);
        return in8(0x71);
    };
    for (uint8_t last = now(); seconds > 0; --seconds) {
        while (now() == last) {}
        last = now();
    }
}

void fill(uint32_t address, uint32_t bytes, uint32_t value) {
    for (uint32_t i = 0; i < bytes; i += 4) store<uint32_t>(address + i, value);
}
bool is_filled(uint32_t address, uint32_t bytes, uint32_t value) {
    for (uint32_t i = 0; i < bytes; i += 4)
        if (load<uint32_t>(address + i) != value) return false;
    return true;
}

// ---- port 0 of the AHCI controller, function 0:1f.2 (AHCI 1.3.1, 3.3 and 4.2) ----

constexpr uint32_t kList = 0x05100000, kFis = 0x05101000, kTables = 0x05102000, kBuffers = 0x05200000;
constexpr uint32_t kSectors = 8, kBytes = kSectors * 512;
constexpr uint32_t kErrorInterrupt = 1u << 30, kSetDeviceBitsInterrupt = 1u << 3;

struct Port {
    uint32_t registers = (pci_read(0x1f, 2, 0x24) & ~0xfu) + 0x100;

    uint32_t read(uint32_t offset) const { return load<uint32_t>(registers + offset); }
    void write(uint32_t offset, uint32_t value) const { store<uint32_t>(registers + offset, value); }
    uint32_t interrupts() const { return read(0x10); }
    uint32_t task_file() const { return read(0x20); }
    uint32_t active() const { return read(0x34); }
    uint32_t issued() const { return read(0x38); }

    void stop() const {
        write(0x18, read(0x18) & ~1u);
        while (read(0x18) & 1u << 15) {}
    }
    void start() const {
        write(0x30, ~0u);
        write(0x10, ~0u);
        write(0x18, read(0x18) | 1);
    }
    void set_up() const {
        pci_write(0x1f, 2, 4, pci_read(0x1f, 2, 4) | 6);
        stop();
        write(0x18, read(0x18) & ~0x10u);
        while (read(0x18) & 1u << 14) {}
        write(0x00, kList);
        write(0x04, 0);
        write(0x08, kFis);
        write(0x0c, 0);
        write(0x18, read(0x18) | 0x10);
        start();
    }
    static uint32_t buffer(uint32_t slot) { return kBuffers + slot * kBytes; }
    void issue(uint32_t slot, uint8_t command) const {
        const uint32_t table = kTables + slot * 0x100;
        const bool queued = command == 0x60;
        store<uint32_t>(kList + slot * 32, 5 | 1u << 16);
        store<uint32_t>(kList + slot * 32 + 4, 0);
        store<uint32_t>(kList + slot * 32 + 8, table);
        store<uint32_t>(kList + slot * 32 + 12, 0);
        store<uint32_t>(table, 0x27u | 0x80u << 8 | uint32_t{command} << 16 | kSectors << 24);
        store<uint32_t>(table + 4, slot * kSectors | 0x40u << 24);
        store<uint32_t>(table + 8, 0);
        store<uint32_t>(table + 12, slot << 3);
        store<uint32_t>(table + 0x80, buffer(slot));
        store<uint32_t>(table + 0x84, 0);
        store<uint32_t>(table + 0x88, 0);
        store<uint32_t>(table + 0x8c, kBytes - 1);
        if (queued) write(0x34, 1u << slot);
        write(0x38, 1u << slot);
    }
};

// ---- gatehouse-rogue ----

enum Register : uint32_t {
    kControl = 0x3004,
    kTargetLow = 0x3008,
    kTargetHigh = 0x300c,
    kLength = 0x3010,
    kMode = 0x3014,
    kDelay = 0x3018,
    kPattern = 0x301c,
    kSource = 0x3020,
    kCount = 0x3024,
    kResult = 0x3028,
    kHeld = 0x302c,
};
enum Mode : uint32_t { kOnce, kRepeat, kOnBusMaster, kFromMemory = 0x10, kRead = 0x20, kOwnMemory = 0x40 };

struct Rogue {
    uint32_t device = 0, registers = 0, memory = 0;

    Rogue() {
        while (pci_read(device, 0, 0) != 0x67681234) ++device;
        registers = pci_read(device, 0, 0x10) & ~0xfu;
        memory = pci_read(device, 0, 0x18) & ~0xfu;
    }
    void set_command(uint32_t bits) const { pci_write(device, 0, 4, bits); }
    void place() const {  // after a reset
        pci_write(device, 0, 0x10, registers);
        pci_write(device, 0, 0x18, memory);
    }
    uint32_t read(Register at) const { return load<uint32_t>(registers + at); }
    void write(Register at, uint32_t value) const { store<uint32_t>(registers + at, value); }
    void arm(uint32_t mode, uint32_t target, uint32_t length, uint32_t pattern) const {
        write(kControl, 0);
        write(kTargetLow, target);
        write(kTargetHigh, 0);
        write(kLength, length);
        write(kMode, mode);
        write(kDelay, 20);
        write(kPattern, pattern);
        write(kControl, 1);
    }
    // Arms it for one transfer, and waits until that is made or held.
    void fire(uint32_t mode, uint32_t target, uint32_t length, uint32_t pattern) const {
        const uint32_t before = read(kCount) + read(kHeld);
        arm(mode, target, length, pattern);
        while (read(kCount) + read(kHeld) == before) {}
    }
    uint32_t capability(uint32_t id) const {
        uint32_t at = pci_read(device, 0, 0x34) & 0xff;
        while (at && (pci_read(device, 0, at) & 0xff) != id) at = pci_read(device, 0, at) >> 8 & 0xff;
        return at;
    }
};

constexpr uint32_t kMemorySpace = 2, kBusMaster = 4;

}  // namespace

void print_queued_commands() {
    const Port port;
    port.set_up();
    port.issue(0, 0x60);
    while (port.active()) {}
    print_fact("read", load<uint32_t>(Port::buffer(0)));

    port.issue(1, 0x60);
    port.issue(2, 0x60);
    port.issue(3, 0x60);
    print_fact("in_flight", port.active() >> 2);  // the first may have ended
    port.write(0x10, ~0u);
    port.stop();
    const uint32_t interrupts = port.interrupts();
    fill(Port::buffer(1), 3 * kBytes, 0xababababu);
    wait_seconds(4);
    print_fact("landed", !is_filled(Port::buffer(1), 3 * kBytes, 0xababababu));
    print_fact("reported", port.interrupts() | interrupts);
    print_fact("active", port.active() | port.issued());
    port.start();
    port.issue(1, 0x60);
    while (port.active()) {}
    print_fact("read_again", load<uint32_t>(Port::buffer(1)));

    port.write(0x10, ~0u);
    port.issue(0, 0xff);
    while (!(port.interrupts() & kErrorInterrupt)) {}
    print_fact("refused", port.task_file() & 1);
    port.stop();
    port.start();
    fill(Port::buffer(2), kBytes, 0);
    port.issue(2, 0x60);
    print_fact("error_at_acceptance", port.interrupts() & kErrorInterrupt);
    while (port.active() && !(port.interrupts() & kErrorInterrupt)) {}
    print_fact("status_after", port.task_file() & 1);
    print_fact("reported_after", port.interrupts() & (kErrorInterrupt | kSetDeviceBitsInterrupt));
    print_fact("read_after", load<uint32_t>(Port::buffer(2)));
}

void print_rogue() {
    const Rogue rogue;
    print_fact("class", pci_read(rogue.device, 0, 8) >> 16);
    print_fact("memory_bar", pci_read(rogue.device, 0, 0x18) & 0xf);
    rogue.set_command(kMemorySpace);
    store<uint32_t>(kTarget, 0);
    rogue.fire(kOnce, kTarget, 4, 0x01);
    print_fact("without_bus_master", load<uint32_t>(kTarget));
    rogue.set_command(kMemorySpace | kBusMaster);
    print_fact("with_bus_master", load<uint32_t>(kTarget));
    print_fact("armed_after_once", rogue.read(kControl));

    fill(kTarget, 0x10004, 0);
    fill(rogue.memory, 0x10000, 0x02020202);
    rogue.write(kSource, 0);
    rogue.fire(kOnce | kFromMemory, kTarget, 0x10000, 0);
    print_fact("whole_length", is_filled(kTarget, 0x10000, 0x02020202) && load<uint32_t>(kTarget + 0x10000) == 0);
    store<uint32_t>(kTarget, 0x03);
    rogue.write(kSource, 0x1000);
    rogue.fire(kOnce | kRead, kTarget, 4, 0);
    print_fact("stolen", load<uint32_t>(rogue.memory + 0x1000));
    // MOV EAX, 0x00000004; RET
    store<uint64_t>(rogue.memory, 0xc3'00000003'b8);
    rogue.set_command(kMemorySpace);
    rogue.fire(kOnce | kOwnMemory, 1, 4, 0x04);
    uint32_t result;
    asm volatile("call *%1" : "=a"(result) : "r"(rogue.memory) : "memory");
    print_fact("executed", result);

    uint32_t before = rogue.read(kCount);
    rogue.arm(kOnBusMaster, kTarget, 4, 0x05);
    wait_seconds(1);
    print_fact("before_bus_master", rogue.read(kCount) - before);
    for (int i = 0; i < 3; ++i) {
        rogue.set_command(kMemorySpace | kBusMaster);
        rogue.set_command(kMemorySpace);
    }
    print_fact("on_bus_master", rogue.read(kCount) - before);
    print_fact("on_bus_master_wrote", load<uint32_t>(kTarget));

    rogue.set_command(kMemorySpace | kBusMaster);
    before = rogue.read(kCount);
    rogue.arm(kRepeat, kTarget, 4, 0x06);
    while (rogue.read(kCount) - before < 3) {}
    rogue.write(kControl, 0);
    before = rogue.read(kCount);
    wait_seconds(2);
    print_fact("after_disarming", rogue.read(kCount) - before);
    if (const uint32_t at = rogue.capability(0x0f)) {
        print_fact("iommu_type", pci_read(rogue.device, 0, at) >> 16 & 7);
        print_fact("iommu_base", pci_read(rogue.device, 0, at + 4) == (rogue.registers | 1));
        store<uint64_t>(rogue.registers + 0x18, 0x1234567890);
        print_fact("iommu_register", load<uint64_t>(rogue.registers + 0x18));
    }
}

void print_rogue_behind_iommu(void (*set_device_table)(uint32_t pages)) {
    const Rogue rogue;
    rogue.set_command(kMemorySpace | kBusMaster);
    set_device_table(2);
    store<uint32_t>(kTarget, 0);
    rogue.fire(kOnce, kTarget, 4, 0x01);
    print_fact("covered", load<uint32_t>(kTarget));
    print_fact("covered_result", rogue.read(kResult));
    store<uint32_t>(kApic + 0xf0, 0x1ff);
    rogue.fire(kOnce, kApic, 4, 0x40);  // a message signalled interrupt with that vector
    print_fact("covered_interrupt", load<uint32_t>(kApic + 0x220) & 1);
    set_device_table(1);
    rogue.fire(kOnce, kTarget, 4, 0x02);
    print_fact("beyond", load<uint32_t>(kTarget));
    print_fact("beyond_accepted", rogue.read(kResult) == 0);
    rogue.fire(kOnce, kApic, 4, 0x60);
    print_fact("beyond_interrupt", load<uint32_t>(kApic + 0x230) & 1);
}

void print_rogue_reset() {
    const Rogue rogue;
    rogue.set_command(kMemorySpace | kBusMaster);
    rogue.arm(kRepeat, kTarget, 4, 0x01);
    while (rogue.read(kCount) == 0) {}
    if (const uint32_t express = rogue.capability(0x10)) {
        print_fact("flr", pci_read(rogue.device, 0, express + 4) >> 28 & 1);
        pci_write(rogue.device, 0, express + 8, 1u << 15);
    } else if (const uint32_t power = rogue.capability(0x01)) {
        pci_write(rogue.device, 0, power + 4, 3);
        store<uint32_t>(kTarget, 0);
        wait_seconds(2);
        print_fact("asleep", load<uint32_t>(kTarget));
        print_fact("no_soft_reset", pci_read(rogue.device, 0, power + 4) & 8);
        pci_write(rogue.device, 0, power + 4, 0);
    } else {
        rogue.set_command(0);
    }
    print_fact("command", pci_read(rogue.device, 0, 4) & 0xffff);
    rogue.place();
    rogue.set_command(kMemorySpace | kBusMaster);
    print_fact("armed", rogue.read(kControl));
    store<uint32_t>(kTarget, 0);
    wait_seconds(2);
    print_fact("fires", load<uint32_t>(kTarget));
}

}  // namespace probe

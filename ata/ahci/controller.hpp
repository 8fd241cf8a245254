// An AHCI host bus adapter (AHCI 1.3.1) of which the guest sees a mediated copy.
//
// Life of a controller:
//
//     take_over()          firmware is asked to let go, all ports are stopped, those with a disk get memory
//     disks()              identify(), read_sectors(): the mediator's own commands, polled, for finding and opening the
//                          vault; attach() gives a disk to the guest, one that is not attached stays absent
//     hand_over()          the guest may run; from here on only read(), write() and stop()
//
// What the hypervisor owes:
//   - Traps every guest access to the ABAR's first kRegisterSpace bytes and calls read() or write() with it. The rest
//     of the BAR reads zeros. The ABAR itself is a virtual BAR: a guest that moves it moves only the trap.
//   - Hides the other way to the registers, the index/data pair (AHCI 1.3.1 section 2.4): the SATA capability (ID 12h)
//     is taken out of the PCI capability list, and I/O ports of the other BARs are refused. A controller in IDE mode
//     (class code 0101h) is not this one, but ide/channel.hpp's.
//   - Lets the controller's DMA reach guest RAM and the arena, nothing else.
//   - Delivers the controller's interrupts straight to the guest. Nothing here injects one: every event that the guest
//     sees is an event of the device.
//
// The mediator works only inside of guest accesses: of PxIS, PxTFD, PxSACT and PxCI. A guest that waited by
// polling RAM, without ever reading a register, would wait forever.
//
// Locking: any number of CPUs may call read() and write() at once. Each port has a lock of its own,
// held over encryption and decryption too: a guest CPU that reads PxCI while another decrypts must wait for
// it, or it would miss a completion whose interrupt has gone by. (Guests serialise a port themselves, so
// nobody waits in practice.)
//
// Whatever the guest does ends in what hardware would do. Ports that are absent, and registers that are not
// listed, read zero and ignore writes. Accesses other than aligned ones of 4 and 8 bytes are undefined in
// AHCI: reads work, writes are ignored.
#pragma once

#include "ata/ahci/port.hpp"

namespace gatehouse::ata::ahci {

class Controller {
  public:
    static constexpr std::uint32_t kRegisterSpace = 0x1100;  // generic host control and 32 ports
    static constexpr std::size_t kMaximumDisks = 8;          // further disks stay absent

    // Takes the controller from the firmware and stops it. Ports where no ATA disk answers, or one that
    // stays busy, stay absent, and so do port multipliers. Packet devices (ATAPI) are the guest's. All share the arena
    // evenly, Port::kMinimumArena at least. kTimeout: a DMA engine does not let go. kNoSpace: the arena
    // is too small for the disks found. kUnsupported: a controller of 32-bit addresses.
    [[nodiscard]] Status take_over(Environment& environment, const DmaArena& arena);

    // The ATA disks, and the packet devices, which are attached already. To be used before hand_over() only.
    [[nodiscard]] std::span<Port> disks() { return std::span(ports_).first(count_); }

    // Puts the controller into the state that a guest expects after reset.
    [[nodiscard]] Status hand_over();

    // The guest's accesses, at a byte offset into the ABAR; size 1, 2, 4 or 8.
    [[nodiscard]] std::uint64_t read(std::uint32_t offset, std::uint32_t size);
    void write(std::uint32_t offset, std::uint32_t size, std::uint64_t value);

    // Stops all DMA, before a reset or power-off. The guest is not to be run afterwards.
    void stop();

  private:
    [[nodiscard]] std::uint32_t read_register(std::uint32_t offset);
    void write_register(std::uint32_t offset, std::uint32_t value);
    [[nodiscard]] std::uint32_t hardware(Hba reg) { return environment_->read(bits(reg)); }
    [[nodiscard]] Port* visible(std::uint32_t offset);
    void finish_reset();

    Environment* environment_ = nullptr;
    std::uint32_t capabilities_ = 0;
    std::uint32_t visible_ports_ = 0;
    SpinLock lock_;                        // taken before any port's
    std::atomic<bool> resetting_ = false;  // GHC.HR was set by the guest
    std::array<Port, kMaximumDisks> ports_{};
    std::size_t count_ = 0;  // of them in use
};

}  // namespace gatehouse::ata::ahci

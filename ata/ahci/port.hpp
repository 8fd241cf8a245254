// One AHCI port with a disk, or a packet device: the guest's register file in front, the real port behind, a shadow in between.
//
// The real PxCLB and PxFB point into the arena, always. The guest's values are kept for it, and for finding
// its command headers and its received-FIS area.
//
//   A slot's way      guest writes PxCI      device executes      guest reads PxIS, PxTFD, PxSACT or PxCI
//                          |                                          |
//     free --> fetch, check, classify --> waiting --> start --> running --> finish --> free
//                                           ^                                 |
//                                           +------ more parts to do ---------+
//
// fetch    copies header, FIS and, as they are needed, region descriptors: each is read once from guest memory.
// start    a read gets descriptors that point into guest pages, or, for sectors that the guest must not see, into the
//          sink; a write is encrypted into bounce units. What does not fit into the shadow table (248 descriptors) or
//          into a command's share of bounce memory (1.25 MiB) is done in several device commands, the slot being busy
//          for the guest until the last. A waiting command is started in the order of arrival; queued (NCQ) and other
//          commands are never mixed in the device.
// refused  a command that policy, volume or a descriptor forbids waits until the device is idle, and is replaced by one
//          that does nothing, for its interrupt. What the guest then sees is the abort of a drive that does not have the
//          command: PxTFD, PxIS.TFES, PxCI left set, port halted until PxCMD.ST is cleared; for a queued one the NCQ
//          error log as well. The drive itself has seen no error, and has none to recover from. The DHRS of what
//          replaced the command stays pending in the device until the guest has cleared what it sees instead, and is
//          enabled as that is by the guest's PxIE: so it interrupts for as long as hardware would.
//          A packet device's refusal is the drive's own, of a packet command that no drive has.
// packet   is sent with all of its own descriptors, at most 185: how much it moves is for the drive to say. The policy has
//          none that writes, and nothing is encrypted.
// finish   decrypts in place. Only then do PxCI, PxSACT and the guest's copy of the received FIS show it. Bits of PxIS
//          are shown from before the look at PxCI, so they never announce what is not finished.
// stop     PxCMD.ST = 0 drops all slots for the guest; nothing is started any more. With commands under way the
//          device keeps its ST until it has ended them, and the guest reads PxCMD.CR = 1 for so long: there are controllers
//          (QEMU's to 10.0) whose transfers outlive CR, and would land in tables, bounce units or guest pages that
//          have a new use then. A drive that has reported an error has given up what it held (it waits for the error log to
//          be read), after a grace of 100 ms in which it ended nothing: QEMU's goes on with the other commands, and the next
//          that ends takes the error out of PxTFD. A drive that does neither is stopped by resetting port or controller, as
//          drivers do then.
//
// Arena of a port:   0x00000  command list (1 KiB), received FIS (256 bytes)
//                    0x01000  sink: what hidden sectors are read into
//                    0x02000  32 command tables of 4 KiB
//                    0x22000  bounce units of 64 KiB, at most 64
//
// Known limits: a sector scattered over more than 64 descriptors is refused; the interrupt bit of descriptors
// (DPS) is not carried over.
#pragma once

#include "ata/ahci/scatter_list.hpp"
#include "ata/policy.hpp"

namespace gatehouse::ata::ahci {

// A port's registers on the real controller.
struct PortHardware {
    Environment* controller = nullptr;
    std::uint32_t base = 0;

    [[nodiscard]] std::uint32_t read(PortRegister reg) const { return controller->read(base + bits(reg)); }
    void write(PortRegister reg, std::uint32_t value) const { controller->write(base + bits(reg), value); }
    // Stops command list and FIS reception (AHCI 1.3.1 section 10.1.2: 500 ms each) and the port's interrupts.
    [[nodiscard]] Status stop() const;
};

class Port final : public Disk, private OwnCommands {
  public:
    static constexpr std::uint32_t kTableSize = 4096;
    static constexpr std::uint32_t kDescriptors = (kTableSize - kDescriptorOffset) / kDescriptorSize;
    static constexpr std::uint32_t kMaximumUnits = 64;
    static constexpr std::uint32_t kShareUnits = 20;  // of one command: what Linux asks for at most
    static constexpr std::uint64_t kSinkOffset = 0x1000;
    static constexpr std::uint64_t kTablesOffset = 0x2000;
    static constexpr std::uint64_t kBounceOffset = kTablesOffset + kSlots * kTableSize;
    static constexpr std::uint64_t kMinimumArena = kBounceOffset + 8 * kUnitSize;
    static constexpr std::uint64_t kMaximumArena = kBounceOffset + kMaximumUnits * kUnitSize;

    // --- Before the guest, on one CPU ---

    // Gives a stopped port its arena (at least kMinimumArena) and starts it. kTimeout: busy for 10 s;
    // kNotFound: what answers is neither an ATA disk nor a packet device.
    [[nodiscard]] Status open(Environment& environment, std::uint32_t number, std::uint32_t slot_mask,
                              const DmaArena& arena);
    [[nodiscard]] Status stop() const { return hardware_.stop(); }
    [[nodiscard]] OwnCommands* own_commands() override { return this; }

    // --- The guest's accesses, any number of CPUs ---

    [[nodiscard]] std::uint32_t read(PortRegister reg);
    void write(PortRegister reg, std::uint32_t value);
    // The controller is being reset, until it `is_over`: reads yield zero, writes are ignored.
    void reset(bool is_over);

  private:
    struct Slot {
        std::uint32_t index = 0;
        Command command{};
        std::uint64_t ticket = 0;       // order of arrival
        ScatterList guest{};            // where the guest's data go on
        std::uint64_t units = 0;        // bounce units of this part
        std::uint32_t header = 0;       // header bits of a soft reset
        std::uint32_t done = 0;         // sectors finished
        std::uint32_t part = 0;         // sectors in the device's hands
        std::uint32_t descriptors = 0;  // in the shadow table
        std::uint32_t transferred = 0;  // PRDBC so far

        [[nodiscard]] std::uint32_t bit() const { return 1u << index; }
    };

    // own_commands.cpp
    [[nodiscard]] Status execute(const TaskFile& task, MutableBytes out) override;
    void restart();
    [[nodiscard]] bool is_lost(const TaskFile& task);
    Status rest() override;
    void resume() override;
    Status write_sectors(std::uint64_t lba, Bytes data) override;
    Status flush() override;

    // port.cpp: registers and life
    void write_command(std::uint32_t value);
    void route_interrupts() const;
    void drop_slots(bool draining);
    void settle();
    void place_shadow() const;
    void forget_fis() const { wipe(arena_.data + kCommandListSize, kFisAreaSize); }

    // slots.cpp: a slot's way
    void issue(std::uint32_t value);
    [[nodiscard]] Command fetch_command(Slot& slot);
    [[nodiscard]] std::uint32_t process();
    [[nodiscard]] std::uint32_t collect();
    void refuse(std::uint32_t slots);
    void start_waiting();
    [[nodiscard]] bool start(Slot& slot);
    void finish(Slot& slot);
    void publish_fis() const;
    void store_command(const Slot& slot, const TaskFile& task, std::uint32_t header) const;

    // slots.cpp: data
    [[nodiscard]] bool map_read(Slot& slot);
    [[nodiscard]] bool map_pieces(Slot& slot, std::uint32_t size);
    void add_descriptor(Slot& slot, HostPhysical physical, std::uint32_t size) const;
    [[nodiscard]] std::uint32_t share(const Slot& slot) const;
    [[nodiscard]] std::uint32_t sectors_per_unit() const { return kUnitSize / volume_.geometry.sector_size; }
    [[nodiscard]] std::byte* take_unit(Slot& slot, std::uint32_t size);
    [[nodiscard]] bool encrypt_write(Slot& slot);
    [[nodiscard]] bool copy_ranges(Slot& slot);
    void filter_block(const Slot& slot);

    [[nodiscard]] std::byte* table(const Slot& slot) const {
        return arena_.data + kTablesOffset + slot.index * kTableSize;
    }
    [[nodiscard]] ScatterList shadow(const Slot& slot) const;
    [[nodiscard]] GuestPhysical address(PortRegister low) const {
        return GuestPhysical(address_[bits(low) / 4] | std::uint64_t{address_[bits(low) / 4 + 1]} << 32);
    }

    PortHardware hardware_{};
    std::uint32_t slot_mask_ = 0;  // slots that the controller has
    std::uint32_t units_ = 0;      // bounce units

    // The guest's registers.
    std::array<std::uint32_t, 4> address_{};  // PxCLB, PxCLBU, PxFB, PxFBU
    bool resetting_ = false;                  // with the controller
    bool started_ = false;                    // PxCMD.ST
    bool draining_ = false;                   // not started, but the device holds running_ still
    std::uint32_t enabled_ = 0;               // PxIE
    std::uint32_t errors_ = 0;                // PxIS bits of ours; the device's DHRS is the line that they pull
    std::uint32_t next_command_ = 0;          // PxCMD, once the port is drained
    bool failed_ = false;                     // the device has reported an error since the port was started
    std::uint64_t drained_since_ = 0;         // microseconds: of the stop, of the error, or of the last command's end
    bool fis_enabled_ = false;                // PxCMD.FRE
    bool announced_ = false;    // a finished command's PxIS bits may not have been cleared by the guest yet
    std::uint32_t active_ = 0;  // PxSACT

    // Slots, one bit each.
    std::uint32_t waiting_ = 0;
    std::uint32_t running_ = 0;
    std::uint32_t queued_ = 0;            // running as NCQ
    std::uint32_t aborting_ = 0;          // refused: its stand-in runs, or has, and the port is halted, PxTFD kRefusal
    std::uint32_t split_ = 0;             // begun, with parts left after the one in the device's hands
    std::uint32_t accepted_ = 0;          // NCQ, taken by the device: PxCI is clear, PxSACT is set
    std::uint32_t refused_tag_ = kSlots;  // queued command refused last, until its error log was read
    std::uint64_t next_ticket_ = 0;
    std::uint64_t free_ = 0;  // bounce units, one bit each
    std::array<Slot, kSlots> slots_{};
};

}  // namespace gatehouse::ata::ahci

// One AHCI port with a disk: the guest's register file in front, the real port behind, a shadow in between.
//
// The real PxCLB and PxFB point into the arena, always. The guest's values are kept for it, and for finding
// its command headers and its received-FIS area.
//
//   A slot's way      guest writes PxCI      device executes            guest reads PxIS, PxTFD, PxSACT or
//   PxCI
//                          |                                                |
//     free --> fetch, check, classify --> waiting --> start --> running --> finish --> free
//                                           ^                                |
//                                           +---- more parts to do ----------+
//
// fetch    copies header, FIS and, as they are needed, region descriptors: each is read once from guest
// memory. start    a read gets descriptors that point into guest pages, or, for sectors that the guest must
// not see, into the
//          sink; a write is encrypted into bounce units. What does not fit into the shadow table (248
//          descriptors) or into a command's share of bounce memory (1 MiB) is done in several device
//          commands, the slot being busy for the guest until the last. A waiting command is started in the
//          order of arrival; queued (NCQ) and other commands are never mixed in the device.
// refused  a command that policy, volume or a descriptor forbids is replaced by one that every disk aborts.
// The device
//          itself then reports the error and interrupts, in every detail as hardware does: PxTFD, PxIS.TFES,
//          PxCI left set, port halted until PxCMD.ST is cleared. For a queued command the NCQ error log is
//          supplied.
// finish   decrypts in place. Only then do PxCI, PxSACT and the guest's copy of the received FIS show it.
// Bits of
//          PxIS are shown from before the look at PxCI, so they never announce what is not finished.
// stop     PxCMD.ST = 0 drops all slots. Shadow tables and bounce units are used again only after PxCMD.CR =
// 0: until
//          then the device may still be reading them.
//
// Arena of a port:   0x00000  command list (1 KiB), received FIS (256 bytes)
//                    0x01000  sink: what hidden sectors are read into
//                    0x02000  32 command tables of 4 KiB
//                    0x22000  bounce units of 16 KiB
//
// Known limits: a sector scattered over more than 64 descriptors is refused; the interrupt bit of descriptors
// (DPS) is not carried over.
#pragma once

#include "ata/ahci/scatter_list.hpp"
#include "ata/ahci/unit_set.hpp"
#include "ata/command_policy.hpp"
#include "hypervisor/base/spin_lock.hpp"

namespace gatehouse::ata::ahci {

inline constexpr std::uint64_t kMillisecond = 1000;  // in Clock's unit

// Waits until condition() holds, at most `limit` microseconds.
template <typename Condition>
[[nodiscard]] bool wait_for(Clock& clock, std::uint64_t limit, Condition condition) {
    const std::uint64_t start = clock.microseconds();
    while (!condition()) {
        if (clock.microseconds() - start > limit) return false;
        __builtin_ia32_pause();
    }
    return true;
}

// Enters the vector unit when it is first needed and leaves it at the end of the scope.
class VectorSection {
  public:
    explicit VectorSection(VectorUnit& unit) : unit_(unit) {}
    ~VectorSection() {
        if (entered_) unit_.end();
    }
    VectorSection(const VectorSection&) = delete;
    VectorSection& operator=(const VectorSection&) = delete;
    void enter() {
        if (!entered_) unit_.begin();
        entered_ = true;
    }

  private:
    VectorUnit& unit_;
    bool entered_ = false;
};

// A port's registers on the real controller.
class PortHardware {
  public:
    constexpr PortHardware() = default;
    constexpr PortHardware(HbaRegisters& registers, std::uint32_t port)
        : registers_(&registers), base_(kPortBase + port * kPortStride) {}

    [[nodiscard]] std::uint32_t read(PortRegister reg) const { return registers_->read(base_ + bits(reg)); }
    void write(PortRegister reg, std::uint32_t value) const { registers_->write(base_ + bits(reg), value); }
    // Stops command list and FIS reception (AHCI 1.3.1 section 10.1.2: 500 ms each) and the port's
    // interrupts.
    [[nodiscard]] Status stop(Clock& clock) const;

  private:
    HbaRegisters* registers_ = nullptr;
    std::uint32_t base_ = 0;
};

class Port {
  public:
    static constexpr std::uint32_t kTableSize = 4096;
    static constexpr std::uint32_t kDescriptors = (kTableSize - kDescriptorOffset) / kDescriptorSize;
    static constexpr std::uint32_t kUnitSize = 16 * 1024;
    static constexpr std::uint32_t kShareUnits = 64;  // of one command
    static constexpr std::uint64_t kBounceOffset = 0x2000 + kSlots * kTableSize;
    static constexpr std::uint64_t kMinimumArena = kBounceOffset + 16 * kUnitSize;
    static constexpr std::uint64_t kMaximumArena = kBounceOffset + UnitSet::kMaximum * kUnitSize;

    constexpr Port() = default;

    // --- Before the guest, on one CPU ---

    // Gives a stopped port its arena (at least kMinimumArena) and starts it. kTimeout: busy for 10 s;
    // kNotFound: what answers is no ATA disk.
    [[nodiscard]] Status open(const Environment& environment, std::uint32_t number, std::uint32_t slots,
                              const DmaArena& arena);
    void close() { open_ = false; }
    [[nodiscard]] bool is_open() const { return open_; }
    [[nodiscard]] std::uint32_t number() const { return number_; }
    // See Controller.
    [[nodiscard]] Result<Geometry> identify(Page raw);
    [[nodiscard]] Status read_sectors(std::uint64_t lba, MutableBytes out);
    [[nodiscard]] Status attach(const Volume& volume);
    [[nodiscard]] bool attached() const { return attached_; }
    [[nodiscard]] Status stop() const { return hardware_.stop(*environment_.clock); }

    // --- The guest's accesses, any number of CPUs ---

    [[nodiscard]] std::uint32_t read(PortRegister reg);
    void write(PortRegister reg, std::uint32_t value);
    void poll();
    // The controller is being reset, and has been.
    void begin_reset();
    void end_reset();

  private:
    struct Slot {
        Command command;
        std::uint64_t ticket = 0;       // order of arrival
        ScatterList guest;              // where the guest's data go on
        std::uint32_t header = 0;       // header bits of a soft reset
        std::uint32_t done = 0;         // sectors finished
        std::uint32_t part = 0;         // sectors in the device's hands
        std::uint32_t descriptors = 0;  // in the shadow table
        std::uint32_t transferred = 0;  // PRDBC so far
        UnitSet units;                  // bounce memory of this part
    };

    // port.cpp: registers and life
    [[nodiscard]] Status execute(const TaskFile& task, std::uint32_t size);
    void write_command(std::uint32_t value, VectorSection& vectors);
    void drop_slots();
    void place_shadow() const;

    // slots.cpp: a slot's way
    void issue(std::uint32_t value, VectorSection& vectors);
    [[nodiscard]] Command fetch_command(std::uint32_t index, Slot& slot);
    [[nodiscard]] std::uint32_t process(VectorSection& vectors);
    void start_waiting(VectorSection& vectors);
    [[nodiscard]] bool start(std::uint32_t index, VectorSection& vectors);
    void finish(std::uint32_t index, VectorSection& vectors);
    void publish_fis() const;

    // transfer.cpp: data
    [[nodiscard]] bool map_page_data(std::uint32_t index, Slot& slot);
    [[nodiscard]] bool map_read(std::uint32_t index, Slot& slot);
    [[nodiscard]] bool encrypt_write(std::uint32_t index, Slot& slot, VectorSection& vectors);
    void decrypt_read(std::uint32_t index, const Slot& slot, VectorSection& vectors);
    void filter_page(std::uint32_t index, const Slot& slot);
    [[nodiscard]] bool map_pieces(std::uint32_t index, Slot& slot, std::uint32_t size);
    void add_descriptor(std::uint32_t index, Slot& slot, std::uint64_t address, std::uint32_t size);
    [[nodiscard]] std::uint32_t write_part(const Slot& slot) const;
    [[nodiscard]] std::uint32_t write_units(const Slot& slot) const;

    void store_command(std::uint32_t index, const TaskFile& task, std::uint32_t header,
                       std::uint32_t descriptors);
    [[nodiscard]] std::byte* table(std::uint32_t index) const { return arena_.data + table_offset(index); }
    [[nodiscard]] static std::uint64_t table_offset(std::uint32_t index) {
        return 0x2000 + std::uint64_t{index} * kTableSize;
    }
    [[nodiscard]] static std::uint64_t unit_offset(std::uint32_t unit) {
        return kBounceOffset + std::uint64_t{unit} * kUnitSize;
    }

    SpinLock lock_;
    Environment environment_{};
    PortHardware hardware_;
    DmaArena arena_{};
    std::uint32_t number_ = 0;
    std::uint32_t slot_mask_ = 0;  // slots that the controller has
    std::uint32_t units_ = 0;      // bounce units
    Geometry geometry_{};
    Volume volume_{};
    bool open_ = false;
    bool attached_ = false;

    // The guest's registers.
    std::uint64_t command_list_ = 0;
    std::uint64_t fis_ = 0;
    bool started_ = false;      // PxCMD.ST
    bool fis_enabled_ = false;  // PxCMD.FRE
    bool announced_ = false;    // a finished command's PxIS bits may not have been cleared by the guest yet
    std::uint32_t active_ = 0;  // PxSACT

    // Slots, one bit each.
    std::uint32_t waiting_ = 0;
    std::uint32_t running_ = 0;
    std::uint32_t queued_ = 0;    // running as NCQ
    std::uint32_t aborting_ = 0;  // running, refused
    std::uint32_t split_ = 0;     // begun, with parts left after the one in the device's hands
    std::uint32_t accepted_ = 0;  // NCQ, taken by the device: PxCI is clear, PxSACT is set
    std::uint64_t next_ticket_ = 0;
    std::uint32_t refused_tag_ = kSlots;  // queued command refused last, until its error log was read
    UnitSet free_;
    std::array<Slot, kSlots> slots_{};
    std::array<std::byte, 4096> sector_{};  // a sector in pieces, put together
};

}  // namespace gatehouse::ata::ahci

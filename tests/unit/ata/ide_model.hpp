// A PCI IDE controller with ATA disks, for tests of the mediator: two channels in compatibility mode, their bus masters, and
// the memory that they reach (device_model.hpp).
//
// A command is under way until step() or time carries it on. The model is a judge as well: it counts what the mediator must
// never cause.
#pragma once

#include "ata/ide/channel.hpp"
#include "tests/unit/ata/device_model.hpp"

namespace gatehouse::ata::testing {

class IdeModel final : public Environment {
  public:
    static constexpr std::uint16_t kMasters = 0xc040;

    explicit IdeModel(PhysicalMemory& memory) : memory_(memory) {}
    void plug(unsigned channel, unsigned device, DiskModel& disk, bool packet = false);

    std::uint32_t read(std::uint32_t offset) override;
    void write(std::uint32_t offset, std::uint32_t value) override;
    std::uint64_t microseconds() override;
    GuestBytes map(GuestPhysical address, std::uint64_t size) override { return memory_.map(address, size); }
    void begin_vectors() override { ++vectors; }
    void end_vectors() override { --vectors; }

    // Carries on what is under way. False: nothing is.
    bool step();
    void run() {
        while (step()) {}
    }
    // Transfers that went on after their bus master was stopped, of `late_transfers`, end now.
    void land_late();
    [[nodiscard]] std::size_t late() const { return late_.size(); }
    // The transfer under way has met an error, which the bus master shows: nothing will come of it.
    void fail_master(unsigned channel) { channels_[channel].fault = true, channels_[channel].master_status |= 2; }
    // True once for each interrupt of a channel.
    bool take_interrupt(unsigned channel) { return std::exchange(channels_[channel].interrupt, false); }

    // Behaviour
    bool paused = false;          // time carries nothing on
    bool late_transfers = false;  // stopping a bus master does not stop its transfer
    bool stuck_busy = false;      // commands never end
    bool spurious_data = false;   // DRQ is shown, whatever there is
    bool vanished = false;        // nobody drives the bus
    bool short_transfer = false;  // the drive ends without an error, and without the last sector
    bool master_stuck = false;
    Extent vault;               // sectors
    bool ends_on_look = false;  // commands end just before the bus master's status is read

    // Judgement
    std::uint64_t violations = 0;        // commands to a drive that is not ready, registers of the wrong size
    std::uint64_t foreign_tables = 0;    // descriptors outside of the arena
    std::uint64_t refused_executed = 0;  // commands that the policy does not list, but NOP
    std::uint64_t vault_moved = 0;       // transfers that had sectors of `vault`
    std::uint64_t forbidden_writes = 0;  // DMA to what the device may only read, of either channel's part of the arena
    std::uint64_t commands = 0;
    std::uint64_t accesses = 0;
    std::int64_t vectors = 0;

  private:
    struct Channel {
        std::array<DiskModel*, 2> disks{};
        std::array<bool, 2> packet{};
        std::array<std::uint8_t, 6> now{}, before{};  // FEATURES to LBA HIGH at 1 to 5
        std::array<std::uint8_t, 2> status{}, error{};
        std::array<std::array<std::uint8_t, 6>, 2> shown{};
        std::uint8_t device = 0, control = 0;
        std::uint8_t master = 0, master_status = 0;
        std::uint32_t table = 0;
        bool interrupt = false;
        // The command under way
        std::uint8_t opcode = 0;
        bool busy = false, dma = false, in = false, out = false, fault = false;
        std::uint64_t lba = 0;
        std::uint32_t count = 0, done = 0;
        std::vector<std::byte> block;
        std::size_t at = 0;
    };

    std::uint8_t read_block(Channel& c, unsigned reg);
    void write_block(Channel& c, unsigned reg, std::uint8_t value);
    void start(Channel& c, std::uint8_t opcode);
    void advance(Channel& c);
    void end(Channel& c, std::uint8_t error);
    void raise(Channel& c);
    bool transfer(Channel& c, MutableBytes data, bool to_memory);
    void signature(Channel& c);

    PhysicalMemory& memory_;
    std::array<Channel, 2> channels_{};
    std::vector<Channel> late_;
    std::uint64_t time_ = 0;
};

}  // namespace gatehouse::ata::testing

// An AHCI controller with SATA disks, and the physical memory around it, for tests of the mediator.
//
// The model does what AHCI 1.3.1 and ACS-4 say, in small steps that a test, or chance, puts between any two
// register accesses: fetching a command, moving data, posting a FIS, updating PxTFD, PxCI and PxSACT, raising
// PxIS. It is a judge as well: it counts accesses that the mediator must never cause.
#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <vector>

#include "ata/ahci/controller.hpp"

namespace gatehouse::ata::testing {

// Zeros that cost nothing until they are touched: a machine has tens of MiB, and a test makes hundreds of machines.
class SparseBytes {
  public:
    explicit SparseBytes(std::size_t size);
    ~SparseBytes();
    SparseBytes(const SparseBytes&) = delete;
    SparseBytes& operator=(const SparseBytes&) = delete;

    [[nodiscard]] MutableBytes all() const { return bytes_; }
    [[nodiscard]] std::byte* data() const { return bytes_.data(); }
    [[nodiscard]] std::size_t size() const { return bytes_.size(); }

  private:
    MutableBytes bytes_;
};

// Physical memory from 0, with a hole in guest RAM that is the hypervisor's. Its first part is the DMA arena.
class PhysicalMemory {
  public:
    PhysicalMemory(std::uint64_t size, std::uint64_t hole, std::uint64_t hole_size, std::uint64_t arena_size);

    GuestBytes map(GuestPhysical address, std::uint64_t size);
    std::byte* map(std::uint64_t physical, std::uint64_t size) { return map(GuestPhysical(physical), size).data; }
    [[nodiscard]] DmaArena arena() { return {bytes_.data() + hole_, HostPhysical(hole_), arena_size_}; }
    [[nodiscard]] std::uint64_t hole() const { return hole_; }
    [[nodiscard]] std::uint64_t size() const { return bytes_.size(); }
    // The guest CPU's own accesses: fail the test if they leave guest RAM.
    [[nodiscard]] std::byte* guest(std::uint64_t physical, std::uint64_t size);

    // DMA. Leaving guest RAM and arena is counted, and does nothing.
    void device_write(std::uint64_t physical, Bytes data);
    void device_read(std::uint64_t physical, MutableBytes data);

    // Whether a byte string occurs in guest RAM.
    [[nodiscard]] bool guest_contains(Bytes pattern) const;
    // Hypervisor memory outside of the arena, to be found untouched.
    [[nodiscard]] bool hypervisor_untouched() const;

    std::uint64_t stray_accesses = 0;       // DMA outside of guest RAM and arena
    std::uint64_t guest_dma_writes = 0;     // bytes
    std::vector<std::byte> never_in_guest;  // DMA of these bytes into guest RAM is counted
    std::uint64_t leaks = 0;

  private:
    [[nodiscard]] bool is_guest(std::uint64_t physical, std::uint64_t size) const;
    [[nodiscard]] bool is_arena(std::uint64_t physical, std::uint64_t size) const;

    SparseBytes bytes_;
    std::uint64_t hole_;
    std::uint64_t hole_size_;
    std::uint64_t arena_size_;
};

class DiskModel {
  public:
    DiskModel(std::uint32_t sector_size, std::uint64_t sectors);  // sparse

    [[nodiscard]] MutableBytes sector(std::uint64_t lba, std::uint64_t count = 1);
    [[nodiscard]] std::array<std::byte, 512> identify() const;
    void set_identify_word(std::size_t index, std::uint16_t value);

    const std::uint32_t sector_size;
    const std::uint64_t sectors;
    std::set<std::uint8_t> opcodes_seen;
    std::map<std::uint8_t, unsigned> opcode_count;
    std::uint64_t dangerous_commands = 0;  // executed, as a drive with every feature would
    std::uint64_t self_tests = 0;          // in the background
    std::uint64_t unreadable_lba = ~std::uint64_t{0};
    std::uint8_t queued_error_tag = 0x80;  // log 10h: NQ
    std::uint64_t sectors_written = 0;
    std::map<std::uint8_t, unsigned> packets;  // of a packet device: operation codes
    std::uint8_t sense_key = 0;

  private:
    SparseBytes data_;
    std::array<std::byte, 512> identify_{};
};

class HbaModel final : public Environment {
  public:
    HbaModel(PhysicalMemory& memory, std::uint32_t seed);

    // A packet device's is 0xeb140101: the disk is its medium then.
    void plug(std::uint32_t port, DiskModel& disk, std::uint32_t signature = 0x101);

    // The mediator's side. With chaos, each access may be preceded and followed by steps of the device.
    std::uint32_t read(std::uint32_t offset) override;
    void write(std::uint32_t offset, std::uint32_t value) override;
    std::uint64_t microseconds() override;
    GuestBytes map(GuestPhysical address, std::uint64_t size) override { return memory_.map(address, size); }
    void begin_vectors() override { ++vector_sections; }
    void end_vectors() override {}

    // One step of one port, chosen by chance. False: nothing to do.
    bool step();
    void run();  // until there is nothing to do
    // All registers as after a reset of the function, which nobody has told the mediator of.
    void lose_registers();
    // True once for each interrupt message.
    bool take_interrupt();

    // Behaviour
    unsigned chaos = 0;                 // percent of register accesses with a step before, and after
    bool clear_issue_on_error = false;  // as QEMU before 8.1
    std::uint32_t busy_ports = 0;       // bit n: the disk at port n never gets ready
    bool never_stops = false;           // CR stays set
    bool late_transfers = false;        // commands outlive PxCMD.CR, and queued ones' tags are taken (QEMU to 10.0)
    bool error_stays = false;           // a queued command that meets an earlier error in PxTFD fails (QEMU to 10.0)
    bool ends_after_error = false;  // a queued command's error stops no other, and leaves PxTFD with the next (QEMU)
    bool never_answers = false;     // commands are never executed
    bool never_leaves_reset = false;
    bool device_fault = false;  // commands end with DF, and move nothing that counts
    bool paused = false;        // step() does nothing

    // Judgement
    std::uint64_t protocol_violations = 0;  // queued and other commands mixed, tags reused, registers abused
    std::uint64_t short_tables = 0;         // descriptors end before the data do
    std::uint64_t register_accesses = 0;
    std::atomic<std::uint64_t> vector_sections = 0;
    std::uint64_t deepest_queue = 0;
    std::uint64_t commands = 0;
    std::mutex mutex;

  private:
    struct Inflight {
        std::uint32_t slot = 0;
        std::uint64_t header = 0;  // physical
        std::uint64_t table = 0;   // physical
        std::uint32_t descriptors = 0;
        bool packet = false;  // A
        std::array<std::byte, 64> fis{};
        bool queued = false;
        int phase = 0;
        bool failed = false;
        bool pio_in = false;
        std::uint8_t result_count = 0;
    };
    struct PortModel {
        std::map<std::uint32_t, std::uint32_t> registers;
        DiskModel* disk = nullptr;
        std::uint32_t signature = 0xffffffff;
        bool halted = false;
        int stopping = 0;  // steps until CR clears
        int link_reset = 0;
        std::optional<Inflight> current;
        std::vector<Inflight> queue;
        std::vector<Inflight> late;  // of late_transfers
        std::uint32_t next_slot = 0;
    };

    std::uint32_t& reg(std::uint32_t port, ahci::PortRegister r) { return ports_[port].registers[ahci::bits(r)]; }
    bool step_port(std::uint32_t port);
    bool fetch_next(std::uint32_t port);
    void soft_reset(std::uint32_t port, std::uint32_t slot, std::uint8_t control, bool clear_busy);
    void advance(std::uint32_t port, Inflight& command);
    void execute(std::uint32_t port, Inflight& command);
    void execute_packet(DiskModel& drive, Inflight& command);
    void check_direction(const Inflight& command, bool out);
    void transfer_in(Inflight& command, Bytes data);
    std::vector<std::byte> transfer_out(Inflight& command, std::size_t size);
    void post_fis(std::uint32_t port, std::uint32_t offset, Bytes fis);
    void post_register_fis(std::uint32_t port, std::uint8_t status, std::uint8_t error, bool interrupt,
                           std::uint8_t count = 0);
    void write_port(std::uint32_t port, std::uint32_t offset, std::uint32_t value);
    void reset_port(std::uint32_t port);
    void raise(std::uint32_t port, std::uint32_t bits);
    void update_interrupts(bool acknowledged);
    void maybe_step();
    unsigned chance(unsigned below) { return static_cast<unsigned>(random_() % below); }

    PhysicalMemory& memory_;
    std::mt19937 random_;
    std::map<std::uint32_t, PortModel> ports_;
    std::uint32_t control_ = 0;
    std::uint32_t status_ = 0;
    std::uint32_t hand_off_ = 1;  // firmware owns it
    int hand_off_delay_ = 20;
    int reset_delay_ = 0;
    std::uint64_t time_ = 0;
    std::uint64_t interrupts_ = 0;
    bool stepping_ = false;
};

}  // namespace gatehouse::ata::testing

// A whole machine for the mediator's tests: memory, controller and disk models, the mediator, and a guest
// whose driver behaves as Linux's libata does, in the order of its register accesses too.
#pragma once

#include <functional>
#include <memory>

#include "tests/unit/ata/device_model.hpp"

namespace gatehouse::ata::testing {

// AES-256-XTS by OpenSSL, sector by sector, tweak as dm-crypt's plain64.
std::vector<std::byte> openssl_xts(bool encrypt, std::span<const std::byte, 64> key, Bytes data,
                                   std::uint32_t sector_size, std::uint64_t lba);

// A command as a driver makes it up, with whatever mistakes a test wants.
struct Request {
    std::uint8_t opcode = 0;
    std::uint64_t lba = 0;
    std::uint32_t count = 0;     // as in the register: 65536 is 0
    std::uint16_t features = 0;  // of commands that are not queued
    std::uint8_t device = 0x40;
    std::uint64_t buffer = 0;  // guest-physical, for a table of one region
    std::uint64_t bytes = 0;
    std::vector<std::pair<std::uint64_t, std::uint32_t>> regions{};  // instead: address, size
    std::uint32_t header_flags = 5;                                  // command header DW0, low half
    std::optional<std::uint16_t> prdtl{};                            // instead of the number of regions
    std::optional<std::uint64_t> table{};                            // instead of the slot's own
    std::function<void(MutableBytes fis)> edit_fis{};
    std::vector<std::uint8_t> packet{};
};

struct Options {
    std::uint32_t sector_size = 512;
    std::uint64_t sectors = 65536;
    std::uint64_t arena = 2 * 1024 * 1024;
    std::uint64_t memory = 0x1600000;
    std::uint32_t seed = 1;
    unsigned chaos = 0;
    std::uint32_t signature = 0x101;  // of what is at the port
};

class Machine {
  public:
    // Regions of the disk: [0, kGptEnd) overlay, then boot (read-only), then the vault (hidden), then
    // encrypted.
    static constexpr std::uint64_t kGptEnd = 34;
    static constexpr std::uint64_t kBoot = 64;
    static constexpr std::uint64_t kVault = 128;
    static constexpr std::uint64_t kData = 192;
    static constexpr std::uint32_t kPort = 2;
    // Guest-physical layout
    static constexpr std::uint64_t kCommandList = 0x10000;
    static constexpr std::uint64_t kFisArea = 0x11000;
    static constexpr std::uint64_t kTables = 0x100000;
    static constexpr std::uint64_t kTableStride = 0x40000;
    static constexpr std::uint64_t kBuffers = 0x1000000;
    static constexpr std::uint64_t kHole = 0xa00000;
    static constexpr std::uint64_t kHoleSize = 0x280000;

    explicit Machine(const Options& options = {});

    // Of the mediator; its only disk.
    ahci::Port& take_over();
    // take_over, identify, attach, hand_over
    void launch();
    // The guest's driver: controller reset, port start, as Linux does.
    void boot_guest();

    [[nodiscard]] std::uint32_t reg(ahci::PortRegister r) {
        return static_cast<std::uint32_t>(mediator->read(0x100 + kPort * 0x80 + ahci::bits(r), 4));
    }
    void set(ahci::PortRegister r, std::uint32_t value) {
        mediator->write(0x100 + kPort * 0x80 + ahci::bits(r), 4, value);
    }

    // Writes the command into the slot's header and table, and issues it.
    void build(std::uint32_t slot, const Request& request);
    void issue(std::uint32_t slots, std::uint32_t queued = 0);
    void submit(std::uint32_t slot, const Request& request);
    // As Linux's interrupt handler does. Slots that completed; sets `error` if the port reports one.
    std::uint32_t handle_interrupt();
    // Runs device and handler until the slots in `mask` are complete or an error is reported.
    std::uint32_t wait(std::uint32_t mask);
    // submit and wait; true if it went well.
    bool command(const Request& request, std::uint32_t slot = 0);
    // Error handling as libata's: stop, start, and after a failed queued command read log 10h. The failed
    // tag.
    std::optional<std::uint32_t> recover(bool was_queued);
    void stop_port();
    void start_port();

    bool read(std::uint64_t lba, std::uint32_t count, MutableBytes out);
    bool write(std::uint64_t lba, Bytes data);
    [[nodiscard]] static bool is_queued(std::uint8_t opcode) { return opcode == 0x60 || opcode == 0x61; }
    // Plain text of a disk sector, decrypted by OpenSSL.
    [[nodiscard]] std::vector<std::byte> decrypted(std::uint64_t lba, std::uint64_t count = 1);
    void fill_encrypted(std::uint64_t lba, Bytes plaintext);
    [[nodiscard]] MutableBytes ram(std::uint64_t physical, std::uint64_t size) {
        return {memory.guest(physical, size), size};
    }
    std::vector<std::byte> random_bytes(std::size_t size);
    // What must hold whatever a guest has done.
    void expect_untouched() const;

    Options options;
    PhysicalMemory memory;
    DiskModel disk;
    HbaModel hba;
    std::array<std::byte, 64> key{};
    XtsKey xts;
    std::vector<std::byte> overlay;
    std::vector<Region> regions;
    std::unique_ptr<ahci::Controller> mediator = std::make_unique<ahci::Controller>();
    std::mt19937 random;
    std::array<std::byte, 16> secret{};  // fills the vault
    std::uint32_t issued = 0;            // the driver's idea of its slots
    std::uint32_t issued_queued = 0;
    std::uint32_t error = 0;  // PxIS error bits
    std::uint64_t interrupts = 0;
};

}  // namespace gatehouse::ata::testing

// What an attacker with root's rights does with the disk's controller, without Linux's driver:
//
//   controller swap|latch CONTROLLER FIRST
//
// CONTROLLER is its directory in sysfs; the 4,096 sectors from FIRST on may be written. Each writes at first what it later looks for,
// all of it the mark by which the host finds plaintext on the medium. The last line begins with "swap: " or "latch: ", then "held"
// or what did not.
#include <array>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "tests/guests/bare_controller.hpp"

namespace gatehouse::guest {
namespace {

constexpr std::uint32_t kSlots = BareController::kSlots;
constexpr std::uint32_t kSectors = 64;  // of a write
constexpr std::size_t kBytes = kSectors * kSector;
constexpr std::uint8_t kReadDmaExt = 0x25, kWriteDmaExt = 0x35, kWriteQueued = 0x61, kReadBuffer = 0xe4;

class Attack : BareController {
  public:
    Attack(const char* controller, std::uint64_t first) : BareController(controller), first_(first) { find_port(); }

    // Stops the port while 32 writes are under way, and has other data in their place at once.
    void swap() {
        std::uint32_t most = 0;
        std::array<unsigned, 2> found{};
        for (unsigned round = 0; round < kRounds; ++round) {
            recover();
            fill("old");
            for (std::uint32_t slot = 0; slot < kSlots; ++slot) run(slot, kWriteDmaExt);
            fill("first");
            for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
                put(slot, kWriteQueued);
                port(kSact, 1u << slot);
                port(kCi, 1u << slot);
            }
            const std::uint32_t under_way = port(kSact);
            most = std::max(most, static_cast<std::uint32_t>(std::popcount(under_way)));
            port(kCmd, port(kCmd) & ~1u);
            fill("swapped");
            if (!wait_for(kPatience, [&] { return stop_port(); })) fail("swap: the port does not stop");
            fill("swapped");
            recover();
            for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
                run(slot, kReadDmaExt);
                for (std::uint32_t sector = 0; sector < kSectors; ++sector) ++found[is(slot, sector, "first") ? 1 : 0];
                for (std::uint32_t sector = 0; sector < kSectors; ++sector) {
                    if (!is(slot, sector, "first") && !is(slot, sector, "old"))
                        fail("swap: a sector is neither as it was nor as it was written");
                }
            }
        }
        if (most < 2) fail("swap: the control: no writes were under way");
        std::printf("swap: held: up to %u writes under way; %u sectors as before, %u as written\n", most, found[0],
                    found[1]);
    }

    // Has a command refused, others behind it, and while the port is halted by the error, their tables rewritten.
    void latch() {
        recover();
        fill("old");
        for (std::uint32_t slot = 0; slot < kSlots; ++slot) run(slot, kWriteDmaExt);
        for (unsigned round = 0; round < kRounds; ++round) {
            fill("new");
            put(0, kReadBuffer);
            put(1, kWriteDmaExt);
            port(kCi, 3);
            if (round % 2 == 0) rewrite();
            if (!wait_for(kPatience, [&] { return (port(kIs) & kTaskFileError) != 0; }))
                fail("latch: no command is refused");
            if ((port(kTfd) & 1) == 0 || (port(kCi) & 1) == 0) fail("latch: the port does not show the error");
            rewrite();
            port(kCi, 7);
            look();
            port(kIs, ~0u);
            look();
            if ((port(kCi) & 2) == 0) fail("latch: a halted port has executed a command");
            recover();
            for (std::uint32_t slot = 0; slot < 3; ++slot) {
                run(slot, kReadDmaExt);
                for (std::uint32_t sector = 0; sector < kSectors; ++sector) {
                    if (!is(slot, sector, "old")) fail("latch: a halted port has written");
                }
            }
        }
        fill("new");
        run(0, kWriteDmaExt);
        fill("other");
        run(0, kReadDmaExt);
        if (!is(0, 0, "new")) fail("latch: the control: a good write is not there");
        std::printf("latch: held: %u rounds\n", kRounds);
    }

  private:
    static constexpr unsigned kRounds = 4;
    static constexpr std::uint32_t kTaskFileError = 1u << 30;

    std::uint8_t* sector(std::uint32_t slot, std::uint32_t number) const {
        return data_.data + slot * kBytes + number * kSector;
    }
    static std::array<std::uint8_t, kSector> text(std::uint32_t slot, std::uint32_t number, const char* word) {
        std::array<std::uint8_t, kSector> made{};
        mark(made.data(), made.size());
        (void)std::snprintf(reinterpret_cast<char*>(made.data() + kMarkSize), kMarkSize, "%s %u.%u", word, slot,
                            number);
        return made;
    }
    void fill(const char* word) const {
        for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
            for (std::uint32_t number = 0; number < kSectors; ++number) {
                const auto made = text(slot, number, word);
                std::memcpy(sector(slot, number), made.data(), made.size());
            }
        }
    }
    [[nodiscard]] bool is(std::uint32_t slot, std::uint32_t number, const char* word) const {
        const auto made = text(slot, number, word);
        return std::memcmp(sector(slot, number), made.data(), made.size()) == 0;
    }

    // A command for the slot's own data and place.
    void put(std::uint32_t slot, std::uint8_t opcode) const {
        const bool queued = opcode == kWriteQueued;
        const auto count = static_cast<std::uint16_t>(queued ? slot << 3 : kSectors);
        put_fis(slot, opcode, opcode == kReadBuffer ? 0 : first_ + std::uint64_t{slot} * kSectors, count,
                queued ? kSectors : 0, 0x40);
        put_descriptor(slot, 0, data_.physical + slot * kBytes, kBytes - 1);
        const bool writes = queued || opcode == kWriteDmaExt;
        put_header(slot, 5u | (writes ? 1u << 6 : 0) | 1u << 16, lists_.physical + table(slot));
    }
    void run(std::uint32_t slot, std::uint8_t opcode) const {
        put(slot, opcode);
        port(kCi, 1u << slot);
        if (!wait_for(kPatience, [&] { return port(kCi) == 0; }) || (port(kTfd) & 1) != 0)
            fail("the control: a good command fails");
        port(kIs, ~0u);
    }
    // In the refused command's place, in that of the one behind it, and in a third: writes.
    void rewrite() const {
        for (std::uint32_t slot = 0; slot < 3; ++slot) put(slot, kWriteDmaExt);
    }
    // Every access is a chance for what waits to be started.
    void look() const {
        for (unsigned i = 0; i < 200; ++i) (void)port(kIs), (void)port(kTfd), (void)port(kCi);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }

    std::uint64_t first_;
    Memory data_;
};

}  // namespace
}  // namespace gatehouse::guest

int main(int count, char** words) {
    if (count != 4) return gatehouse::guest::kUsage;
    (void)mlockall(MCL_CURRENT | MCL_FUTURE);
    gatehouse::guest::Attack attack(words[2], std::strtoull(words[3], nullptr, 0));
    if (std::string_view(words[1]) == "swap") attack.swap();
    if (std::string_view(words[1]) == "latch") attack.latch();
    return 0;
}

// Random command tables and random register accesses, in front of a disk controller that no driver has any more, while another
// thread changes the tables:
//
//   guest-tables COUNT SEED CONTROLLER FIRST SECTORS KEPT FORBIDDEN...
//
// CONTROLLER is the controller's directory in sysfs. FIRST and SECTORS say where commands may begin to write (up to 65,536
// sectors), FORBIDDEN are sectors that may not be written; KEPT is a physical address of the hypervisor's. Between the tables
// a sector is written and read as it should be, and all memory that no command names is looked at. At the end Linux's driver gets
// the controller back. The last line is "control N": what the sector FIRST + 1024 holds behind one mark. Exit status 0: all held.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "tests/guests/bare_controller.hpp"

namespace gatehouse::guest {
namespace {

constexpr std::uint64_t kControl = 1024;  // sectors from FIRST

class Storm : BareController {
  public:
    Storm(char** words, int count)
        : BareController(words[2]),
          tables_left_(std::strtoull(words[0], nullptr, 0)),
          random_(std::strtoull(words[1], nullptr, 0)),
          first_(std::strtoull(words[3], nullptr, 0)),
          sectors_(std::strtoull(words[4], nullptr, 0)),
          kept_(std::strtoull(words[5], nullptr, 0)) {
        for (int i = 6; i < count; ++i) forbidden_.push_back(std::strtoull(words[i], nullptr, 0));
        // Where nothing of the guest's is, whichever half of the address is seen.
        bad_ = {kept_,
                kept_ + 0x40000,
                kept_ + 0x201000,
                kept_ + 0xb00000,
                0xfed40000,
                0xfee00000,
                0xfec00000,
                0xe0000000,
                kept_ | std::uint64_t{1} << 32,
                0xfee00000 | std::uint64_t{1} << 63,
                0xfffffffffffff000};
        for (std::size_t at = 0; at < Memory::kSize; ++at)
            expected_[at] = static_cast<std::uint8_t>(at * 131 >> 3 ^ at);
        std::ranges::copy(expected_, guard_.data);
        std::ranges::copy(expected_, data_.data);
        for (std::uint32_t slot = 0; slot < kSlots; ++slot) make_command(slot);
    }

    int run() {
        find_port();
        control();
        std::atomic<bool> ended = false;
        std::thread other([&] { change_tables(ended); });
        const std::uint64_t total = tables_left_;
        for (; tables_left_ != 0; --tables_left_) {
            if (tables_left_ % 64 == 0) {
                control();
                check_guards();
            }
            if (tables_left_ % 1000 == 0) say(std::to_string(tables_left_) + " tables to go");
            if (chance(30)) use_registers(1 + random(5));
            if (chance(1)) reset_controller();
            one();
        }
        ended = true;
        other.join();
        control();
        check_guards();
        reset_controller();
        give_back();
        std::printf(
            "tables: %lu, %lu completed, %lu refused, %lu without an end, %lu register accesses, %lu recoveries, %lu port resets\n",
            total, completed_, refused_, endless_, accesses_, recoveries_, port_resets_);
        if (completed_ == 0 || refused_ == 0) fail("the control: nothing was completed, or nothing was refused");
        std::printf("control %lu\n", counter_);
        return 0;
    }

  private:
    static constexpr std::size_t kOut = kTables + kSlots * kTableSize, kIn = kOut + kPage;  // the control's sector
    static constexpr std::size_t kBlock = 0x10000, kUsed = 0xf000;  // of data_: 60 KiB of 64, the rest guarded
    std::uint64_t random(std::uint64_t below) { return random_() % below; }
    bool chance(unsigned percent) { return random(100) < percent; }
    static void say(const std::string& text) {
        std::printf("%s\n", text.c_str());
        std::fflush(stdout);
    }

    // --- The controller ---

    // Linux's driver has it again, and reads what was written last; as another disk, for the old one may be in use.
    void give_back() const {
        write_file("/sys/bus/pci/drivers/ahci/bind", controller_.substr(controller_.rfind('/') + 1));
        int disk = -1;
        const auto opened = [&] { return (disk = open("/dev/sdb", O_RDONLY | O_DIRECT | O_CLOEXEC)) >= 0; };
        if (!wait_for(kPatience, opened)) fail("Linux does not find the disk");
        const auto at = static_cast<off_t>((first_ + kControl) * kSector);
        if (pread(disk, data_.data, kPage, at) != kPage || std::memcmp(data_.data, lists_.data + kOut, kSector) != 0) {
            fail("Linux does not read what was written last");
        }
        (void)close(disk);
    }

    // --- Commands ---

    std::uint64_t place() {
        if (chance(70)) return first_ + random(sectors_);
        if (chance(20)) return (first_ + random(sectors_)) | std::uint64_t{random(1u << 20)} << 28;
        return forbidden_[random(forbidden_.size())];
    }
    std::uint64_t bad() { return bad_[random(bad_.size())]; }

    // A table that is right in most things and wrong in any.
    void make_command(std::uint32_t slot) {
        constexpr std::uint8_t kUsual[] = {0x60, 0x61, 0x60, 0x61, 0x25, 0x35, 0x3d, 0xc8, 0xca, 0xec, 0x2f,
                                           0x47, 0xb0, 0xe7, 0xea, 0xe5, 0xef, 0x42, 0xc5, 0x39, 0x31, 0x06};
        // The emulator does not live through a port that is reset during these (QEMU 10.0: what was read comes when there is
        // no command any more, and it looks for the command's flags).
        constexpr std::uint8_t kPio[] = {0x20, 0x24, 0x30, 0x34};
        auto opcode = chance(70) ? kUsual[random(std::size(kUsual))] : static_cast<std::uint8_t>(random(256));
        if (std::ranges::find(kPio, opcode) != std::end(kPio)) opcode = 0xec;
        const bool queued = opcode == 0x60 || opcode == 0x61;
        auto count = static_cast<std::uint16_t>(chance(90) ? 1 + random(32) : chance(30) ? 0 : random(700));
        std::uint16_t features = chance(80) ? 0 : static_cast<std::uint16_t>(random(65536));
        if (queued) {
            features = count;
            count = static_cast<std::uint16_t>((chance(95) ? slot : random(32)) << 3 | (chance(5) ? random(65536) : 0));
        }
        put_fis(slot, opcode, place(), count, features,
                static_cast<std::uint8_t>(chance(90) ? 0x40 : random(256) | 0x10));
        if (chance(5)) lists_.put<std::uint32_t>(table(slot) + 12, static_cast<std::uint32_t>(random_()));
        if (chance(3)) lists_.put<std::uint8_t>(table(slot), static_cast<std::uint8_t>(random(256) | 1));
        if (chance(5)) lists_.put<std::uint8_t>(table(slot) + 1, static_cast<std::uint8_t>(random(256)));

        const std::size_t filled = chance(97) ? 8 : kDescriptors;
        for (std::size_t i = 0; i < filled; ++i) {
            const std::uint64_t block = data_.physical + random(Memory::kSize / kBlock) * kBlock;
            std::uint64_t offset = i == 0 || chance(50) ? 0 : random(kUsed / 2) * 2;
            const std::uint64_t room = kUsed - offset;
            std::uint64_t size =
                chance(70) ? std::min<std::uint64_t>(room, 512 * (1 + random(40))) : 2 * (1 + random(room / 2));
            if (chance(2)) --size;
            if (chance(2)) offset |= 1, size = 1 + random(64);
            put_descriptor(slot, i, chance(97) ? block + offset : bad(), static_cast<std::uint32_t>(size - 1));
        }
        std::uint32_t flags = chance(95) ? 5 : static_cast<std::uint32_t>(random(32));
        if (chance(50)) flags |= 1u << 6;
        if (chance(10)) flags |= static_cast<std::uint32_t>(random(1u << 16));
        const std::uint64_t length = chance(85) ? 1 + random(8) : chance(30) ? 0 : chance(50) ? filled : random(65536);
        put_header(slot, flags | static_cast<std::uint32_t>(length) << 16,
                   chance(97) ? lists_.physical + table(slot) : bad());
    }

    void one() {
        const auto ready = port(kCmd) & 1u;
        if (ready == 0 || (port(kTfd) & 0x89) != 0) recover();
        std::uint32_t slots = 0;
        for (std::uint64_t i = chance(70) ? 1 : 1 + random(kSlots); i != 0; --i) {
            const auto slot = static_cast<std::uint32_t>(random(kSlots));
            make_command(slot);
            slots |= 1u << slot;
        }
        for (std::size_t block = 0; block < Memory::kSize; block += kBlock) mark(data_.data + block, kMarkSize);
        if (chance(90)) {
            std::uint32_t queued = 0;
            for (std::uint32_t slot = 0; slot < kSlots; ++slot) {
                const bool is = (lists_.get<std::uint8_t>(table(slot) + 2) & 0xfe) == 0x60;
                queued |= (is ? 1u : 0u) << slot;
            }
            port(kSact, chance(90) ? slots & queued : static_cast<std::uint32_t>(random_()));
        }
        port(kCi, slots);
        if (chance(10)) return;  // goes on with it in flight
        const auto over = [&] { return (port(kIs) & 1u << 30) != 0 || (port(kCi) | port(kSact)) == 0; };
        if (!wait_for(kCommandPatience, over)) {
            ++endless_;
            recover();
        } else if ((port(kIs) & 1u << 30) != 0) {
            ++refused_;
            recover();
        } else {
            ++completed_;
            port(kIs, ~0u);
        }
    }

    // Any register, any width; addresses of memory only where that is no other program's.
    void use_registers(std::uint64_t count) {
        for (; count != 0; --count, ++accesses_) {
            const bool own = chance(70);
            const std::uint64_t size = std::uint64_t{1} << random(4);
            std::uint64_t at = own ? 0x100 + port_ * 0x80 + random(0x80) : random(size_);
            if (chance(70)) at &= ~(size - 1);
            at = std::min<std::uint64_t>(at, size_ - size);
            volatile std::uint8_t* const address = registers_ + at;
            const bool pointer = ((at & 0x7f) < 0x10 || (at & 0x7f) > 0x78) && at >= 0xf8;
            if (chance(50)) {
                if (size == 1) sink_ = *address;
                if (size == 2) sink_ = *reinterpret_cast<volatile std::uint16_t*>(address);
                if (size == 4) sink_ = *reinterpret_cast<volatile std::uint32_t*>(address);
                if (size == 8) sink_ = *reinterpret_cast<volatile std::uint64_t*>(address);
            } else if (pointer) {
                const bool list = chance(50);
                port(list ? kClb : kFb,
                     static_cast<std::uint32_t>(chance(50) ? bad() : lists_.physical + (list ? 0 : kFis)));
                port(list ? kClbu : kFbu, static_cast<std::uint32_t>(chance(80) ? 0 : random_()));
            } else {
                const std::uint64_t value = chance(30) ? std::uint64_t{1} << random(64) : random_();
                if (size == 1) *address = static_cast<std::uint8_t>(value);
                if (size == 2) *reinterpret_cast<volatile std::uint16_t*>(address) = static_cast<std::uint16_t>(value);
                if (size == 4) *reinterpret_cast<volatile std::uint32_t*>(address) = static_cast<std::uint32_t>(value);
                if (size == 8) *reinterpret_cast<volatile std::uint64_t*>(address) = value;
            }
        }
        if ((hba(0x04) & 1) != 0 && !wait_for(kPatience, [&] { return (hba(0x04) & 1) == 0; }))
            fail("no end of a reset");
    }

    // The other thread: what is right when it is looked at is wrong when it is used.
    void change_tables(const std::atomic<bool>& ended) {
        std::mt19937_64 dice(7);  // NOLINT(cert-msc51-cpp): repeatable
        while (!ended) {
            std::this_thread::yield();
            const std::scoped_lock lock(unchanged_);
            const std::size_t at = table(static_cast<std::uint32_t>(dice() % kSlots));
            const std::uint64_t block = data_.physical + dice() % (Memory::kSize / kBlock) * kBlock;
            lists_.put<std::uint64_t>(at + 0x80, dice() % 2 != 0 ? block : bad_[dice() % bad_.size()]);
            const std::uint64_t lba =
                dice() % 2 != 0 ? first_ + dice() % sectors_ : forbidden_[dice() % forbidden_.size()];
            lists_.put<std::uint32_t>(at + 4, static_cast<std::uint32_t>(lba & 0xffffff) | 0x40000000);
            if (dice() % 4 == 0) lists_.put<std::uint8_t>(at + 2, dice() % 2 != 0 ? 0x35 : 0x25);
        }
    }

    // --- What must hold ---

    // The disk does what it should: a sector is written, and read.
    void control() {
        const std::scoped_lock lock(unchanged_);
        recover();
        mark(lists_.data + kOut, kSector);
        (void)std::snprintf(reinterpret_cast<char*>(lists_.data + kOut + kMarkSize), kMarkSize, "control %lu",
                            ++counter_);
        std::memset(lists_.data + kIn, 0, kSector);
        for (const bool write : {true, false}) {
            put_fis(0, write ? 0x35 : 0x25, first_ + kControl, 1, 0, 0x40);
            put_descriptor(0, 0, lists_.physical + (write ? kOut : kIn), kSector - 1);
            put_header(0, 5u | (write ? 1u << 6 : 0) | 1u << 16, lists_.physical + table(0));
            port(kCi, 1);
            if (!wait_for(kPatience, [&] { return port(kCi) == 0; })) fail("the control: a good command has no end");
            if ((port(kTfd) & 1) != 0) fail("the control: a good command fails");
            port(kIs, ~0u);
        }
        if (std::memcmp(lists_.data + kOut, lists_.data + kIn, kSector) != 0)
            fail("the control: a sector is not as it was written");
    }

    void check_guards() const {
        const auto same = [&](const Memory& memory, std::size_t at, std::size_t size) {
            return std::memcmp(memory.data + at, expected_.data() + at, size) == 0;
        };
        if (!same(guard_, 0, Memory::kSize)) fail("memory that no command names has changed");
        for (std::size_t at = kUsed; at < Memory::kSize; at += kBlock) {
            if (!same(data_, at, kBlock - kUsed)) fail("memory behind a buffer has changed");
        }
        if (std::any_of(lists_.data + kFis + 0x100, lists_.data + kTables,
                        [](std::uint8_t byte) { return byte != 0; })) {
            fail("memory behind the received FISes has changed");
        }
    }

    static constexpr unsigned kCommandPatience = 20;  // milliseconds: a hostile command may have no end

    std::uint64_t tables_left_;
    std::mt19937_64 random_;
    std::uint64_t first_, sectors_, kept_;
    std::vector<std::uint64_t> forbidden_, bad_;
    Memory data_, guard_;
    std::vector<std::uint8_t> expected_ = std::vector<std::uint8_t>(Memory::kSize);  // of what no command names
    std::mutex unchanged_;  // held while tables must not change
    volatile std::uint64_t sink_ = 0;
    std::uint64_t completed_ = 0, refused_ = 0, endless_ = 0, accesses_ = 0, counter_ = 0;
};

}  // namespace
}  // namespace gatehouse::guest

int main(int count, char** words) {
    if (count < 8) return gatehouse::guest::kUsage;
    (void)mlockall(MCL_CURRENT | MCL_FUTURE);
    return gatehouse::guest::Storm(words + 1, count - 1).run();
}

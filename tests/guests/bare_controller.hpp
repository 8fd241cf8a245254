// A disk controller in the hands of a program of the guest's root, without a driver (AHCI 1.3.1): its one port, command lists in
// memory whose address is known, commands of the program's making.
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "tests/guests/hostile.hpp"

namespace gatehouse::guest {

// A huge page: memory whose physical address is known, and without gaps.
class Memory {
  public:
    static constexpr std::size_t kSize = 2 << 20;

    Memory() {
        void* const map = mmap(nullptr, kSize, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_LOCKED | MAP_POPULATE, -1, 0);
        if (map == MAP_FAILED) fail("no huge page");
        data = static_cast<std::uint8_t*>(map);
        std::memset(data, 0, kSize);
        const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        std::uint64_t entry = 0;
        const auto at = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(data) / kPage * sizeof(entry));
        if (file < 0 || pread(file, &entry, sizeof(entry), at) != sizeof(entry) || (entry >> 63) == 0)
            fail("no physical address");
        physical = (entry & ((std::uint64_t{1} << 55) - 1)) * kPage;
        (void)close(file);
    }

    template <typename T>
    void put(std::size_t at, T value) const {
        *reinterpret_cast<volatile T*>(data + at) = value;
    }
    template <typename T>
    [[nodiscard]] T get(std::size_t at) const {
        return *reinterpret_cast<const volatile T*>(data + at);
    }

    std::uint8_t* data = nullptr;
    std::uint64_t physical = 0;
};

class BareController {
  public:
    static constexpr std::uint32_t kSlots = 32;
    // Of lists_: command list, received FISes, tables of 8 KiB: 504 descriptors
    static constexpr std::size_t kFis = 0x400, kTables = 0x10000, kTableSize = 0x2000, kDescriptors = 504;
    enum Register : std::uint32_t {
        kClb = 0x00,
        kClbu = 0x04,
        kFb = 0x08,
        kFbu = 0x0c,
        kIs = 0x10,
        kIe = 0x14,
        kCmd = 0x18,
        kTfd = 0x20,
        kSsts = 0x28,
        kSctl = 0x2c,
        kSerr = 0x30,
        kSact = 0x34,
        kCi = 0x38,
    };

    // Takes the controller from Linux's driver; `directory` is its own in sysfs.
    explicit BareController(std::string directory) : controller_(std::move(directory)) {
        write_file(controller_ + "/driver/unbind", controller_.substr(controller_.rfind('/') + 1));
        const int config = open((controller_ + "/config").c_str(), O_RDWR | O_CLOEXEC);
        const std::uint16_t command = 0x0406;  // memory, DMA, no interrupt line
        if (config < 0 || pwrite(config, &command, sizeof(command), 4) != sizeof(command))
            fail("the controller's configuration");
        (void)close(config);
        const int file = open((controller_ + "/resource5").c_str(), O_RDWR | O_SYNC | O_CLOEXEC);
        struct stat found {};  // the end that lseek() finds is that of all device memory
        if (file >= 0 && fstat(file, &found) == 0) size_ = static_cast<std::size_t>(found.st_size);
        void* const map = file < 0 ? MAP_FAILED : mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (map == MAP_FAILED)
            fail(std::string("the controller's registers cannot be mapped: ") + std::strerror(errno));
        registers_ = static_cast<std::uint8_t*>(map);
    }

    [[nodiscard]] std::uint32_t hba(std::uint32_t at) const {
        return *reinterpret_cast<volatile std::uint32_t*>(registers_ + at);
    }
    void hba(std::uint32_t at, std::uint32_t value) const {
        *reinterpret_cast<volatile std::uint32_t*>(registers_ + at) = value;
    }
    [[nodiscard]] std::uint32_t port(Register at) const { return hba(0x100 + port_ * 0x80 + at); }
    void port(Register at, std::uint32_t value) const { hba(0x100 + port_ * 0x80 + at, value); }

    template <typename Condition>
    [[nodiscard]] static bool wait_for(unsigned milliseconds, Condition condition) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
        while (!condition()) {
            if (std::chrono::steady_clock::now() > end) return condition();
        }
        return true;
    }

    void find_port() {
        reset_controller();
        const std::uint32_t ports = hba(0x0c);
        if (std::popcount(ports) != 1) fail("not one port");
        port_ = static_cast<std::uint32_t>(std::countr_zero(ports));
    }

    // AHCI 1.3.1, section 10.4.3
    void reset_controller() {
        hba(0x04, 1);
        if (!wait_for(kPatience, [&] { return (hba(0x04) & 1) == 0; })) fail("the controller's reset does not end");
        hba(0x04, 1u << 31);
    }

    // False: the device does not end what it holds. Drivers reset the port then.
    bool stop_port() {
        port(kCmd, port(kCmd) & ~1u);
        return wait_for(kStopPatience, [&] { return (port(kCmd) & (1u << 15 | 1)) == 0; });
    }

    // To a running port, whatever it was (AHCI 1.3.1, sections 6.2.2, 10.1.2, 10.4.2).
    void recover() {
        ++recoveries_;
        const bool stopped = stop_port();
        port(kCmd, 0);
        const auto ready = [&] {
            return (port(kSsts) & 0xf) == 3 && (port(kSctl) & 0xf) == 0 && (port(kTfd) & 0x88) == 0;
        };
        const auto put_lists = [&] {
            port(kClb, static_cast<std::uint32_t>(lists_.physical));
            port(kClbu, static_cast<std::uint32_t>(lists_.physical >> 32));
            port(kFb, static_cast<std::uint32_t>(lists_.physical + kFis));
            port(kFbu, static_cast<std::uint32_t>((lists_.physical + kFis) >> 32));
            port(kSerr, ~0u);
            port(kIs, ~0u);
            port(kCmd, 1u << 4 | 1u << 2 | 1u << 1);
        };
        const auto reset_link = [&] {
            port(kSctl, 0x301);
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
            port(kSctl, 0x300);
        };
        put_lists();
        if (!stopped || !ready()) {
            ++port_resets_;
            reset_link();
            if (!wait_for(kPatience, ready)) {
                reset_controller();
                put_lists();
                reset_link();
                if (!wait_for(kPatience, ready)) fail("the port does not get ready");
            }
            port(kSerr, ~0u);
        }
        const auto start = [&] {
            port(kCmd, 1u << 4 | 1u << 2 | 1u << 1 | 1);
            return (port(kCmd) & 1) != 0;
        };
        if (!wait_for(kPatience, start)) fail("the port does not start");
    }

    // --- Commands ---

    void put_header(std::uint32_t slot, std::uint32_t flags, std::uint64_t table) const {
        lists_.put<std::uint32_t>(slot * 32, flags);
        lists_.put<std::uint32_t>(slot * 32 + 4, 0);
        lists_.put<std::uint64_t>(slot * 32 + 8, table);
    }
    static std::size_t table(std::uint32_t slot) { return kTables + slot * kTableSize; }

    void put_fis(std::uint32_t slot, std::uint8_t opcode, std::uint64_t lba, std::uint16_t count,
                 std::uint16_t features, std::uint8_t device) const {
        const std::size_t at = table(slot);
        lists_.put<std::uint32_t>(at, 0x8027u | std::uint32_t{opcode} << 16 | std::uint32_t{features & 0xffu} << 24);
        lists_.put<std::uint32_t>(at + 4, static_cast<std::uint32_t>(lba & 0xffffff) | std::uint32_t{device} << 24);
        lists_.put<std::uint32_t>(
            at + 8, static_cast<std::uint32_t>(lba >> 24 & 0xffffff) | std::uint32_t{features & 0xff00u} << 16);
        lists_.put<std::uint32_t>(at + 12, count);
        lists_.put<std::uint32_t>(at + 16, 0);
    }
    void put_descriptor(std::uint32_t slot, std::size_t index, std::uint64_t address, std::uint32_t last) const {
        const std::size_t at = table(slot) + 0x80 + index * 16;
        lists_.put<std::uint64_t>(at, address);
        lists_.put<std::uint32_t>(at + 12, last);
    }

    // --- What it is made of ---

    static void write_file(const std::string& name, const std::string& text) {
        const int file = open(name.c_str(), O_WRONLY | O_CLOEXEC);
        if (file < 0 || write(file, text.data(), text.size()) < 0) fail(name + ": cannot be written");
        (void)close(file);
    }

    static constexpr unsigned kPatience = 60'000;   // milliseconds: only a fault takes them
    static constexpr unsigned kStopPatience = 500;  // milliseconds (AHCI 1.3.1, section 10.1.2)

    std::string controller_;
    Memory lists_;
    std::uint8_t* registers_ = nullptr;
    std::size_t size_ = 0;
    std::uint32_t port_ = 0;
    std::uint64_t recoveries_ = 0, port_resets_ = 0;
};

}  // namespace gatehouse::guest

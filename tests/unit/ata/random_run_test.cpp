// Long random runs of an honest guest on a device with hostile timing, checked against plaintext kept by the
// test and, at the end, against the disk decrypted by OpenSSL.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/ata/machine.hpp"

namespace gatehouse::ata::testing {
namespace {

struct Course {
    const char* name;
    Options options;
    std::uint32_t operations;
    bool errors;
    bool changes_key = false;  // meanwhile
};

// The disk's key is changed, window by window, between the guest's commands.
class KeyChange {
  public:
    // Of a machine that has not been launched, whose disk is encrypted.
    explicit KeyChange(Machine& machine) : machine_(machine) {
        EXPECT_TRUE(before_.set(machine.key).ok());
        for (auto& byte : machine.key) byte = static_cast<std::byte>(machine.random());
        machine.xts.clear();
        EXPECT_TRUE(machine.xts.set(machine.key).ok());
    }
    void begin() { port().set_boundary({next_, &before_, {}}); }
    [[nodiscard]] bool is_over() const { return next_ == machine_.options.sectors; }
    // `fails`: a sector of it cannot be read.
    void step(bool fails = false) {
        if (is_over()) return;
        OwnCommands& own = *port().own_commands();
        if (!own.rest()) return;
        const std::uint64_t end = next_ < Machine::kBoot ? Machine::kBoot : machine_.options.sectors;
        const std::uint64_t count = std::min<std::uint64_t>(end - next_, 1 + machine_.random() % 128);
        const std::uint32_t size = machine_.options.sector_size;
        std::vector<std::byte> data(count * size);
        using enum XtsKey::Direction;
        const std::uint64_t unreadable = machine_.disk.unreadable_lba;
        if (fails) machine_.disk.unreadable_lba = next_ + count - 1;
        bool good = port().read_sectors(next_, data).ok();
        machine_.disk.unreadable_lba = unreadable;
        before_.transform(kDecrypt, data.data(), data.data(), count, size, next_);
        machine_.xts.transform(kEncrypt, data.data(), data.data(), count, size, next_);
        for (std::size_t at = 0; good && at < data.size(); at += 64 * 1024) {
            const Bytes part = Bytes(data).subspan(at, std::min<std::size_t>(64 * 1024, data.size() - at));
            good = own.write_sectors(next_ + at / size, part).ok();
        }
        good = good && own.flush().ok();
        if (good) next_ += count;
        if (next_ == Machine::kBoot) next_ = Machine::kData;
        port().set_boundary(is_over() ? Boundary() : Boundary{next_, &before_, {}});
        good ? ++windows : ++failures;
        own.resume();
    }
    std::uint32_t windows = 0, failures = 0;

  private:
    ahci::Port& port() { return machine_.mediator->disks()[0]; }
    Machine& machine_;
    XtsKey before_;
    std::uint64_t next_ = Machine::kGptEnd;
};

class RandomRun : public ::testing::TestWithParam<Course> {};

TEST_P(RandomRun, DiskHoldsExactlyWhatWasWritten) {
    const Course& setup = GetParam();
    Machine m(setup.options);
    const std::uint32_t sector = setup.options.sector_size;
    const std::uint64_t sectors = setup.options.sectors;
    std::vector<std::byte> shadow = m.random_bytes(sectors * sector);
    m.fill_encrypted(0, shadow);
    // What the guest sees of the protected regions.
    copy_bytes(shadow, m.overlay);
    m.fill_encrypted(Machine::kGptEnd, Bytes(shadow).subspan(Machine::kGptEnd * sector, 30 * sector));
    copy_bytes(MutableBytes(shadow).subspan(Machine::kBoot * sector),
               m.disk.sector(Machine::kBoot, Machine::kVault - Machine::kBoot));
    for (std::uint64_t lba = Machine::kVault; lba < Machine::kData; ++lba) {
        wipe(MutableBytes(shadow).subspan(lba * sector, sector));
        for (std::size_t at = 0; at < sector; at += 16) copy_bytes(m.disk.sector(lba).subspan(at), m.secret);
    }
    std::optional<KeyChange> change;
    if (setup.changes_key) change.emplace(m);
    m.launch();
    if (change) change->begin();
    m.boot_guest();

    struct Pending {
        bool write = false;
        std::uint64_t lba = 0;
        std::uint64_t count = 0;
        Request request;
        std::vector<std::byte> data;
    };
    std::array<std::optional<Pending>, 32> pending;
    const auto overlaps = [&](std::uint64_t lba, std::uint64_t count, bool write) {
        return std::ranges::any_of(pending, [&](const auto& p) {
            return p && lba < p->lba + p->count && p->lba < lba + count && (write || p->write);
        });
    };
    const auto complete = [&](std::uint32_t completed) {
        for (std::uint32_t slot = 0; slot < 32; ++slot) {
            if ((completed >> slot & 1) == 0) continue;
            ASSERT_TRUE(pending[slot]);
            const Pending& p = *pending[slot];
            if (p.write) {
                copy_bytes(MutableBytes(shadow).subspan(p.lba * sector), p.data);
            } else {
                std::vector<std::byte> found;
                for (const auto& [address, size] : p.request.regions) {
                    const Bytes part = m.ram(address, size);
                    found.insert(found.end(), part.begin(), part.end());
                }
                ASSERT_TRUE(equal_bytes(found, Bytes(shadow).subspan(p.lba * sector, p.count * sector)))
                    << "lba " << p.lba << " count " << p.count;
            }
            pending[slot].reset();
        }
    };

    std::uint32_t done = 0;
    std::uint64_t faults = 0;
    bool queued_phase = true;
    for (std::uint32_t idle = 0; done < setup.operations;) {
        ASSERT_LT(++idle, 100000u) << "stuck";
        const bool any = std::ranges::any_of(pending, [](const auto& p) { return p.has_value(); });
        if (!any && m.random() % 16 == 0) queued_phase = !queued_phase;
        std::uint32_t fresh = 0;
        const std::uint32_t most = queued_phase ? 32 : 1;
        for (std::uint32_t slot = 0; slot < most && m.random() % 24 != 0; ++slot) {
            if (pending[slot]) continue;
            Pending p;
            p.write = m.random() % 2 == 0;
            const std::uint64_t most_sectors = m.random() % 8 == 0 ? 3 * 1024 * 1024 / sector / 2 : 64;
            p.count = 1 + m.random() % most_sectors;
            const std::uint64_t low = p.write ? Machine::kData : 0;
            p.lba = low + m.random() % (sectors - low - p.count);
            if (overlaps(p.lba, p.count, p.write)) continue;
            static constexpr std::array<std::uint8_t, 3> kReads{0x25, 0x24, 0x25};
            static constexpr std::array<std::uint8_t, 3> kWrites{0x35, 0x3d, 0x34};
            p.request.opcode =
                queued_phase ? (p.write ? 0x61 : 0x60) : (p.write ? kWrites[m.random() % 3] : kReads[m.random() % 3]);
            p.request.lba = p.lba;
            p.request.count = static_cast<std::uint32_t>(p.count);
            // Regions: whole, in pages, or in odd pieces.
            const std::uint64_t size = p.count * sector;
            const auto style = m.random() % 3;
            const std::uint64_t base = Machine::kBuffers + slot * 0x190000 + 2 * (m.random() % 256);
            for (std::uint64_t at = 0; at < size;) {
                std::uint64_t piece = style == 0   ? 0x400000
                                      : style == 1 ? 4096 - (base + at) % 4096
                                                   : 2 * (sector / 8 + m.random() % sector);
                piece = std::min(piece, size - at);
                p.request.regions.emplace_back(base + at, static_cast<std::uint32_t>(piece));
                at += piece;
            }
            if (p.request.regions.size() > 4000) continue;
            if (p.write) {
                p.data = m.random_bytes(size);
                copy_bytes(m.ram(base, size), p.data);
            } else {
                std::fill_n(m.memory.guest(base, size), size, std::byte{0xee});
            }
            m.build(slot, p.request);
            pending[slot] = std::move(p);
            fresh |= 1u << slot;
            if (m.random() % 2 == 0) {
                m.issue(fresh, queued_phase ? fresh : 0);
                fresh = 0;
            }
        }
        if (fresh != 0) m.issue(fresh, queued_phase ? fresh : 0);
        if (setup.errors && m.random() % 64 == 0) {
            m.disk.unreadable_lba = Machine::kData + m.random() % (sectors - Machine::kData);
        }
        for (unsigned i = m.random() % 16; i != 0; --i) m.hba.step();
        if (change && m.random() % 4 == 0) change->step(setup.errors && m.random() % 8 == 0);
        while (m.hba.take_interrupt()) {
            const std::uint32_t completed = m.handle_interrupt();
            if (completed != 0) idle = 0;
            done += static_cast<std::uint32_t>(std::popcount(completed));
            ASSERT_NO_FATAL_FAILURE(complete(completed));
            if (m.error != 0) {
                ASSERT_TRUE(setup.errors);
                ++faults;
                // What the device finished before it failed is finished; the rest is issued again.
                const std::uint32_t left =
                    queued_phase ? m.reg(ahci::PortRegister::kSataActive) : m.reg(ahci::PortRegister::kCommandIssue);
                ASSERT_NO_FATAL_FAILURE(complete(m.issued & ~left));
                m.disk.unreadable_lba = ~std::uint64_t{0};
                const std::uint32_t again = left;
                (void)m.recover(queued_phase);
                for (std::uint32_t slot = 0; slot < 32; ++slot) {
                    if ((again >> slot & 1) != 0) m.build(slot, pending[slot]->request);
                }
                if (again != 0) m.issue(again, queued_phase ? again : 0);
                idle = 0;
                break;
            }
        }
    }
    if (setup.errors) {
        EXPECT_GT(faults, 0u);
    }
    // Let the rest finish, then compare the whole disk.
    std::uint32_t left = m.issued;
    m.disk.unreadable_lba = ~std::uint64_t{0};
    const std::uint32_t completed = m.wait(left);
    ASSERT_NO_FATAL_FAILURE(complete(completed));
    if (change) {
        EXPECT_GT(change->windows, 20u) << "beside the guest's commands";
        EXPECT_EQ(change->failures != 0, setup.errors);
        for (int i = 0; i < 10000 && !change->is_over(); ++i) change->step();
        EXPECT_TRUE(change->is_over());
    }
    const auto plain = openssl_xts(false, m.key, m.disk.sector(0, sectors), sector, 0);
    const std::size_t data = Machine::kData * sector;
    EXPECT_TRUE(equal_bytes(Bytes(plain).subspan(data), Bytes(shadow).subspan(data)));
    EXPECT_GT(m.hba.deepest_queue, 8u);
    m.expect_untouched();
}

INSTANTIATE_TEST_SUITE_P(
    All, RandomRun,
    ::testing::Values(
        Course{"Sectors512", {.sectors = 20000, .memory = 0x4200000, .seed = 1}, 6000, false},
        Course{"Sectors4096", {.sector_size = 4096, .sectors = 8000, .memory = 0x4200000, .seed = 2}, 3000, false},
        Course{"HostileTiming", {.sectors = 20000, .memory = 0x4200000, .seed = 3, .chaos = 50}, 6000, false},
        Course{"LittleBounceMemory",
               {.sectors = 20000, .arena = ahci::Port::kMinimumArena, .memory = 0x4200000, .seed = 4, .chaos = 30},
               3000,
               false},
        Course{"DeviceErrors", {.sectors = 20000, .memory = 0x4200000, .seed = 5, .chaos = 30}, 6000, true},
        Course{"ChangeOfKey", {.sectors = 20000, .memory = 0x4200000, .seed = 6, .chaos = 30}, 6000, false, true},
        Course{"ChangeOfKeySectors4096",
               {.sector_size = 4096, .sectors = 8000, .memory = 0x4200000, .seed = 7, .chaos = 30},
               3000,
               false,
               true},
        Course{"ChangeOfKeyWithDeviceErrors",
               {.sectors = 20000, .memory = 0x4200000, .seed = 8, .chaos = 30},
               6000,
               true,
               true}),
    [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace gatehouse::ata::testing

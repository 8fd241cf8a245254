#include "hypervisor/cpu/guest_walk.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

namespace gatehouse::cpu {
namespace {

// Page tables at an address that is below 512 GiB in this program too.
class GuestWalk : public testing::Test {
  protected:
    static constexpr std::uint64_t kBase = 0x20000000;
    static constexpr std::size_t kSize = 8 * 4096;

    void SetUp() override {
        void* const at = mmap(reinterpret_cast<void*>(kBase), kSize, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        ASSERT_EQ(at, reinterpret_cast<void*>(kBase));
        ASSERT_TRUE(ram_.add({kBase, kSize}).ok());
    }
    void TearDown() override { munmap(reinterpret_cast<void*>(kBase), kSize); }
    static constexpr std::uint64_t table(std::uint64_t i) { return kBase + i * 4096; }
    static void set(std::uint64_t i, std::size_t index, std::uint64_t entry) {
        reinterpret_cast<std::uint64_t*>(table(i))[index] = entry;
    }
    Result<std::uint64_t> walk(std::uint64_t cr3, std::uint64_t address, bool five_levels = false) {
        GATEHOUSE_ASSIGN(const GuestPhysical found, guest_physical(ram_, cr3, five_levels, address));
        return found.unchecked();
    }
    memory::PhysicalMemory ram_;
};

TEST_F(GuestWalk, FollowsFourAndFiveLevels) {
    const std::uint64_t four = table(0) | 0x18;
    set(0, 511, table(1) | 1);
    set(1, 510, table(2) | 0x8000000000000001);
    set(2, 3, table(3) | 1);
    set(3, 5, 0x7fff000 | 0x63);
    set(2, 4, 0x0123'4560'0000 | 0x81);
    set(1, 509, 0x40000000 | 0x1081);
    const std::uint64_t top = 0xffff'ff80'0000'0000 | std::uint64_t{510} << 30;
    EXPECT_EQ(*walk(four, top + 3 * 0x200000 + 5 * 4096 + 0x123), 0x7fff123u);
    EXPECT_EQ(*walk(four, top + 4 * 0x200000 + 0x12345), 0x0123'4561'2345u) << "2 MiB";
    EXPECT_EQ(*walk(four, top - 0x40000000 + 0x1234567), 0x41234567u) << "1 GiB";
    EXPECT_EQ(walk(four, top + 3 * 0x200000 + 6 * 4096).error(), Error::kNotFound);
    EXPECT_EQ(walk(four, 0).error(), Error::kNotFound);

    set(4, 511, table(0) | 1);
    EXPECT_EQ(*walk(table(4), top + 3 * 0x200000 + 5 * 4096, true), 0x7fff000u);
}

TEST_F(GuestWalk, ReadsTablesInGuestRamOnly) {
    EXPECT_EQ(walk(kBase + kSize, 0).error(), Error::kOutOfRange);
    set(0, 0, (kBase - 4096) | 1);
    EXPECT_EQ(walk(table(0), 0).error(), Error::kOutOfRange);
    set(0, 0, 0x000ffffffffff001);
    EXPECT_EQ(walk(table(0), 0).error(), Error::kOutOfRange);
}

TEST_F(GuestWalk, EndsForATableThatPointsToItself) {
    set(0, 0, table(0) | 1);
    EXPECT_EQ(*walk(table(0), 0x10, true), table(0) + 0x10);
}

}  // namespace
}  // namespace gatehouse::cpu

#include "hypervisor/memory/nested_page_table.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <memory>

#include "hypervisor/memory/amd_vi.hpp"
#include "hypervisor/memory/host_page_table.hpp"

// Tables are built in pages of this program: a "physical address" of a table is its pointer.
namespace gatehouse::memory {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

// A pointer is to be had of a checked address only, and no change of what the guest reaches by an address that it gave.
template <typename T>
concept IsPointer = requires(T address) {
    at_physical(address);
};
static_assert(IsPointer<HostPhysical> && !IsPointer<GuestPhysical> && !IsPointer<std::uint64_t>);
template <typename T>
concept IsMapped = requires(NestedPageTable& table, T address) {
    table.map(address, kPageSize);
};
static_assert(IsMapped<std::uint64_t> && !IsMapped<GuestPhysical>);
template <typename T>
concept IsAllowed = requires(DmaMap& map, T address) {
    map.allow(Extent{address, kPageSize});
};
static_assert(IsAllowed<std::uint64_t> && !IsAllowed<GuestPhysical>);

struct Pages {
    explicit Pages(std::size_t count)
        : memory(static_cast<std::byte*>(std::aligned_alloc(kPageSize, count * kPageSize)), std::free),
          pool(HostPhysical(reinterpret_cast<std::uint64_t>(memory.get())), count * kPageSize) {}
    std::unique_ptr<std::byte, void (*)(void*)> memory;
    PagePool pool;
};

// A walker of its own (APM vol. 2, 5.3): what a processor would do with `address`.
struct Translation {
    bool present = false, write = true, user = true, execute = true;
    std::uint64_t physical = 0, leaf = 0;
};

Translation walk(HostPhysical root, std::uint64_t address, bool cached = true) {
    Translation out;
    std::uint64_t table = root.value();
    for (int level = 3; level >= 0; --level) {
        const int shift = 12 + 9 * level;
        const std::uint64_t entry = reinterpret_cast<const std::uint64_t*>(table)[address >> shift & 511];
        if ((entry & 1) == 0) return {};
        out.write = out.write && (entry & 2) != 0;
        out.user = out.user && (entry & 4) != 0;
        out.execute = out.execute && entry >> 63 == 0;
        const std::uint64_t next = entry & 0x000ffffffffff000;
        if (level == 0 || (entry & 0x80) != 0) {
            EXPECT_LE(level, 2);
            constexpr std::uint64_t kAttributes = 0x18, kSmallPat = 0x80, kLargePat = 0x1000;
            if (cached) {
                EXPECT_EQ(entry & (kAttributes | (level == 0 ? kSmallPat : kLargePat)), 0u)
                    << "page attribute is not 0";
            }
            out.present = true;
            out.leaf = std::uint64_t{1} << shift;
            EXPECT_EQ(next & (out.leaf - 1), 0u) << "reserved bits in a leaf for " << std::hex << address;
            out.physical = next | (address & (out.leaf - 1));
            return out;
        }
        table = next;
    }
    return out;
}

class NestedPageTableTest : public testing::Test {
  protected:
    NestedPageTableTest() { EXPECT_TRUE(table.build(pages.pool, 40, high_end).ok()); }
    [[nodiscard]] bool all_ones(const Translation& to) const {
        const auto* page = reinterpret_cast<const std::uint8_t*>(to.physical & ~(kPageSize - 1));
        for (std::size_t i = 0; i < kPageSize; ++i) {
            if (page[i] != 0xff) return false;
        }
        return true;
    }
    void expect_identity(std::uint64_t address) {
        const Translation to = walk(table.root(), address);
        EXPECT_TRUE(to.present && to.write && to.user && to.execute) << std::hex << address;
        EXPECT_EQ(to.physical, address);
        EXPECT_EQ(table.access(GuestPhysical(address)), GuestAccess::kAll);
    }
    const std::uint64_t high_end = 5 * kGiB + 0x30000000;
    Pages pages{64};
    NestedPageTable table;
};

TEST_F(NestedPageTableTest, MapsAllPhysicalMemoryAtItself) {
    for (std::uint64_t at = 0; at < 512 * kGiB; at += kGiB) {
        for (const std::uint64_t offset : {0x0ull, 0x1234ull, 0x200000ull, 0x3fffffffull}) expect_identity(at + offset);
    }
    EXPECT_FALSE(walk(table.root(), 512 * kGiB).present);
}

TEST_F(NestedPageTableTest, NoLeafSpansSeveralMemoryTypes) {
    EXPECT_EQ(walk(table.root(), 0x1000).leaf, kPageSize) << "fixed MTRRs";
    EXPECT_EQ(walk(table.root(), 0x200000).leaf, 0x200000u);
    EXPECT_EQ(walk(table.root(), 0xfee00000).leaf, 0x200000u) << "RAM and registers below 4 GiB";
    EXPECT_EQ(walk(table.root(), 4 * kGiB).leaf, kGiB);
    EXPECT_EQ(walk(table.root(), high_end).leaf, 0x200000u) << "TOP_MEM2";
}

TEST_F(NestedPageTableTest, HiddenPagesReadOnesAndNothingElseChanges) {
    constexpr std::uint64_t kBase = 0x1003000, kSize = 0x5000;
    ASSERT_TRUE(table.hide(kBase, kSize).ok());
    for (std::uint64_t at = kBase; at < kBase + kSize; at += kPageSize) {
        const Translation to = walk(table.root(), at);
        EXPECT_TRUE(to.present && !to.write && to.user && !to.execute);
        EXPECT_TRUE(all_ones(to));
        EXPECT_EQ(table.access(GuestPhysical(at)), GuestAccess::kHidden);
    }
    for (std::uint64_t at = 0xf00000; at < 0x1400000; at += kPageSize) {
        if (at < kBase || at >= kBase + kSize) expect_identity(at);
    }
}

TEST_F(NestedPageTableTest, TrappedPagesAreNotThereAndWriteTrappedOnesReadThemselves) {
    ASSERT_TRUE(table.set(0xfed40000, 0x5000, GuestAccess::kTrap).ok());
    EXPECT_FALSE(walk(table.root(), 0xfed42fff).present);
    EXPECT_EQ(table.access(GuestPhysical(0xfed42fff)), GuestAccess::kTrap);
    expect_identity(0xfed3ffff);
    expect_identity(0xfed45000);
    ASSERT_TRUE(table.set(0xfee00000, 0x1000, GuestAccess::kTrapWrites).ok());
    const Translation to = walk(table.root(), 0xfee00300);
    EXPECT_TRUE(to.present && !to.write && !to.execute);
    EXPECT_EQ(to.physical, 0xfee00300u);
    EXPECT_EQ(table.access(GuestPhysical(0xfee00300)), GuestAccess::kTrapWrites);
}

TEST_F(NestedPageTableTest, MapGivesBack) {
    ASSERT_TRUE(table.hide(0x2000000, 0x400000).ok());
    ASSERT_TRUE(table.map(0x2040000, 0x10000).ok());
    expect_identity(0x2040000);
    expect_identity(0x204ffff);
    EXPECT_EQ(table.access(GuestPhysical(0x203ffff)), GuestAccess::kHidden);
    EXPECT_EQ(table.access(GuestPhysical(0x2050000)), GuestAccess::kHidden);
}

TEST_F(NestedPageTableTest, EveryChangeCountsForTheFlush) {
    const auto before = table.generation();
    ASSERT_TRUE(table.hide(0x5000, 0x1000).ok());
    EXPECT_GT(table.generation(), before);
}

TEST_F(NestedPageTableTest, ExtendsBeyondTheFirstHalfTebibyteOnDemand) {
    constexpr std::uint64_t kFar = 700 * kGiB + 0x123000;
    EXPECT_EQ(table.access(GuestPhysical(kFar)), GuestAccess::kTrap);
    ASSERT_TRUE(table.extend(GuestPhysical(kFar)).ok());
    expect_identity(kFar);
    ASSERT_TRUE(table.hide(900 * kGiB, 0x1000).ok());
    EXPECT_EQ(table.access(GuestPhysical(900 * kGiB)), GuestAccess::kHidden);
    EXPECT_EQ(table.access(GuestPhysical(0xfc'ffff'f000)), GuestAccess::kAll);
    EXPECT_EQ(table.access(GuestPhysical(0xfd'fc00'0000)), GuestAccess::kTrap)
        << "HyperTransport: ports and configuration space";
    EXPECT_EQ(table.extend(GuestPhysical(0xfd'fc00'0000)).error(), Error::kOutOfRange);
    EXPECT_EQ(table.hide(0xfd'fc00'0000, 0x1000).error(), Error::kOutOfRange);
    EXPECT_EQ(table.extend(GuestPhysical(std::uint64_t{1} << 40)).error(), Error::kOutOfRange)
        << "40 physical address bits";
}

TEST_F(NestedPageTableTest, RefusesWhatItCannotMap) {
    EXPECT_EQ(table.hide(0x1800, 0x1000).error(), Error::kMisaligned);
    EXPECT_EQ(table.hide(0x1000, 0x800).error(), Error::kMisaligned);
    EXPECT_EQ(table.hide((std::uint64_t{1} << 40) - 0x1000, 0x2000).error(), Error::kOutOfRange);
    EXPECT_EQ(table.hide(~std::uint64_t{0xfff}, 0x2000).error(), Error::kOutOfRange);
}

TEST_F(NestedPageTableTest, RunningOutOfTablesBreaksNothing) {
    std::uint64_t at = 8 * kGiB;
    Status status;
    for (; status.ok(); at += kGiB) status = table.hide(at, 0x1000);
    EXPECT_EQ(status.error(), Error::kNoSpace);
    expect_identity(at - kGiB);
    expect_identity(at);
}

TEST(NestedPageTable, SmallProcessorsGetNoMoreThanTheyHave) {
    Pages pages(64);
    NestedPageTable table;
    ASSERT_TRUE(table.build(pages.pool, 36, 0).ok());
    EXPECT_TRUE(walk(table.root(), 63 * kGiB).present);
    EXPECT_FALSE(walk(table.root(), 64 * kGiB).present);
    EXPECT_EQ(table.access(GuestPhysical(64 * kGiB)), GuestAccess::kTrap);
}

TEST(HostPageTable, NothingIsWritableAndExecutable) {
    Pages pages(128);
    HostPageTable table;
    constexpr std::uint64_t kImage = 0x10200000;
    constexpr ImageSections kSections{.rodata = 0x5000, .data = 0x7000, .end = 0x9000};
    ASSERT_TRUE(table.build(pages.pool, kImage, kSections).ok());
    const auto right = [&](std::uint64_t address, bool write, bool execute) {
        const Translation to = walk(table.root(), address, false);
        EXPECT_TRUE(to.present && to.write == write && to.execute == execute) << std::hex << address;
        return to.physical;
    };
    for (std::uint64_t offset = 0; offset < kSections.end; offset += kPageSize) {
        EXPECT_EQ(right(launch::kImageVirtual + offset, offset >= kSections.data, offset < kSections.rodata),
                  kImage + offset);
    }
    EXPECT_FALSE(walk(table.root(), launch::kImageVirtual + kSections.end).present);
    for (const std::uint64_t address :
         {0x1000ull, 0x200000ull, 0x10000000ull, 0x10400000ull, 0xfee00000ull, 0x7fffffffffull}) {
        EXPECT_EQ(right(address, true, false), address);
    }
    EXPECT_FALSE(walk(table.root(), 0).present) << "null pointers fault";
    EXPECT_FALSE(walk(table.root(), kImage).present) << "no second, writable way to the image";
    EXPECT_FALSE(walk(table.root(), kImage + 0x1fffff).present);
}

// PWT and PCD of the leaf: PAT entry 3, UC.
bool uncached(HostPhysical root, std::uint64_t address) {
    std::uint64_t entry = 0, table = root.value();
    for (int shift = 39; shift >= 12; shift -= 9) {
        entry = reinterpret_cast<const std::uint64_t*>(table)[address >> shift & 511];
        if ((entry & 0x80) != 0 && shift < 39) break;
        table = entry & 0x000ffffffffff000;
    }
    return (entry & 0x18) == 0x18;
}

TEST(HostPageTable, DeviceRegistersAreUncachedWhateverTheMtrrsSay) {
    Pages pages(128);
    HostPageTable table;
    ASSERT_TRUE(table.build(pages.pool, 0x10200000, {.rodata = 0x1000, .data = 0x2000, .end = 0x3000}).ok());
    EXPECT_TRUE(uncached(table.root(), 0xfed40000)) << "TPM";
    EXPECT_TRUE(uncached(table.root(), 0xfee00000)) << "APIC";
    EXPECT_FALSE(uncached(table.root(), 0xfdffffff));
    ASSERT_TRUE(table.set_uncached(pages.pool, 0xfd8ff000, 0x2000).ok());
    EXPECT_TRUE(uncached(table.root(), 0xfd8ff000) && uncached(table.root(), 0xfd900fff));
    EXPECT_FALSE(uncached(table.root(), 0xfd7fffff));
    ASSERT_TRUE(table.set_uncached(pages.pool, 0x4080200000, 0x1000).ok());
    EXPECT_TRUE(uncached(table.root(), 0x4080200000));
    for (const std::uint64_t address : {0x40801fffffull, 0x4080400000ull, 0x4000000000ull, 0x40bfffffffull}) {
        EXPECT_FALSE(uncached(table.root(), address));
        EXPECT_EQ(walk(table.root(), address).physical, address);
    }
    EXPECT_EQ(table.set_uncached(pages.pool, kIdentityLimit - 0x1000, 0x2000).error(), Error::kOutOfRange);
}

TEST(HostPageTable, StacksHaveGuardPages) {
    Pages pages(128);
    HostPageTable table;
    ASSERT_TRUE(table.build(pages.pool, 0x10200000, {.rodata = 0x1000, .data = 0x2000, .end = 0x3000}).ok());
    ASSERT_TRUE(table.map_stack(pages.pool, kStackVirtual + 0x1000, 2).ok());
    EXPECT_FALSE(walk(table.root(), kStackVirtual).present);
    const Translation to = walk(table.root(), kStackVirtual + 0x2000);
    EXPECT_TRUE(to.present && to.write && !to.execute);
    EXPECT_FALSE(walk(table.root(), kStackVirtual + 0x3000).present);
    EXPECT_EQ(table.map_stack(pages.pool, kStackVirtual + kStackWindow - 0x1000, 2).error(), Error::kOutOfRange);
    EXPECT_EQ(table.map_stack(pages.pool, kStackVirtual - 0x1000, 1).error(), Error::kOutOfRange);
}

TEST(PagePool, HandsOutZeroedAlignedPagesUntilItIsEmpty) {
    Pages pages(4);
    std::memset(pages.memory.get(), 0xaa, 4 * kPageSize);
    const auto one = pages.pool.take(1);
    ASSERT_TRUE(one.ok());
    EXPECT_EQ(*at_physical(*one), std::byte{0});
    const auto two = pages.pool.take(1, 2 * kPageSize);
    ASSERT_TRUE(two.ok());
    EXPECT_EQ(two->within(2 * kPageSize), 0u);
    EXPECT_EQ(pages.pool.take(4).error(), Error::kNoSpace);
    EXPECT_EQ(pages.pool.take(~std::size_t{0} / kPageSize).error(), Error::kNoSpace);
}

TEST(PhysicalMemory, OnlyWholeAddedRangesAreGuestRam) {
    PhysicalMemory memory;
    ASSERT_TRUE(memory.add({0, 0x9fc00}).ok());
    ASSERT_TRUE(memory.add({0x100000, 0x300000}).ok());
    ASSERT_TRUE(memory.add({0x400000, 0x1000}).ok()) << "adjacent";
    EXPECT_TRUE(memory.guest(GuestPhysical(0x3ff000), 0x2000).ok());
    EXPECT_TRUE(memory.guest(GuestPhysical(0x400fff), 1).ok());
    EXPECT_FALSE(memory.guest(GuestPhysical(0x400fff), 2).ok());
    EXPECT_FALSE(memory.guest(GuestPhysical(0), 1).ok()) << "page 0";
    EXPECT_TRUE(memory.guest(GuestPhysical(0x1000), 0x9e000).ok());
    EXPECT_FALSE(memory.guest(GuestPhysical(0x9f000), 1).ok()) << "not a whole page";
    EXPECT_FALSE(memory.guest(GuestPhysical(0x9e000), 0x70000).ok()) << "a hole in the middle";
    EXPECT_FALSE(memory.guest(GuestPhysical(0x100000), ~std::uint64_t{0}).ok());
    EXPECT_FALSE(memory.guest(GuestPhysical(~std::uint64_t{0}), 2).ok());
    EXPECT_EQ(memory.guest(GuestPhysical(0x500000), 1).error(), Error::kOutOfRange);
    EXPECT_EQ(*memory.guest(GuestPhysical(0x200000), 16), HostPhysical(0x200000));
}

// A launcher that calls registers RAM would have devices reach them through the IOMMU.
TEST(PhysicalMemory, TellsRegistersThatTheMapCallsRam) {
    PhysicalMemory memory;
    ASSERT_TRUE(memory.add({0x100000, 0x100000}).ok());
    EXPECT_TRUE(memory.check_outside({0x200000, 0x1000}).ok());
    EXPECT_TRUE(memory.check_outside({0x0ff000, 0x1000}).ok());
    EXPECT_EQ(memory.check_outside({0x1ff000, 0x1000}).error(), Error::kOverlap);
    EXPECT_EQ(memory.check_outside({0x0fc000, 0x5000}).error(), Error::kOverlap) << "only the last page";
    EXPECT_EQ(memory.check_outside({0x080000, 0x400000}).error(), Error::kOverlap) << "the RAM is inside";
}

TEST(PhysicalMemory, RefusesOverlapsWrapsAndWhatTheIdentityMapLacks) {
    PhysicalMemory memory;
    ASSERT_TRUE(memory.add({0x100000, 0x100000}).ok());
    EXPECT_EQ(memory.add({0x1ff000, 0x2000}).error(), Error::kOverlap);
    EXPECT_EQ(memory.add({0x0ff000, 0x2000}).error(), Error::kOverlap);
    EXPECT_EQ(memory.add({0x000000, 0x400000}).error(), Error::kOverlap);
    EXPECT_EQ(memory.add({~std::uint64_t{0xfff}, 0x2000}).error(), Error::kOutOfRange);
    EXPECT_EQ(memory.add({kIdentityLimit - 0x1000, 0x2000}).error(), Error::kOutOfRange);
    for (std::uint64_t i = 1; i < PhysicalMemory::kMaxRanges; ++i) {
        ASSERT_TRUE(memory.add({0x1000000 + i * 0x2000, 0x1000}).ok());
    }
    EXPECT_EQ(memory.add({0x8000000, 0x1000}).error(), Error::kNoSpace);
}

}  // namespace
}  // namespace gatehouse::memory

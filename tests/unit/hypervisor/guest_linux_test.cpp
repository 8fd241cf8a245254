#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "hypervisor/guest/linux.hpp"

namespace gatehouse::guest {
namespace {

constexpr std::uint64_t kMiB = 0x100000;

// 64 MiB of RAM from address 0.
class Ram final : public PhysicalView {
  public:
    MutableBytes at(HostPhysical place, std::size_t size) override {
        const std::uint64_t physical = place.value();
        if (physical + size > bytes.size()) {
            ADD_FAILURE() << "access outside of memory at " << physical;
            return {};
        }
        return MutableBytes(bytes).subspan(physical, size);
    }
    template <std::unsigned_integral T>
    T read(std::uint64_t physical) {
        return load<T>(at(HostPhysical(physical), sizeof(T)).data(), Endian::kLittle);
    }
    std::vector<std::byte> bytes = std::vector<std::byte>(64 * kMiB);
};

template <std::unsigned_integral T>
void poke(std::vector<std::byte>& file, std::size_t at, T value) {
    store(file.data() + at, value, Endian::kLittle);
}

// A bzImage with one setup sector and 64 KiB of code that counts.
std::vector<std::byte> bzimage() {
    std::vector<std::byte> file(1024 + 0x10000);
    for (std::size_t i = 1024; i < file.size(); ++i) file[i] = static_cast<std::byte>(i % 251);
    poke<std::uint8_t>(file, 0x1f1, 1);
    poke<std::uint16_t>(file, 0x1fe, 0xaa55);
    poke<std::uint16_t>(file, 0x200, 0x66eb);  // jmp: the header ends at 0x268
    poke<std::uint32_t>(file, 0x202, 0x53726448);
    poke<std::uint16_t>(file, 0x206, 0x020f);
    poke<std::uint32_t>(file, 0x22c, 0x7fffffff);
    poke<std::uint32_t>(file, 0x230, 0x200000);
    poke<std::uint8_t>(file, 0x234, 1);
    poke<std::uint16_t>(file, 0x236, 1);
    poke<std::uint32_t>(file, 0x238, 2047);
    poke<std::uint64_t>(file, 0x258, 16 * kMiB);
    poke<std::uint32_t>(file, 0x260, 0x20000);
    return file;
}

class LoadLinux : public testing::Test {
  protected:
    LoadLinux() {
        EXPECT_TRUE(map.add({0, 0x9f000, MemoryType::kUsable}).ok());
        EXPECT_TRUE(map.add({0xf0000, 0x10000, MemoryType::kReserved}).ok());
        EXPECT_TRUE(map.add({kMiB, 63 * kMiB, MemoryType::kUsable}).ok());
        set_kernel(bzimage());
    }
    void set_kernel(const std::vector<std::byte>& file) {
        image.kernel = {48 * kMiB, file.size()};
        copy_bytes(ram.at(HostPhysical(image.kernel.base), file.size()), file);
    }
    Result<cpu::svm::GuestEntry> load() { return load_linux(ram, map, image); }

    Ram ram;
    MemoryMap map;
    LinuxImage image{.kernel = {},
                     .initrd = {40 * kMiB, 3 * kMiB},
                     .command_line = literal_bytes("root=/dev/sda ro"),
                     .rsdp = 0xf1230,
                     .screen = {}};
};

TEST_F(LoadLinux, PutsTheProtectedModePartAtThePreferredAddress) {
    const auto entry = load();
    ASSERT_TRUE(entry.ok()) << entry.failure().item;
    EXPECT_EQ(entry->rip, 16 * kMiB + 0x200);
    const Bytes code = Bytes(ram.bytes).subspan(48 * kMiB + 1024, 0x10000);
    EXPECT_TRUE(equal_bytes(ram.at(HostPhysical(16 * kMiB), 0x10000), code));
}

TEST_F(LoadLinux, FillsTheZeroPage) {
    const auto entry = load();
    ASSERT_TRUE(entry.ok());
    const std::uint64_t params = entry->rsi;
    EXPECT_EQ(ram.read<std::uint8_t>(params + 0x210), 0xff);
    EXPECT_EQ(ram.read<std::uint32_t>(params + 0x218), 40 * kMiB);
    EXPECT_EQ(ram.read<std::uint32_t>(params + 0x21c), 3 * kMiB);
    EXPECT_EQ(ram.read<std::uint64_t>(params + 0x70), 0xf1230u);
    EXPECT_EQ(ram.read<std::uint32_t>(params + 0x202), 0x53726448u);
    EXPECT_EQ(ram.read<std::uint8_t>(params + 0x1e8), 3);
    EXPECT_EQ(ram.read<std::uint64_t>(params + 0x2d0 + 40), kMiB);
    EXPECT_EQ(ram.read<std::uint64_t>(params + 0x2d0 + 48), 63 * kMiB);
    EXPECT_EQ(ram.read<std::uint32_t>(params + 0x2d0 + 36), 2u);
    const std::uint64_t line = ram.read<std::uint32_t>(params + 0x228);
    EXPECT_TRUE(equal_bytes(ram.at(HostPhysical(line), 17), std::as_bytes(std::span("root=/dev/sda ro"))));
}

TEST_F(LoadLinux, TellsTheGuestThatKeptMemoryIsReserved) {
    ASSERT_TRUE(map.reserve({60 * kMiB, 4 * kMiB}).ok());
    const auto entry = load();
    ASSERT_TRUE(entry.ok());
    EXPECT_EQ(ram.read<std::uint8_t>(entry->rsi + 0x1e8), 4);
    EXPECT_EQ(ram.read<std::uint64_t>(entry->rsi + 0x2d0 + 60), 60 * kMiB);
    EXPECT_EQ(ram.read<std::uint32_t>(entry->rsi + 0x2d0 + 76), 2u);
}

class Screen : public LoadLinux {
  protected:
    Screen() {
        EXPECT_TRUE(map.reserve(kKept).ok());
        EXPECT_TRUE(map.reserve({0x8000, 0x1000}).ok());
        image.screen[0x06] = std::byte{3};
    }
    // Whether the guest is told of a framebuffer there; VESA's `size` is in units of 64 KiB.
    bool passes(std::uint64_t base, std::uint32_t size, std::uint8_t kind = 0x70, std::uint16_t lines = 0) {
        store<std::uint32_t>(&image.screen[0x36], capabilities, Endian::kLittle);
        image.screen[0x0f] = std::byte{kind};
        store<std::uint16_t>(&image.screen[0x14], lines, Endian::kLittle);
        store<std::uint32_t>(&image.screen[0x18], static_cast<std::uint32_t>(base), Endian::kLittle);
        store<std::uint32_t>(&image.screen[0x1c], size, Endian::kLittle);
        store<std::uint16_t>(&image.screen[0x24], 0x1000, Endian::kLittle);
        store<std::uint32_t>(&image.screen[0x3a], static_cast<std::uint32_t>(base >> 32), Endian::kLittle);
        const auto entry = load();
        EXPECT_TRUE(entry.ok());
        const bool whole = equal_bytes(ram.at(HostPhysical(entry->rsi), 64), image.screen);
        EXPECT_TRUE(whole || ram.read<std::uint8_t>(entry->rsi + 0x06) == 0) << "all of it, or nothing";
        return whole;
    }
    static constexpr Extent kKept{60 * kMiB, 2 * kMiB};
    std::uint32_t capabilities = 2;  // 64-bit address
};

TEST_F(Screen, IsPassedOnWhereTheFramebufferIsADevices) {
    EXPECT_TRUE(passes(0, 0, 1)) << "text";
    EXPECT_TRUE(passes(0xc0000000, 0x300000));
    EXPECT_TRUE(passes(0x2'0000'0000, 0x300000));
    EXPECT_TRUE(passes(0xc0000000, 0x30, 0x23));
}

TEST_F(Screen, IsNotPassedOnWithAnUpperHalfThatLinuxDoesNotRead) {
    EXPECT_FALSE(passes(0x1'c000'0000, 0x30, 0x23)) << "vesafb knows none";
    capabilities = 0;
    EXPECT_FALSE(passes(0x2'0000'0000, 0x300000));
    EXPECT_TRUE(passes(0xc0000000, 0x300000));
}

TEST_F(Screen, IsLeftOutWhereTheGuestWouldDrawOverMemory) {
    EXPECT_FALSE(passes(32 * kMiB, 0x1000));
    EXPECT_FALSE(passes(32 * kMiB, 0));
    EXPECT_FALSE(passes(kKept.base, 0x1000)) << "kept";
    EXPECT_FALSE(passes(0xf0000, 0x10, 0x23)) << "reaches up to 2 MiB";
    EXPECT_FALSE(passes(0xf0000, 0x1000, 0x70, 0x100)) << "a hundred lines are more than its size says";
    EXPECT_FALSE(passes(0xffff'ffff'ffff'f000, 0x2000)) << "wraps";
}

TEST_F(LoadLinux, BuildsFlatSegmentsAndAnIdentityMap) {
    const auto entry = load();
    ASSERT_TRUE(entry.ok());
    EXPECT_EQ(ram.read<std::uint64_t>(entry->gdt + 0x10), 0x00af9b000000ffffu);
    EXPECT_EQ(ram.read<std::uint64_t>(entry->gdt + 0x18), 0x00cf93000000ffffu);
    const std::uint64_t pdpt = ram.read<std::uint64_t>(entry->cr3) & ~0xfffull;
    EXPECT_EQ(ram.read<std::uint64_t>(entry->cr3) & 0xfff, 3u);
    EXPECT_EQ(ram.read<std::uint64_t>(pdpt + 8 * 5), (5ull << 30) | 0x83);
}

TEST_F(LoadLinux, KeepsEverythingItPlacesApart) {
    const auto entry = load();
    ASSERT_TRUE(entry.ok());
    const Extent block{entry->rsi, 6 * 0x1000};
    EXPECT_FALSE(block.overlaps(image.kernel));
    EXPECT_FALSE(block.overlaps(image.initrd));
    EXPECT_FALSE(block.overlaps({16 * kMiB, 0x20000}));
    EXPECT_TRUE(map.usable(block));
}

TEST_F(LoadLinux, RelocatesWhenThePreferredPlaceIsTaken) {
    image.initrd = {16 * kMiB, kMiB};
    const auto entry = load();
    ASSERT_TRUE(entry.ok());
    const std::uint64_t base = entry->rip - 0x200;
    EXPECT_EQ(base % 0x200000, 0u);
    EXPECT_FALSE((Extent{base, 0x20000}.overlaps(image.initrd)));
}

TEST_F(LoadLinux, RefusesAFixedKernelWhosePlaceIsTaken) {
    auto file = bzimage();
    poke<std::uint8_t>(file, 0x234, 0);
    set_kernel(file);
    image.initrd = {16 * kMiB, kMiB};
    EXPECT_EQ(load().error(), Error::kUnsupported);
}

TEST_F(LoadLinux, RefusesEveryTruncation) {
    const auto file = bzimage();
    for (std::size_t size = 0; size <= 1024; ++size) {
        set_kernel({file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)});
        EXPECT_FALSE(load().ok()) << size;
    }
}

TEST_F(LoadLinux, RefusesAHeaderThatContradictsItself) {
    struct Case {
        std::size_t at;
        std::uint32_t value;
        std::size_t size;
        Error error;
    };
    const Case cases[] = {
        {0x1fe, 0x1234, 2, Error::kBadMagic},  {0x202, 0, 4, Error::kBadMagic},
        {0x206, 0x20b, 2, Error::kBadVersion}, {0x236, 0, 2, Error::kUnsupported},
        {0x260, 0xffff, 4, Error::kBadLength}, {0x1f1, 0xff, 1, Error::kTruncated},
        {0x201, 0xff, 1, Error::kBadLength},   {0x230, 0x1001, 4, Error::kMisaligned},
        {0x230, 0, 4, Error::kMisaligned},     {0x22c, 0x1000, 4, Error::kOutOfRange},
    };
    for (const Case& bad : cases) {
        auto file = bzimage();
        for (std::size_t i = 0; i < bad.size; ++i) file[bad.at + i] = static_cast<std::byte>(bad.value >> (8 * i));
        set_kernel(file);
        EXPECT_EQ(load().error(), bad.error) << std::hex << bad.at;
    }
}

TEST_F(LoadLinux, RefusesHugeInitSizeAndWrappingAddresses) {
    auto file = bzimage();
    poke<std::uint32_t>(file, 0x260, 0xffffffff);
    poke<std::uint64_t>(file, 0x258, 0xfffffffffffff000);
    set_kernel(file);
    EXPECT_EQ(load().error(), Error::kNoSpace);
}

TEST_F(LoadLinux, RefusesModulesOutsideOfUsableMemory) {
    image.initrd = {0xf0000, 0x1000};
    EXPECT_EQ(load().error(), Error::kOutOfRange);
    image.initrd = {63 * kMiB, 2 * kMiB};
    EXPECT_EQ(load().error(), Error::kOutOfRange);
    image.initrd = {0xfffffffffffff000, 0x2000};
    EXPECT_EQ(load().error(), Error::kOutOfRange);
    image.initrd = image.kernel;
    EXPECT_EQ(load().error(), Error::kOverlap);
}

TEST_F(LoadLinux, RefusesACommandLineThatLinuxWouldCut) {
    const std::vector<std::byte> longest(2048, std::byte{'a'});
    image.command_line = longest;
    EXPECT_EQ(load().error(), Error::kBadLength);
    const std::array<std::byte, 3> hidden{std::byte{'a'}, std::byte{0}, std::byte{'b'}};
    image.command_line = hidden;
    EXPECT_EQ(load().error(), Error::kBadValue);
}

TEST(MemoryMap, RefusesOverlapsAndWraps) {
    MemoryMap map;
    EXPECT_TRUE(map.add({0x1000, 0x1000, MemoryType::kUsable}).ok());
    EXPECT_EQ(map.add({0x1800, 0x1000, MemoryType::kReserved}).error(), Error::kOverlap);
    EXPECT_EQ(map.add({0x800, 0x900, MemoryType::kReserved}).error(), Error::kOverlap);
    EXPECT_EQ(map.add({0xfffffffffffff000, 0x2000, MemoryType::kUsable}).error(), Error::kBadValue);
    EXPECT_EQ(map.add({0x5000, 0, MemoryType::kUsable}).error(), Error::kBadValue);
}

TEST(MemoryMap, RefusesMoreRangesThanTheZeroPageHolds) {
    MemoryMap map;
    for (std::uint64_t i = 0; i < 128; ++i) ASSERT_TRUE(map.add({i * 0x2000, 0x1000, MemoryType::kUsable}).ok());
    EXPECT_EQ(map.add({0x1000000, 0x1000, MemoryType::kUsable}).error(), Error::kNoSpace);
}

TEST(MemoryMap, ReserveSplitsUsableMemory) {
    MemoryMap map;
    ASSERT_TRUE(map.add({0, 0x10000, MemoryType::kUsable}).ok());
    ASSERT_TRUE(map.reserve({0x4000, 0x2000}).ok());
    ASSERT_EQ(map.ranges().size(), 3u);
    EXPECT_EQ(map.ranges()[1].base, 0x4000u);
    EXPECT_EQ(map.ranges()[1].type, MemoryType::kUnusable);
    EXPECT_EQ(map.ranges()[2].end(), 0x10000u);
    EXPECT_FALSE(map.usable({0x3000, 0x2000}));
    EXPECT_EQ(map.usable_bytes(), 0xe000u);
    EXPECT_EQ(map.reserve({0x5000, 0x2000}).error(), Error::kOutOfRange) << "it is reserved already";
}

TEST(MemoryMap, FindGoesAroundBusyExtents) {
    MemoryMap map;
    ASSERT_TRUE(map.add({0, 0x10000, MemoryType::kUsable}).ok());
    const Extent busy[] = {{0xe000, 0x2000}, {0xa000, 0x1000}};
    EXPECT_EQ(map.find(0x3000, 0x1000, 0x100000000, busy).value(), 0xb000u);
    EXPECT_EQ(map.find(0x4000, 0x1000, 0x100000000, busy).value(), 0x6000u);
    EXPECT_EQ(map.find(0xb000, 0x1000, 0x100000000, busy).error(), Error::kNoSpace);
    EXPECT_EQ(map.find(0x1000, 0x1000, 0x1000, {}).error(), Error::kNoSpace) << "page 0 is never handed out";
}

}  // namespace
}  // namespace gatehouse::guest

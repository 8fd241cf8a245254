// Multiboot2 information, well-formed and hostile, and where the launcher puts things.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "hypervisor/launcher/multiboot.hpp"
#include "hypervisor/launcher/placement.hpp"

namespace gatehouse::launcher {
namespace {

using Buffer = std::vector<std::byte>;

// Builds a multiboot2 information, tag by tag.
struct Piece {
    std::uint64_t base;
    std::uint64_t length;
    std::uint32_t type;
};

class Builder {
  public:
    Builder() { put32(0).put32(0); }
    Builder& put8(std::uint8_t value) { return put(value); }
    Builder& put32(std::uint32_t value) { return put(value); }
    Builder& put64(std::uint64_t value) { return put(value); }
    Builder& text(const std::string& value) {
        for (const char character : value) put8(static_cast<std::uint8_t>(character));
        return put8(0);
    }
    Builder& begin(std::uint32_t type) {
        end_tag();
        tag_ = bytes_.size();
        return put32(type).put32(0);
    }
    Builder& module(std::uint32_t start, std::uint32_t end, const std::string& role) {
        return begin(3).put32(start).put32(end).text(role);
    }
    Builder& memory(std::initializer_list<Piece> ranges) {
        begin(6).put32(24).put32(0);
        for (const auto& range : ranges) put64(range.base).put64(range.length).put32(range.type).put32(0);
        return *this;
    }
    Buffer finish() {
        begin(0);
        end_tag();
        store(bytes_.data(), static_cast<std::uint32_t>(bytes_.size()), Endian::kLittle);
        return bytes_;
    }

  private:
    template <typename T>
    Builder& put(T value) {
        bytes_.resize(bytes_.size() + sizeof(T));
        store(bytes_.data() + bytes_.size() - sizeof(T), value, Endian::kLittle);
        return *this;
    }
    void end_tag() {
        if (tag_ != 0) {
            store(bytes_.data() + tag_ + 4, static_cast<std::uint32_t>(bytes_.size() - tag_), Endian::kLittle);
        }
        while (bytes_.size() % 8 != 0) bytes_.push_back(std::byte{0xaa});
    }
    Buffer bytes_;
    std::size_t tag_ = 0;
};

Builder sample() {
    Builder builder;
    builder.begin(1).text("--no-skinit  quiet");
    builder.begin(2).text("GRUB 2.06");  // boot loader name, of no use here
    builder.module(0x200000, 0x206000, "slb");
    builder.module(0x210000, 0x240000, "hypervisor");
    builder.module(0x300000, 0x300e00, "policy");
    builder.module(0x400000, 0xc00001, " kernel  ignored");
    builder.module(0xd00000, 0xd00001, "command-line");
    builder.memory({{0, 0x9fc00, 1}, {0x9fc00, 0x400, 2}, {0x100000, 0x3ff00000, 1}, {0xfd000000, 0x1000, 20}});
    builder.begin(8).put64(0xc0000000).put32(4096).put32(1024).put32(768).put8(32).put8(1).put8(0).put8(0);
    for (const int field : {16, 8, 8, 8, 0, 8}) builder.put8(static_cast<std::uint8_t>(field));
    builder.begin(15);
    for (unsigned i = 0; i < 36; ++i) builder.put8(static_cast<std::uint8_t>(i + 1));
    builder.begin(14);
    for (unsigned i = 0; i < 20; ++i) builder.put8(0xee);
    return builder;
}

struct Parsed {
    Status status;
    std::unique_ptr<BootInformation> information = std::make_unique<BootInformation>();
};

Parsed parse(const Buffer& bytes) {
    Parsed parsed;
    parsed.status = parse_multiboot(bytes, *parsed.information);
    return parsed;
}

TEST(Multiboot, TakesWhatTheBootLoaderSays) {
    const Parsed parsed = parse(sample().finish());
    ASSERT_TRUE(parsed.status.ok()) << parsed.status.failure().item;
    const BootInformation& information = *parsed.information;
    EXPECT_EQ(information.slb.base, 0x200000u);
    EXPECT_EQ(information.slb.length, 0x6000u);
    EXPECT_EQ(information.hypervisor.length, 0x30000u);
    EXPECT_EQ(information.launch.module_count, 3u);
    EXPECT_EQ(information.launch.module(launch::ModuleRole::kKernel)->size, 0x800001u);
    EXPECT_EQ(information.launch.module(launch::ModuleRole::kCommandLine)->address, 0xd00000u);
    ASSERT_EQ(information.launch.memory_count, 4u);
    EXPECT_EQ(information.launch.memory[2].length, 0x3ff00000u);
    const auto screen = [&](std::size_t at) { return std::to_integer<unsigned>(information.launch.screen[at]); };
    EXPECT_EQ(screen(0x0f), 0x23u) << "VESA";
    EXPECT_EQ(screen(0x12) | screen(0x13) << 8, 1024u);
    EXPECT_EQ(screen(0x1b), 0xc0u) << "the base's highest byte";
    EXPECT_EQ(screen(0x1c), 0x30u) << "4096 * 768 bytes in units of 64 KiB";
    EXPECT_EQ(screen(0x26), 8u) << "size of red";
    EXPECT_EQ(screen(0x27), 16u) << "position of red";
    EXPECT_FALSE(information.text_screen);
    EXPECT_FALSE(information.uefi);
    EXPECT_TRUE(information.has_option("--no-skinit"));
    EXPECT_TRUE(information.has_option("quiet"));
    EXPECT_FALSE(information.has_option("--no"));
}

TEST(Multiboot, UnknownMemoryTypesAreReserved) {
    EXPECT_EQ(parse(sample().finish()).information->launch.memory[3].type, launch::MemoryType::kReserved);
}

TEST(Multiboot, PrefersTheNewRsdp) {
    const Parsed parsed = parse(sample().finish());
    EXPECT_TRUE(parsed.information->has_rsdp);
    EXPECT_EQ(parsed.information->launch.rsdp[0], std::byte{1});
    EXPECT_EQ(parsed.information->launch.rsdp[35], std::byte{36});
    Builder old;
    old.begin(14);
    for (unsigned i = 0; i < 20; ++i) old.put8(0xee);
    const Parsed older = parse(old.finish());
    EXPECT_EQ(older.information->launch.rsdp[19], std::byte{0xee});
    EXPECT_EQ(older.information->launch.rsdp[20], std::byte{0});
}

TEST(Multiboot, KnowsUefiByItsSystemTable) {
    EXPECT_TRUE(parse(sample().begin(12).put64(0x1000).finish()).information->uefi);
}

TEST(Multiboot, DescribesATextScreenWithoutAFramebuffer) {
    const Parsed parsed = parse(Builder{}.finish());
    EXPECT_EQ(parsed.information->launch.screen[0x07], std::byte{80});
    EXPECT_EQ(parsed.information->launch.screen[0x0f], std::byte{1});
}

TEST(Multiboot, RefusesToRunUnderBootServices) {
    EXPECT_EQ(parse(sample().begin(18).finish()).status.error(), Error::kState);
}

TEST(Multiboot, TakesTheUefiMapOnlyWithoutAnother) {
    const auto with_efi_map = [](Builder builder) {
        builder.begin(17).put32(48).put32(1);
        for (const auto& [type, pages] :
             {std::pair{7u, 0x100u}, {4u, 0x100u}, {9u, 1u}, {10u, 1u}, {5u, 1u}, {8u, 1u}}) {
            builder.put32(type).put32(0).put64(0x10'0000 * (type + 1ull)).put64(0).put64(pages).put64(0).put64(0);
        }
        return parse(builder.finish());
    };
    const Parsed alone = with_efi_map(Builder{});
    ASSERT_TRUE(alone.status.ok());
    EXPECT_TRUE(alone.information->uefi);
    std::vector<std::uint32_t> types;
    for (const auto& range : alone.information->launch.all_memory())
        types.push_back(static_cast<std::uint32_t>(range.type));
    EXPECT_THAT(types, ::testing::ElementsAre(1, 1, 3, 4, 2, 5));
    EXPECT_EQ(alone.information->launch.memory[0].length, 0x100000u);
    EXPECT_EQ(with_efi_map(sample()).information->launch.memory_count, 4u);
}

// Cut anywhere, it is refused: either its total size no longer holds, or a tag, or the end tag.
TEST(Multiboot, RefusesEveryTruncation) {
    const Buffer whole = sample().finish();
    for (std::size_t cut = 0; cut < whole.size(); ++cut) {
        Buffer bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut));
        EXPECT_FALSE(parse(bytes).status.ok()) << cut;
        if (cut >= 4) store(bytes.data(), static_cast<std::uint32_t>(cut), Endian::kLittle);
        EXPECT_FALSE(parse(bytes).status.ok()) << cut;
    }
}

TEST(Multiboot, RefusesTagSizesThatLie) {
    for (const std::uint32_t size : {0u, 7u, 0x7fffffffu, 0xffffffffu}) {
        Buffer bytes = sample().finish();
        store(bytes.data() + 8 + 4, size, Endian::kLittle);
        EXPECT_EQ(parse(bytes).status.error(), Error::kBadLength) << size;
    }
    for (const std::uint32_t total : {0u, 8u, 15u, 0xffffffffu}) {
        Buffer bytes = sample().finish();
        store(bytes.data(), total, Endian::kLittle);
        EXPECT_EQ(parse(bytes).status.error(), Error::kBadLength) << total;
    }
}

TEST(Multiboot, RefusesModulesThatEndBeforeTheyStart) {
    EXPECT_EQ(parse(Builder{}.module(0x2000, 0x1000, "slb").finish()).status.error(), Error::kBadValue);
    EXPECT_EQ(parse(Builder{}.module(0x2000, 0x2000, "slb").finish()).status.error(), Error::kBadValue);
}

TEST(Multiboot, RefusesUnknownAndRepeatedRoles) {
    EXPECT_EQ(parse(sample().module(1, 2, "kernal").finish()).status.error(), Error::kNotFound);
    EXPECT_EQ(parse(sample().module(1, 2, "").finish()).status.error(), Error::kNotFound);
    EXPECT_EQ(parse(sample().module(1, 2, "slb").finish()).status.error(), Error::kBadValue);
    EXPECT_EQ(parse(sample().module(1, 2, "kernel").finish()).status.error(), Error::kBadValue);
}

TEST(Multiboot, RefusesTextWithoutEnd) {
    EXPECT_EQ(parse(Builder{}.begin(1).put8('x').finish()).status.error(), Error::kBadLength);
    EXPECT_EQ(parse(Builder{}.begin(3).put32(1).put32(2).put8('x').finish()).status.error(), Error::kBadLength);
}

TEST(Multiboot, RefusesMemoryMapsThatContradictThemselves) {
    EXPECT_EQ(parse(Builder{}.begin(6).put32(0).put32(0).finish()).status.error(), Error::kBadLength);
    EXPECT_EQ(parse(Builder{}.begin(6).put32(23).put32(0).finish()).status.error(), Error::kBadLength);
    EXPECT_EQ(parse(Builder{}.memory({{0x1000, ~0ull, 1}}).finish()).status.error(), Error::kBadLength);
    for (const std::uint64_t pages : {1ull << 52, ~0ull}) {
        Builder efi;
        efi.begin(17).put32(40).put32(1).put32(7).put32(0).put64(0x1000).put64(0).put64(pages).put64(0);
        EXPECT_EQ(parse(efi.finish()).status.error(), Error::kBadLength);
    }
    Builder many;
    many.begin(6).put32(24).put32(0);
    for (unsigned i = 0; i <= launch::kMaxMemoryRanges; ++i) many.put64(i).put64(1).put32(1).put32(0);
    EXPECT_EQ(parse(many.finish()).status.error(), Error::kNoSpace);
}

TEST(Multiboot, RefusesAShortRsdpAndFramebuffer) {
    EXPECT_EQ(parse(Builder{}.begin(15).put64(0).finish()).status.error(), Error::kBadLength);
    EXPECT_EQ(parse(Builder{}.begin(14).put64(0).finish()).status.error(), Error::kBadLength);
    EXPECT_EQ(parse(Builder{}.begin(8).put64(0).finish()).status.error(), Error::kTruncated);
}

TEST(Multiboot, CutsALongCommandLine) {
    const Parsed parsed = parse(Builder{}.begin(1).text(std::string(1000, 'x')).finish());
    ASSERT_TRUE(parsed.status.ok());
    EXPECT_EQ(std::string(parsed.information->command_line.data()), std::string(255, 'x'));
}

// --- placement
// ------------------------------------------------------------------------------------------------

struct Placed {
    std::unique_ptr<BootInformation> information;
    Result<Placement> placement;
};

Placed place_in(std::initializer_list<Piece> memory, std::span<const Extent> busy = {}) {
    auto information = parse(sample().memory(memory).finish()).information;
    auto placement = place(*information, busy);
    return {std::move(information), placement};
}

bool overlap(std::uint64_t a, std::uint64_t a_size, std::uint64_t b, std::uint64_t b_size) {
    return a < b + b_size && b < a + a_size;
}

void expect_sound(const Placed& placed) {
    ASSERT_TRUE(placed.placement.ok()) << placed.placement.failure().item;
    const Placement& placement = *placed.placement;
    const launch::LaunchBlock& block = placed.information->launch;
    EXPECT_EQ(placement.kept_base % launch::kKeptAlignment, 0u);
    EXPECT_LE(placement.kept_base + launch::kKeptSize, 0x1'0000'0000u);
    for (std::size_t i = 0; i < block.module_count; ++i) {
        const std::uint64_t target = placement.modules[i];
        const std::uint64_t size = block.modules[i].size;
        EXPECT_EQ(target % 0x1000, 0u);
        EXPECT_LE(target + size, placement.kept_base);
        for (std::size_t j = 0; j < block.module_count; ++j) {
            EXPECT_FALSE(overlap(target, size, block.modules[j].address, block.modules[j].size)) << i << " on " << j;
            EXPECT_TRUE(j == i || !overlap(target, size, placement.modules[j], block.modules[j].size));
        }
        for (const Extent& source : {placed.information->slb, placed.information->hypervisor}) {
            EXPECT_FALSE(overlap(target, size, source.base, source.length));
            EXPECT_FALSE(overlap(placement.kept_base, launch::kKeptSize, source.base, source.length));
        }
    }
}

TEST(Placement, TakesTheHighestPlaceBelowFourGiB) {
    const Placed low = place_in({{0x100000, 0x3ff00000, 1}});
    expect_sound(low);
    EXPECT_EQ(low.placement->kept_base, 0x40000000 - launch::kKeptSize);
    EXPECT_EQ(low.placement->modules[0], low.placement->kept_base - 0x1000);
    const Placed high = place_in({{0x100000, 0x3ff00000, 1}, {0x1'0000'0000, 0x40000000, 1}});
    EXPECT_EQ(high.placement->kept_base, low.placement->kept_base);
    const Placed across = place_in({{0x100000, 0x1'8000'0000, 1}});
    EXPECT_EQ(across.placement->kept_base, 0x1'0000'0000 - launch::kKeptSize);
}

TEST(Placement, IsAlignedWhereMemoryIsNot) {
    const Placed placed = place_in({{0x100000, 0x3ff2f000, 1}});
    expect_sound(placed);
    EXPECT_EQ(placed.placement->kept_base, 0x3f400000u);
}

TEST(Placement, AvoidsWhatIsInUse) {
    const Extent busy[] = {{0x3f000000, 0x1000}};
    const Placed placed = place_in({{0x100000, 0x3f100000, 1}}, busy);
    expect_sound(placed);
    EXPECT_EQ(placed.placement->kept_base + launch::kKeptSize, 0x3f000000u);
}

TEST(Placement, AvoidsSlbAndHypervisorWhereTheBootLoaderPutThem) {
    const auto kept_base_with = [](std::uint32_t slb, std::uint32_t hypervisor) {
        Builder builder;
        builder.module(slb, slb + 0x6000, "slb").module(hypervisor, hypervisor + 0x30000, "hypervisor");
        builder.memory({{0x100000, 0x3ff00000, 1}});
        return place(*parse(builder.finish()).information, {}).value().kept_base;
    };
    EXPECT_EQ(kept_base_with(0x200000, 0x300000), 0x40000000 - launch::kKeptSize);
    EXPECT_EQ(kept_base_with(0x3fff0000, 0x300000), 0x3fe00000 - launch::kKeptSize);
    EXPECT_EQ(kept_base_with(0x200000, 0x3ff00000), 0x3fe00000 - launch::kKeptSize);
}

TEST(Placement, AvoidsAcpiAndReservedMemory) {
    const Placed placed = place_in({{0x100000, 0x3e00'0000, 1}, {0x3e100000, 0x800000, 3}, {0x3e900000, 0xb00000, 1}});
    expect_sound(placed);
    EXPECT_LE(placed.placement->kept_base + launch::kKeptSize, 0x3e100000u);
}

// The modules lie where the kept region and their own new places would like to be.
TEST(Placement, MovesModulesOnlyToPlacesThatHoldNoModuleNow) {
    for (std::uint32_t base = 0x1000000; base < 0x4000000; base += 0x345000) {
        Builder builder;
        builder.module(base, base + 0x6000, "slb");
        builder.module(base + 0x6000, base + 0x40000, "hypervisor");
        builder.module(base + 0x40000, base + 0x40e00, "policy");
        builder.module(base + 0x41000, base + 0x841001, "kernel");
        builder.module(base + 0x842000, base + 0xf42000, "initrd");
        builder.memory({{0x100000, 0x4f00000, 1}});
        auto information = parse(builder.finish()).information;
        auto placement = place(*information, {});
        expect_sound({std::move(information), placement});
    }
}

TEST(Placement, SaysWhenThereIsNoRoom) {
    EXPECT_EQ(place_in({{0x100000, 0xb00000, 1}}).placement.error(), Error::kNoSpace);
    EXPECT_EQ(place_in({{0x1'0000'0000, 0x40000000, 1}}).placement.error(), Error::kNoSpace);
    EXPECT_EQ(place_in({{0x100000, 0x100000, 1}, {0x10000000, 0xc00000, 1}}).placement.error(), Error::kNoSpace);
}

TEST(Placement, RefusesAMemoryMapThatOverlapsItself) {
    EXPECT_EQ(place_in({{0x100000, 0x3ff00000, 1}, {0x200000, 0x1000, 2}}).placement.error(), Error::kOverlap);
}

}  // namespace
}  // namespace gatehouse::launcher

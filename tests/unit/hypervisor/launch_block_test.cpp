// The launch block, the image header and the hand-off block, as a hostile launcher may write them.
#include "hypervisor/launch/launch_block.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "hypervisor/launch/hand_off.hpp"

namespace gatehouse::launch {
namespace {

using Buffer = std::vector<std::byte>;
constexpr std::uint64_t kKept = 0x3f200000;

// Offsets in the block.
constexpr std::size_t kSizeAt = 12;
constexpr std::size_t kKeptAt = 16;
constexpr std::size_t kHypervisorSizeAt = 24;
constexpr std::size_t kFirmwareAt = 28;
constexpr std::size_t kModuleCountAt = 68;
constexpr std::size_t kMemoryCountAt = 72;
constexpr std::size_t kReservedAt = 76;
constexpr std::size_t kModulesAt = 108;
constexpr std::size_t kModuleSize = 24;

LaunchBlock sample() {
    LaunchBlock block;
    block.kept_base = kKept;
    block.hypervisor_size = 0x30000;
    block.uefi = true;
    block.rsdp[0] = std::byte{'R'};
    block.rsdp[35] = std::byte{0x5a};
    block.framebuffer = {.address = 0xc0000000,
                         .pitch = 4096,
                         .width = 1024,
                         .height = 768,
                         .bits_per_pixel = 32,
                         .red_position = 16,
                         .red_size = 8,
                         .green_position = 8,
                         .green_size = 8,
                         .blue_position = 0,
                         .blue_size = 8};
    block.modules[0] = {.role = ModuleRole::kPolicy, .address = 0x3f1ff000, .size = 1000};
    block.modules[1] = {.role = ModuleRole::kKernel, .address = 0x3e000000, .size = 0x800001};
    block.modules[2] = {.role = ModuleRole::kInitrd, .address = 0x3d000000, .size = 0x1000000};
    block.module_count = 3;
    block.memory[0] = {.base = 0, .length = 0x9fc00, .type = 1};
    block.memory[1] = {.base = 0x100000, .length = 0x3fe00000, .type = 1};
    block.memory[2] = {.base = 0x1'0000'0000, .length = 0x1'0000'0000, .type = 1};
    block.memory_count = 3;
    return block;
}

Buffer written(const LaunchBlock& block) {
    Buffer bytes(kLaunchBlockSize);
    EXPECT_TRUE(write_launch_block(block, bytes).ok());
    return bytes;
}

Status parse(Bytes bytes) {
    LaunchBlock block;
    return parse_launch_block(bytes, kKept, block);
}

template <typename T>
Status parse_with(std::size_t at, T value) {
    Buffer bytes = written(sample());
    store(bytes.data() + at, value, Endian::kLittle);
    return parse(bytes);
}

Status parse_changed(void (*change)(LaunchBlock&)) {
    LaunchBlock block = sample();
    change(block);
    return parse(written(block));
}

TEST(LaunchBlock, ReadsBackWhatWasWritten) {
    LaunchBlock block;
    ASSERT_TRUE(parse_launch_block(written(sample()), kKept, block).ok());
    EXPECT_EQ(block.kept_base, kKept);
    EXPECT_EQ(block.hypervisor_size, 0x30000u);
    EXPECT_TRUE(block.uefi);
    EXPECT_EQ(block.rsdp, sample().rsdp);
    EXPECT_EQ(block.framebuffer.address, 0xc0000000u);
    EXPECT_EQ(block.framebuffer.height, 768u);
    EXPECT_EQ(block.framebuffer.red_position, 16u);
    EXPECT_EQ(block.framebuffer.blue_size, 8u);
    ASSERT_EQ(block.all_modules().size(), 3u);
    ASSERT_NE(block.module(ModuleRole::kKernel), nullptr);
    EXPECT_EQ(block.module(ModuleRole::kKernel)->size, 0x800001u);
    EXPECT_EQ(block.module(ModuleRole::kCommandLine), nullptr);
    ASSERT_EQ(block.all_memory().size(), 3u);
    EXPECT_EQ(block.memory[2].base, 0x1'0000'0000u);

    const auto header = parse_launch_header(written(sample()), kKept);
    ASSERT_TRUE(header.ok());
    EXPECT_EQ(header->hypervisor_size, 0x30000u);
    EXPECT_EQ(header->rsdp, sample().rsdp);
}

TEST(LaunchBlock, RefusesEveryTruncation) {
    const Buffer whole = written(sample());
    const auto size = load<std::uint32_t>(whole.data() + kSizeAt, Endian::kLittle);
    for (std::uint32_t cut = 0; cut < size; ++cut) {
        EXPECT_FALSE(parse(Bytes(whole).first(cut)).ok()) << cut;
        EXPECT_FALSE(parse_with(kSizeAt, cut).ok()) << cut;  // the block itself says so
    }
    EXPECT_TRUE(parse(Bytes(whole).first(size)).ok());
    EXPECT_EQ(parse_with(kSizeAt, std::uint32_t{kModuleCountAt - 1}).error(), Error::kBadLength);
}

TEST(LaunchBlock, RefusesSizesBeyondTheBlock) {
    EXPECT_FALSE(parse_with(kSizeAt, std::uint32_t{kLaunchBlockSize}).ok());
    EXPECT_EQ(parse_with(kSizeAt, std::uint32_t{kLaunchBlockSize + 1}).error(), Error::kBadLength);
    EXPECT_EQ(parse_with(kSizeAt, 0xffffffffu).error(), Error::kBadLength);
}

TEST(LaunchBlock, RefusesAnotherMagicVersionOrKeptRegion) {
    EXPECT_EQ(parse_with(0, std::uint8_t{0}).error(), Error::kBadMagic);
    EXPECT_EQ(parse_with(8, std::uint32_t{2}).error(), Error::kBadVersion);
    EXPECT_EQ(parse_with(kKeptAt, std::uint64_t{kKept + kKeptAlignment}).error(), Error::kMismatch);
    EXPECT_EQ(parse_with(kFirmwareAt, std::uint32_t{2}).error(), Error::kBadValue);
    EXPECT_EQ(parse_with(kReservedAt, std::uint32_t{1}).error(), Error::kBadValue);
    EXPECT_EQ(parse_with(kModulesAt + 4, std::uint32_t{1}).error(), Error::kBadValue);
}

TEST(LaunchBlock, RefusesAHypervisorThatDoesNotFitItsPlace) {
    EXPECT_EQ(parse_with(kHypervisorSizeAt, std::uint32_t{kImageMaxSize + 1}).error(), Error::kBadLength);
    EXPECT_EQ(parse_with(kHypervisorSizeAt, std::uint32_t{kImageHeaderSize - 1}).error(), Error::kBadLength);
    EXPECT_TRUE(parse_with(kHypervisorSizeAt, std::uint32_t{kImageMaxSize}).ok());
}

TEST(LaunchBlock, RefusesMoreThanTheTablesHold) {
    EXPECT_EQ(parse_with(kModuleCountAt, std::uint32_t{kMaxModules + 1}).error(), Error::kNoSpace);
    EXPECT_EQ(parse_with(kModuleCountAt, 0xffffffffu).error(), Error::kNoSpace);
    EXPECT_EQ(parse_with(kMemoryCountAt, std::uint32_t{kMaxMemoryRanges + 1}).error(), Error::kNoSpace);
    EXPECT_EQ(parse_with(kMemoryCountAt, std::uint32_t{4}).error(), Error::kTruncated);
    EXPECT_EQ(parse_with(kMemoryCountAt, std::uint32_t{2}).error(), Error::kTrailingBytes);
}

TEST(LaunchBlock, RefusesUnknownAndRepeatedRoles) {
    for (const std::uint32_t role : {0u, 6u, 0xffffffffu}) {
        EXPECT_EQ(parse_with(kModulesAt, role).error(), Error::kBadValue) << role;
    }
    EXPECT_EQ(parse_with(kModulesAt + kModuleSize, std::uint32_t{1}).error(), Error::kBadValue);
}

TEST(LaunchBlock, RefusesModulesThatAreMisalignedEmptyOrBeyondFourGiB) {
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].address += 0x800; }).error(), Error::kMisaligned);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].size = 0; }).error(), Error::kBadLength);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].address = 0x1'0000'0000; }).error(), Error::kOutOfRange);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].size = 0x1'0000'0000; }).error(), Error::kOutOfRange);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].size = ~0ull; }).error(), Error::kOutOfRange);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].address = 0x2'0000'0000; }).error(), Error::kOutOfRange);
}

TEST(LaunchBlock, RefusesModulesInTheKeptRegion) {
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].address = kKept; }).error(), Error::kOverlap);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].address = kKept + kKeptSize - 0x1000; }).error(),
              Error::kOverlap);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].size = 0x1001; }).error(), Error::kOverlap);
    EXPECT_TRUE(parse_changed([](LaunchBlock& b) { b.modules[0].size = 0x1000; }).ok());
    EXPECT_TRUE(parse_changed([](LaunchBlock& b) { b.modules[0].address = kKept + kKeptSize; }).ok());
}

TEST(LaunchBlock, RefusesModulesThatOverlap) {
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[2].size = 0x1000001; }).error(), Error::kOverlap);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[2].address = b.modules[1].address; }).error(),
              Error::kOverlap);
}

TEST(LaunchBlock, RefusesMemoryRangesThatAreEmptyOrWrap) {
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.memory[0].length = 0; }).error(), Error::kBadLength);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.memory[2].length = ~0ull; }).error(), Error::kBadLength);
}

TEST(LaunchBlock, FitsWithAllTablesFull) {
    LaunchBlock block = sample();
    block.memory_count = kMaxMemoryRanges;
    for (std::size_t i = 0; i < kMaxMemoryRanges; ++i) block.memory[i] = {i << 20, 1u << 20, 1};
    EXPECT_TRUE(parse(written(block)).ok());
    Buffer small(1000);
    EXPECT_EQ(write_launch_block(block, small).error(), Error::kNoSpace);
}

// --- hypervisor.bin
// -------------------------------------------------------------------------------------------

struct ImageFields {
    std::uint64_t magic = kImageMagic;
    std::uint32_t version = kImageVersion;
    std::uint32_t file_size = 0x1000;
    std::uint32_t memory_size = 0x2000;
    std::uint32_t entry = 24;
    std::uint32_t module_size = 0x1000;
};

Result<ImageHeader> parse(const ImageFields& fields) {
    Buffer bytes(0x1000);
    Writer writer(bytes);
    writer.u64(fields.magic);
    writer.u32(fields.version);
    writer.u32(fields.file_size);
    writer.u32(fields.memory_size);
    writer.u32(fields.entry);
    return parse_image_header(bytes, fields.module_size);
}

TEST(ImageHeader, IsTakenWhenItFitsTheModule) {
    const auto header = parse(ImageFields{});
    ASSERT_TRUE(header.ok());
    EXPECT_EQ(header->file_size, 0x1000u);
    EXPECT_EQ(header->memory_size, 0x2000u);
    EXPECT_EQ(header->entry, 24u);
}

TEST(ImageHeader, IsRefusedWithAnyFieldOutOfItsRange) {
    EXPECT_EQ(parse({.magic = 0}).error(), Error::kBadMagic);
    EXPECT_EQ(parse({.version = 2}).error(), Error::kBadVersion);
    EXPECT_EQ(parse({.file_size = 0x1010}).error(), Error::kBadLength);
    EXPECT_EQ(parse({.file_size = 0x0ff8, .module_size = 0x0ff8}).error(), Error::kBadLength);
    EXPECT_EQ(parse({.memory_size = 0x0ff0}).error(), Error::kBadLength);
    EXPECT_EQ(parse({.memory_size = kImageMaxSize + 1}).error(), Error::kBadLength);
    EXPECT_EQ(parse({.entry = 23}).error(), Error::kOutOfRange);
    EXPECT_EQ(parse({.entry = 0x1000}).error(), Error::kOutOfRange);
    EXPECT_EQ(parse_image_header(Bytes{}, 0).error(), Error::kBadMagic);
}

// --- hand-off block
// -------------------------------------------------------------------------------------------

Buffer hand_off_block(std::size_t log_size) {
    Buffer block(kHandOffSize);
    for (std::size_t i = 0; i < log_size; ++i) block[kHandOffHeaderSize + i] = std::byte(i);
    const HandOff hand_off{.dynamic_launch = true,
                           .iommu_count = 2,
                           .banks = {HashAlgorithm::kSha1, HashAlgorithm::kSha256},
                           .bank_count = 2,
                           .event_log = Bytes(block).subspan(kHandOffHeaderSize, log_size)};
    write_hand_off(hand_off, block);
    return block;
}

TEST(HandOff, ReadsBackWhatWasWritten) {
    const Buffer block = hand_off_block(300);
    const auto hand_off = parse_hand_off(block);
    ASSERT_TRUE(hand_off.ok());
    EXPECT_TRUE(hand_off->dynamic_launch);
    EXPECT_EQ(hand_off->iommu_count, 2u);
    ASSERT_EQ(hand_off->all_banks().size(), 2u);
    EXPECT_EQ(hand_off->banks[1], HashAlgorithm::kSha256);
    ASSERT_EQ(hand_off->event_log.size(), 300u);
    EXPECT_EQ(hand_off->event_log[299], std::byte{299 & 0xff});
}

TEST(HandOff, RefusesEveryTruncation) {
    const Buffer block = hand_off_block(300);
    for (std::size_t cut = 0; cut < kHandOffHeaderSize + 300; ++cut) {
        EXPECT_FALSE(parse_hand_off(Bytes(block).first(cut)).ok()) << cut;
    }
}

TEST(HandOff, RefusesFieldsOutOfTheirRange) {
    const auto with = [](std::size_t at, std::uint32_t value) {
        Buffer block = hand_off_block(10);
        store(block.data() + at, value, Endian::kLittle);
        return parse_hand_off(block).error();
    };
    EXPECT_EQ(with(0, 0), Error::kBadMagic);
    EXPECT_EQ(with(8, 2), Error::kBadVersion);
    EXPECT_EQ(with(12, kHandOffSize), Error::kTruncated);
    EXPECT_EQ(with(20, 2), Error::kBadValue);
    EXPECT_EQ(with(24, 0), Error::kNoSpace);
    EXPECT_EQ(with(24, kMaxBanks + 1), Error::kNoSpace);
    EXPECT_EQ(with(24, 3), Error::kBadValue);  // the third bank is 0
}

}  // namespace
}  // namespace gatehouse::launch

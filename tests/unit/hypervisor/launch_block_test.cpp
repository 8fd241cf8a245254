// The launch block, the image header and the hand-off block, as a hostile launcher may write them.
#include "hypervisor/launch/launch_block.hpp"

#include <gtest/gtest.h>

#include <vector>

#include "hypervisor/launch/hand_off.hpp"

namespace gatehouse::launch {
namespace {

using Buffer = std::vector<std::byte>;
constexpr std::uint64_t kKept = 0x3f200000;

LaunchBlock sample() {
    LaunchBlock block;
    block.header.kept_base = kKept;
    block.header.hypervisor_size = 0x30000;
    block.rsdp[0] = std::byte{'R'};
    block.rsdp[35] = std::byte{0x5a};
    block.screen[63] = std::byte{0x77};
    block.modules[0] = {.role = ModuleRole::kPolicy, .address = 0x3f1ff000, .size = 1000};
    block.modules[1] = {.role = ModuleRole::kKernel, .address = 0x3e000000, .size = 0x800001};
    block.modules[2] = {.role = ModuleRole::kInitrd, .address = 0x3d000000, .size = 0x1000000};
    block.module_count = 3;
    block.memory[0] = {.base = 0, .length = 0x9fc00, .type = MemoryType::kUsable};
    block.memory[1] = {.base = 0x100000, .length = 0x3fe00000, .type = MemoryType::kUsable};
    block.memory[2] = {.base = 0x1'0000'0000, .length = 0x1'0000'0000, .type = MemoryType::kUsable};
    block.memory_count = 3;
    return block;
}

Bytes bytes_of(const LaunchBlock& block) { return {reinterpret_cast<const std::byte*>(&block), sizeof(block)}; }

Status parse(Bytes bytes) {
    LaunchBlock block;
    return parse_launch_block(bytes, kKept, block);
}

Status parse_changed(void (*change)(LaunchBlock&)) {
    LaunchBlock block = sample();
    change(block);
    return parse(bytes_of(block));
}

TEST(LaunchBlock, ReadsBackWhatWasWritten) {
    LaunchBlock block;
    ASSERT_TRUE(parse_launch_block(bytes_of(sample()), kKept, block).ok());
    EXPECT_EQ(block.header.hypervisor_size, 0x30000u);
    EXPECT_EQ(block.rsdp, sample().rsdp);
    EXPECT_EQ(block.screen, sample().screen);
    ASSERT_EQ(block.all_modules().size(), 3u);
    ASSERT_NE(block.module(ModuleRole::kKernel), nullptr);
    EXPECT_EQ(block.module(ModuleRole::kKernel)->size, 0x800001u);
    EXPECT_EQ(block.module(ModuleRole::kCommandLine), nullptr);
    ASSERT_EQ(block.all_memory().size(), 3u);
    EXPECT_EQ(block.memory[2].base, 0x1'0000'0000u);

    const auto header = parse_launch_header(bytes_of(sample()), kKept);
    ASSERT_TRUE(header.ok());
    EXPECT_EQ(header->hypervisor_size, 0x30000u);
}

TEST(LaunchBlock, RefusesEveryTruncation) {
    const LaunchBlock whole = sample();
    for (std::size_t cut = 0; cut < sizeof(whole); ++cut) {
        EXPECT_EQ(parse(bytes_of(whole).first(cut)).error(), Error::kTruncated) << cut;
    }
    EXPECT_EQ(parse_launch_header(bytes_of(whole).first(sizeof(LaunchHeader) - 1), kKept).error(), Error::kTruncated);
}

TEST(LaunchBlock, RefusesAnotherMagicVersionOrKeptRegion) {
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.header.magic = 0; }).error(), Error::kBadMagic);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.header.version = 1; }).error(), Error::kBadVersion);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.header.kept_base += kKeptAlignment; }).error(), Error::kMismatch);
}

TEST(LaunchBlock, RefusesAHypervisorThatDoesNotFitItsPlace) {
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.header.hypervisor_size = kImageMaxSize + 1; }).error(),
              Error::kBadLength);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.header.hypervisor_size = kImageHeaderSize - 1; }).error(),
              Error::kBadLength);
    EXPECT_TRUE(parse_changed([](LaunchBlock& b) { b.header.hypervisor_size = kImageMaxSize; }).ok());
}

TEST(LaunchBlock, RefusesMoreThanTheTablesHold) {
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.module_count = kMaxModules + 1; }).error(), Error::kNoSpace);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.module_count = 0xffffffff; }).error(), Error::kNoSpace);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.memory_count = kMaxMemoryRanges + 1; }).error(), Error::kNoSpace);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.memory_count = 0xffffffff; }).error(), Error::kNoSpace);
}

TEST(LaunchBlock, RefusesUnknownAndRepeatedRoles) {
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].role = ModuleRole{0}; }).error(), Error::kBadValue);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].role = ModuleRole{8}; }).error(), Error::kBadValue);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].role = ModuleRole{~0u}; }).error(), Error::kBadValue);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[1].role = ModuleRole::kPolicy; }).error(), Error::kBadValue);
    EXPECT_TRUE(parse_changed([](LaunchBlock& b) { b.modules[0].role = ModuleRole::kMachineApproval; }).ok());
}

TEST(LaunchBlock, RefusesModulesThatAreMisalignedEmptyOrBeyondFourGiB) {
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].address += 0x800; }).error(), Error::kMisaligned);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.modules[0].address = 0; }).error(), Error::kOutOfRange)
        << "where the hypervisor has no page";
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

TEST(LaunchBlock, RefusesMemoryRangesThatAreEmptyWrapOrAreOfNoKnownType) {
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.memory[0].length = 0; }).error(), Error::kBadLength);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.memory[2].length = ~0ull; }).error(), Error::kBadLength);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.memory[1].type = MemoryType{0}; }).error(), Error::kBadValue);
    EXPECT_EQ(parse_changed([](LaunchBlock& b) { b.memory[1].type = MemoryType{6}; }).error(), Error::kBadValue);
}

// --- hypervisor.bin
// -------------------------------------------------------------------------------------------

Status check(std::uint64_t magic, std::uint64_t size) {
    Buffer bytes(0x1000);
    Writer writer(bytes);
    writer.u64(magic);
    writer.u64(size);
    return check_image(bytes);
}

TEST(ImageHeader, IsTakenWhenItFitsTheModule) { EXPECT_TRUE(check(kImageMagic, 0x1000).ok()); }

TEST(ImageHeader, IsRefusedWithAnyFieldOutOfItsRange) {
    EXPECT_EQ(check(0, 0x1000).error(), Error::kBadMagic);
    EXPECT_EQ(check(kImageMagic, 0x1001).error(), Error::kBadLength);
    EXPECT_EQ(check(kImageMagic, 0xfff).error(), Error::kBadLength);
    EXPECT_EQ(check_image(Bytes{}).error(), Error::kBadMagic);
}

// --- hand-off block
// -------------------------------------------------------------------------------------------

Buffer hand_off_block(const HandOff& hand_off) {
    Buffer block(kHandOffSize);
    std::memcpy(block.data(), &hand_off, sizeof(hand_off));
    return block;
}

HandOff sample_hand_off() {
    return {.event_log_size = 300,
            .iommu_count = 2,
            .dynamic_launch = 1,
            .bank_count = 2,
            .banks = {HashAlgorithm::kSha1, HashAlgorithm::kSha256}};
}

TEST(HandOff, ReadsBackWhatWasWritten) {
    const auto hand_off = parse_hand_off(hand_off_block(sample_hand_off()));
    ASSERT_TRUE(hand_off.ok());
    EXPECT_EQ(hand_off->dynamic_launch, 1u);
    EXPECT_EQ(hand_off->iommu_count, 2u);
    ASSERT_EQ(hand_off->all_banks().size(), 2u);
    EXPECT_EQ(hand_off->banks[1], HashAlgorithm::kSha256);
    EXPECT_EQ(hand_off->event_log_size, 300u);
}

TEST(HandOff, RefusesEveryTruncation) {
    const Buffer block = hand_off_block(sample_hand_off());
    for (std::size_t cut = 0; cut < sizeof(HandOff) + 300; ++cut) {
        EXPECT_FALSE(parse_hand_off(Bytes(block).first(cut)).ok()) << cut;
    }
}

TEST(HandOff, RefusesFieldsOutOfTheirRange) {
    const auto with = [](void (*change)(HandOff&)) {
        HandOff hand_off = sample_hand_off();
        change(hand_off);
        return parse_hand_off(hand_off_block(hand_off)).error();
    };
    EXPECT_EQ(with([](HandOff& h) { h.magic = 0; }), Error::kBadMagic);
    EXPECT_EQ(with([](HandOff& h) { h.version = 1; }), Error::kBadVersion);
    EXPECT_EQ(with([](HandOff& h) { h.event_log_size = kHandOffSize; }), Error::kBadLength);
    EXPECT_EQ(with([](HandOff& h) { h.bank_count = 0; }), Error::kNoSpace);
    EXPECT_EQ(with([](HandOff& h) { h.bank_count = kMaxBanks + 1; }), Error::kNoSpace);
    EXPECT_EQ(with([](HandOff& h) { h.bank_count = 3; }), Error::kBadValue) << "the third bank is 0";
}

}  // namespace
}  // namespace gatehouse::launch

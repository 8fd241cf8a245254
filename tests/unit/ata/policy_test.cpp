// The command policy and the pages in which a drive describes itself.
#include "ata/policy.hpp"

#include <gtest/gtest.h>

#include "tests/unit/ata/device_model.hpp"

namespace gatehouse::ata::testing {
namespace {

using enum CommandKind;

Command classified(std::uint8_t opcode, std::uint16_t features = 0, std::uint64_t lba = 0, std::uint16_t count = 1,
                   std::uint8_t device = 0x40, bool trim = false) {
    return classify(
        {.command = opcode, .device = device, .control = 8, .features = features, .count = count, .lba = lba}, trim);
}

TEST(CommandPolicy, EveryOpcodeHasTheKindThatTheTableGivesIt) {
    const std::map<int, CommandKind> expected{
        {0x20, kMediaRead},  {0x24, kMediaRead},  {0x25, kMediaRead},  {0x60, kMediaRead},  {0xc8, kMediaRead},
        {0x30, kMediaWrite}, {0x34, kMediaWrite}, {0x35, kMediaWrite}, {0x3d, kMediaWrite}, {0x61, kMediaWrite},
        {0xca, kMediaWrite}, {0x40, kNoData},     {0x42, kNoData},     {0xe0, kNoData},     {0xe1, kNoData},
        {0xe2, kNoData},     {0xe3, kNoData},     {0xe5, kNoData},     {0xe6, kNoData},     {0xe7, kNoData},
        {0xea, kNoData},     {0xec, kDataIn},     {0x2f, kDataIn},     {0x47, kDataIn}};
    for (int opcode = 0; opcode < 256; ++opcode) {
        const auto found = expected.find(opcode);
        EXPECT_EQ(classified(static_cast<std::uint8_t>(opcode)).kind,
                  found == expected.end() ? kRefused : found->second)
            << std::hex << opcode;
    }
}

TEST(CommandPolicy, PacketDevicesHaveTheirOwn) {
    const std::map<int, CommandKind> expected{{0xa1, kDataIn}, {0xe0, kNoData}, {0xe1, kNoData},
                                              {0xe2, kNoData}, {0xe3, kNoData}, {0xe5, kNoData},
                                              {0xe6, kNoData}, {0xe7, kNoData}, {0xea, kNoData}};
    for (int opcode = 0; opcode < 256; ++opcode) {
        const TaskFile task{.command = static_cast<std::uint8_t>(opcode), .device = 0x40, .count = 1};
        const auto found = expected.find(opcode);
        const bool packet = opcode == 0xa0;  // TEST UNIT READY
        EXPECT_EQ(classify(task, true, kPacketDevice).kind, packet                    ? kPacket
                                                            : found == expected.end() ? kRefused
                                                                                      : found->second)
            << std::hex << opcode;
    }
    EXPECT_EQ(classify({.command = 0xef, .features = 0x03}, true, kPacketDevice).kind, kNoData);
    EXPECT_EQ(classify({.command = 0xa1}, true, kPacketDevice).filter, Filter::kIdentify);
}

TEST(CommandPolicy, PacketsOnlyRead) {
    const std::set<int> allowed{0x00, 0x03, 0x12, 0x1b, 0x1e, 0x23, 0x25, 0x28, 0x42, 0x43, 0x46,
                                0x4a, 0x51, 0x52, 0x5a, 0xa8, 0xac, 0xad, 0xb9, 0xbb, 0xbd, 0xbe};
    for (unsigned operation = 0; operation < 256; ++operation) {
        TaskFile task{.command = 0xa0, .features = 5, .packet = {operation | 0x2a2a2a00, 0x2a2a}};
        EXPECT_EQ(classify(task, true, kPacketDevice).kind,
                  allowed.contains(static_cast<int>(operation)) ? kPacket : kRefused)
            << std::hex << operation;
        EXPECT_EQ(classify(task, true, kDisk).kind, kRefused);
        task.features = 2;
        EXPECT_EQ(classify(task, true, kPacketDevice).kind, kRefused) << "overlapped";
    }
    EXPECT_EQ(classify(kNoPacketCommand, true, kPacketDevice).kind, kRefused);
}

TEST(CommandPolicy, TrimIsTheOneChoice) {
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
        for (unsigned features = 0; features < 256; ++features) {
            const auto kind = [&](bool trim) {
                return classified(static_cast<std::uint8_t>(opcode), static_cast<std::uint16_t>(features), 0xc24f01, 1,
                                  0x40, trim)
                    .kind;
            };
            EXPECT_NE(kind(false), kTrim);
            const bool is_trim = opcode == 0x06 && features == 1;
            EXPECT_EQ(kind(true), is_trim ? kTrim : kind(false)) << std::hex << opcode << " " << features;
        }
    }
    EXPECT_EQ(classified(0x06, 1, 0, 128, 0x40, true).count, 128u);
    EXPECT_EQ(classified(0x06, 1, 0, 129, 0x40, true).kind, kRefused);
    EXPECT_EQ(classified(0x06, 1, 0, 0, 0x40, true).kind, kRefused);
    EXPECT_EQ(classified(0x06, 0x101, 0, 1, 0x40, true).kind, kRefused);
}

TEST(CommandPolicy, SmartReadsAndTests) {
    const std::map<int, CommandKind> expected{{0xd0, kDataIn}, {0xd1, kDataIn}, {0xd4, kNoData},
                                              {0xd5, kDataIn}, {0xd8, kNoData}, {0xda, kNoData}};
    for (int sub = 0; sub < 256; ++sub) {
        const auto found = expected.find(sub);
        EXPECT_EQ(classified(0xb0, static_cast<std::uint16_t>(sub), 0xc24f01).kind,
                  found == expected.end() ? kRefused : found->second)
            << std::hex << sub;
        EXPECT_EQ(classified(0xb0, static_cast<std::uint16_t>(sub), 0x123401).kind, kRefused) << "without the key";
    }
    for (unsigned test = 0; test < 256; ++test) {
        const bool allowed = test <= 2 || test == 0x7f;  // off-line collection, short, extended; abort
        EXPECT_EQ(classified(0xb0, 0xd4, 0xc24f00 | test).kind, allowed ? kNoData : kRefused) << test;
    }
    EXPECT_EQ(classified(0xb0, 0xd5, 0xc24fe0).kind, kRefused) << "SCT status";
    EXPECT_EQ(classified(0xb0, 0xd5, 0xc24f80).kind, kRefused) << "host vendor log";
}

TEST(CommandPolicy, SetFeaturesIsASafeSubset) {
    const std::set<int> allowed{0x02, 0x82, 0x03, 0x05, 0x85, 0x55, 0xaa, 0x66, 0xcc, 0x10, 0x90};
    for (int sub = 0; sub < 256; ++sub) {
        EXPECT_EQ(classified(0xef, static_cast<std::uint16_t>(sub)).kind, allowed.contains(sub) ? kNoData : kRefused)
            << std::hex << sub;
    }
    for (std::uint16_t feature = 0; feature < 256; ++feature) {
        const bool safe = feature <= 4 || feature == 6;
        EXPECT_EQ(classified(0xef, 0x10, 0, feature).kind, safe ? kNoData : kRefused) << feature;
        EXPECT_EQ(classified(0xef, 0x90, 0, feature).kind, safe ? kNoData : kRefused) << feature;
    }
}

TEST(CommandPolicy, LogsAreReadableByList) {
    const std::set<int> allowed{0x00, 0x01, 0x02, 0x03, 0x04, 0x06, 0x07, 0x0c, 0x10, 0x11};
    for (unsigned log = 0; log < 256; ++log) {
        EXPECT_EQ(classified(0x2f, 0, log).kind, allowed.contains(static_cast<int>(log)) ? kDataIn : kRefused) << log;
        EXPECT_EQ(classified(0x47, 0, log).kind, allowed.contains(static_cast<int>(log)) ? kDataIn : kRefused) << log;
    }
    EXPECT_EQ(classified(0x2f, 0, 0x03, 0).kind, kRefused) << "no pages";
    EXPECT_EQ(classified(0x2f, 0, 0x10, 2).kind, kRefused) << "the NCQ error log has one page";
    EXPECT_EQ(classified(0x2f, 0, 0x10).filter, Filter::kQueuedError);
    EXPECT_EQ(classified(0x2f, 0, 0x00).filter, Filter::kDirectory);
}

TEST(CommandPolicy, CountsAndAddresses) {
    EXPECT_EQ(classified(0xc8, 0, 0x123456, 0, 0x4a).count, 256u);
    EXPECT_EQ(classified(0xc8, 0, 0x123456, 0, 0x4a).lba, 0xa123456u);
    EXPECT_EQ(classified(0xc8, 0, 0xffffff123456, 0x1207).count, 7u) << "28-bit commands have 8 bits of count";
    EXPECT_EQ(classified(0xc8, 0, 0xffffff123456, 7).lba, 0x123456u);
    EXPECT_EQ(classified(0x25, 0, 0x123456789abc, 0).count, 65536u);
    EXPECT_EQ(classified(0x25, 0, 0x123456789abc, 0).lba, 0x123456789abcu);
    EXPECT_EQ(classified(0x60, 0, 1, 3 << 3).count, 65536u);
    EXPECT_EQ(classified(0x60, 9, 1, 3 << 3).count, 9u);
    EXPECT_EQ(tag_of(classified(0x60, 9, 1, 3 << 3).task), 3u);
    for (const std::uint8_t opcode :
         std::initializer_list<std::uint8_t>{0x20, 0x25, 0x30, 0x35, 0x60, 0x61, 0xc8, 0xca}) {
        EXPECT_EQ(classified(opcode, 1, 1, 1, 0).kind, kRefused) << "CHS";
    }
}

TEST(CommandPolicy, PartsKeepTheCommandAndMoveTheRange) {
    const Command dma = classified(0x35, 0, 1000, 4096);
    EXPECT_EQ(dma.part(2048, 2048).lba, 3048u);
    EXPECT_EQ(dma.part(2048, 2048).count, 2048u);
    EXPECT_EQ(dma.part(0, 65536).count, 0u);
    const Command queued = classified(0x61, 4096, 1000, 5 << 3 | 0x8000, 0xc0);
    const TaskFile part = queued.part(2048, 100);
    EXPECT_EQ(part.features, 100u);
    EXPECT_EQ(part.count, 5u << 3 | 0x8000) << "tag and priority";
    EXPECT_EQ(part.device, 0xc0) << "FUA";
    EXPECT_EQ(part.lba, 3048u);
    const Command small = classified(0xca, 0, 0xffffff, 2, 0x43);
    EXPECT_EQ(small.part(1, 1).lba, 0u);
    EXPECT_EQ(small.part(1, 1).device, 0x44);
}

TEST(CommandPolicy, TaskFileSurvivesTheFis) {
    const TaskFile task{
        .command = 0x61, .device = 0xc0, .control = 8, .features = 0x1234, .count = 0x5678, .lba = 0x123456789abc};
    std::array<std::byte, kTaskFileFisSize> fis{};
    store_task_file(task, fis);
    const Result<TaskFile> back = parse_task_file(fis);
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back->command, task.command);
    EXPECT_EQ(back->device, task.device);
    EXPECT_EQ(back->control, task.control);
    EXPECT_EQ(back->features, task.features);
    EXPECT_EQ(back->count, task.count);
    EXPECT_EQ(back->lba, task.lba);
    EXPECT_EQ(fis[8], std::byte{0x56}) << "LBA 31:24";
}

std::uint16_t word(Bytes page, std::size_t index) {
    return load<std::uint16_t>(page.data() + 2 * index, Endian::kLittle);
}

TEST(Identify, FilterTakesOutWhatThePolicyRefuses) {
    DiskModel disk(512, 100000);
    auto page = disk.identify();
    filter_page(page, Filter::kIdentify, false);
    struct Bit {
        std::size_t word;
        int bit;
        const char* feature;
    };
    for (const Bit& b : std::initializer_list<Bit>{{48, 0, "TRUSTED"},
                                                   {59, 12, "sanitize"},
                                                   {59, 13, "crypto scramble"},
                                                   {69, 14, "DRAT"},
                                                   {69, 13, "misalignment reports"},
                                                   {69, 5, "RZAT"},
                                                   {69, 8, "DOWNLOAD MICROCODE DMA"},
                                                   {69, 10, "WRITE BUFFER DMA"},
                                                   {69, 11, "READ BUFFER DMA"},
                                                   {77, 6, "SEND FPDMA"},
                                                   {77, 5, "NCQ management"},
                                                   {78, 8, "DevSleep"},
                                                   {78, 7, "autosense"},
                                                   {82, 1, "security"},
                                                   {82, 10, "HPA"},
                                                   {82, 12, "WRITE BUFFER"},
                                                   {82, 13, "READ BUFFER"},
                                                   {83, 0, "DOWNLOAD MICROCODE"},
                                                   {83, 1, "DMA QUEUED"},
                                                   {83, 2, "CFA"},
                                                   {83, 5, "PUIS"},
                                                   {83, 8, "SET MAX security"},
                                                   {83, 11, "DCO"},
                                                   {59, 8, "multiple"},
                                                   {47, 0, "multiple"},
                                                   {84, 4, "streaming"},
                                                   {85, 1, "security"},
                                                   {85, 10, "HPA"},
                                                   {86, 11, "DCO"},
                                                   {86, 0, "DOWNLOAD MICROCODE"},
                                                   {87, 4, "streaming"},
                                                   {119, 1, "write-read-verify"},
                                                   {119, 2, "WRITE UNCORRECTABLE"},
                                                   {119, 8, "AMAX"},
                                                   {119, 6, "sense"},
                                                   {120, 2, "WRITE UNCORRECTABLE"},
                                                   {128, 0, "security"},
                                                   {169, 0, "TRIM"},
                                                   {206, 0, "SCT"},
                                                   {105, 0, "DSM blocks"}}) {
        EXPECT_EQ(word(page, b.word) >> b.bit & 1, 0) << b.feature;
    }
    for (const Bit& b : std::initializer_list<Bit>{{84, 1, "SMART self-test"},
                                                   {87, 1, "SMART self-test"},
                                                   {78, 6, "software settings preservation"},
                                                   {49, 8, "DMA"},
                                                   {49, 9, "LBA"},
                                                   {76, 8, "NCQ"},
                                                   {82, 0, "SMART"},
                                                   {82, 5, "write cache"},
                                                   {83, 10, "48-bit"},
                                                   {83, 12, "FLUSH CACHE"},
                                                   {83, 13, "FLUSH CACHE EXT"},
                                                   {84, 5, "GPL"},
                                                   {84, 6, "FUA"},
                                                   {83, 14, "valid"},
                                                   {84, 14, "valid"},
                                                   {87, 14, "valid"},
                                                   {119, 14, "valid"},
                                                   {120, 14, "valid"},
                                                   {48, 14, "valid"}}) {
        EXPECT_EQ(word(page, b.word) >> b.bit & 1, 1) << b.feature;
    }
    EXPECT_EQ(word(page, 100), 100000 & 0xffff) << "the capacity stays";
    EXPECT_EQ(word(page, 83) >> 14, 1);
    EXPECT_EQ(word(page, 84) >> 14, 1);
}

TEST(Identify, TrimIsToldWhereItIsAllowedAndNobodyIsPromisedZeros) {
    DiskModel disk(512, 100000);
    auto off = disk.identify();
    auto on = off;
    filter_page(off, Filter::kIdentify, false);
    filter_page(on, Filter::kIdentify, true);
    EXPECT_EQ(word(on, 169), 1);
    EXPECT_EQ(word(on, 105), 0x7f) << "at most what is allowed";
    EXPECT_EQ(word(on, 69), word(off, 69) | 1u << 14) << "DRAT, and not RZAT";
    for (std::size_t i = 0; i < 255; ++i) {
        const bool told = i == 69 || i == 105 || i == 169;
        EXPECT_TRUE(told || word(on, i) == word(off, i)) << i;
    }
}

TEST(Identify, IntegrityWordIsMadeOnlyWhereThereIsOne) {
    DiskModel disk(512, 100000);
    auto page = disk.identify();
    page[510] = std::byte{0};
    page[511] = std::byte{0x77};
    filter_page(page, Filter::kIdentify, false);
    EXPECT_EQ(page[511], std::byte{0x77});
}

TEST(Identify, GeometryIsParsed) {
    DiskModel small(512, 100000);
    EXPECT_EQ(parse_geometry(small.identify())->sectors, 100000u);
    EXPECT_EQ(parse_geometry(small.identify())->sector_size, 512u);
    DiskModel large(4096, 5000);
    EXPECT_EQ(parse_geometry(large.identify())->sector_size, 4096u);
    large.set_identify_word(117, 260);
    EXPECT_EQ(parse_geometry(large.identify()).error(), Error::kUnsupported);
    DiskModel empty(512, 0);
    EXPECT_EQ(parse_geometry(empty.identify()).error(), Error::kUnsupported) << "no 48-bit addresses";
}

}  // namespace
}  // namespace gatehouse::ata::testing

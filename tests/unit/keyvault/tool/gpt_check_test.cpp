#include "keyvault/volume_writer/gpt_check.hpp"

#include <gtest/gtest.h>

#include "keyvault/host_support/disk.hpp"
#include "tests/unit/policies/appliance.hpp"

namespace gatehouse::volume {
namespace {

using host::Buffer;

constexpr std::uint64_t kTotal = 1000;

// A table with a boot partition and a vault, as header sector and array.
struct Sample {
    Buffer sector;
    Buffer table;

    explicit Sample(std::size_t sector_size = 512) : sector(sector_size), table(kGptMaxTableSize) {
        put_entry(0, kBootPartitionType, 100, 199);
        put_entry(5, kVaultPartitionType, 200, 299);
        const std::uint64_t sectors = table.size() / sector_size;
        Writer writer(sector);
        writer.bytes(literal_bytes("EFI PART"));
        writer.u32(0x00010000);
        writer.u32(92);
        writer.u32(0);
        writer.u32(0);
        writer.u64(1);
        writer.u64(kTotal - 1);
        writer.u64(2 + sectors);
        writer.u64(kTotal - sectors - 2);
        writer.bytes(Bytes(sha256(literal_bytes("disk"))).first(16));
        writer.u64(2);
        writer.u32(128);
        writer.u32(128);
        seal();
    }
    void put_entry(std::size_t index, const Guid& type, std::uint64_t first, std::uint64_t last) {
        Writer writer(MutableBytes(table).subspan(index * kGptEntrySize, kGptEntrySize));
        writer.bytes(type);
        writer.bytes(type);
        writer.u64(first);
        writer.u64(last);
    }
    // Makes both CRCs right.
    void seal() {
        store(sector.data() + kGptEntriesCrcAt, crc32(table), Endian::kLittle);
        store(sector.data() + kGptHeaderCrcAt, std::uint32_t{0}, Endian::kLittle);
        store(sector.data() + kGptHeaderCrcAt, crc32(Bytes(sector).first(kGptHeaderSize)), Endian::kLittle);
    }
    [[nodiscard]] Result<GptHeader> parse() const { return parse_gpt_header(sector, 1, kTotal); }
};

TEST(Crc32, IsThatOfTheStandard) {
    EXPECT_EQ(crc32(literal_bytes("123456789")), 0xcbf43926u);
    EXPECT_EQ(crc32(literal_bytes("6789"), crc32(literal_bytes("12345"))), 0xcbf43926u);
    EXPECT_EQ(crc32({}), 0u);
}

TEST(PartitionTypes, AreTheGuidsOfTheirDocumentation) {
    EXPECT_EQ(host::guid_text(kVaultPartitionType), "618d37b5-40b8-4f5a-8355-a2a84f2a31e0");
    EXPECT_EQ(host::guid_text(kBootPartitionType), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    EXPECT_EQ(host::guid_text(kBiosBootPartitionType), "21686148-6449-6e6f-744e-656564454649");
}

class GptSectorSize : public testing::TestWithParam<std::size_t> {};

TEST_P(GptSectorSize, IsReadWithTheVaultInIt) {
    const Sample sample(GetParam());
    const auto header = sample.parse();
    ASSERT_TRUE(header.ok()) << header.failure().item;
    EXPECT_EQ(header->entries_lba, 2u);
    EXPECT_EQ(header->table_sectors(GetParam()), 16384 / GetParam());
    ASSERT_TRUE(check_gpt_entries(*header, sample.table).ok());
    const auto vault = find_partition(*header, sample.table, kVaultPartitionType);
    ASSERT_TRUE(vault.ok());
    EXPECT_EQ(vault->first, 200u);
    EXPECT_EQ(vault->count(), 100u);
    EXPECT_EQ(find_partition(*header, sample.table, kBiosBootPartitionType).error(), Error::kNotFound);
}

INSTANTIATE_TEST_SUITE_P(Sizes, GptSectorSize, testing::Values(512, 4096));

TEST(Gpt, IsReadFromAnImageThatSfdiskMade) {
    const test::Appliance appliance;
    appliance.make_image();
    const host::Disk disk(appliance.image(), host::Disk::Access::kRead);
    for (const std::uint64_t lba : {kPrimaryGptLba, disk.total_sectors() - 1}) {
        const host::PartitionTable table = host::read_partition_table(disk, lba);
        EXPECT_EQ(table.partitions().size(), 4u);
        EXPECT_EQ(host::partition_name(table.boot_partition()), "gatehouse-boot");
        EXPECT_EQ(table.vault_partition().count(), (2u << 20) / 512);
    }
}

TEST(GptHeader, WithAnyBitChangedIsRefused) {
    const Sample sample;
    for (std::size_t bit = 0; bit < 8 * kGptHeaderSize; ++bit) {
        Sample changed = sample;
        changed.sector[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        EXPECT_FALSE(changed.parse().ok()) << bit;
    }
}

TEST(GptHeader, IsRefusedAtAnotherPlaceThanItSays) {
    EXPECT_EQ(parse_gpt_header(Sample().sector, 2, kTotal).error(), Error::kMismatch);
}

TEST(GptHeader, IsRefusedInSectorsOfOtherSizes) {
    const Sample sample;
    EXPECT_EQ(parse_gpt_header(Bytes(sample.sector).first(511), 1, kTotal).error(), Error::kBadLength);
    EXPECT_EQ(parse_gpt_header({}, 1, kTotal).error(), Error::kBadLength);
}

struct Field {
    const char* name;
    std::size_t offset;
    std::size_t size;
    std::uint64_t value;
    Error error;
};
class GptHeaderField : public testing::TestWithParam<Field> {};

// The CRC is made right: an attacker would.
TEST_P(GptHeaderField, OutOfItsDomainIsRefused) {
    const Field& field = GetParam();
    Sample sample;
    if (field.size == 4) {
        store(sample.sector.data() + field.offset, static_cast<std::uint32_t>(field.value), Endian::kLittle);
    } else {
        store(sample.sector.data() + field.offset, field.value, Endian::kLittle);
    }
    sample.seal();
    EXPECT_EQ(sample.parse().error(), field.error);
}

constexpr std::uint64_t kHuge = ~std::uint64_t{0};
INSTANTIATE_TEST_SUITE_P(All, GptHeaderField,
                         testing::Values(Field{"Revision", 8, 4, 0x00020000, Error::kBadVersion},
                                         Field{"SizeSmall", 12, 4, 91, Error::kBadLength},
                                         Field{"SizeLarge", 12, 4, 513, Error::kBadLength},
                                         Field{"Alternate", 32, 8, kTotal, Error::kOutOfRange},
                                         Field{"AlternateUsable", 32, 8, 500, Error::kOverlap},
                                         Field{"FirstUsableHuge", 40, 8, kHuge, Error::kOutOfRange},
                                         Field{"FirstUsableIntoTable", 40, 8, 17, Error::kOverlap},
                                         Field{"FirstUsableIntoHeader", 40, 8, 1, Error::kOverlap},
                                         Field{"LastUsable", 48, 8, kTotal, Error::kOutOfRange},
                                         Field{"LastUsableIntoAlternate", 48, 8, kTotal - 1, Error::kOverlap},
                                         Field{"EntriesZero", 72, 8, 0, Error::kOutOfRange},
                                         Field{"EntriesAtHeader", 72, 8, 1, Error::kOverlap},
                                         Field{"EntriesHuge", 72, 8, kHuge, Error::kOutOfRange},
                                         Field{"EntriesNearEnd", 72, 8, kTotal - 31, Error::kOutOfRange},
                                         Field{"EntriesUsable", 72, 8, 400, Error::kOverlap},
                                         Field{"NoEntries", 80, 4, 0, Error::kUnsupported},
                                         Field{"ManyEntries", 80, 4, 129, Error::kUnsupported},
                                         Field{"EntrySize", 84, 4, 256, Error::kUnsupported}),
                         [](const auto& row) { return row.param.name; });

TEST(GptEntries, WithAnyByteChangedAreRefused) {
    Sample sample;
    const auto header = sample.parse();
    ASSERT_TRUE(header.ok());
    for (std::size_t i = 0; i < sample.table.size(); i += 61) {
        sample.table[i] ^= std::byte{0x10};
        EXPECT_EQ(check_gpt_entries(*header, sample.table).failure().error, Error::kBadChecksum) << i;
        sample.table[i] ^= std::byte{0x10};
    }
    EXPECT_EQ(check_gpt_entries(*header, Bytes(sample.table).first(16383)).failure().error, Error::kBadLength);
}

Error entries_error(const Sample& sample) {
    const auto header = sample.parse();
    EXPECT_TRUE(header.ok());
    return check_gpt_entries(*header, sample.table).failure().error;
}

TEST(GptEntries, OutsideOfTheUsableSectorsAreRefused) {
    const auto error = [](std::uint64_t first, std::uint64_t last) {
        Sample sample;
        sample.put_entry(7, kBootPartitionType, first, last);
        sample.seal();
        return entries_error(sample);
    };
    EXPECT_EQ(error(300, 299), Error::kOutOfRange);
    EXPECT_EQ(error(33, 40), Error::kOutOfRange);
    EXPECT_EQ(error(34, 40), Error::kNone);
    EXPECT_EQ(error(960, kTotal - 33), Error::kOutOfRange);
    EXPECT_EQ(error(960, kHuge), Error::kOutOfRange);
    EXPECT_EQ(error(960, kTotal - 34), Error::kNone);
}

TEST(GptEntries, ThatOverlapAreRefused) {
    const auto error = [](std::uint64_t first, std::uint64_t last) {
        Sample sample;
        sample.put_entry(127, kBootPartitionType, first, last);
        sample.seal();
        return entries_error(sample);
    };
    EXPECT_EQ(error(299, 310), Error::kOverlap);
    EXPECT_EQ(error(300, 310), Error::kNone);
    EXPECT_EQ(error(50, 400), Error::kOverlap);
    EXPECT_EQ(error(210, 220), Error::kOverlap);
}

TEST(FindPartition, RefusesToChooseBetweenTwo) {
    Sample sample;
    sample.put_entry(9, kVaultPartitionType, 400, 499);
    sample.seal();
    const auto header = sample.parse();
    ASSERT_TRUE(header.ok());
    ASSERT_TRUE(check_gpt_entries(*header, sample.table).ok());
    EXPECT_EQ(find_partition(*header, sample.table, kVaultPartitionType).error(), Error::kBadValue);
}

TEST(FindPartition, DoesNotTakeAnUnusedEntryForAnything) {
    const Sample sample;
    const auto header = sample.parse();
    ASSERT_TRUE(header.ok());
    EXPECT_EQ(find_partition(*header, sample.table, Guid{}).error(), Error::kNotFound);
}

}  // namespace
}  // namespace gatehouse::volume

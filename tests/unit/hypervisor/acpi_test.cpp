#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/hypervisor/acpi_model.hpp"

namespace gatehouse::platform {
namespace {

class FirmwareTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Q35, FirmwareTest, testing::Values("q35_bios.tables", "q35_uefi.tables"),
                         [](const auto& file) { return std::string(file.param).substr(4, 4); });

TEST_P(FirmwareTest, IsReadWhole) {
    Firmware firmware = collected(GetParam());
    AcpiTables tables;
    ASSERT_TRUE(open(firmware, tables).ok());
    EXPECT_EQ(tables.all().size(), firmware.memory.pieces.size() - 2);
    for (const std::uint32_t name :
         {signature("FACP"), signature("APIC"), signature("MCFG"), signature("IVRS"), signature("TPM2")}) {
        EXPECT_EQ(std::ranges::count(tables.all(), name, &AcpiTable::signature), 1);
    }
}

TEST_P(FirmwareTest, SurvivesForgedTables) {
    const Firmware genuine = collected(GetParam());
    std::mt19937 random(7);
    for (int round = 0; round < 3000; ++round) {
        Firmware forged = genuine;
        for (auto& [address, bytes] : forged.memory.pieces) {
            if (load<std::uint32_t>(bytes.data(), Endian::kLittle) == signature("RSD ")) continue;
            for (int i = 0; i < 3; ++i) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
            fix_checksum(bytes, 9, bytes.size());
        }
        AcpiTables tables;
        if (!open(forged, tables).ok()) continue;
        for (const AcpiTable& table : tables.all()) EXPECT_GE(table.bytes.size(), kAcpiHeaderSize);
    }
}

TEST(RsdpTest, RefusesEveryChangedByte) {
    Firmware firmware = made({{0x2000, make_table("AAAA", {})}});
    for (std::size_t i = 0; i < kRsdpSize; ++i) {
        Firmware changed = firmware;
        changed.rsdp[i] ^= std::byte{0x10};
        AcpiTables tables;
        EXPECT_FALSE(open(changed, tables).ok()) << "byte " << i;
    }
    for (std::size_t size = 0; size < kRsdpSize; ++size) {
        AcpiTables tables;
        EXPECT_EQ(tables.open(Bytes(firmware.rsdp).first(size), firmware.memory).error(), Error::kTruncated);
    }
}

TEST(RsdpTest, Revision0LeadsToTheRsdtWhateverFollows) {
    Firmware firmware = made({});
    firmware.memory.pieces.emplace_back(0x9000, make_table("RSDT", integers<std::uint32_t>({0x2000, 0})));
    firmware.memory.pieces.emplace_back(0x2000, make_table("AAAA", {}));
    put(firmware.rsdp, 15, std::uint8_t{0});
    put(firmware.rsdp, 16, std::uint32_t{0x9000});
    fix_checksum(firmware.rsdp, 8, 20);
    put(firmware.rsdp, 32, std::uint32_t{0x12345678});
    AcpiTables tables;
    ASSERT_TRUE(open(firmware, tables).ok());
    ASSERT_EQ(tables.all().size(), 1u);
    EXPECT_EQ(tables.all()[0].address, 0x2000u);
    firmware.rsdp[16] ^= std::byte{1};
    EXPECT_EQ(open(firmware, tables).error(), Error::kBadChecksum);
}

TEST(RsdpTest, RootMustHaveItsSignature) {
    Firmware firmware = made({});
    put(*firmware.memory.named("XSDT"), 0, signature("RSDT"));
    fix_checksum(firmware.memory.pieces[0].second, 9, kAcpiHeaderSize);
    AcpiTables tables;
    EXPECT_EQ(open(firmware, tables).error(), Error::kBadMagic);
}

TEST(RsdpTest, RootMustBeReadableAndWhole) {
    for (const std::uint32_t length : {0u, 35u, 37u, 0xffffffffu}) {
        Firmware firmware = made({});
        put(*firmware.memory.named("XSDT"), 4, length);
        AcpiTables tables;
        EXPECT_EQ(open(firmware, tables).error(), length < 36 ? Error::kBadLength : Error::kOutOfRange) << length;
    }
    Firmware longer = made({});
    put(*longer.memory.named("XSDT"), 4, std::uint32_t{37});
    AcpiTables tables;
    EXPECT_EQ(open(longer, tables).error(), Error::kOutOfRange);
    Firmware gone = made({});
    gone.memory.pieces.clear();
    EXPECT_EQ(open(gone, tables).error(), Error::kOutOfRange);
    Firmware changed = made({});
    changed.memory.named("XSDT")->back() ^= std::byte{1};
    EXPECT_EQ(open(changed, tables).error(), Error::kBadChecksum);
}

TEST(AcpiTablesTest, RefusesMoreEntriesThanItReads) {
    for (const bool readable : {true, false}) {  // unreadable ones count as well: no forger keeps us busy for long
        std::vector<std::pair<std::uint64_t, Octets>> list(kMaxAcpiTables + 1);
        for (auto& [address, bytes] : list) {
            address = readable ? 0x2000 : 0x8000'0000;
            bytes = readable ? make_table("AAAA", {}) : Octets{};
        }
        Firmware firmware = made(list);
        AcpiTables tables;
        EXPECT_EQ(open(firmware, tables).error(), Error::kNoSpace);
        list.pop_back();
        Firmware fits = made(list);
        AcpiTables all;
        EXPECT_TRUE(open(fits, all).ok());
    }
}

}  // namespace
}  // namespace gatehouse::platform

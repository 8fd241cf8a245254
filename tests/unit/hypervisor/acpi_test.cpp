#include "hypervisor/platform/acpi.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace gatehouse::platform {
namespace {

using Octets = std::vector<std::byte>;

constexpr std::uint64_t kRsdpAt = 0xf0000;
constexpr std::uint64_t kRootAt = 0x100000;

void fix_checksum(Octets& table, std::size_t at, std::size_t size) {
    table[at] = std::byte{0};
    unsigned sum = 0;
    for (std::size_t i = 0; i < size; ++i) sum += std::to_integer<unsigned>(table[i]);
    table[at] = static_cast<std::byte>(-sum);
}

template <std::unsigned_integral T>
void put(Octets& table, std::size_t at, T value) {
    store(table.data() + at, value, Endian::kLittle);
}

Octets make_table(const char (&name)[5], const Octets& body) {
    Octets table(kAcpiHeaderSize);
    put(table, 0, signature(name));
    put(table, 4, static_cast<std::uint32_t>(kAcpiHeaderSize + body.size()));
    table.insert(table.end(), body.begin(), body.end());
    fix_checksum(table, 9, table.size());
    return table;
}

template <std::unsigned_integral T>
Octets integers(std::initializer_list<T> values) {
    Octets out(values.size() * sizeof(T));
    std::size_t at = 0;
    for (const T value : values) put(out, std::exchange(at, at + sizeof(T)), value);
    return out;
}

// Pieces of physical memory; nothing else is readable.
class FakeMemory final : public AcpiMemory {
  public:
    Bytes view(std::uint64_t physical, std::uint64_t size) override {
        for (const auto& [address, bytes] : pieces) {
            if (physical >= address && physical - address <= bytes.size() &&
                size <= bytes.size() - (physical - address)) {
                return Bytes(bytes).subspan(physical - address, size);
            }
        }
        return {};
    }
    [[nodiscard]] Octets* named(const char (&name)[5]) {
        for (auto& [address, bytes] : pieces) {
            if (load<std::uint32_t>(bytes.data(), Endian::kLittle) == signature(name)) return &bytes;
        }
        return nullptr;
    }
    std::vector<std::pair<std::uint64_t, Octets>> pieces;
};

struct Firmware {
    Octets rsdp;  // as the launch block has it: 36 bytes
    FakeMemory memory;
};

// Tables as collect.py has found them on the emulated machine.
Firmware collected(const std::string& file) {
    std::ifstream in(std::string(GATEHOUSE_TEST_DATA) + "/acpi/" + file, std::ios::binary);
    const std::vector<char> text{std::istreambuf_iterator<char>(in), {}};
    EXPECT_FALSE(text.empty()) << file;
    Reader reader(std::as_bytes(std::span(text)));
    Firmware out;
    while (reader.remaining() != 0) {
        const std::uint64_t address = reader.u64();
        const Bytes bytes = reader.bytes(reader.u32());
        out.memory.pieces.emplace_back(address, Octets(bytes.begin(), bytes.end()));
    }
    EXPECT_FALSE(reader.failed());
    out.rsdp = out.memory.pieces.at(0).second;
    out.rsdp.resize(kRsdpSize);
    return out;
}

// A revision 2 RSDP, an XSDT at kRootAt and these tables.
Firmware made(const std::vector<std::pair<std::uint64_t, Octets>>& tables) {
    Firmware out;
    Octets entries;
    for (const auto& [address, bytes] : tables) {
        const Octets entry = integers<std::uint64_t>({address});
        entries.insert(entries.end(), entry.begin(), entry.end());
    }
    out.memory.pieces.emplace_back(kRootAt, make_table("XSDT", entries));
    for (const auto& table : tables) out.memory.pieces.push_back(table);
    out.rsdp.resize(kRsdpSize);
    copy_bytes(out.rsdp, literal_bytes("RSD PTR "));
    put(out.rsdp, 15, std::uint8_t{2});
    put(out.rsdp, 20, std::uint32_t{kRsdpSize});
    put(out.rsdp, 24, kRootAt);
    fix_checksum(out.rsdp, 8, 20);
    fix_checksum(out.rsdp, 32, kRsdpSize);
    return out;
}

Status open(Firmware& firmware, AcpiTables& tables) { return tables.open(firmware.rsdp, firmware.memory); }

class FirmwareTest : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Q35, FirmwareTest, testing::Values("q35_bios.tables", "q35_uefi.tables"),
                         [](const auto& file) { return std::string(file.param).substr(4, 4); });

TEST_P(FirmwareTest, IsReadWhole) {
    Firmware firmware = collected(GetParam());
    AcpiTables tables;
    ASSERT_TRUE(open(firmware, tables).ok());
    EXPECT_EQ(tables.left_out(), 0u);
    EXPECT_EQ(tables.all().size(), firmware.memory.pieces.size() - 2);
    for (const std::uint32_t name :
         {signature("FACP"), signature("APIC"), signature("MCFG"), signature("IVRS"), signature("TPM2")}) {
        EXPECT_FALSE(tables.find(name).empty());
    }
    EXPECT_TRUE(tables.find(signature("DMAR")).empty());
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
        for (const AcpiTables::Table& table : tables.all()) EXPECT_GE(table.bytes.size(), kAcpiHeaderSize);
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
    EXPECT_EQ(tables.left_out(), 0u) << "an entry of 0 is none";
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
    for (const std::uint32_t length : {0u, 35u, 0x100001u, 0xffffffffu}) {
        Firmware firmware = made({});
        put(*firmware.memory.named("XSDT"), 4, length);
        AcpiTables tables;
        EXPECT_EQ(open(firmware, tables).error(), Error::kBadLength) << length;
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

TEST(AcpiTablesTest, LeavesOutWhatCannotBeTrusted) {
    Octets wrong = make_table("BBBB", Octets(8));
    wrong.back() ^= std::byte{1};
    Octets too_long = make_table("CCCC", Octets(8));
    put(too_long, 4, std::uint32_t{0x100001});
    Octets too_short = make_table("DDDD", Octets(8));
    put(too_short, 4, std::uint32_t{35});
    Firmware firmware = made({{0x2000, make_table("AAAA", Octets(8))},
                              {0x3000, wrong},
                              {0x4000, too_long},
                              {0x5000, too_short},
                              {0xffff'ffff'ffff'fff0, {}},
                              {0x7000, make_table("EEEE", {})}});
    AcpiTables tables;
    ASSERT_TRUE(open(firmware, tables).ok());
    EXPECT_EQ(tables.left_out(), 4u);
    ASSERT_EQ(tables.all().size(), 2u);
    EXPECT_EQ(tables.all()[0].address, 0x2000u);
    EXPECT_EQ(tables.all()[1].address, 0x7000u);
}

TEST(AcpiTablesTest, RefusesMoreEntriesThanItReads) {
    for (const bool readable : {true, false}) {  // unreadable ones count as well: no forger keeps us busy for long
        std::vector<std::pair<std::uint64_t, Octets>> list(AcpiTables::kMaxTables + 1);
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

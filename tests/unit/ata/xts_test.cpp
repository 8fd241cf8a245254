#include "ata/xts/xts.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/ata/machine.hpp"

namespace gatehouse::ata {
namespace {

using enum XtsKey::Direction;

std::vector<std::byte> from_hex(const std::string& text) {
    std::vector<std::byte> bytes(text.size() / 2);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::byte>(std::stoul(text.substr(2 * i, 2), nullptr, 16));
    }
    return bytes;
}

// Calls check(record) for each record of a CAVP response file, after its last field.
template <typename Check>
void for_each_record(const std::string& file, Check check) {
    std::ifstream in(std::string(GATEHOUSE_TEST_DATA) + "/xts/" + file);
    ASSERT_TRUE(in) << file;
    std::map<std::string, std::string> record;
    for (std::string line; std::getline(in, line);) {
        const auto equals = line.find(" = ");
        if (equals != std::string::npos) {
            record[line.substr(0, equals)] = line.substr(equals + 3);
        } else if (!record.empty()) {
            check(record);
            record.clear();
        }
    }
    if (!record.empty()) check(record);
}

void expect_unit(std::map<std::string, std::string>& record) {
    SCOPED_TRACE("COUNT " + record["COUNT"]);
    const auto key = from_hex(record["Key"]);
    const auto tweak = from_hex(record["i"]);
    const auto plain = from_hex(record["PT"]);
    const auto cipher = from_hex(record["CT"]);
    ASSERT_EQ(plain.size() * 8, std::stoul(record["DataUnitLen"]));
    XtsKey xts;
    ASSERT_TRUE(xts.set(std::span<const std::byte, 64>(key)).ok());
    std::vector<std::byte> out(plain.size());
    xts.transform_unit(kEncrypt, std::span<const std::byte, 16>(tweak), plain, out.data());
    EXPECT_EQ(out, cipher);
    xts.transform_unit(kDecrypt, std::span<const std::byte, 16>(tweak), cipher, out.data());
    EXPECT_EQ(out, plain);
}

TEST(Xts, AgreesWithIeee1619) {
    int count = 0;
    for_each_record("ieee1619_xts_aes256.rsp", [&](auto& record) {
        ++count;
        expect_unit(record);
        // The same through the sector interface: the vectors' data unit numbers are 512-byte sector numbers.
        const auto key = from_hex(record["Key"]);
        const auto plain = from_hex(record["PT"]);
        const auto lba = load<std::uint64_t>(from_hex(record["i"]).data(), Endian::kLittle);
        XtsKey xts;
        ASSERT_TRUE(xts.set(std::span<const std::byte, 64>(key)).ok());
        std::vector<std::byte> out(plain.size());
        xts.transform(kEncrypt, plain.data(), out.data(), 1, 512, lba);
        EXPECT_EQ(out, from_hex(record["CT"]));
    });
    EXPECT_EQ(count, 5);
}

TEST(Xts, AgreesWithNistCavp) {
    int count = 0;
    for_each_record("nist_xts_aes256.rsp", [&](auto& record) {
        ++count;
        expect_unit(record);
    });
    EXPECT_EQ(count, 600);
}

TEST(Xts, AgreesWithOpenSslForManySizesAndPlaces) {
    std::mt19937_64 random(7);
    for (int round = 0; round < 400; ++round) {
        std::array<std::byte, 64> key{};
        for (auto& b : key) b = static_cast<std::byte>(random());
        XtsKey xts;
        ASSERT_TRUE(xts.set(key).ok());
        const std::uint32_t sector_size = random() % 2 == 0 ? 512 : 4096;
        const std::uint64_t count = 1 + random() % 24;
        const std::uint64_t lba = random() >> (16 + random() % 48);
        std::vector<std::byte> plain(count * sector_size);
        for (auto& b : plain) b = static_cast<std::byte>(random());
        const auto expected = testing::openssl_xts(true, key, plain, sector_size, lba);
        const std::size_t shift = random() % 16;  // neither side need be aligned
        std::vector<std::byte> out(plain.size() + shift);
        xts.transform(kEncrypt, plain.data(), out.data() + shift, count, sector_size, lba);
        ASSERT_TRUE(equal_bytes(Bytes(out).subspan(shift), expected)) << round;
        xts.transform(kDecrypt, out.data() + shift, out.data() + shift, count, sector_size, lba);
        ASSERT_TRUE(equal_bytes(Bytes(out).subspan(shift), plain)) << round;
    }
}

TEST(Xts, RefusesEqualHalves) {
    std::array<std::byte, 64> key{};
    for (std::size_t i = 0; i < 32; ++i) key[i] = key[i + 32] = static_cast<std::byte>(i);
    XtsKey xts;
    EXPECT_EQ(xts.set(key).error(), Error::kBadValue);
}

TEST(Xts, ClearLeavesNothingOfTheKey) {
    std::array<std::byte, 64> key{};
    for (std::size_t i = 0; i < 64; ++i) key[i] = static_cast<std::byte>(i + 1);
    alignas(XtsKey) std::array<std::byte, sizeof(XtsKey)> memory{};
    auto* xts = new (memory.data()) XtsKey;
    ASSERT_TRUE(xts->set(key).ok());
    xts->~XtsKey();
    EXPECT_TRUE(std::all_of(memory.begin(), memory.end(), [](std::byte b) { return b == std::byte{0}; }));
}

}  // namespace
}  // namespace gatehouse::ata

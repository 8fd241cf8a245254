#include "ata/xts/xts.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "ata/xts/xts_vaes.hpp"
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

// With the instructions that every CPU has, and with VAES where there is any.
class Xts : public ::testing::TestWithParam<bool> {
  protected:
    void SetUp() override {
        if (!narrow() && !can_use_vaes()) GTEST_SKIP() << "a CPU without VAES";
    }
    static bool narrow() { return !GetParam(); }
    static void expect_unit(std::map<std::string, std::string>& record);
    static void expect_as_openssl(std::mt19937_64& random, std::uint32_t size, std::uint64_t count, std::uint64_t lba);
};

INSTANTIATE_TEST_SUITE_P(, Xts, ::testing::Bool(),
                         [](const auto& one) { return std::string(one.param ? "Vaes" : "AesNi"); });

void Xts::expect_unit(std::map<std::string, std::string>& record) {
    SCOPED_TRACE("COUNT " + record["COUNT"]);
    const auto key = from_hex(record["Key"]);
    const auto tweak = from_hex(record["i"]);
    const auto plain = from_hex(record["PT"]);
    const auto cipher = from_hex(record["CT"]);
    ASSERT_EQ(plain.size() * 8, std::stoul(record["DataUnitLen"]));
    XtsKey xts;
    ASSERT_TRUE(xts.set(std::span<const std::byte, 64>(key), narrow()).ok());
    // Without ciphertext stealing, what follows a block does not change it: the unit is made as long as a sector.
    const auto unit = [&](XtsKey::Direction direction, std::vector<std::byte> in) {
        in.resize(512);
        std::vector<std::byte> out(in.size());
        Sectors sector{in.data(), out.data(), 1, in.size(), 0, {}};
        std::memcpy(sector.tweak, tweak.data(), sizeof(sector.tweak));
        xts.transform(direction, sector);
        out.resize(plain.size());
        return out;
    };
    ASSERT_LE(plain.size(), 512u);
    ASSERT_EQ(tweak.size(), 16u);
    EXPECT_EQ(unit(kEncrypt, plain), cipher);
    EXPECT_EQ(unit(kDecrypt, cipher), plain);
}

TEST_P(Xts, AgreesWithIeee1619) {
    int count = 0;
    for_each_record("ieee1619_xts_aes256.rsp", [&](auto& record) {
        ++count;
        expect_unit(record);
        // The same through the sector interface: the vectors' data unit numbers are 512-byte sector numbers.
        const auto key = from_hex(record["Key"]);
        const auto plain = from_hex(record["PT"]);
        const auto lba = load<std::uint64_t>(from_hex(record["i"]).data(), Endian::kLittle);
        XtsKey xts;
        ASSERT_TRUE(xts.set(std::span<const std::byte, 64>(key), narrow()).ok());
        std::vector<std::byte> out(plain.size());
        xts.transform(kEncrypt, plain.data(), out.data(), 1, 512, lba);
        EXPECT_EQ(out, from_hex(record["CT"]));
    });
    EXPECT_EQ(count, 5);
}

TEST_P(Xts, AgreesWithNistCavp) {
    int count = 0;
    for_each_record("nist_xts_aes256.rsp", [&](auto& record) {
        ++count;
        expect_unit(record);
    });
    EXPECT_EQ(count, 600);
}

std::vector<std::byte> random_bytes(std::mt19937_64& random, std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (auto& b : bytes) b = static_cast<std::byte>(random());
    return bytes;
}

// Transforms from one odd place to another and in place, and looks at both against OpenSSL; nothing around the
// sectors may change.
void Xts::expect_as_openssl(std::mt19937_64& random, std::uint32_t size, std::uint64_t count, std::uint64_t lba) {
    SCOPED_TRACE(::testing::Message() << count << " sectors of " << size << " bytes from " << lba);
    constexpr std::size_t kAround = 32;
    const auto key = random_bytes(random, kXtsKeySize);
    XtsKey xts;
    ASSERT_TRUE(xts.set(std::span<const std::byte, kXtsKeySize>(key), narrow()).ok());
    const auto plain = random_bytes(random, count * size);
    const auto cipher = testing::openssl_xts(true, std::span<const std::byte, kXtsKeySize>(key), plain, size, lba);
    for (const XtsKey::Direction direction : {kEncrypt, kDecrypt}) {
        const auto& in = direction == kEncrypt ? plain : cipher;
        const auto& expected = direction == kEncrypt ? cipher : plain;
        const std::size_t from = kAround + random() % 16, to = kAround + random() % 16;
        auto source = random_bytes(random, in.size() + 3 * kAround);
        auto out = random_bytes(random, in.size() + 3 * kAround);
        std::copy(in.begin(), in.end(), source.begin() + static_cast<std::ptrdiff_t>(from));
        auto expected_out = out;
        std::copy(expected.begin(), expected.end(), expected_out.begin() + static_cast<std::ptrdiff_t>(to));
        auto expected_source = source;
        xts.transform(direction, source.data() + from, out.data() + to, count, size, lba);
        EXPECT_EQ(source, expected_source) << "the source was written";
        EXPECT_EQ(out, expected_out);
        std::copy(expected.begin(), expected.end(), expected_source.begin() + static_cast<std::ptrdiff_t>(from));
        xts.transform(direction, source.data() + from, source.data() + from, count, size, lba);
        EXPECT_EQ(source, expected_source) << "in place";
    }
}

TEST_P(Xts, AgreesWithOpenSslForEveryCountAndPlace) {
    std::mt19937_64 random(7);
    for (const std::uint32_t size : {512u, 4096u}) {
        for (std::uint64_t count = 1; count <= 40; ++count) {
            expect_as_openssl(random, size, count, random() >> (16 + random() % 48));
        }
    }
}

// The tweak counts 512-byte units in 64 bits: it goes on past 32, and the units of 4,096-byte sectors past it first.
TEST_P(Xts, CountsPast32Bits) {
    std::mt19937_64 random(8);
    for (const std::uint32_t size : {512u, 4096u}) {
        for (const std::uint64_t units : {std::uint64_t{1} << 32, std::uint64_t{1} << 33, std::uint64_t{1} << 48}) {
            for (std::uint64_t before = 0; before <= 16; ++before) {
                expect_as_openssl(random, size, 17, units / (size / kTweakUnit) - before);
            }
        }
    }
}

TEST_P(Xts, LeavesAllAloneForNoSectors) {
    std::mt19937_64 random(9);
    const auto key = random_bytes(random, kXtsKeySize);
    XtsKey xts;
    ASSERT_TRUE(xts.set(std::span<const std::byte, kXtsKeySize>(key), narrow()).ok());
    const auto before = random_bytes(random, 4096);
    auto bytes = before;
    xts.transform(kEncrypt, bytes.data(), bytes.data(), 0, 512, 1);
    EXPECT_EQ(bytes, before);
}

// Longer than a tweak's batch of blocks, and each its own way: both give the same, whatever OpenSSL says.
TEST_P(Xts, AgreesWithTheOtherInstructions) {
    std::mt19937_64 random(10);
    for (int run = 0; run < 200; ++run) {
        const auto key = random_bytes(random, kXtsKeySize);
        const std::uint32_t size = 512u << random() % 4;
        const std::uint64_t count = 1 + random() % 20, lba = random();
        const auto plain = random_bytes(random, count * size);
        std::vector<std::byte> out[2] = {plain, plain};
        for (const bool other : {false, true}) {
            XtsKey xts;
            ASSERT_TRUE(xts.set(std::span<const std::byte, kXtsKeySize>(key), other ? !narrow() : narrow()).ok());
            xts.transform(kEncrypt, plain.data(), out[other].data(), count, size, lba);
            auto back = out[other];
            xts.transform(kDecrypt, back.data(), back.data(), count, size, lba);
            EXPECT_EQ(back, plain);
        }
        EXPECT_EQ(out[0], out[1]) << count << " sectors of " << size;
    }
}

TEST_P(Xts, RefusesEqualHalves) {
    std::array<std::byte, 64> key{};
    for (std::size_t i = 0; i < 32; ++i) key[i] = key[i + 32] = static_cast<std::byte>(i);
    XtsKey xts;
    EXPECT_EQ(xts.set(key, narrow()).error(), Error::kBadValue);
}

TEST_P(Xts, ClearLeavesNothingOfTheKey) {
    std::array<std::byte, 64> key{};
    for (std::size_t i = 0; i < 64; ++i) key[i] = static_cast<std::byte>(i + 1);
    alignas(XtsKey) std::array<std::byte, sizeof(XtsKey)> memory{};
    auto* xts = new (memory.data()) XtsKey;
    ASSERT_TRUE(xts->set(key, narrow()).ok());
    xts->~XtsKey();
    EXPECT_TRUE(std::all_of(memory.begin(), memory.end(), [](std::byte b) { return b == std::byte{0}; }));
}

}  // namespace
}  // namespace gatehouse::ata

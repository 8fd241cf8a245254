#include "hypervisor/base/bytes.hpp"

#include <gtest/gtest.h>

#include "hypervisor/base/secret.hpp"

namespace gatehouse {
namespace {

constexpr std::array<std::byte, 8> kCounting{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4},
                                             std::byte{5}, std::byte{6}, std::byte{7}, std::byte{8}};

TEST(Reader, ReadsBothByteOrders) {
    EXPECT_EQ(Reader(kCounting, Endian::kBig).u32(), 0x01020304u);
    EXPECT_EQ(Reader(kCounting, Endian::kLittle).u32(), 0x04030201u);
    EXPECT_EQ(Reader(kCounting, Endian::kBig).u64(), 0x0102030405060708u);
}

TEST(Reader, YieldsZeroAndStaysFailedPastTheEnd) {
    Reader reader(Bytes(kCounting).first(3), Endian::kBig);
    EXPECT_EQ(reader.u16(), 0x0102);
    EXPECT_EQ(reader.u16(), 0);
    EXPECT_TRUE(reader.failed());
    EXPECT_EQ(reader.u8(), 0) << "a failed reader must not go on with what is left";
    EXPECT_EQ(reader.status("x").error(), Error::kTruncated);
    EXPECT_EQ(reader.status("x").failure().detail, 2u);
}

TEST(Reader, RefusesSizedFieldLongerThanTheInput) {
    const std::array<std::byte, 3> input{std::byte{0}, std::byte{2}, std::byte{9}};
    Reader reader(input, Endian::kBig);
    EXPECT_TRUE(reader.sized().empty());
    EXPECT_FALSE(reader.status("x").ok());
}

TEST(Reader, NamesTrailingBytes) {
    Reader reader(kCounting);
    (void)reader.u32();
    EXPECT_EQ(reader.finished("x").error(), Error::kTrailingBytes);
    (void)reader.rest();
    EXPECT_TRUE(reader.finished("x").ok());
}

TEST(Writer, DropsWhatDoesNotFitAndTurnsFailed) {
    std::array<std::byte, 3> out{};
    Writer writer(out, Endian::kBig);
    writer.u16(0x1234);
    writer.u16(0x5678);
    EXPECT_EQ(writer.offset(), 2u);
    EXPECT_EQ(writer.status("x").error(), Error::kNoSpace);
    EXPECT_EQ(out[2], std::byte{0}) << "a partial integer must not be written";
}

TEST(Writer, PatchesAReservedInteger) {
    std::array<std::byte, 4> out{};
    Writer writer(out, Endian::kBig);
    const std::size_t at = writer.reserve<std::uint16_t>();
    writer.u16(7);
    writer.patch<std::uint16_t>(at, 0x0102);
    EXPECT_EQ(out[0], std::byte{1});
    EXPECT_EQ(out[1], std::byte{2});
    EXPECT_EQ(out[3], std::byte{7});
}

TEST(Secret, IsWipedWhenMovedFrom) {
    Secret<8> from(kCounting);
    const Secret<8> to(std::move(from));
    EXPECT_TRUE(to.equals(kCounting));
    EXPECT_TRUE(from.equals(std::array<std::byte, 8>{}));  // NOLINT(bugprone-use-after-move)
}

TEST(EqualSecret, ComparesLengthAndEveryByte) {
    EXPECT_TRUE(equal_secret(kCounting, kCounting));
    EXPECT_FALSE(equal_secret(kCounting, Bytes(kCounting).first(7)));
    for (std::size_t i = 0; i < kCounting.size(); ++i) {
        auto other = kCounting;
        other[i] ^= std::byte{0x80};
        EXPECT_FALSE(equal_secret(kCounting, other)) << i;
    }
}

}  // namespace
}  // namespace gatehouse

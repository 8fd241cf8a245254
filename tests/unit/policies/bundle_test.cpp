#include "policies/bundle/bundle.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace gatehouse::policies {
namespace {

using Buffer = std::vector<std::byte>;

const Buffer kSrkName = [] {
    Buffer name(kNameSize, std::byte{0x55});
    name[0] = std::byte{0x00};
    name[1] = std::byte{0x0b};
    return name;
}();

Bundle sample_bundle() {
    return {.flags = static_cast<std::uint32_t>(BundleFlag::kAllowNoIommu),
            .counter_index = 0x01804748,
            .srk_name = kSrkName,
            .authority = literal_bytes("a TPMT_PUBLIC"),
            .policy_ref = literal_bytes("test fleet")};
}
Approval sample_approval() {
    return {.counter_limit = 9,
            .pcr17 = sha256(literal_bytes("17")),
            .pcr18 = sha256(literal_bytes("18")),
            .policy_digest = sha256(literal_bytes("policy")),
            .signature = literal_bytes("a TPMT_SIGNATURE")};
}

Buffer written(const Bundle& bundle) {
    Buffer out(kMaxBundleSize);
    const auto size = write_bundle(bundle, out);
    EXPECT_TRUE(size.ok());
    out.resize(*size);
    return out;
}
Buffer written(const Approval& approval) {
    Buffer out(kMaxApprovalSize);
    const auto size = write_approval(approval, out);
    EXPECT_TRUE(size.ok());
    out.resize(*size);
    return out;
}

TEST(Bundle, ComesBackAsItWas) {
    const Buffer file = written(sample_bundle());
    const auto bundle = parse_bundle(file);
    ASSERT_TRUE(bundle.ok());
    EXPECT_TRUE(bundle->has(BundleFlag::kAllowNoIommu));
    EXPECT_FALSE(bundle->has(BundleFlag::kShowForeignDisks));
    EXPECT_EQ(bundle->counter_index, 0x01804748u);
    EXPECT_TRUE(equal_bytes(bundle->srk_name, kSrkName));
    EXPECT_TRUE(equal_bytes(bundle->authority, literal_bytes("a TPMT_PUBLIC")));
    EXPECT_TRUE(equal_bytes(bundle->policy_ref, literal_bytes("test fleet")));
}

TEST(Bundle, HasTheLayoutOfTheHeader) {
    const Buffer file = written(sample_bundle());
    EXPECT_EQ(file.size(), 24u + 2 + 34 + 2 + 13 + 2 + 10);
    EXPECT_TRUE(equal_bytes(Bytes(file).first(8), literal_bytes("GHPOLICY")));
    EXPECT_EQ(load<std::uint32_t>(file.data() + 12, Endian::kLittle), file.size());
    EXPECT_EQ(load<std::uint32_t>(file.data() + 20, Endian::kLittle), 0x01804748u);
    EXPECT_EQ(load<std::uint16_t>(file.data() + 24, Endian::kLittle), 34u);
}

TEST(Bundle, IsRefusedAtEveryTruncationAndWithMoreBytes) {
    const Buffer whole = written(sample_bundle());
    for (std::size_t size = 0; size < whole.size(); ++size) {
        const Buffer part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        EXPECT_EQ(parse_bundle(part).error(), Error::kTruncated) << size;
    }
    Buffer longer = whole;
    longer.push_back(std::byte{0});
    EXPECT_EQ(parse_bundle(longer).error(), Error::kTrailingBytes);
}

TEST(Bundle, MustEndWhereItsLastFieldDoes) {
    Buffer file = written(sample_bundle());
    file.push_back(std::byte{0});
    store(file.data() + 12, static_cast<std::uint32_t>(file.size()), Endian::kLittle);
    EXPECT_EQ(parse_bundle(file).error(), Error::kTrailingBytes);
    file = written(sample_bundle());
    file.pop_back();
    store(file.data() + 12, static_cast<std::uint32_t>(file.size()), Endian::kLittle);
    EXPECT_EQ(parse_bundle(file).error(), Error::kTruncated);
}

struct Change {
    const char* name;
    std::size_t offset;
    std::uint8_t value;
    Error error;
};
class BundleField : public testing::TestWithParam<Change> {};

TEST_P(BundleField, OutOfItsDomainIsRefused) {
    Buffer file = written(sample_bundle());
    file.at(GetParam().offset) = static_cast<std::byte>(GetParam().value);
    EXPECT_EQ(parse_bundle(file).error(), GetParam().error);
}

INSTANTIATE_TEST_SUITE_P(All, BundleField,
                         testing::Values(Change{"Magic", 7, 'X', Error::kBadMagic},
                                         Change{"Version", 8, 2, Error::kBadVersion},
                                         Change{"SizeSmaller", 12, 1, Error::kTrailingBytes},
                                         Change{"SizeHuge", 13, 0xff, Error::kBadLength},
                                         Change{"UnknownFlag", 16, 4, Error::kBadValue},
                                         Change{"NameAlgorithm", 27, 0x04, Error::kBadValue}),
                         [](const auto& row) { return row.param.name; });

TEST(Bundle, IsNotWrittenWithAFieldOutOfItsDomain) {
    Buffer out(kMaxBundleSize);
    const auto error = [&](auto change) {
        Bundle bundle = sample_bundle();
        change(bundle);
        return write_bundle(bundle, out).error();
    };
    EXPECT_EQ(error([](Bundle& b) { b.flags = 8; }), Error::kBadValue);
    EXPECT_EQ(error([](Bundle& b) { b.srk_name = b.srk_name.first(33); }), Error::kBadValue);
    EXPECT_EQ(error([](Bundle& b) { b.authority = {}; }), Error::kBadValue);
    EXPECT_EQ(error([](Bundle& b) { b.policy_ref = literal_bytes("123456789012345678901234567890123"); }),
              Error::kBadValue);
    EXPECT_EQ(write_bundle(sample_bundle(), MutableBytes(out).first(50)).error(), Error::kNoSpace);
}

TEST(Bundle, OfMoreThanTheLimitIsNotWritten) {
    const Buffer authority(kMaxBundleSize);
    Buffer out(2 * kMaxBundleSize);
    Bundle bundle = sample_bundle();
    bundle.authority = authority;
    EXPECT_EQ(write_bundle(bundle, out).error(), Error::kBadValue);
}

TEST(Approval, ComesBackAsItWas) {
    const Buffer file = written(sample_approval());
    const auto approval = parse_approval(file);
    ASSERT_TRUE(approval.ok());
    EXPECT_EQ(approval->counter_limit, 9u);
    EXPECT_EQ(approval->pcr17, sample_approval().pcr17);
    EXPECT_EQ(approval->pcr18, sample_approval().pcr18);
    EXPECT_EQ(approval->policy_digest, sample_approval().policy_digest);
    EXPECT_TRUE(equal_bytes(approval->signature, literal_bytes("a TPMT_SIGNATURE")));
}

TEST(Approval, IsRefusedAtEveryTruncationAndWithMoreBytes) {
    const Buffer whole = written(sample_approval());
    for (std::size_t size = 0; size < whole.size(); ++size) {
        const Buffer part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
        EXPECT_EQ(parse_approval(part).error(), Error::kTruncated) << size;
    }
    Buffer longer = whole;
    longer.push_back(std::byte{0});
    EXPECT_EQ(parse_approval(longer).error(), Error::kTrailingBytes);
}

TEST(Approval, WithoutSignatureIsRefused) {
    Approval approval = sample_approval();
    approval.signature = {};
    Buffer out(kMaxApprovalSize);
    EXPECT_EQ(write_approval(approval, out).error(), Error::kBadValue);
    Buffer file = written(sample_approval());
    const std::size_t signature = literal_bytes("a TPMT_SIGNATURE").size();
    file.resize(file.size() - signature);
    store(file.data() + file.size() - 2, std::uint16_t{0}, Endian::kLittle);
    store(file.data() + 12, static_cast<std::uint32_t>(file.size()), Endian::kLittle);
    EXPECT_EQ(parse_approval(file).error(), Error::kBadValue);
}

TEST(Approval, IsNotABundleNorTheOtherWayRound) {
    EXPECT_EQ(parse_bundle(written(sample_approval())).error(), Error::kBadMagic);
    EXPECT_EQ(parse_approval(written(sample_bundle())).error(), Error::kBadMagic);
}

}  // namespace
}  // namespace gatehouse::policies

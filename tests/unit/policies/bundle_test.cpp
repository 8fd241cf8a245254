#include "policies/bundle/bundle.hpp"

#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "policies/bundle_writer/bundle_writer.hpp"

namespace gatehouse::policies {
namespace {

using Buffer = std::vector<std::byte>;

const Buffer kSrkName = [] {
    Buffer name(kNameSize, std::byte{0x55});
    name[0] = std::byte{0x00};
    name[1] = std::byte{0x0b};
    return name;
}();

constexpr std::uint32_t kCounterIndex = 0x01801234;
const Sha256Digest kVaultId = sha256(literal_bytes("vault"));

// Of one endpoint.
Bundle sample_bundle() {
    return {.flags = static_cast<std::uint32_t>(BundleFlag::kAllowNoIommu),
            .counter_index = kCounterIndex,
            .srk_name = kSrkName,
            .vault_id = kVaultId,
            .enrollment = {},
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

MachineApproval sample_machine_approval() {
    return {.pcr19 = sha256(literal_bytes("19")),
            .policy_digest = sha256(literal_bytes("policy")),
            .signature = literal_bytes("a TPMT_SIGNATURE")};
}

// The enrollment key's holder.
class Enrollment {
  public:
    [[nodiscard]] Buffer point() const {
        Buffer out(kPointSize);
        std::size_t size = 0;
        EXPECT_EQ(
            EVP_PKEY_get_octet_string_param(key_.get(), "encoded-pub-key", raw(MutableBytes(out)), out.size(), &size),
            1);
        EXPECT_EQ(size, kPointSize);
        return out;
    }
    // r || s over SHA-256 of `message`.
    [[nodiscard]] Buffer sign(Bytes message) const {
        const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
        Buffer der(128);
        std::size_t size = der.size();
        EXPECT_EQ(EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()), 1);
        EXPECT_EQ(EVP_DigestSign(context.get(), raw(MutableBytes(der)), &size, raw(message), message.size()), 1);
        const unsigned char* at = raw(Bytes(der));
        const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> numbers(
            d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(size)), ECDSA_SIG_free);
        Buffer out(kRecordSignatureSize);
        BN_bn2binpad(ECDSA_SIG_get0_r(numbers.get()), raw(MutableBytes(out)), 32);
        BN_bn2binpad(ECDSA_SIG_get0_s(numbers.get()), raw(MutableBytes(out)) + 32, 32);
        return out;
    }

  private:
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_{EVP_EC_gen("P-256"), EVP_PKEY_free};
};

Record sample_record() { return {.srk_name = kSrkName, .vault_id = kVaultId, .label = literal_bytes("desk 7")}; }

// What `write` makes of it.
template <typename Part, typename Write>
Buffer written_by(Write write, const Part& part, std::size_t most) {
    Buffer out(most);
    const auto size = write(part, out);
    EXPECT_TRUE(size.ok());
    out.resize(*size);
    return out;
}
Buffer written(const Bundle& bundle) { return written_by(write_bundle, bundle, kMaxBundleSize); }
Buffer written(const Approval& approval) { return written_by(write_approval, approval, kMaxApprovalSize); }
Buffer written(const MachineApproval& approval) {
    return written_by(write_machine_approval, approval, kMaxApprovalSize);
}
Buffer written(const Record& record, const Enrollment& enrollment) {
    Buffer out = written_by(write_unsigned_record, record, kMaxRecordSize);
    const Buffer signature = enrollment.sign(out);
    out.insert(out.end(), signature.begin(), signature.end());
    return out;
}

TEST(Bundle, ComesBackAsItWas) {
    const Buffer file = written(sample_bundle());
    const auto bundle = parse_bundle(file);
    ASSERT_TRUE(bundle.ok());
    EXPECT_TRUE(bundle->has(BundleFlag::kAllowNoIommu));
    EXPECT_FALSE(bundle->has(BundleFlag::kMachineAcpi));
    EXPECT_EQ(bundle->counter_index, kCounterIndex);
    EXPECT_TRUE(equal_bytes(bundle->srk_name, kSrkName));
    EXPECT_TRUE(equal_bytes(bundle->vault_id, kVaultId));
    EXPECT_TRUE(bundle->enrollment.empty());
    EXPECT_TRUE(equal_bytes(bundle->authority, literal_bytes("a TPMT_PUBLIC")));
    EXPECT_TRUE(equal_bytes(bundle->policy_ref, literal_bytes("test fleet")));
}

TEST(Bundle, HasTheLayoutOfTheHeader) {
    const Buffer file = written(sample_bundle());
    EXPECT_EQ(file.size(), 24u + 2 + 34 + 2 + 32 + 2 + 2 + 13 + 2 + 10);
    EXPECT_TRUE(equal_bytes(Bytes(file).first(8), literal_bytes("GHPOLICY")));
    EXPECT_EQ(load<std::uint32_t>(file.data() + 12, Endian::kLittle), file.size());
    EXPECT_EQ(load<std::uint32_t>(file.data() + 20, Endian::kLittle), kCounterIndex);
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
                                         Change{"Version", 8, 1, Error::kBadVersion},
                                         Change{"SizeSmaller", 12, 1, Error::kTrailingBytes},
                                         Change{"SizeHuge", 13, 0xff, Error::kBadLength},
                                         Change{"UnknownFlag", 16, kKnownBundleFlags + 1, Error::kBadValue},
                                         Change{"NameAlgorithm", 27, 0x04, Error::kBadValue}),
                         [](const auto& row) { return row.param.name; });

TEST(Bundle, IsNotWrittenWithAFieldOutOfItsDomain) {
    Buffer out(kMaxBundleSize);
    const auto error = [&](auto change) {
        Bundle bundle = sample_bundle();
        change(bundle);
        return write_bundle(bundle, out).error();
    };
    EXPECT_EQ(error([](Bundle& b) { b.flags = kKnownBundleFlags + 1; }), Error::kBadValue);
    EXPECT_EQ(error([](Bundle& b) { b.srk_name = b.srk_name.first(33); }), Error::kBadValue);
    EXPECT_EQ(error([](Bundle& b) { b.vault_id = b.vault_id.first(31); }), Error::kBadValue);
    EXPECT_EQ(error([](Bundle& b) { b.authority = {}; }), Error::kBadValue);
    EXPECT_EQ(error([](Bundle& b) { b.policy_ref = literal_bytes("123456789012345678901234567890123"); }),
              Error::kBadValue);
    EXPECT_EQ(write_bundle(sample_bundle(), MutableBytes(out).first(50)).error(), Error::kNoSpace);
}

// One endpoint's bundle says which vault; a fleet's says who may say so. One that says neither, or both, says nothing.
TEST(Bundle, PinsAVaultOrNamesTheEnrollmentKey) {
    const Enrollment enrollment;
    const Buffer point = enrollment.point();
    Buffer compressed = point;
    compressed[0] = std::byte{2};
    const auto error = [&](Bytes srk_name, Bytes vault_id, Bytes key) {
        Bundle bundle = sample_bundle();
        bundle.srk_name = srk_name;
        bundle.vault_id = vault_id;
        bundle.enrollment = key;
        Buffer out(kMaxBundleSize);
        const auto size = write_bundle(bundle, out);
        return size ? parse_bundle(Bytes(out).first(*size)).error() : size.error();
    };
    EXPECT_EQ(error(kSrkName, kVaultId, {}), Error::kNone);
    EXPECT_EQ(error({}, {}, point), Error::kNone);
    EXPECT_EQ(error({}, {}, {}), Error::kBadValue);
    EXPECT_EQ(error(kSrkName, kVaultId, point), Error::kBadValue);
    EXPECT_EQ(error(kSrkName, {}, {}), Error::kBadValue) << "any vault sealed to this TPM";
    EXPECT_EQ(error({}, kVaultId, {}), Error::kBadValue) << "any TPM, an interposer's too";
    EXPECT_EQ(error(kSrkName, {}, point), Error::kBadValue);
    EXPECT_EQ(error({}, kVaultId, point), Error::kBadValue);
    EXPECT_EQ(error({}, {}, Bytes(point).first(64)), Error::kBadValue);
    EXPECT_EQ(error({}, {}, compressed), Error::kBadValue);
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

TEST(MachineApproval, ComesBackAsItWasAndIsRefusedIfCut) {
    const Buffer file = written(sample_machine_approval());
    const auto approval = parse_machine_approval(file);
    ASSERT_TRUE(approval.ok());
    EXPECT_EQ(approval->pcr19, sample_machine_approval().pcr19);
    EXPECT_EQ(approval->policy_digest, sample_machine_approval().policy_digest);
    EXPECT_TRUE(equal_bytes(approval->signature, literal_bytes("a TPMT_SIGNATURE")));
    for (std::size_t size = 0; size < file.size(); ++size) {
        EXPECT_EQ(parse_machine_approval(Bytes(file).first(size)).error(), Error::kTruncated) << size;
    }
    EXPECT_EQ(parse_machine_approval(written(sample_approval())).error(), Error::kBadMagic);
    EXPECT_EQ(parse_approval(file).error(), Error::kBadMagic);
}

// --- Endpoint records

TEST(EndpointRecord, ComesBackIfTheEnrollmentKeySignedIt) {
    const Enrollment enrollment;
    const Buffer file = written(sample_record(), enrollment);
    const auto record = parse_record(file, enrollment.point());
    ASSERT_TRUE(record.ok()) << record.failure().item;
    EXPECT_TRUE(equal_bytes(record->srk_name, kSrkName));
    EXPECT_TRUE(equal_bytes(record->vault_id, kVaultId));
    EXPECT_TRUE(equal_bytes(record->label, literal_bytes("desk 7")));
}

TEST(EndpointRecord, OfAnotherKeyIsRefused) {
    const Enrollment enrollment;
    const Buffer file = written(sample_record(), Enrollment());
    const auto record = parse_record(file, enrollment.point());
    EXPECT_EQ(record.error(), Error::kBadSignature);
    EXPECT_EQ(record.failure().item, std::string_view("endpoint record: not signed by the enrollment key"));
}

TEST(EndpointRecord, WithAnyChangedBitIsRefused) {
    const Enrollment enrollment;
    const Buffer point = enrollment.point();
    const Buffer file = written(sample_record(), enrollment);
    for (std::size_t at = 0; at < file.size(); ++at) {
        Buffer changed = file;
        changed[at] ^= std::byte{0x10};
        EXPECT_FALSE(parse_record(changed, point).ok()) << at;
    }
    for (std::size_t size = 0; size < file.size(); ++size)
        EXPECT_FALSE(parse_record(Bytes(file).first(size), point).ok());
    Buffer longer = file;
    longer.push_back(std::byte{0});
    EXPECT_EQ(parse_record(longer, point).error(), Error::kTrailingBytes);
}

// What broken verifiers have taken for a signature (CVE-2022-21449), and keys that are no points.
TEST(EndpointRecord, WithADegenerateSignatureOrKeyIsRefused) {
    const Enrollment enrollment;
    Buffer file = written(sample_record(), enrollment);
    const Buffer good = file;
    const MutableBytes signature = MutableBytes(file).last(kRecordSignatureSize);
    for (const std::byte value : {std::byte{0}, std::byte{0xff}}) {
        std::ranges::fill(signature, value);
        EXPECT_EQ(parse_record(file, enrollment.point()).error(), Error::kBadSignature);
    }
    Buffer no_point(kPointSize);
    no_point[0] = std::byte{4};
    EXPECT_EQ(parse_record(good, no_point).error(), Error::kBadSignature);
    EXPECT_EQ(parse_record(good, {}).error(), Error::kBadSignature);
}

TEST(EndpointRecord, IsNotWrittenWithAFieldOutOfItsDomain) {
    Buffer out(kMaxRecordSize);
    Record record = sample_record();
    record.srk_name = record.srk_name.first(33);
    EXPECT_EQ(write_unsigned_record(record, out).error(), Error::kBadValue);
    record = sample_record();
    record.vault_id = {};
    EXPECT_EQ(write_unsigned_record(record, out).error(), Error::kBadValue);
    record = sample_record();
    const Buffer label(kMaxLabel + 1);
    record.label = label;
    EXPECT_EQ(write_unsigned_record(record, out).error(), Error::kBadValue);
}

}  // namespace
}  // namespace gatehouse::policies

#include <bearssl/bearssl_ec.h>
#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "hypervisor/boot/policy.hpp"
#include "policies/bundle_writer/bundle_writer.hpp"

namespace gatehouse::boot {
namespace {

using Buffer = std::vector<std::byte>;

Buffer srk_name(unsigned seed) {
    Buffer name(policies::kNameSize, static_cast<std::byte>(seed));
    name[0] = std::byte{0x00};
    name[1] = std::byte{0x0b};
    return name;
}

class ReadPolicy : public testing::Test {
  protected:
    ReadPolicy() {
        const br_ec_private_key key = private_key();
        br_ec_compute_pub(&br_ec_p256_m31, nullptr, raw(MutableBytes(point_)), &key);
        make(policies::write_approval(
                 {.counter_limit = 3, .pcr17 = {}, .pcr18 = {}, .policy_digest = {}, .signature = literal_bytes("s")},
                 space(approval_)),
             approval_);
        payload_.approval = approval_;
        use_bundle(fleet());
        use_record(srk_name(2), key);
    }
    br_ec_private_key private_key(unsigned char last = 7) {
        scalar_[31] = last;
        return {BR_EC_secp256r1, scalar_.data(), scalar_.size()};
    }
    static MutableBytes space(Buffer& buffer) {
        buffer.assign(4096, std::byte{0});
        return buffer;
    }
    static void make(const Result<std::size_t>& size, Buffer& buffer) {
        ASSERT_TRUE(size.ok()) << size.failure().item;
        buffer.resize(*size);
    }
    policies::Bundle fleet() {
        return {.flags = 0,
                .counter_index = 1,
                .srk_name = {},
                .vault_id = {},
                .enrollment = point_,
                .authority = literal_bytes("authority"),
                .policy_ref = literal_bytes("fleet")};
    }
    void use_bundle(const policies::Bundle& bundle) {
        make(policies::write_bundle(bundle, space(bundle_)), bundle_);
        payload_.policy = bundle_;
    }
    void use_record(const Buffer& srk, const br_ec_private_key& key) {
        make(policies::write_unsigned_record(
                 {.srk_name = srk, .vault_id = record_id_, .label = literal_bytes("desk 7")}, space(record_)),
             record_);
        const Sha256Digest digest = sha256(record_);
        std::array<unsigned char, policies::kRecordSignatureSize> signature{};
        ASSERT_EQ(br_ecdsa_i31_sign_raw(&br_ec_p256_m31, &br_sha256_vtable, digest.data(), &key, signature.data()),
                  signature.size());
        const Bytes bytes = std::as_bytes(std::span(signature));
        record_.insert(record_.end(), bytes.begin(), bytes.end());
        payload_.record = record_;
    }
    Result<Policy> read() { return read_policy(payload_); }

    std::array<unsigned char, 32> scalar_{};
    Buffer point_ = Buffer(policies::kPointSize);
    Buffer bundle_;
    Buffer approval_;
    Buffer record_;
    Buffer machine_;
    Sha256Digest record_id_ = sha256(literal_bytes("vault of the record"));
    Sha256Digest bundle_id_ = sha256(literal_bytes("vault of the bundle"));
    Payload payload_;
};

TEST_F(ReadPolicy, TakesAFleetsVaultFromTheRecord) {
    const auto policy = read();
    ASSERT_TRUE(policy.ok()) << policy.failure().item;
    EXPECT_EQ(policy->pin, evidence::VaultPin::kRecord);
    EXPECT_TRUE(equal_bytes(policy->srk_name, srk_name(2)));
    EXPECT_TRUE(equal_bytes(policy->vault_id, record_id_));
    EXPECT_FALSE(policy->machine.has_value());
    EXPECT_EQ(policy->approval.counter_limit, 3u);
}

// A record is not measured: only one that the measured enrollment key signed may say anything.
TEST_F(ReadPolicy, RefusesAFleetWithoutARecordOrWithAForgedOne) {
    const Buffer good = record_;
    payload_.record = {};
    EXPECT_EQ(read().error(), Error::kNotFound);
    EXPECT_EQ(read().failure().item, std::string_view("endpoint record"));
    use_record(srk_name(3), private_key(8));
    EXPECT_EQ(read().error(), Error::kBadSignature);
    Buffer changed = good;
    changed[50] ^= std::byte{1};
    payload_.record = changed;
    EXPECT_EQ(read().error(), Error::kBadSignature);
    payload_.record = Bytes(good).first(good.size() - 1);
    EXPECT_EQ(read().error(), Error::kTruncated);
}

TEST_F(ReadPolicy, BelievesNoRecordWhereTheBundlePins) {
    policies::Bundle bundle = fleet();
    const Buffer name = srk_name(1);
    bundle.enrollment = {};
    bundle.srk_name = name;
    bundle.vault_id = bundle_id_;
    use_bundle(bundle);
    const auto policy = read();
    ASSERT_TRUE(policy.ok()) << policy.failure().item;
    EXPECT_EQ(policy->pin, evidence::VaultPin::kBundle);
    EXPECT_TRUE(equal_bytes(policy->srk_name, name));
    EXPECT_TRUE(equal_bytes(policy->vault_id, bundle_id_));
    payload_.record = {};
    EXPECT_TRUE(read().ok());
}

TEST_F(ReadPolicy, ReadsAMachineApprovalWhereTheMachinesTablesAreUsed) {
    policies::Bundle bundle = fleet();
    bundle.flags = static_cast<std::uint32_t>(policies::BundleFlag::kMachineAcpi);
    use_bundle(bundle);
    auto policy = read();
    ASSERT_TRUE(policy.ok()) << policy.failure().item;
    EXPECT_FALSE(policy->machine.has_value()) << "whether it is there is asked when its PCR has been shown";
    make(policies::write_machine_approval({.pcr19 = {}, .policy_digest = record_id_, .signature = literal_bytes("s")},
                                          space(machine_)),
         machine_);
    payload_.machine_approval = machine_;
    policy = read();
    ASSERT_TRUE(policy.ok()) << policy.failure().item;
    ASSERT_TRUE(policy->machine.has_value());
    EXPECT_EQ(policy->machine->policy_digest, record_id_);
    payload_.machine_approval = approval_;
    EXPECT_EQ(read().error(), Error::kBadMagic);
    use_bundle(fleet());
    policy = read();
    ASSERT_TRUE(policy.ok());
    EXPECT_FALSE(policy->machine.has_value()) << "not looked at where it is not wanted";
}

TEST_F(ReadPolicy, RefusesABrokenBundleOrApproval) {
    payload_.policy = Bytes(bundle_).first(20);
    EXPECT_EQ(read().error(), Error::kTruncated);
    payload_.policy = approval_;
    EXPECT_EQ(read().error(), Error::kBadMagic);
    payload_.policy = bundle_;
    payload_.approval = bundle_;
    EXPECT_EQ(read().error(), Error::kBadMagic);
}

}  // namespace
}  // namespace gatehouse::boot

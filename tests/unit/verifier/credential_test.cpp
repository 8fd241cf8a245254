// Credentials against a TPM that activates them, or does not.
#include <gtest/gtest.h>

#include "attestation/verifier/endorsement.hpp"
#include "tests/unit/verifier/manufactured_tpm.hpp"

namespace gatehouse::verifier {
namespace {

using test::ManufacturedTpm;

Buffer secret_of(std::size_t size) {
    Buffer secret(size);
    for (std::size_t i = 0; i < size; ++i) secret[i] = static_cast<std::byte>(i + 1);
    return secret;
}

class Credentials : public testing::Test {
  public:
    static void SetUpTestSuite() { tpm_ = std::make_unique<ManufacturedTpm>(); }
    static void TearDownTestSuite() { tpm_.reset(); }

  protected:
    void SetUp() override { ak_ = tpm_->create_attestation_key(); }
    void TearDown() override { tpm_->flush(ak_); }
    // Credentials of several sizes come out, and only for this object, whole, and by this EK.
    void expect_activation(const ManufacturedTpm::Key& ek, bool policy_a) {
        for (const std::size_t size : {16u, 20u, 32u}) {
            const Buffer secret = secret_of(size);
            const Credential credential = make_credential(ek.public_area, ak_.name, secret);
            EXPECT_EQ(tpm_->activate(ak_, ek, policy_a, credential.blob, credential.secret), secret);
        }
        const Buffer secret = secret_of(32);
        Buffer other_name = ak_.name;
        other_name.back() ^= std::byte{1};
        const Credential other = make_credential(ek.public_area, other_name, secret);
        EXPECT_TRUE(tpm_->activate(ak_, ek, policy_a, other.blob, other.secret).empty());

        const Credential good = make_credential(ek.public_area, ak_.name, secret);
        for (const std::size_t at : {std::size_t{4}, good.blob.size() - 1}) {
            Buffer blob = good.blob;
            blob[at] ^= std::byte{1};
            EXPECT_TRUE(tpm_->activate(ak_, ek, policy_a, blob, good.secret).empty()) << at;
        }
    }
    static std::unique_ptr<ManufacturedTpm> tpm_;
    ManufacturedTpm::Key ak_;
};
std::unique_ptr<ManufacturedTpm> Credentials::tpm_;

TEST_F(Credentials, Rsa2048EkOfTemplateL1ActivatesThem) { expect_activation(tpm_->persistent(test::kRsaEk), true); }

TEST_F(Credentials, P256EkOfTemplateL2ActivatesThem) {
    const auto ek = tpm_->create_ek(test::kL2);
    // Enough that some ephemeral coordinate or shared secret starts with a zero byte now and then: both must
    // be padded.
    for (int i = 0; i < 200; ++i) {
        const Credential credential = make_credential(ek.public_area, ak_.name, secret_of(32));
        EXPECT_EQ(tpm_->activate(ak_, ek, true, credential.blob, credential.secret), secret_of(32));
    }
    expect_activation(ek, true);
    tpm_->flush(ek);
}

TEST_F(Credentials, P384EkOfTemplateH3ActivatesThem) {
    const auto ek = tpm_->persistent(test::kP384Ek);
    expect_activation(ek, false);
    const Credential credential = make_credential(ek.public_area, ak_.name, secret_of(48));
    EXPECT_EQ(tpm_->activate(ak_, ek, false, credential.blob, credential.secret), secret_of(48));
}

TEST_F(Credentials, P521EkOfTemplateH4ActivatesThem) {
    const auto ek = tpm_->create_ek(test::kH4);
    // Enough that some coordinate starts with a zero byte: the first of 66 has one bit only.
    for (int i = 0; i < 8; ++i) expect_activation(ek, false);
    const Credential credential = make_credential(ek.public_area, ak_.name, secret_of(64));
    EXPECT_EQ(tpm_->activate(ak_, ek, false, credential.blob, credential.secret), secret_of(64));
    tpm_->flush(ek);
}

TEST_F(Credentials, Rsa3072EkOfTemplateH6ActivatesThem) {
    const auto ek = tpm_->create_ek(test::kH6);
    expect_activation(ek, false);
    const Credential credential = make_credential(ek.public_area, ak_.name, secret_of(48));
    EXPECT_EQ(tpm_->activate(ak_, ek, false, credential.blob, credential.secret), secret_of(48));
    tpm_->flush(ek);
}

TEST_F(Credentials, AnotherEkDoesNotActivateThem) {
    const auto rsa = tpm_->persistent(test::kRsaEk);
    const auto ecc = tpm_->create_ek(test::kL2);
    const Credential credential = make_credential(rsa.public_area, ak_.name, secret_of(32));
    EXPECT_TRUE(tpm_->activate(ak_, ecc, true, credential.blob, credential.secret).empty());
    tpm_->flush(ecc);
}

TEST_F(Credentials, NoTwoAreTheSame) {
    const auto ek = tpm_->persistent(test::kP384Ek);
    const Credential one = make_credential(ek.public_area, ak_.name, secret_of(32));
    const Credential two = make_credential(ek.public_area, ak_.name, secret_of(32));
    EXPECT_NE(one.blob, two.blob);
    EXPECT_NE(one.secret, two.secret);
}

TEST_F(Credentials, RefusesKeysThatAreNoEkAndSecretsThatDoNotFit) {
    const auto ek = tpm_->persistent(test::kP384Ek);
    EXPECT_THROW((void)make_credential(ak_.public_area, ak_.name, secret_of(32)), host::ToolError);
    EXPECT_THROW((void)make_credential({}, ak_.name, secret_of(32)), host::ToolError);
    EXPECT_THROW((void)make_credential(ek.public_area, ak_.name, secret_of(0)), host::ToolError);
    EXPECT_THROW((void)make_credential(ek.public_area, ak_.name, secret_of(49)), host::ToolError);
    EXPECT_THROW((void)make_credential(ek.public_area, {}, secret_of(32)), host::ToolError);
    Buffer off_curve = ek.public_area;
    off_curve.back() ^= std::byte{1};
    EXPECT_THROW((void)make_credential(off_curve, ak_.name, secret_of(32)), host::ToolError);
}

}  // namespace
}  // namespace gatehouse::verifier

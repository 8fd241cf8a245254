// Sealing and quoting, live against swtpm.
#include "keyvault/tpm/sealing.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/keyvault/provisioned_tpm.hpp"

namespace gatehouse::tpm {
namespace {

using test::Authority;
using test::Buffer;
using test::ProvisionedTpm;

const Bytes kImage = literal_bytes("secure loader block");
const Bytes kPayload = literal_bytes("policy bundle");

class Sealing : public ::testing::Test {
  protected:
    Result<Secret<32>> unseal_with(const UnsealRequest& request) {
        auto secret = unseal(tpm_.tpm, tpm_.random, request);
        tpm_.device.interposer = nullptr;
        tpm_.device.command_interposer = nullptr;
        EXPECT_EQ(tpm_.loaded_handles(), 0u) << "something stays loaded in the TPM";
        return secret;
    }
    void expect_refused(const Result<Secret<32>>& secret, Error error, std::string_view item) {
        EXPECT_FALSE(secret.ok());
        EXPECT_EQ(secret.error(), error) << error_name(secret.error()) << ": " << secret.failure().item;
        EXPECT_EQ(secret.failure().item, item);
        EXPECT_FALSE(secret.value().equals(tpm_.secret.bytes())) << "the secret got out with the refusal";
    }

    ProvisionedTpm tpm_;
};

TEST_F(Sealing, ReleasesTheSecretToTheApprovedMachine) {
    tpm_.launch(kImage, kPayload);
    const auto secret = unseal_with(tpm_.request(tpm_.approve(kImage, kPayload, tpm_.counter)));
    ASSERT_TRUE(secret.ok()) << secret.failure().item << " " << std::hex << secret.failure().detail;
    EXPECT_TRUE(secret.value().equals(tpm_.secret.bytes()));
}

TEST_F(Sealing, RefusesAnotherImage) {
    tpm_.launch(literal_bytes("another image"), kPayload);
    expect_refused(unseal_with(tpm_.request(tpm_.approve(kImage, kPayload, tpm_.counter))), Error::kMismatch,
                   "PCR 17 and 18 not as approved");
}

}  // namespace
}  // namespace gatehouse::tpm

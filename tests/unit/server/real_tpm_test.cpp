// Enrollment of a TPM as it leaves its maker: EK certificate of a vendor that is trusted, MakeCredential by
// the server, ActivateCredential by the TPM (swtpm).
#include <gmock/gmock.h>

#include "attestation/agent/identity_proof.hpp"
#include "tests/unit/server/service_fixture.hpp"
#include "tests/unit/verifier/manufactured_tpm.hpp"

namespace gatehouse::test {
namespace {

using testing::HasSubstr;

class RealTpm : public ServiceTest {
  protected:
    void SetUp() override {
        ServiceTest::SetUp();
        options_.clock = {};  // the certificates were made just now
        reopen();
    }
    protocol::EnrollRequest request(const std::string& token) {
        protocol::EnrollRequest made = SoftwareEndpoint("workstation", "tpm").enroll_request(token);
        made.ek_certificate = tpm_.read_nv(kRsaCertificate);
        made.ek_chain = {tpm_.issuer()};
        made.ek_public = ek_.public_area;
        made.ak_public = ak_.public_area;
        agent::IdentityProof proof = agent::prove_identity(tpm_.context(), ak_.handle);
        made.identity_keys = std::move(proof.keys);
        made.identity_attest = std::move(proof.attest);
        made.identity_signature = std::move(proof.signature);
        return made;
    }
    Buffer activated(const protocol::EnrollChallenge& challenge, bool policy_a = true) {
        return tpm_.activate(ak_, ek_, policy_a, challenge.credential_blob, challenge.secret);
    }

    ManufacturedTpm tpm_;
    ManufacturedTpm::Key ek_ = tpm_.persistent(kRsaEk);
    ManufacturedTpm::Key ak_ = tpm_.create_attestation_key();
};

TEST_P(RealTpm, EndorsedOneIsApprovedByATokenOnce) {
    service_->add_vendor(kAdmin, {"swtpm", {tpm_.root()}, {}, {}});
    const std::string token = service_->create_enrollment_token(kOperator, "default", 600);
    const protocol::EnrollChallenge challenge = service_->enroll(request(token));
    const protocol::EnrollChallenge second = service_->enroll(request(token));
    const protocol::EnrollStatus status = service_->activate(challenge.id, activated(challenge));
    const server::Enrollment shown = service_->enrollment(kReader, challenge.id);
    EXPECT_EQ(status.state, "approved") << shown.reason;
    EXPECT_TRUE(shown.endorsed);
    EXPECT_EQ(shown.vendor, "swtpm");
    EXPECT_EQ(service_->endpoint(kReader, status.endpoint_id).vendor, "swtpm");
    // Both came with the token while it was good; it is used up now.
    EXPECT_EQ(service_->activate(second.id, activated(second)).state, "waiting");
    EXPECT_THAT(service_->enrollment(kReader, second.id).reason, HasSubstr("token was used"));
}

// Its certificates are of RSA 2048 and P-384; the P-256 key that ties them has none.
TEST_P(RealTpm, RetiredOneIsKnownByItsOtherEkAndANewAttestationKey) {
    service_->add_vendor(kAdmin, {"swtpm", {tpm_.root()}, {}, {}});
    const protocol::EnrollChallenge first =
        service_->enroll(request(service_->create_enrollment_token(kOperator, "default", 600)));
    const std::string id = service_->activate(first.id, activated(first)).endpoint_id;
    ASSERT_EQ(service_->enrollment(kReader, first.id).state, "approved");
    service_->retire(kOperator, id, "sold");

    tpm_.flush(ak_);
    ak_ = tpm_.create_attestation_key(7);
    ek_ = tpm_.persistent(kP384Ek);
    protocol::EnrollRequest again = request(service_->create_enrollment_token(kOperator, "default", 600));
    again.ek_certificate = tpm_.read_nv(kP384Certificate);
    const protocol::EnrollChallenge second = service_->enroll(again);
    EXPECT_EQ(service_->activate(second.id, activated(second, false)).state, "waiting");
    const server::Enrollment waiting = service_->enrollment(kReader, second.id);
    EXPECT_TRUE(waiting.endorsed);
    EXPECT_EQ(waiting.reason, "endpoint " + id + " of this TPM was retired");
}

TEST_P(RealTpm, OfAVendorThatIsNotTrustedWaits) {
    const std::string token = service_->create_enrollment_token(kOperator, "default", 600);
    const protocol::EnrollChallenge challenge = service_->enroll(request(token));
    EXPECT_EQ(service_->activate(challenge.id, activated(challenge)).state, "waiting");
    EXPECT_FALSE(service_->enrollment(kReader, challenge.id).endorsed);
}

TEST_P(RealTpm, CannotActivateForAKeyThatIsNotItsOwn) {
    protocol::EnrollRequest other = request("");
    other.ak_public = SoftwareEndpoint("pc", "tpm").ak_public();
    EXPECT_TRUE(activated(service_->enroll(other)).empty());
}

INSTANTIATE_TEST_SUITE_P(SQLite, RealTpm, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, RealTpm, testing::Values("PostgreSQL"));

}  // namespace
}  // namespace gatehouse::test

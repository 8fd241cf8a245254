// Vendors and policy authorities come and go: what becomes of the endpoints, and of the policies.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "attestation/server/authority.hpp"
#include "attestation/server/database/session.hpp"
#include "attestation/verifier/token.hpp"
#include "tests/unit/server/service_fixture.hpp"
#include "tests/unit/verifier/certificates.hpp"

namespace gatehouse::test {
namespace {

using server::Database;
using server::Session;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

class Vendors : public ServiceTest {
  protected:
    void SetUp() override {
        ServiceTest::SetUp();
        if (!service_) return;
        enforce(hypervisor_policy("laptops", 1));
        put_vendor();
    }
    // With a CRL that names these, which ended long ago.
    void put_vendor(const std::vector<const Issued*>& revoked = {}) {
        const std::time_t now = *now_;
        std::vector<Buffer> lists;
        if (!revoked.empty()) lists = {revoke(root_, revoked, now - 9 * kDay, now - 8 * kDay)};
        service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {}, lists});
    }
    std::string enroll_trusted(const SoftwareEndpoint& endpoint, const Issued& ek) {
        const std::string id = enroll_endorsed(endpoint, ek);
        EXPECT_EQ(attest(id, endpoint).verdict, "trusted");
        return id;
    }
    [[nodiscard]] std::string fault_of(const std::string& id) {
        return service_->endpoint(kReader, id).endorsement_fault;
    }

    const Issued root_ = issue(ca_spec("Vendor Root"), ecc_key());
    SoftwareEndpoint endpoint_, other_{"laptop-2"};
    const Issued ek_ = certificate(endpoint_, root_), other_ek_ = certificate(other_, root_);
};

TEST_P(Vendors, EndpointWhoseEkIsRevokedIsUntrustedUntilItIsNot) {
    const std::string id = enroll_trusted(endpoint_, ek_), other = enroll_trusted(other_, other_ek_);
    put_vendor({&ek_});
    service_->tick();
    EXPECT_EQ(state_of(id), State::kUntrusted);
    EXPECT_EQ(state_of(other), State::kTrusted);
    EXPECT_EQ(fault_of(id), "Vendor: EK certificate: revoked by CN=Vendor Root");
    EXPECT_EQ(service_->endpoint(kReader, id).reason, "endorsement: " + fault_of(id));
    EXPECT_EQ(service_->history(kReader, id, "", 10).rows.at(0).state, State::kUntrusted);
    EXPECT_THAT(audited("endpoint.endorsement"), ElementsAre(id));

    // Good evidence does not help; it is the TPM that is in doubt.
    const protocol::AttestAnswer answer = attest(id, endpoint_);
    EXPECT_EQ(answer.verdict, "untrusted");
    EXPECT_THAT(answer.failures, ElementsAre("endorsement: " + fault_of(id)));
    EXPECT_THAT(service_->last_attestation(kReader, id)->verdict_json, HasSubstr("revoked by CN=Vendor Root"));

    put_vendor();
    service_->tick();
    EXPECT_EQ(fault_of(id), "");
    EXPECT_TRUE(service_->wanted(id));
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");
    EXPECT_THAT(audited("endpoint.endorsement"), ElementsAre(id, id));
}

TEST_P(Vendors, CasThatAreTrustedAreListed) {
    CertificateSpec spec = ca_spec("Issuing");
    spec.to = kNow + 5 * kDay;
    const Issued issuing = issue(spec, ecc_key(), &root_);
    spec = ca_spec("Weak");
    spec.digest = "SHA1";
    const Issued weak = issue(spec, ecc_key(), &root_);
    service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {weak.der(), issuing.der()}, {}, true});
    const auto shown = service_->vendor(kReader, "Vendor");
    EXPECT_EQ(shown.name, "Vendor");
    EXPECT_TRUE(shown.require_crl);
    ASSERT_THAT(shown.cas, SizeIs(2));  // not the one that was passed over
    EXPECT_TRUE(shown.cas[0].root);
    EXPECT_EQ(shown.cas[0].subject, "CN=Vendor Root");
    EXPECT_EQ(shown.cas[0].sha256, host::hex(sha256(root_.der())));
    EXPECT_FALSE(shown.cas[1].root);
    EXPECT_EQ(shown.cas[1].subject, "CN=Issuing");
    EXPECT_EQ(shown.cas[1].from, kNow - 10 * kDay);
    EXPECT_EQ(shown.cas[1].to, kNow + 5 * kDay);
    EXPECT_EQ(code_of([&] { (void)service_->vendor(kReader, "Nobody"); }), "not_found");
}

// root_ <- issuing <- a chip's own CA <- EK. No CA of the vendor's issued the EK's certificate: what revokes it is an
// indirect CRL.
class ChipVendors : public Vendors {
  protected:
    [[nodiscard]] static CertificateSpec numbered(const char* subject, const char* serial) {
        CertificateSpec spec = ca_spec(subject);
        spec.serial = serial;
        return spec;
    }
    [[nodiscard]] Issued chip_ek() const {
        EVP_PKEY_up_ref(endpoint_.ek());
        CertificateSpec spec = ek_spec();
        spec.serial = "07";
        spec.extra = "crlDistributionPoints=point";
        spec.sections += "[point]\nfullname=URI:http://crl.test/a\nCRLissuer=dirName:who\n[who]\nCN=Issuing\n";
        return issue(spec, Key(endpoint_.ek(), EVP_PKEY_free), &chip_);
    }
    void put_chip_vendor(std::vector<Buffer> lists) {
        service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {issuing_.der()}, std::move(lists)});
        service_->tick();
    }
    [[nodiscard]] Buffer indirect(std::vector<RevocationSpec::Entry> entries) const {
        return issue_list(issuing_, {.entries = std::move(entries),
                                     .extensions = "issuingDistributionPoint=critical,@idp",
                                     .sections = "[idp]\nfullname=URI:http://crl.test/a\nindirectCRL=TRUE\n"});
    }
    // Enrolled and trusted, while the vendor has these CRLs.
    std::string enroll_chip(std::vector<Buffer> lists = {}) {
        put_chip_vendor(std::move(lists));
        protocol::EnrollRequest request =
            endpoint_.enroll_request(service_->create_enrollment_token(kOperator, "default", 600));
        request.ek_certificate = ek_.der();
        request.ek_chain = {chip_.der()};
        const protocol::EnrollChallenge challenge = service_->enroll(request);
        const protocol::EnrollStatus status = service_->activate(challenge.id, endpoint_.activate(challenge));
        EXPECT_EQ(status.state, "approved") << service_->enrollment(kReader, challenge.id).reason;
        EXPECT_EQ(attest(status.endpoint_id, endpoint_).verdict, "trusted");
        return status.endpoint_id;
    }

    const Issued issuing_ = issue(numbered("Issuing", "02"), ecc_key(), &root_);
    const Issued chip_ = issue(numbered("Chip", "03"), ecc_key(), &issuing_);
    const Issued ek_ = chip_ek();
};

TEST_P(ChipVendors, EkThatAnIndirectCrlRevokesIsUntrusted) {
    const std::string id = enroll_chip({indirect({})});
    // What it says of others does no harm.
    put_chip_vendor({indirect({{.serial = "07", .issuer = &issuing_}, {.serial = "07", .issuer = &root_}})});
    EXPECT_EQ(state_of(id), State::kTrusted);
    EXPECT_THAT(audited("endpoint.endorsement"), IsEmpty());
    put_chip_vendor({indirect({{.serial = "06", .issuer = &chip_}, {.serial = "07"}})});
    EXPECT_EQ(state_of(id), State::kUntrusted);
    EXPECT_EQ(fault_of(id), "Vendor: EK certificate: revoked by CN=Issuing");
    EXPECT_THAT(audited("endpoint.endorsement"), ElementsAre(id));
    put_chip_vendor({indirect({})});
    EXPECT_EQ(fault_of(id), "");
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");
    EXPECT_THAT(audited("endpoint.endorsement"), ElementsAre(id, id));
}

TEST_P(ChipVendors, EkOfACaThatIsRevokedIsUntrusted) {
    const std::string id = enroll_chip();
    put_chip_vendor({revoke(issuing_, {&chip_})});
    EXPECT_EQ(state_of(id), State::kUntrusted);
    EXPECT_EQ(fault_of(id), "Vendor: CA 1 (CN=Chip): revoked by CN=Issuing");
    put_chip_vendor({});
    EXPECT_EQ(fault_of(id), "");
    put_chip_vendor({revoke(root_, {&issuing_})});
    EXPECT_EQ(fault_of(id), "Vendor: CA 2 (CN=Issuing): revoked by CN=Vendor Root");
    EXPECT_THAT(audited("endpoint.endorsement"), ElementsAre(id, id, id));
}

TEST_P(Vendors, WhatIsPassedOverOfAVendorIsSaid) {
    CertificateSpec old = ca_spec("Old");
    old.digest = "SHA1";
    std::vector<Buffer> many(500, issue(ca_spec("CA"), ecc_key(), &root_).der());
    many.push_back(issue(old, ecc_key(), &root_).der());
    EXPECT_THAT(service_->add_vendor(kAdmin, {"All", {root_.der()}, many, {}}),
                ElementsAre("All: intermediate 501: CN=Old: signed with SHA1; SHA-256 at least"));
    const std::string id = enroll_trusted(endpoint_, ek_);
    EXPECT_EQ(state_of(id), State::kTrusted);
}

TEST_P(Vendors, OneThatWasRemovedVouchesForNobody) {
    const std::string id = enroll_trusted(endpoint_, ek_);
    const std::string by_hand = enroll(other_);  // registered by its EK: no vendor is asked
    EXPECT_EQ(attest(by_hand, other_).verdict, "trusted");
    service_->remove_vendor(kAdmin, "Vendor");
    EXPECT_THAT(service_->vendors(kReader), IsEmpty());
    EXPECT_EQ(code_of([&] { service_->remove_vendor(kAdmin, "Vendor"); }), "not_found");
    service_->tick();
    EXPECT_EQ(state_of(id), State::kUntrusted);
    EXPECT_EQ(fault_of(id), "EK certificate: no vendor is trusted any more");
    EXPECT_EQ(state_of(by_hand), State::kTrusted);

    // Somebody lets it in for itself.
    const server::Enrollment waiting = start_enrollment(endpoint_);
    service_->approve(kOperator, waiting.id, "default");
    EXPECT_EQ(fault_of(id), "");
    service_->tick();
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");
}

TEST_P(Vendors, AnotherThatVouchesIsEnough) {
    const std::string id = enroll_trusted(endpoint_, ek_);
    service_->add_vendor(kAdmin, {"The same under its new name", {root_.der()}, {}, {}});
    service_->remove_vendor(kAdmin, "Vendor");
    service_->tick();
    EXPECT_EQ(fault_of(id), "");
    EXPECT_EQ(state_of(id), State::kTrusted);
}

TEST_P(Vendors, WhatIsRevokedWhileAnEnrollmentWaitsIsFoundOnceItIsApproved) {
    protocol::EnrollRequest request = endpoint_.enroll_request();
    request.ek_certificate = ek_.der();
    const protocol::EnrollChallenge challenge = service_->enroll(request);
    (void)service_->activate(challenge.id, endpoint_.activate(challenge));
    put_vendor({&ek_});
    service_->tick();
    service_->approve(kOperator, challenge.id, "default");
    service_->tick();
    const std::string id = service_->endpoints(kReader, {}).rows.at(0).id;
    EXPECT_THAT(fault_of(id), HasSubstr("revoked"));
    EXPECT_EQ(attest(id, endpoint_).verdict, "untrusted");
}

TEST_P(Vendors, OneThatWaitedSinceAnOlderProgramIsChecked) {
    protocol::EnrollRequest request = endpoint_.enroll_request();
    request.ek_certificate = ek_.der();
    const protocol::EnrollChallenge challenge = service_->enroll(request);
    (void)service_->activate(challenge.id, endpoint_.activate(challenge));
    // Endorsed, and the certificate was not kept: the fifth migration leaves such.
    Database::open(options_.database)->write([&](Session& session) {
        session.execute("UPDATE enrollments SET endorsement = '' WHERE id = $1", {challenge.id});
    });
    service_->approve(kOperator, challenge.id, "default");
    service_->remove_vendor(kAdmin, "Vendor");
    service_->tick();
    const std::string id = service_->endpoints(kReader, {}).rows.at(0).id;
    EXPECT_EQ(fault_of(id), "Vendor is not trusted any more, and the EK certificate was not kept: enroll again");
}

TEST_P(Vendors, FleetIsCheckedWholeAndByAnyServer) {
    // More than are checked at once. They were enrolled by an older program, which kept no certificates.
    const std::string id = enroll_trusted(endpoint_, ek_);
    const std::unique_ptr<Database> database = Database::open(options_.database);
    database->write([&](Session& session) {
        for (int i = 0; i < 700; ++i) {
            const std::string name = "copy" + std::to_string(i);
            session.execute(
                "INSERT INTO endpoints (id, hostname, search, group_name, source, state, ek_hash, vendor, "
                "manufacturer, model, ak_public, enrolled, since, last_seen, lease_until, reason, policy, tpm, last_nonce, wanted, "
                "log_hash, outcomes, run, run_length, certificate, next_certificate, ek_key) "
                "SELECT $1, hostname, search, group_name, source, state, $1, vendor, manufacturer, "
                "model, ak_public, enrolled, since, last_seen, lease_until, reason, policy, tpm, last_nonce, wanted, "
                "log_hash, outcomes, 0, run_length, next_certificate, next_certificate, '' "
                "FROM endpoints WHERE id = $2",
                {name, id});
            session.execute(
                "INSERT INTO ek_endorsements (endpoint, ek_hash, vendor, time, content, checked, fault, overruled) "
                "VALUES ($1, $1, 'Vendor', 0, '', -1, '', '')",
                {name});
        }
    });
    service_->tick();
    EXPECT_EQ(service_->counts(kReader).trusted, 701);
    service_->remove_vendor(kAdmin, "Vendor");
    const std::unique_ptr<Service> server = another();
    for (int i = 0; i < 40 && service_->counts(kReader).untrusted < 701; ++i) server->tick();
    EXPECT_EQ(service_->counts(kReader).untrusted, 701);
    EXPECT_EQ(fault_of("copy7"), "Vendor is not trusted any more, and the EK certificate was not kept: enroll again");
    EXPECT_THAT(audited("endpoint.endorsement"), SizeIs(701));
    server->tick();
    service_->tick();
    EXPECT_THAT(audited("endpoint.endorsement"), SizeIs(701));
}

TEST_P(Vendors, PolicyAuthorityIsRemovedOnceNothingOfItsIsAssigned) {
    const std::string id = enroll_trusted(endpoint_, ek_);
    EXPECT_THAT(service_->policy_authorities(kReader), ElementsAre("authority"));
    std::string told;
    try {
        service_->remove_policy_authority(kAdmin, "authority");
    } catch (const ServiceError& error) {
        told = error.what();
    }
    EXPECT_EQ(told,
              "authority \"authority\": policy laptops:1, which no other authority signed, is assigned to group "
              "\"default\"; withdraw it first");
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");

    // The same key under another name may go, or stay in its place.
    service_->add_policy_authority(kAdmin, "spare", server::public_pem(authority_.get()));
    service_->remove_policy_authority(kAdmin, "authority");
    EXPECT_EQ(code_of([&] { service_->remove_policy_authority(kAdmin, "spare"); }), "authority_in_use");
    service_->unassign(kOperator, "default", "laptops", 1);
    service_->remove_policy_authority(kAdmin, "spare");
    EXPECT_THAT(service_->policy_authorities(kReader), IsEmpty());
    EXPECT_EQ(code_of([&] { service_->remove_policy_authority(kAdmin, "spare"); }), "not_found");
    for (const Stage stage : {Stage::kReport, Stage::kEnforce}) {
        EXPECT_EQ(code_of([&] { service_->assign(kOperator, "default", "laptops", 1, stage); }), "authority");
    }
    EXPECT_THAT(audited("authority.remove"), ElementsAre("authority", "spare"));
}

INSTANTIATE_TEST_SUITE_P(SQLite, ChipVendors, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, ChipVendors, testing::Values("PostgreSQL"));
INSTANTIATE_TEST_SUITE_P(SQLite, Vendors, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, Vendors, testing::Values("PostgreSQL"));

}  // namespace
}  // namespace gatehouse::test

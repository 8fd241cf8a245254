// One TPM is one endpoint, whatever EK and attestation key it shows; and a fault of one EK is not shed by showing another.
#include <gmock/gmock.h>

#include "attestation/server/database/session.hpp"
#include "tests/unit/server/service_fixture.hpp"
#include "tests/unit/verifier/certificates.hpp"

namespace gatehouse::test {
namespace {

using server::Database;
using server::Endorsement;
using server::Session;
using testing::HasSubstr;
using testing::SizeIs;

constexpr const char* kNothingShown = "nothing shows that this TPM is not a known endpoint's by another EK";

class OneTpm : public ServiceTest {
  protected:
    void SetUp() override {
        ServiceTest::SetUp();
        if (service_) put_vendor();
    }
    // With a CRL that names these, by the numbers of their certificates.
    void put_vendor(const std::vector<const Issued*>& revoked = {}) {
        const std::time_t now = *now_;
        service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {}, {revoke(root_, revoked, now - 60, now + kDay)}});
        service_->tick();
    }
    // Of its present EK.
    [[nodiscard]] Issued certificate(const SoftwareEndpoint& endpoint) const {
        return ServiceTest::certificate(endpoint, root_);
    }
    [[nodiscard]] protocol::EnrollRequest with_token(const SoftwareEndpoint& endpoint) {
        protocol::EnrollRequest request =
            endpoint.enroll_request(service_->create_enrollment_token(kOperator, "default", 600));
        request.ek_certificate = certificate(endpoint).der();
        return request;
    }
    server::Enrollment shown(const SoftwareEndpoint& endpoint, const protocol::EnrollRequest& request) {
        const protocol::EnrollChallenge challenge = service_->enroll(request);
        last_ = service_->activate(challenge.id, endpoint.activate(challenge));
        return service_->enrollment(kReader, challenge.id);
    }
    server::Enrollment by_token(const SoftwareEndpoint& endpoint) { return shown(endpoint, with_token(endpoint)); }
    // Id of the endpoint that it is let in as.
    std::string let_in(const SoftwareEndpoint& endpoint) {
        const server::Enrollment enrollment = by_token(endpoint);
        EXPECT_EQ(enrollment.state, "approved") << enrollment.reason;
        return last_.endpoint_id;
    }
    [[nodiscard]] std::string fault_of(const std::string& id) {
        return service_->endpoint(kReader, id).endorsement_fault;
    }
    [[nodiscard]] static std::string retired(const std::string& id) {
        return "endpoint " + id + " of this TPM was retired";
    }

    const Issued root_ = issue(ca_spec("Vendor Root"), ecc_key());
    protocol::EnrollStatus last_;
};

TEST_P(OneTpm, RetiredOneIsKnownByAnotherEkWithANewAttestationKey) {
    for (const char* source : {"tpm", "hypervisor"}) {
        SCOPED_TRACE(source);
        SoftwareEndpoint endpoint("laptop", source);
        const std::string id = let_in(endpoint);
        service_->retire(kOperator, id, "sold");
        endpoint.use_another_ek();
        endpoint.renew_keys();
        const server::Enrollment waiting = by_token(endpoint);
        EXPECT_EQ(waiting.state, "waiting");
        EXPECT_EQ(waiting.reason, retired(id));
        EXPECT_EQ(waiting.replaces, id);
        EXPECT_EQ(state_of(id), State::kRetired);
        service_->approve(kOperator, waiting.id, "default");
        EXPECT_EQ(state_of(id), State::kNew);
    }
}

TEST_P(OneTpm, RetiredOneIsKnownWhateverTheSourceOfItsEvidence) {
    for (const auto& [before, after] : {std::pair{"hypervisor", "tpm"}, std::pair{"tpm", "hypervisor"}}) {
        SoftwareEndpoint endpoint("laptop", before);
        const std::string id = let_in(endpoint);
        service_->retire(kOperator, id, "sold");
        endpoint.use_another_ek();
        endpoint.renew_keys();
        endpoint.source = after;
        EXPECT_EQ(by_token(endpoint).reason, retired(id)) << after;
    }
}

// TPM2_Clear makes another storage root key; the endorsement seed stays. A hypervisor's TPM is known by its storage root
// key alone then: what it is let in with is worth nothing before an operator signs for that key.
TEST_P(OneTpm, RetiredOneThatWasClearedIsKnownIfItAuditsItsKeys) {
    SoftwareEndpoint endpoint("laptop", "tpm"), other("laptop-2", "hypervisor");
    const std::string id = let_in(endpoint), second = let_in(other);
    for (SoftwareEndpoint* one : {&endpoint, &other}) {
        service_->retire(kOperator, one == &endpoint ? id : second, "sold");
        one->use_another_ek();
        one->clear_tpm();
    }
    EXPECT_EQ(by_token(endpoint).reason, retired(id));
    EXPECT_NE(let_in(other), second);
}

TEST_P(OneTpm, TokenDoesNotLetInANewOneThatShowsNothing) {
    for (const char* source : {"tpm", "hypervisor"}) {
        SCOPED_TRACE(source);
        SoftwareEndpoint endpoint("laptop", source);
        endpoint.shows_identity = false;
        const server::Enrollment waiting = by_token(endpoint);
        EXPECT_EQ(waiting.state, "waiting");
        EXPECT_EQ(waiting.reason, kNothingShown);
        const auto finding = std::ranges::find(waiting.findings, "tpm identity", &verifier::Finding::rule);
        ASSERT_NE(finding, waiting.findings.end());
        EXPECT_FALSE(finding->ok);
        service_->approve(kOperator, waiting.id, "default");
        const auto all = service_->endpoints(kReader, {}).rows;
        const auto found = std::ranges::find(all, endpoint.ek_hash(), &server::Endpoint::ek_hash);
        ASSERT_NE(found, all.end());
        const std::string id = found->id;
        // It is known from then on, by its EK and attestation key; and who is registered needs no token.
        endpoint.renew_keys();
        EXPECT_EQ(let_in(endpoint), id);
        SoftwareEndpoint registered("laptop", source);
        registered.shows_identity = false;
        EXPECT_NE(enroll(registered), id);
    }
}

TEST_P(OneTpm, WhatTheTpmDidNotMakeShowsNothing) {
    const auto refused = [&](const SoftwareEndpoint& endpoint, const protocol::EnrollRequest& request,
                             const std::string& why) {
        const server::Enrollment waiting = shown(endpoint, request);
        EXPECT_EQ(waiting.reason, kNothingShown) << why;
        const auto finding = std::ranges::find(waiting.findings, "tpm identity", &verifier::Finding::rule);
        EXPECT_THAT(finding->detail, HasSubstr(why));
    };
    for (const char* source : {"tpm", "hypervisor"}) {
        SCOPED_TRACE(source);
        const SoftwareEndpoint endpoint("laptop", source), other("other", source);
        const bool by_audit = source == std::string("tpm");
        const std::string not_made = by_audit ? "did not make these keys" : "not a child of an SRK of this Name";
        for (std::size_t i = 0; i < endpoint.enroll_request().identity_keys.size(); ++i) {
            protocol::EnrollRequest changed = with_token(endpoint);
            changed.identity_keys[i].back() ^= std::byte{1};
            refused(endpoint, changed, not_made);
            changed.identity_keys[i] = other.enroll_request().identity_keys[i];
            refused(endpoint, changed, not_made);
        }
        protocol::EnrollRequest changed = with_token(endpoint);
        changed.identity_attest.back() ^= std::byte{1};
        refused(endpoint, changed, "not signed by the attestation key");
        // All of another TPM's.
        const protocol::EnrollRequest stolen = other.enroll_request();
        changed.identity_keys = stolen.identity_keys;
        changed.identity_attest = stolen.identity_attest;
        changed.identity_signature = stolen.identity_signature;
        refused(endpoint, changed, "not signed by the attestation key");
        // Less or more than is asked for.
        changed = with_token(endpoint);
        changed.identity_keys.pop_back();
        refused(endpoint, changed, by_audit ? "must be the ECC EK and the SRK" : "no key that this TPM has");
        changed = with_token(endpoint);
        changed.identity_keys.push_back(Buffer(10));
        if (by_audit) {
            EXPECT_EQ(code_of([&] { (void)service_->enroll(changed); }), "size");
        } else {
            refused(endpoint, changed, "must be the Name of the SRK");
        }
    }
}

TEST_P(OneTpm, ThatIsTwoEndpointsOfOlderTimesBecomesOneOnceOneIsRetired) {
    SoftwareEndpoint endpoint("laptop", "tpm");
    endpoint.shows_identity = false;
    const std::string first = enroll(endpoint);
    SoftwareEndpoint other = SoftwareEndpoint("laptop", "tpm");
    const std::string second = let_in(other);
    // The first one's TPM turns out to be the second one's.
    other.renew_keys();
    other.take_attestation_key(endpoint);
    const server::Enrollment waiting = by_token(other);
    EXPECT_EQ(waiting.state, "waiting");
    EXPECT_THAT(waiting.reason, HasSubstr("an operator retires all but one of them"));
    EXPECT_EQ(code_of([&] { service_->approve(kOperator, waiting.id, "default"); }), "endorsement_key");
    service_->retire(kOperator, first, "the same TPM");
    service_->approve(kOperator, waiting.id, "default");
    EXPECT_EQ(service_->enrollment(kReader, waiting.id).state, "approved");
    // All keys are the second one's.
    SoftwareEndpoint again = SoftwareEndpoint("laptop", "tpm");
    again.shows_identity = false;
    again.take_attestation_key(endpoint);
    EXPECT_EQ(let_in(again), second);
}

TEST_P(OneTpm, FaultOfOneEkIsNotShedByShowingAnother) {
    SoftwareEndpoint endpoint("laptop", "tpm");
    const Issued first = certificate(endpoint);
    const std::string first_hash = endpoint.ek_hash();
    const std::string id = let_in(endpoint);
    put_vendor({&first});
    const std::string fault = fault_of(id);
    EXPECT_THAT(fault, HasSubstr("revoked by CN=Vendor Root"));

    endpoint.use_another_ek();
    const server::Enrollment waiting = by_token(endpoint);
    EXPECT_EQ(waiting.state, "waiting");
    EXPECT_EQ(waiting.reason, "endpoint " + id + " of this TPM: " + fault);
    // Nor by being registered.
    service_->register_endorsement(kOperator, endpoint.ek_hash(), "default");
    protocol::EnrollRequest request = endpoint.enroll_request();
    request.ek_certificate = certificate(endpoint).der();
    const server::Enrollment registered = shown(endpoint, request);
    EXPECT_EQ(registered.reason, waiting.reason);
    EXPECT_EQ(fault_of(id), fault);

    // An operator knows it, and it stays to be seen.
    service_->approve(kOperator, registered.id, "default");
    EXPECT_EQ(fault_of(id), "");
    const auto of_first = [&] {
        const std::vector<Endorsement> all = service_->endorsements(kReader, id);
        EXPECT_THAT(all, SizeIs(2));
        return *std::ranges::find(all, first_hash, &Endorsement::ek_hash);
    };
    EXPECT_EQ(of_first().fault, fault);
    EXPECT_TRUE(of_first().overruled);
    // Once it was mended it counts when it comes again.
    put_vendor();
    EXPECT_EQ(of_first().fault, "");
    put_vendor({&first});
    EXPECT_EQ(fault_of(id), fault);
}

// An EK that no vendor vouches for may be software: it proves nothing of the other keys, registered or not.
TEST_P(OneTpm, WhoIsNotEndorsedTakesNobodysPlace) {
    SoftwareEndpoint victim("laptop", "tpm"), tenant("tenant", "tpm");
    const std::string id = let_in(victim);
    const std::string ek_hash = service_->endpoint(kReader, id).ek_hash;
    SoftwareEndpoint waiting_one("laptop-2", "tpm");
    waiting_one.shows_identity = false;
    const server::Enrollment waits = by_token(waiting_one);
    ASSERT_EQ(waits.state, "waiting");
    for (const SoftwareEndpoint* one : {&victim, &waiting_one}) {
        tenant.take_attestation_key(*one);
        for (const bool registered : {false, true}) {
            if (registered) service_->register_endorsement(kOperator, tenant.ek_hash(), "default");
            const server::Enrollment claim = start_enrollment(tenant);
            if (one != &victim) continue;
            EXPECT_EQ(claim.state, "waiting");
            EXPECT_EQ(claim.replaces, "");
            EXPECT_THAT(claim.reason,
                        HasSubstr("its EK is not endorsed, and its other keys are endpoint " + id + "'s"));
            EXPECT_EQ(code_of([&] { service_->approve(kOperator, claim.id, "default"); }), "endorsement_key");
        }
    }
    EXPECT_EQ(service_->endpoint(kReader, id).ek_hash, ek_hash);
    EXPECT_EQ(service_->endpoint(kReader, id).hostname, "laptop");
    EXPECT_EQ(service_->enrollment(kReader, waits.id).state, "waiting") << "a stranger has it rejected";
}

// Who was let in by nobody blocks nobody, whatever keys he names, and whether he comes before or after.
TEST_P(OneTpm, StrangerWhoNamesItsKeysDoesNotMakeItWait) {
    for (const char* source : {"tpm", "hypervisor"}) {
        SCOPED_TRACE(source);
        SoftwareEndpoint victim("laptop", source), stranger("laptop", source);
        stranger.take_attestation_key(victim);
        const server::Enrollment before = start_enrollment(stranger);
        EXPECT_EQ(before.state, "waiting");
        const std::string id = let_in(victim);
        EXPECT_EQ(service_->enrollment(kReader, before.id).state, "rejected") << "its keys are another's now";
        EXPECT_EQ(start_enrollment(stranger).state, "waiting");
        EXPECT_EQ(let_in(victim), id);
        EXPECT_EQ(state_of(id), State::kNew);
    }
}

// Nor does it before they come: what it has said of their keys is not theirs to answer for.
TEST_P(OneTpm, WhoIsNotEndorsedIsNotTakenForOneThatComesLater) {
    SoftwareEndpoint victim("laptop", "tpm"), tenant("tenant", "tpm");
    tenant.take_attestation_key(victim);
    const std::string id = enroll(tenant);
    const server::Enrollment waiting = by_token(victim);
    EXPECT_EQ(waiting.state, "waiting");
    EXPECT_THAT(waiting.reason, HasSubstr("endpoint " + id + ", whose EK is not endorsed, has shown keys of this TPM"));
    EXPECT_EQ(service_->endpoint(kReader, id).hostname, "tenant");
    EXPECT_EQ(code_of([&] { service_->approve(kOperator, waiting.id, "default"); }), "endorsement_key");
    service_->retire(kOperator, id, "claims another's keys");
    service_->approve(kOperator, waiting.id, "default");
    const std::string own = let_in(victim);
    EXPECT_NE(own, id);
    EXPECT_EQ(start_enrollment(tenant).state, "waiting");
    EXPECT_EQ(service_->endpoint(kReader, own).hostname, "laptop");
}

// Retired, it leaves nothing that it has said of other keys to the one whose keys it had named: else its own TPM, once a
// vendor vouches for that, would be taken for the other's endpoint.
TEST_P(OneTpm, WhoNamedAnothersKeysDoesNotTakeItsPlaceByBeingRetired) {
    SoftwareEndpoint victim("laptop", "tpm"), tenant("tenant", "tpm");
    const std::string first = enroll(tenant);  // not endorsed: it has named its own storage root key
    tenant.take_attestation_key(victim);
    EXPECT_EQ(enroll(tenant), first);
    const server::Enrollment waiting = by_token(victim);
    ASSERT_EQ(waiting.state, "waiting");
    service_->retire(kOperator, first, "claims another's keys");
    service_->approve(kOperator, waiting.id, "default");
    const std::string own = let_in(victim);
    EXPECT_NE(own, first);
    tenant.use_another_ek();
    tenant.renew_keys();
    (void)by_token(tenant);
    EXPECT_NE(last_.endpoint_id, own);
    EXPECT_EQ(service_->endpoint(kReader, own).hostname, "laptop");
    EXPECT_EQ(let_in(victim), own);
}

// Once a vendor vouches for its EK it is what it shows then, not what it said before.
TEST_P(OneTpm, WhatWasSaidWithoutAnEndorsementIsForgottenWithOne) {
    SoftwareEndpoint victim("laptop", "tpm"), tenant("tenant", "tpm");
    tenant.take_attestation_key(victim);
    const std::string id = enroll(tenant);
    tenant.renew_keys();
    EXPECT_EQ(let_in(tenant), id);
    EXPECT_NE(let_in(victim), id);
    EXPECT_EQ(service_->endpoint(kReader, id).hostname, "tenant");
}

TEST_P(OneTpm, FaultsComeAlongWhenTwoEndpointsBecomeOne) {
    SoftwareEndpoint first("laptop", "tpm"), second("laptop-2", "tpm");
    const Issued of_first = certificate(first);
    const std::string a = let_in(first), b = let_in(second);
    second.take_attestation_key(first);
    const server::Enrollment both = by_token(second);
    service_->retire(kOperator, a, "the same TPM");
    service_->approve(kOperator, both.id, "default");
    put_vendor({&of_first});
    EXPECT_THAT(fault_of(b), HasSubstr("revoked by CN=Vendor Root"));
    EXPECT_EQ(by_token(second).state, "waiting");
}

TEST_P(OneTpm, EachEkThatItHasShownIsCheckedOn) {
    SoftwareEndpoint endpoint("laptop", "tpm");
    const Issued first = certificate(endpoint);
    const std::string id = let_in(endpoint);
    endpoint.use_another_ek();
    const Issued second = certificate(endpoint);
    EXPECT_EQ(let_in(endpoint), id);
    EXPECT_THAT(service_->endorsements(kReader, id), SizeIs(2));
    put_vendor({&first});
    EXPECT_THAT(fault_of(id), HasSubstr("revoked"));
    EXPECT_TRUE(service_->wanted(id));
    put_vendor({&second});
    EXPECT_THAT(fault_of(id), HasSubstr("revoked"));
    put_vendor({});
    EXPECT_EQ(fault_of(id), "");
    // Without its certificate, by registration, it is not the less checked.
    EXPECT_EQ(enroll(endpoint), id);
    put_vendor({&second});
    EXPECT_THAT(fault_of(id), HasSubstr("revoked"));
}

TEST_P(OneTpm, EndorsementsOfAnOlderProgramAreKept) {
    SoftwareEndpoint endpoint("laptop", "tpm");
    const Issued ek = certificate(endpoint);
    const std::string id = let_in(endpoint);
    SoftwareEndpoint by_hand("laptop-2", "tpm");
    const std::string other = enroll(by_hand);
    service_.reset();
    Database::open(options_.database)->write([](Session& session) { session.script(kBackToVersion6); });
    reopen();
    EXPECT_THAT(service_->endorsements(kReader, id), SizeIs(1));
    EXPECT_THAT(service_->endorsements(kReader, other), SizeIs(0));
    put_vendor({&ek});
    EXPECT_THAT(fault_of(id), HasSubstr("revoked"));
    EXPECT_EQ(fault_of(other), "");
}

INSTANTIATE_TEST_SUITE_P(SQLite, OneTpm, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, OneTpm, testing::Values("PostgreSQL"));

}  // namespace
}  // namespace gatehouse::test

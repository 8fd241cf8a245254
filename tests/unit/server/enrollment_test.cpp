// Who gets a client certificate, and who does not.
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "attestation/server/authority.hpp"
#include "attestation/server/database/session.hpp"
#include "tests/unit/server/service_fixture.hpp"

namespace gatehouse::test {
namespace {

using Certificate = server::Certificate;

Certificate parsed(const std::string& pem) {
    BIO* const bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    Certificate certificate(PEM_read_bio_X509(bio, nullptr, nullptr, nullptr));
    BIO_free(bio);
    return certificate;
}
Sha256Digest hash_of(const std::string& pem) {
    unsigned char* der = nullptr;
    const int size = i2d_X509(parsed(pem).get(), &der);
    const Sha256Digest hash = sha256(std::as_bytes(std::span(der, static_cast<std::size_t>(size))));
    OPENSSL_free(der);
    return hash;
}

// No file grows beyond it, for as long as it lives.
class FileSizeLimit {
  public:
    explicit FileSizeLimit(rlim_t most) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        getrlimit(RLIMIT_FSIZE, &before_);
        const struct rlimit limit { most, before_.rlim_max };
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~FileSizeLimit() {
        setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;

  private:
    void (*handler_)(int);
    struct rlimit before_ {};
};

class Enrollment : public ServiceTest {
  protected:
    std::string certificate_of(const SoftwareEndpoint& endpoint) {
        const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
        return service_->activate(challenge.id, endpoint.activate(challenge)).certificate;
    }
};

TEST_P(Enrollment, WaitsForAnOperatorWhileTheEkIsNotEndorsed) {
    const SoftwareEndpoint endpoint;
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    const Buffer secret = endpoint.activate(challenge);
    const protocol::EnrollStatus told = service_->activate(challenge.id, secret);
    EXPECT_EQ(told.state, "waiting");
    EXPECT_EQ(told.reason, "no trusted vendor vouches for its EK, or it is not registered");
    EXPECT_EQ(service_->counts(kReader).enrollments_waiting, 1);

    const server::Enrollment waiting = service_->enrollments(kReader, "waiting", "", 10).rows.at(0);
    EXPECT_FALSE(waiting.endorsed);
    EXPECT_EQ(waiting.ek_hash, endpoint.ek_hash());
    EXPECT_NE(waiting.reason.find("not endorsed"), std::string::npos) << waiting.reason;
    const auto named = [&](const char* rule) {
        return std::ranges::any_of(waiting.findings, [&](const auto& finding) { return finding.rule == rule; });
    };
    EXPECT_TRUE(named("ek chain") || named("ek certificate"));
    EXPECT_TRUE(named("ak attributes"));

    service_->approve(kOperator, challenge.id, "");
    const protocol::EnrollStatus status = service_->enrollment_status(challenge.id, secret);
    EXPECT_EQ(status.state, "approved");
    EXPECT_EQ(status.endpoint_id.size(), 26u);
    EXPECT_EQ(service_->endpoint_of_certificate(hash_of(status.certificate)), status.endpoint_id);
    EXPECT_EQ(state_of(status.endpoint_id), State::kNew);
    EXPECT_EQ(service_->counts(kReader).fresh, 1);
    EXPECT_EQ(service_->counts(kReader).enrollments_waiting, 0);
}

TEST_P(Enrollment, IssuesACertificateForTheRequestedKeyAndTheClientPurposeOnly) {
    const SoftwareEndpoint endpoint;
    service_->register_endorsement(kOperator, endpoint.ek_hash(), "default");
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    const protocol::EnrollStatus status = service_->activate(challenge.id, endpoint.activate(challenge));
    const Certificate certificate = parsed(status.certificate);
    const Certificate authority = parsed(service_->ca_certificate());
    EXPECT_EQ(X509_verify(certificate.get(), X509_get0_pubkey(authority.get())), 1);
    EXPECT_EQ(EVP_PKEY_eq(X509_get0_pubkey(certificate.get()), endpoint.tls_key()), 1);
    char name[64] = {};
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name, sizeof(name));
    EXPECT_EQ(name, status.endpoint_id);
    EXPECT_EQ(X509_check_purpose(certificate.get(), X509_PURPOSE_SSL_CLIENT, 0), 1);
    EXPECT_EQ(X509_check_purpose(certificate.get(), X509_PURPOSE_SSL_SERVER, 0), 0);
    EXPECT_EQ(X509_check_ca(certificate.get()), 0);
    time_t end = *now_ + Seconds{options_.certificate_days} * 86'400;
    EXPECT_EQ(X509_cmp_time(X509_get0_notAfter(certificate.get()), &end), -1);  // not later
    time_t before = end - 1;
    EXPECT_EQ(X509_cmp_time(X509_get0_notAfter(certificate.get()), &before), 1);
}

TEST_P(Enrollment, RefusesAnAttestationKeyThatSignsAnything) {
    protocol::EnrollRequest request = SoftwareEndpoint().enroll_request();
    request.ak_public[5] ^= std::byte{0x01};  // TPMA_OBJECT.restricted, bit 16
    try {
        (void)service_->enroll(request);
        FAIL() << "accepted";
    } catch (const ServiceError& error) {
        EXPECT_EQ(error.status(), 422u);
        EXPECT_NE(std::string(error.what()).find("ak attributes"), std::string::npos) << error.what();
    }
}

TEST_P(Enrollment, RefusesAHypervisorsKeyThatIsNotBoundToItsLocality) {
    protocol::EnrollRequest request = SoftwareEndpoint("pc", "tpm").enroll_request();
    request.source = "hypervisor";
    EXPECT_EQ(code_of([&] { (void)service_->enroll(request); }), "attestation_key");
}

TEST_P(Enrollment, RefusesARequestThatItsKeyHasNotSigned) {
    protocol::EnrollRequest request = SoftwareEndpoint().enroll_request();
    request.csr = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
    EXPECT_EQ(code_of([&] { (void)service_->enroll(request); }), "csr");

    // The key of one in the request of another, the signature left as it is.
    const SoftwareEndpoint endpoint;
    BIO* const in = BIO_new_mem_buf(request.csr.data(), 0);
    BIO_free(in);
    const std::string good = endpoint.csr();
    BIO* const bio = BIO_new_mem_buf(good.data(), static_cast<int>(good.size()));
    X509_REQ* const forged = PEM_read_bio_X509_REQ(bio, nullptr, nullptr, nullptr);
    BIO_free(bio);
    const SoftwareKey other = make_p256_key();
    X509_REQ_set_pubkey(forged, other.get());
    BIO* const out = BIO_new(BIO_s_mem());
    PEM_write_bio_X509_REQ(out, forged);
    char* data = nullptr;
    const long size = BIO_get_mem_data(out, &data);
    request.csr.assign(data, static_cast<std::size_t>(size));
    BIO_free(out);
    X509_REQ_free(forged);
    EXPECT_EQ(code_of([&] { (void)service_->enroll(request); }), "csr");
}

TEST_P(Enrollment, RefusesWrongSecretsAndStopsCountingAtFive) {
    const SoftwareEndpoint endpoint;
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    const Buffer secret = endpoint.activate(challenge);
    Buffer wrong = secret;
    wrong[0] ^= std::byte{1};
    for (int i = 0; i < 5; ++i)
        EXPECT_EQ(code_of([&] { (void)service_->activate(challenge.id, wrong); }), "activation");
    EXPECT_EQ(code_of([&] { (void)service_->activate(challenge.id, secret); }), "activation");
    EXPECT_EQ(service_->enrollment(kReader, challenge.id).state, "challenged");
}

TEST_P(Enrollment, ChallengeExpires) {
    const SoftwareEndpoint endpoint;
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    *now_ += options_.enrollment_lifetime_s + 1;
    EXPECT_EQ(code_of([&] { (void)service_->activate(challenge.id, endpoint.activate(challenge)); }), "enrollment");
    service_->tick();
    EXPECT_TRUE(service_->enrollments(kReader, "", "", 10).rows.empty());
}

TEST_P(Enrollment, StatusIsForWhoKnowsTheSecret) {
    const SoftwareEndpoint endpoint;
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    const Buffer secret = endpoint.activate(challenge);
    EXPECT_EQ(code_of([&] { (void)service_->enrollment_status(challenge.id, secret); }), "enrollment");
    (void)service_->activate(challenge.id, secret);
    EXPECT_EQ(service_->enrollment_status(challenge.id, secret).state, "waiting");
    EXPECT_EQ(code_of([&] { (void)service_->enrollment_status(challenge.id, Buffer(32)); }), "activation");
}

TEST_P(Enrollment, RefusesATokenThatNobodyGaveOut) {
    const SoftwareEndpoint endpoint;
    EXPECT_EQ(code_of([&] { (void)service_->enroll(endpoint.enroll_request("ge_nonsense")); }), "enrollment_token");
    const std::string token = service_->create_enrollment_token(kOperator, "default", 60);
    *now_ += 61;
    EXPECT_EQ(code_of([&] { (void)service_->enroll(endpoint.enroll_request(token)); }), "enrollment_token");
}

TEST_P(Enrollment, TokenDoesNotApproveAnEkWithoutEndorsement) {
    const SoftwareEndpoint endpoint;
    const std::string token = service_->create_enrollment_token(kOperator, "default", 60);
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request(token));
    EXPECT_EQ(service_->activate(challenge.id, endpoint.activate(challenge)).state, "waiting");
}

TEST_P(Enrollment, EnrollingAgainKeepsTheEndpointAndEndsItsOldKey) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const SoftwareEndpoint* const old = &endpoint;
    const protocol::AttestRequest old_evidence = old->attest(service_->nonce(id).nonce);
    EXPECT_EQ(attest(id, endpoint).verdict, "trusted");
    const std::string old_certificate = certificate_of(endpoint);

    endpoint.renew_keys();
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    EXPECT_EQ(service_->enrollment(kReader, challenge.id).replaces, id);
    const protocol::EnrollStatus status = service_->activate(challenge.id, endpoint.activate(challenge));
    EXPECT_EQ(status.endpoint_id, id);
    EXPECT_EQ(service_->enrollment(kReader, challenge.id).replaces, "");  // not itself
    EXPECT_EQ(state_of(id), State::kNew);
    EXPECT_EQ(service_->endpoint_of_certificate(hash_of(old_certificate)), std::nullopt);
    EXPECT_FALSE(service_->is_of_retired(hash_of(old_certificate)));
    EXPECT_EQ(service_->endpoint_of_certificate(hash_of(status.certificate)), id);
    EXPECT_EQ(service_->history(kReader, id, "", 10).rows.size(), 1u);
    EXPECT_EQ(service_->last_attestation(kReader, id), std::nullopt);
    EXPECT_EQ(attest(id, endpoint).verdict, "trusted");
    // The old attestation key is nobody's now.
    SoftwareEndpoint stranger = SoftwareEndpoint();
    EXPECT_EQ(attest(id, stranger).verdict, "untrusted");
}

TEST_P(Enrollment, RetiredEndpointComesBackByAnOperatorOnly) {
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    service_->retire(kOperator, id, "sold");
    const server::Enrollment again = start_enrollment(endpoint);
    EXPECT_EQ(again.state, "waiting");
    EXPECT_NE(again.reason.find("retired"), std::string::npos) << again.reason;
    service_->approve(kOperator, again.id, "default");
    EXPECT_EQ(state_of(id), State::kNew);
}

// Whoever has the machine can enroll it again, if its EK is registered: that must not launder a vault.
TEST_P(Enrollment, EnrollingAgainByARegisteredEkDoesNotForgetTheVault) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    EXPECT_EQ(attest(id, endpoint).verdict, "trusted");

    endpoint.renew_keys();
    endpoint.claims.disks[0].sealed_name[5] ^= std::byte{1};
    EXPECT_EQ(enroll(endpoint), id);
    const protocol::AttestAnswer other = attest(id, endpoint);
    EXPECT_EQ(other.verdict, "untrusted");
    ASSERT_EQ(other.failures.size(), 1u);
    EXPECT_NE(other.failures[0].find("not the endpoint's"), std::string::npos) << other.failures[0];

    service_->retire(kOperator, id, "new disk");
    service_->approve(kOperator, start_enrollment(endpoint).id, "default");
    EXPECT_EQ(attest(id, endpoint).verdict, "trusted");
}

// Attributes and policy of an EK are only said, not proved.
TEST_P(Enrollment, OneKeyInTwoPublicAreasIsOneEndpoint) {
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    service_->retire(kOperator, id, "lost");

    protocol::EnrollRequest request = endpoint.enroll_request();
    request.ek_public[7] ^= std::byte{0x40};  // userWithAuth
    service_->register_endorsement(kOperator, host::hex(sha256(request.ek_public)), "default");
    const protocol::EnrollChallenge challenge = service_->enroll(request);
    EXPECT_EQ(service_->activate(challenge.id, endpoint.activate(challenge)).state, "waiting");
    const server::Enrollment waiting = service_->enrollment(kReader, challenge.id);
    EXPECT_EQ(waiting.reason, "endpoint " + id + " has this EK, in another public area");
    EXPECT_EQ(code_of([&] { service_->approve(kOperator, challenge.id, "default"); }), "endorsement_key");
}

// A TPM has several EKs, and a certificate of each.
TEST_P(Enrollment, TpmThatWasRetiredIsItByEachOfItsEks) {
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    service_->retire(kOperator, id, "sold");
    endpoint.use_another_ek();
    service_->register_endorsement(kOperator, endpoint.ek_hash(), "default");
    const server::Enrollment waiting = start_enrollment(endpoint);
    EXPECT_EQ(waiting.state, "waiting");
    EXPECT_EQ(waiting.reason, "its EK is not endorsed, and its other keys are endpoint " + id +
                                  "'s; if it is that TPM, an operator retires that one, and approves");
    EXPECT_EQ(state_of(id), State::kRetired);
    // By an operator it is back: as another endpoint, since its EK alone is proven to be its own.
    service_->approve(kOperator, waiting.id, "default");
    EXPECT_EQ(service_->enrollment(kReader, waiting.id).state, "approved");
    EXPECT_EQ(state_of(id), State::kRetired);
    EXPECT_EQ(service_->endpoints(kReader, {}).rows.size(), 2u);
}

TEST_P(Enrollment, TwoEndpointsDoNotHaveOneAttestationKey) {
    SoftwareEndpoint one, other("laptop-2");
    const std::string id = enroll(one), second = enroll(other);
    EXPECT_NE(id, second);
    other.take_attestation_key(one);
    const server::Enrollment waiting = start_enrollment(other);
    EXPECT_EQ(waiting.state, "waiting");
    EXPECT_EQ(waiting.reason, "this TPM is endpoint " + second + " by one of its keys and endpoint " + id +
                                  " by another; an operator retires all but one of them, and approves");
    EXPECT_EQ(code_of([&] { service_->approve(kOperator, waiting.id, "default"); }), "endorsement_key");
    other.renew_keys();
    EXPECT_EQ(enroll(other), second);
}

TEST_P(Enrollment, TpmThatEnrollsByBothEksAtOnceIsOneEndpoint) {
    SoftwareEndpoint one, other;
    other.take_attestation_key(one);
    for (const SoftwareEndpoint* endpoint : {&one, &other})
        service_->register_endorsement(kOperator, endpoint->ek_hash(), "default");
    const protocol::EnrollChallenge challenges[] = {service_->enroll(one.enroll_request()),
                                                    service_->enroll(other.enroll_request())};
    const Buffer secrets[] = {one.activate(challenges[0]), other.activate(challenges[1])};
    const std::unique_ptr<Service> second = another();
    protocol::EnrollStatus states[2];
    std::thread thread([&] { states[0] = service_->activate(challenges[0].id, secrets[0]); });
    states[1] = second->activate(challenges[1].id, secrets[1]);
    thread.join();
    // No vendor vouches for either: the later one has to prove more than it can.
    EXPECT_NE(states[0].state, states[1].state);
    for (const protocol::EnrollStatus& status : states)
        EXPECT_TRUE(status.state == "approved" || status.state == "waiting");
    EXPECT_EQ(service_->endpoints(kReader, {}).rows.size(), 1u);
}

TEST_P(Enrollment, KeysOfEndpointsThatAnOlderProgramEnrolledCount) {
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    service_->retire(kOperator, id, "sold");
    service_.reset();
    server::Database::open(options_.database)->write([](server::Session& session) {
        session.script(kBackToVersion6);
        session.script(
            "DROP TABLE tpm_keys; ALTER TABLE enrollments DROP COLUMN ek_key; "
            "ALTER TABLE enrollments DROP COLUMN ak_key; UPDATE schema_version SET version = 5");
    });
    reopen();
    endpoint.use_another_ek();
    EXPECT_EQ(start_enrollment(endpoint).reason,
              "its EK is not endorsed, and its other keys are endpoint " + id +
                  "'s; if it is that TPM, an operator retires that one, and approves");
}

TEST_P(Enrollment, TakesPublicAreasWithTheirSizes) {
    const SoftwareEndpoint endpoint;
    protocol::EnrollRequest request = endpoint.enroll_request();
    for (Buffer* const area : {&request.ek_public, &request.ak_public}) {
        Buffer sized{static_cast<std::byte>(area->size() >> 8), static_cast<std::byte>(area->size() & 0xff)};
        sized.insert(sized.end(), area->begin(), area->end());
        *area = sized;
    }
    const protocol::EnrollChallenge challenge = service_->enroll(request);
    EXPECT_EQ(service_->activate(challenge.id, endpoint.activate(challenge)).state, "waiting");
    EXPECT_EQ(service_->enrollment(kReader, challenge.id).ek_hash, endpoint.ek_hash());
}

// Groups, until there is no room for another one; then there is room again.
TEST_P(Enrollment, FullDiskIsSaidAndNothingThatWasAcknowledgedIsLost) {
    const auto database = on_sqlite() ? nullptr : server::Database::open(options_.database);
    const auto trigger = [&](const std::string& sql) {
        database->write([&sql](server::Session& session) { session.script(sql); });
    };
    std::optional<FileSizeLimit> limit;
    if (on_sqlite()) {
        limit.emplace(std::filesystem::file_size(path("server.db-wal")) + 100'000);
    } else {
        trigger(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$; "
            "CREATE TRIGGER full_disk BEFORE INSERT ON audit FOR EACH STATEMENT EXECUTE FUNCTION full_disk()");
    }
    std::vector<std::string> acknowledged;
    std::string code;
    for (int i = 0; i < 1000 && code.empty(); ++i) {
        const std::string name = "group" + std::to_string(i);
        code = code_of([&] { service_->create_group(kAdmin, name); });
        if (code.empty()) acknowledged.push_back(name);
    }
    const std::string again = code_of([&] { service_->create_group(kAdmin, "again"); });
    limit.reset();
    if (!on_sqlite()) trigger("DROP TRIGGER full_disk ON audit");
    EXPECT_EQ(code, "disk_full");
    EXPECT_EQ(again, "disk_full");
    EXPECT_EQ(code_of([&] { service_->create_group(kAdmin, "again"); }), "");
    acknowledged.emplace_back("again");
    reopen();
    const std::vector<std::string> kept = service_->groups(kReader);
    for (const std::string& one : acknowledged) EXPECT_NE(std::ranges::find(kept, one), kept.end()) << one;
    EXPECT_EQ(kept.size(), acknowledged.size() + 1);  // and "default"
    EXPECT_TRUE(service_->verify_audit().ok);
}

TEST_P(Enrollment, AnotherSourceOfEvidenceNeedsAnOperator) {
    SoftwareEndpoint endpoint;
    (void)enroll(endpoint);
    endpoint.source = "tpm";
    EXPECT_EQ(start_enrollment(endpoint).state, "waiting");
}

TEST_P(Enrollment, LaterOneOfTheSameTpmTakesThePlaceOfTheOneThatWaits) {
    const SoftwareEndpoint endpoint;
    const server::Enrollment first = start_enrollment(endpoint);
    const server::Enrollment second = start_enrollment(endpoint);
    EXPECT_EQ(service_->enrollment(kReader, first.id).state, "rejected");
    EXPECT_EQ(second.state, "waiting");
    EXPECT_EQ(code_of([&] { service_->approve(kOperator, first.id, "default"); }), "enrollment_state");
}

TEST_P(Enrollment, StrangersDoNotKeepOutWhoWasAnnounced) {
    options_.most_open_enrollments = 2;
    reopen();
    for (int i = 0; i < 2; ++i) (void)service_->enroll(SoftwareEndpoint().enroll_request());
    const SoftwareEndpoint endpoint;
    EXPECT_EQ(code_of([&] { (void)service_->enroll(endpoint.enroll_request()); }), "too_many_enrollments");
    const std::string token = service_->create_enrollment_token(kOperator, "default", 60);
    EXPECT_EQ(code_of([&] { (void)service_->enroll(endpoint.enroll_request(token)); }), "");
    EXPECT_EQ(enroll(endpoint).size(), 26u);
}

TEST_P(Enrollment, RejectionIsTold) {
    const SoftwareEndpoint endpoint;
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    const Buffer secret = endpoint.activate(challenge);
    (void)service_->activate(challenge.id, secret);
    service_->reject(kOperator, challenge.id, "not ours");
    const protocol::EnrollStatus status = service_->enrollment_status(challenge.id, secret);
    EXPECT_EQ(status.state, "rejected");
    EXPECT_EQ(status.reason, "not ours");
}

TEST_P(Enrollment, WhomNobodyApprovesIsRejectedAfterAWhile) {
    const SoftwareEndpoint endpoint;
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    const Buffer secret = endpoint.activate(challenge);
    (void)service_->activate(challenge.id, secret);
    *now_ += Seconds{options_.waiting_days} * 86'400 - 60;
    service_->tick();
    EXPECT_EQ(service_->enrollment_status(challenge.id, secret).state, "waiting");
    *now_ += 120;
    service_->tick();
    const protocol::EnrollStatus status = service_->enrollment_status(challenge.id, secret);
    EXPECT_EQ(status.state, "rejected");
    EXPECT_EQ(status.reason, "nobody approved it within 7 days: enroll again");
    EXPECT_EQ(code_of([&] { service_->approve(kOperator, challenge.id, "default"); }), "enrollment_state");
    EXPECT_EQ(start_enrollment(endpoint).state, "waiting");
}

TEST_P(Enrollment, RenewedCertificateSupersedesTheOldOneOnceItIsUsed) {
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    const std::string first = service_->activate(challenge.id, endpoint.activate(challenge)).certificate;
    const std::string second = service_->renew_certificate(id, SoftwareEndpoint().csr());
    EXPECT_EQ(service_->endpoint_of_certificate(hash_of(first)),
              id);  // the new one may have been lost on its way
    EXPECT_EQ(service_->endpoint_of_certificate(hash_of(second)), id);
    EXPECT_EQ(service_->endpoint_of_certificate(hash_of(first)), std::nullopt);
    EXPECT_FALSE(service_->is_of_retired(hash_of(second)));
    service_->retire(kOperator, id, "gone");
    EXPECT_EQ(service_->endpoint_of_certificate(hash_of(second)), std::nullopt);
    EXPECT_TRUE(service_->is_of_retired(hash_of(second)));
    EXPECT_FALSE(service_->is_of_retired(hash_of(first)));
}

TEST_P(Enrollment, AnotherNameThanBeforeIsInTheAuditLog) {
    SoftwareEndpoint endpoint("first");
    (void)enroll(endpoint);
    protocol::EnrollRequest request = endpoint.enroll_request();
    request.hostname = "second";
    const protocol::EnrollChallenge challenge = service_->enroll(request);
    (void)service_->activate(challenge.id, endpoint.activate(challenge));
    std::vector<std::string> details;
    service_->export_audit([&](const server::AuditEntry& entry) {
        if (entry.action == "endpoint.approve") details.push_back(entry.detail);
    });
    ASSERT_EQ(details.size(), 2u);
    EXPECT_EQ(details[0].find("hostname_before"), std::string::npos);
    EXPECT_NE(details[1].find(R"("hostname_before":"first")"), std::string::npos) << details[1];
}

TEST_P(Enrollment, KeepsHostileNamesAsHarmlessText) {
    SoftwareEndpoint endpoint("\xff\xfe<script>\xc3\x28 \xed\xa0\x80'; DROP TABLE endpoints; --");
    endpoint.hostname += '\0';
    endpoint.hostname += "\xf0\x9f\x9a\xaa";
    const std::string id = enroll(endpoint);
    const std::string bad = "\xef\xbf\xbd";
    EXPECT_EQ(service_->endpoint(kReader, id).hostname, bad + bad + "<script>" + bad + "( " + bad + bad + bad +
                                                            "'; DROP TABLE endpoints; --" + bad + "\xf0\x9f\x9a\xaa");
    EXPECT_TRUE(service_->verify_audit().ok);
}

INSTANTIATE_TEST_SUITE_P(SQLite, Enrollment, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, Enrollment, testing::Values("PostgreSQL"));

}  // namespace
}  // namespace gatehouse::test

#include "tests/unit/server/service_fixture.hpp"

#include <openssl/pem.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "attestation/server/authority.hpp"
#include "attestation/verifier/policy.hpp"
#include "tests/unit/server/postgres_server.hpp"

namespace gatehouse::test {

void ServiceTest::SetUp() {
    std::string name = (std::filesystem::temp_directory_path() / "gatehouse-server-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
    options_.directory = path("server");
    options_.database = "sqlite:" + path("server.db");
    options_.clock = [now = now_] { return now->load(); };
    if (!on_sqlite()) {
        PostgresServer* const server = PostgresServer::get();
        if (server == nullptr) GTEST_SKIP() << "PostgreSQL is not installed";
        options_.database = server->empty_database();
    }
    reopen();
}

void ServiceTest::TearDown() {
    service_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

void ServiceTest::reopen() {
    service_.reset();
    service_ = another();
}

server::Enrollment ServiceTest::start_enrollment(const SoftwareEndpoint& endpoint) {
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    (void)service_->activate(challenge.id, endpoint.activate(challenge));
    return service_->enrollment(kReader, challenge.id);
}

Issued ServiceTest::certificate(const SoftwareEndpoint& endpoint, const Issued& issuer, const std::string& extra) {
    EVP_PKEY_up_ref(endpoint.ek());
    CertificateSpec spec = ek_spec();
    spec.serial = endpoint.ek_hash().substr(0, 12);
    spec.extra = extra;
    return issue(spec, Key(endpoint.ek(), EVP_PKEY_free), &issuer);
}

std::string ServiceTest::enroll_endorsed(const SoftwareEndpoint& endpoint, const Issued& ek) {
    protocol::EnrollRequest request =
        endpoint.enroll_request(service_->create_enrollment_token(kOperator, "default", 600));
    request.ek_certificate = ek.der();
    const protocol::EnrollChallenge challenge = service_->enroll(request);
    const protocol::EnrollStatus status = service_->activate(challenge.id, endpoint.activate(challenge));
    EXPECT_EQ(status.state, "approved") << service_->enrollment(kReader, challenge.id).reason;
    return status.endpoint_id;
}

std::string ServiceTest::enroll(const SoftwareEndpoint& endpoint, const std::string& group) {
    service_->register_endorsement(kOperator, endpoint.ek_hash(), group);
    const protocol::EnrollChallenge challenge = service_->enroll(endpoint.enroll_request());
    const protocol::EnrollStatus status = service_->activate(challenge.id, endpoint.activate(challenge));
    EXPECT_EQ(status.state, "approved") << service_->enrollment(kReader, challenge.id).reason;
    return status.endpoint_id;
}

protocol::AttestAnswer ServiceTest::attest(const std::string& id, const SoftwareEndpoint& endpoint) {
    return service_->attest(id, endpoint.attest(service_->nonce(id).nonce));
}

void ServiceTest::add_policy(const std::string& json) {
    if (!has_authority_) service_->add_policy_authority(kAdmin, "authority", server::public_pem(authority_.get()));
    has_authority_ = true;
    (void)service_->add_policy(kOperator, verifier::sign_policy(json, authority_.get()));
}

void ServiceTest::enforce(const std::string& json, const std::string& group, Stage stage) {
    add_policy(json);
    const nlohmann::json parsed = nlohmann::json::parse(json);
    service_->assign(kOperator, group, parsed.at("name"), parsed.at("version"), stage);
}

std::vector<std::string> ServiceTest::audited(const std::string& action) {
    std::vector<std::string> subjects;
    service_->export_audit([&](const server::AuditEntry& entry) {
        if (entry.action == action) subjects.push_back(entry.subject);
    });
    return subjects;
}

}  // namespace gatehouse::test

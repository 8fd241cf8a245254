// A server on an empty database, on SQLite and on PostgreSQL alike, with a clock of the test's own.
#pragma once

#include <gtest/gtest.h>

#include <atomic>

#include "attestation/server/service.hpp"
#include "tests/unit/server/software_endpoint.hpp"
#include "tests/unit/verifier/certificates.hpp"

namespace gatehouse::test {

using server::Principal;
using server::Role;
using server::Seconds;
using server::Service;
using server::ServiceError;
using server::Stage;
using server::State;

inline const Principal kAdmin{"root", Role::kAdmin};
inline const Principal kOperator{"olga", Role::kOperator};
inline const Principal kReader{"rita", Role::kReadOnly};

// The code of the ServiceError that `body` throws; "" if it throws none.
template <typename Body>
std::string code_of(Body body) {
    try {
        body();
    } catch (const ServiceError& error) {
        return error.code();
    }
    return "";
}

// A database of schema version 7 as the program before left it.
inline constexpr const char* kBackToVersion6 =
    "DROP TABLE crls; DROP TABLE crl_sources; ALTER TABLE endpoints DROP COLUMN crl_oldest; "
    "ALTER TABLE endpoints DROP COLUMN crl_end; ALTER TABLE endpoints DROP COLUMN crl_gap; "
    "CREATE TABLE endorsements (endpoint TEXT PRIMARY KEY, time BIGINT NOT NULL, content TEXT NOT NULL); "
    "INSERT INTO endorsements SELECT endpoint, time, content FROM ek_endorsements; DROP TABLE ek_endorsements; "
    "ALTER TABLE endpoints ADD COLUMN endorsement_checked BIGINT NOT NULL DEFAULT 9223372036854775807; "
    "UPDATE endpoints SET endorsement_checked = -1 WHERE vendor <> ''; "
    "CREATE INDEX endpoints_by_check ON endpoints (endorsement_checked); "
    "ALTER TABLE enrollments DROP COLUMN ecc_key; ALTER TABLE enrollments DROP COLUMN storage_root; "
    "UPDATE schema_version SET version = 6";

// "SQLite" or "PostgreSQL".
class ServiceTest : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override;
    void TearDown() override;

    [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }
    [[nodiscard]] bool on_sqlite() const { return std::string_view(GetParam()) == "SQLite"; }
    // Another server process on the same database, as far as a test can tell.
    [[nodiscard]] std::unique_ptr<Service> another() const { return std::make_unique<Service>(options_); }
    void reopen();

    // Enrolls with an EK that was registered before: its id.
    std::string enroll(const SoftwareEndpoint& endpoint, const std::string& group = "default");
    // Of its EK, as a TPM's vendor certifies it; `extra` as in CertificateSpec.
    [[nodiscard]] static Issued certificate(const SoftwareEndpoint& endpoint, const Issued& issuer,
                                            const std::string& extra = "");
    // By a token and this certificate: its id.
    std::string enroll_endorsed(const SoftwareEndpoint& endpoint, const Issued& ek);
    server::Enrollment start_enrollment(const SoftwareEndpoint& endpoint);
    protocol::AttestAnswer attest(const std::string& id, const SoftwareEndpoint& endpoint);
    // Signed by an authority of the server's.
    void add_policy(const std::string& json);
    void enforce(const std::string& json, const std::string& group = "default", Stage stage = Stage::kEnforce);
    [[nodiscard]] State state_of(const std::string& id) { return service_->endpoint(kReader, id).state; }
    [[nodiscard]] std::vector<std::string> audited(const std::string& action);  // subjects, oldest first

    std::shared_ptr<std::atomic<Seconds>> now_ = std::make_shared<std::atomic<Seconds>>(1'800'000'000);
    server::ServiceOptions options_;
    std::unique_ptr<Service> service_;
    SoftwareKey authority_ = make_p256_key();

  private:
    std::string directory_;
    bool has_authority_ = false;
};

}  // namespace gatehouse::test

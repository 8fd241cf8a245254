#include "tests/unit/web/sample_fleet.hpp"

#include <openssl/pem.h>
#include <sqlite3.h>

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <stdexcept>

#include "attestation/verifier/policy.hpp"

namespace gatehouse::test {
namespace {

using server::Principal;
using server::Role;
using server::Stage;

const Principal kAdmin{"root", Role::kAdmin};
const Principal kOperator{"olga", Role::kOperator};
constexpr Seconds kHour = 3600;
constexpr Seconds kHours = 44;
constexpr const char* kLease = R"({"lease_s": 3600})";

// The members that have stopped to attest an hour or more ago.
bool is_silent(std::size_t member) { return member % 8 == 5; }

std::string public_pem_of(EVP_PKEY* key) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), &BIO_free);
    PEM_write_bio_PUBKEY(out.get(), key);
    char* text = nullptr;
    const long size = BIO_get_mem_data(out.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

}  // namespace

SampleFleet::SampleFleet() : time_(std::make_shared<std::atomic<Seconds>>(kStart)), authority_(make_p256_key()) {
    std::string name = (std::filesystem::temp_directory_path() / "gatehouse-web-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
    directory_ = name;
    server::ServiceOptions options;
    options.directory = directory_ + "/server";
    options.database = "sqlite:" + directory_ + "/server.db";
    options.clock = [time = time_] {
        const Seconds set = time->load();
        return set == 0 ? static_cast<Seconds>(std::time(nullptr)) : set;
    };
    service_ = std::make_unique<server::Service>(options);
    service_->add_policy_authority(kAdmin, "security-team", public_pem_of(authority_.get()));
}

SampleFleet::~SampleFleet() {
    service_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

Seconds SampleFleet::now() const {
    const Seconds set = time_->load();
    return set == 0 ? static_cast<Seconds>(std::time(nullptr)) : set;
}

std::string SampleFleet::token(const std::string& name, Role role) {
    return service_->create_token(kAdmin, name, role, 0);
}

SampleFleet::Member SampleFleet::enroll(const std::string& hostname, const std::string& group,
                                        const std::string& source) {
    Member member{"", std::make_unique<SoftwareEndpoint>(hostname, source)};
    service_->register_endorsement(kOperator, member.endpoint->ek_hash(), group);
    const auto challenge = service_->enroll(member.endpoint->enroll_request());
    const auto status = service_->activate(challenge.id, member.endpoint->activate(challenge));
    if (status.state != "approved") throw std::runtime_error("enrollment: " + status.reason);
    member.id = status.endpoint_id;
    return member;
}

std::string SampleFleet::let_wait(const std::string& hostname, const std::string& source) {
    const SoftwareEndpoint endpoint(hostname, source);
    const auto challenge = service_->enroll(endpoint.enroll_request());
    (void)service_->activate(challenge.id, endpoint.activate(challenge));
    return challenge.id;
}

void SampleFleet::attest(const Member& member, const std::string& initrd_name) {
    auto request = member.endpoint->attest(service_->nonce(member.id).nonce);
    const std::string_view written = "initrd";
    if (initrd_name.size() != written.size()) throw std::runtime_error("initrd_name: six bytes");
    const auto is_same = [](std::byte a, char b) { return std::to_integer<char>(a) == b; };
    const auto found =
        std::search(request.event_log.begin(), request.event_log.end(), written.begin(), written.end(), is_same);
    if (found != request.event_log.end())
        std::ranges::transform(initrd_name, found, [](char c) { return static_cast<std::byte>(c); });
    (void)service_->attest(member.id, request);
}

std::string SampleFleet::signed_policy(const std::string& policy_json) const {
    return verifier::sign_policy(policy_json, authority_.get());
}

void SampleFleet::assign(const std::string& policy_json, const std::string& group, Stage stage) {
    const auto added = service_->add_policy(kOperator, signed_policy(policy_json));
    service_->assign(kOperator, group, added.name, added.version, stage);
}

void SampleFleet::sql(const std::string& statement) {
    sqlite3* database = nullptr;
    char* message = nullptr;
    const std::string path = directory_ + "/server.db";
    if (sqlite3_open(path.c_str(), &database) != SQLITE_OK) throw std::runtime_error("database: not there");
    sqlite3_busy_timeout(database, 5000);
    const int status = sqlite3_exec(database, statement.c_str(), nullptr, nullptr, &message);
    const std::string reason = message == nullptr ? "" : message;
    sqlite3_free(message);
    sqlite3_close(database);
    if (status != SQLITE_OK) throw std::runtime_error("SQL: " + reason);
}

void SampleFleet::add_copies(int many) {
    sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + std::to_string(many) +
        ") INSERT INTO endpoints SELECT printf('ZZ%024d', i), printf('copy-%06d', i), printf('copy-%06d "
        "zz%024d', i, i), "
        "group_name, source, state, printf('%064x', i), vendor, manufacturer, model, ak_public, enrolled, "
        "since, last_seen, "
        "lease_until, reason, policy, tpm, last_nonce, wanted, log_hash, outcomes, run, run_length, "
        "randomblob(32), "
        "randomblob(32), '', '', crl_oldest, crl_end, crl_gap FROM n, (SELECT * FROM endpoints LIMIT 1);"
        "INSERT INTO outcomes SELECT o.group_name, o.policy, o.version, e.id, o.ok, o.reason FROM outcomes "
        "o, "
        "endpoints e WHERE e.id LIKE 'ZZ%' AND o.endpoint = (SELECT MIN(id) FROM endpoints)");
}

// --- the sample

void SampleFleet::populate_groups() {
    set_time(static_cast<Seconds>(std::time(nullptr)) - 9 * 24 * kHour);
    for (const char* group : {"laptops", "kiosks", "build-servers"}) service_->create_group(kOperator, group);
    assign(hypervisor_policy("laptops", 6, kLease), "laptops");
    assign(hypervisor_policy("laptops", 7, R"({"minimum_hypervisor": "0.2.0", "lease_s": 1800})"), "laptops",
           Stage::kReport);
    assign(hypervisor_policy("build-servers", 2, kLease), "build-servers");
    assign(tpm_policy("kiosks", 3, kLease), "kiosks");
}

void SampleFleet::live(std::vector<Member>& members) {
    const Seconds end = static_cast<Seconds>(std::time(nullptr));
    for (Seconds hour = kHours; hour > 0; --hour) {
        set_time(end - hour * kHour + 60);
        service_->tick();
        const bool is_night = ((end / kHour - hour) % 24) < 6;
        for (std::size_t i = static_cast<std::size_t>(hour) % 3; i < members.size(); i += is_night ? 9 : 3) {
            if (is_silent(i) && hour <= 2) continue;
            SoftwareEndpoint& endpoint = *members[i].endpoint;
            endpoint.clock += 3'600'000;
            endpoint.other_kernel = hour % 11 == 3 && i % 7 == 2;
            attest(members[i]);
            endpoint.other_kernel = false;
        }
    }
    set_time(0);
}

void SampleFleet::populate_endpoints() {
    std::vector<Member> members;
    set_time(static_cast<Seconds>(std::time(nullptr)) - (kHours + 1) * kHour);
    for (int i = 1; i <= 22; ++i) members.push_back(enroll("laptop-" + std::to_string(1040 + i * 7), "laptops"));
    for (int i = 1; i <= 4; ++i)
        members.push_back(enroll("build-" + std::to_string(i) + ".ci.example", "build-servers"));
    for (int i = 1; i <= 6; ++i) members.push_back(enroll("kiosk-lobby-" + std::to_string(i), "kiosks", "tpm"));
    for (const char* name : {kScriptName, kAttributeName, kReversedName}) members.push_back(enroll(name, "laptops"));
    members.push_back(enroll(std::string(253, 'w'), "laptops"));
    live(members);
    // Now: most are well, some are silent since an hour or two, some show what they should not.
    for (std::size_t i = 0; i < members.size(); ++i) {
        SoftwareEndpoint& endpoint = *members[i].endpoint;
        endpoint.clock += 3'600'000;
        if (is_silent(i)) continue;
        if (i == 3 || endpoint.hostname == kScriptName) endpoint.other_kernel = true;
        if (i == 27) endpoint.pcr7 = sample_bytes("another secure boot", 32);
        attest(members[i], endpoint.hostname == kScriptName ? "<b>x\"'" : "initrd");
    }
    for (const char* name : {"laptop-1301", "build-5.ci.example"}) (void)enroll(name, "laptops");
    service_->retire(kOperator, enroll("laptop-0007", "laptops").id, "sold");
    sql("UPDATE endpoints SET vendor = 'Infineon', manufacturer = 'id:49465800', model = 'SLB9672' WHERE "
        "group_name = "
        "'laptops'");
    sql("UPDATE endpoints SET vendor = 'Nuvoton', manufacturer = 'id:4E544300', model = 'NPCT75x' WHERE "
        "group_name <> "
        "'laptops'");
}

void SampleFleet::populate_enrollments() {
    for (const char* name : {"laptop-1310", "kiosk-lobby-7", kAttributeName, kReversedName}) (void)let_wait(name);
    service_->reject(kOperator, let_wait("unknown-box"), "nobody knows this machine");
    service_->tick();
}

void SampleFleet::populate() {
    populate_groups();
    populate_endpoints();
    populate_enrollments();
}

}  // namespace gatehouse::test

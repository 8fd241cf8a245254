// What the server keeps, and how safely: tokens and roles, audit log, secrets, schema, backup.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <thread>

#include "attestation/server/audit.hpp"
#include "attestation/server/authority.hpp"
#include "attestation/server/database/postgres.hpp"
#include "attestation/server/database/record.hpp"
#include "attestation/verifier/token.hpp"
#include "tests/unit/server/service_fixture.hpp"

namespace gatehouse::test {
namespace {

using server::Database;
using server::DatabaseError;
using server::Session;
using testing::HasSubstr;

class ServiceState : public ServiceTest {
  protected:
    // Behind the server's back.
    void change(const std::string& sql) {
        const std::unique_ptr<Database> database = Database::open(options_.database);
        database->write([&](Session& session) { session.script(sql); });
    }
    [[nodiscard]] std::string opening_error(const server::ServiceOptions& options) {
        try {
            const Service service(options);
        } catch (const host::ToolError& error) {
            return error.what();
        }
        return "";
    }
    void without_audit_triggers() {
        change(on_sqlite() ? "DROP TRIGGER audit_no_update; DROP TRIGGER audit_no_delete"
                           : "DROP TRIGGER audit_no_change ON audit");
    }
    void write_some() {
        for (const char* const name : {"one", "two", "three", "four"}) service_->create_group(kOperator, name);
    }
};

// --- tokens and roles

TEST_P(ServiceState, FirstAdminTokenIsGivenOnce) {
    const auto token = service_->first_admin_token();
    ASSERT_TRUE(token.has_value());
    EXPECT_EQ(service_->first_admin_token(), std::nullopt);
    const auto principal = service_->authenticate(*token);
    ASSERT_TRUE(principal.has_value());
    EXPECT_EQ(principal->role, Role::kAdmin);
    service_->revoke_token(*principal, principal->name);
    EXPECT_EQ(service_->authenticate(*token), std::nullopt);
    reopen();
    EXPECT_EQ(service_->first_admin_token(), std::nullopt);  // not by revoking the last one either
}

TEST_P(ServiceState, TokenEndsAndOnlyItsHashIsStored) {
    const std::string token = service_->create_token(kAdmin, "dashboard", Role::kReadOnly, 60);
    EXPECT_EQ(service_->authenticate(token)->name, "dashboard");
    EXPECT_EQ(service_->authenticate(token + "A"), std::nullopt);
    EXPECT_EQ(service_->authenticate(token.substr(0, token.size() - 1)), std::nullopt);
    EXPECT_EQ(service_->tokens(kAdmin).at(0).last_used, *now_);
    const std::unique_ptr<Database> database = Database::open(options_.database);
    database->read([&](Session& session) {
        const auto hash = server::value<host::Buffer>(session, "SELECT hash FROM tokens WHERE name = 'dashboard'");
        EXPECT_TRUE(equal_bytes(hash.value(), sha256(host::text_bytes(token))));
    });
    *now_ += 60;
    EXPECT_EQ(service_->authenticate(token), std::nullopt);
}

TEST_P(ServiceState, RolesAreHeldTo) {
    const auto forbidden = [](auto body) { EXPECT_EQ(code_of(body), "forbidden"); };
    forbidden([&] { (void)service_->create_token(kOperator, "x", Role::kReadOnly, 0); });
    forbidden([&] { (void)service_->tokens(kOperator); });
    forbidden([&] { service_->revoke_token(kOperator, "x"); });
    forbidden([&] { service_->add_vendor(kOperator, {}); });
    forbidden([&] { service_->add_policy_authority(kOperator, "x", ""); });
    forbidden([&] { service_->remove_vendor(kOperator, "x"); });
    forbidden([&] { service_->remove_policy_authority(kOperator, "x"); });
    forbidden([&] { service_->add_action(kOperator, {}); });
    forbidden([&] { service_->remove_action(kOperator, "x"); });
    forbidden([&] { (void)service_->actions(kOperator); });
    forbidden([&] { (void)service_->get_escrow(kOperator, "x", "x"); });
    forbidden([&] { service_->remove_escrow(kOperator, "x", "x"); });
    forbidden([&] { service_->approve(kReader, "x", "x"); });
    forbidden([&] { service_->reject(kReader, "x", "x"); });
    forbidden([&] { (void)service_->create_enrollment_token(kReader, "default", 1); });
    forbidden([&] { service_->register_endorsement(kReader, "x", "x"); });
    forbidden([&] { service_->request_attestation(kReader, "x"); });
    forbidden([&] { service_->move_to_group(kReader, "x", "x"); });
    forbidden([&] { service_->retire(kReader, "x", "x"); });
    forbidden([&] { service_->create_group(kReader, "x"); });
    forbidden([&] { (void)service_->add_policy(kReader, "x"); });
    forbidden([&] { service_->assign(kReader, "x", "x", 1, Stage::kReport); });
    forbidden([&] { service_->unassign(kReader, "x", "x", 1); });
    forbidden([&] { (void)service_->escrow_names(kReader, "x"); });
    EXPECT_EQ(service_->verify_audit().entries, 0);
}

// --- audit log

TEST_P(ServiceState, AuditLogIsAGaplessChain) {
    write_some();
    service_->note("anonymous", "session.refused", "web", R"({"peer":"::1"})");
    const Service::AuditCheck check = service_->verify_audit();
    EXPECT_TRUE(check.ok) << check.fault;
    EXPECT_EQ(check.entries, 5);
    const auto page = service_->audit(kReader, "", 2);
    EXPECT_EQ(page.rows.at(0).number, 5);
    EXPECT_EQ(page.rows.at(0).action, "session.refused");
    EXPECT_EQ(page.rows.at(0).hash, check.head);
    EXPECT_EQ(service_->audit(kReader, page.next, 2).rows.at(0).number, 3);
    std::int64_t last = 0;
    service_->export_audit([&](const server::AuditEntry& entry) { EXPECT_EQ(entry.number, ++last); });
    EXPECT_EQ(last, 5);
}

TEST_P(ServiceState, DatabaseRefusesToChangeTheAuditLog) {
    write_some();
    for (const char* const sql :
         {"UPDATE audit SET who = 'nobody' WHERE number = 2", "DELETE FROM audit WHERE number = 4"}) {
        try {
            change(sql);
            ADD_FAILURE() << sql;
        } catch (const DatabaseError& error) {
            EXPECT_THAT(error.what(), HasSubstr("append-only"));
        }
    }
    EXPECT_TRUE(service_->verify_audit().ok);
}

TEST_P(ServiceState, AuditCheckFindsAChangedEntry) {
    write_some();
    without_audit_triggers();
    change("UPDATE audit SET subject = 'five' WHERE number = 2");
    const Service::AuditCheck check = service_->verify_audit();
    EXPECT_FALSE(check.ok);
    EXPECT_THAT(check.fault, HasSubstr("entry 2"));
}

TEST_P(ServiceState, AuditCheckFindsAMissingEntry) {
    write_some();
    without_audit_triggers();
    change("DELETE FROM audit WHERE number = 3");
    EXPECT_THAT(service_->verify_audit().fault, HasSubstr("entry 3 is missing"));
}

TEST_P(ServiceState, AuditCheckFindsALogThatWasCutShort) {
    write_some();
    without_audit_triggers();
    change("DELETE FROM audit WHERE number = 4");
    EXPECT_THAT(service_->verify_audit().fault, HasSubstr("after number 3 are missing"));
}

TEST_P(ServiceState, AuditCheckEndsThoughTheHeadIsBeforeTheLastEntry) {
    write_some();
    without_audit_triggers();
    change("DELETE FROM audit WHERE number = 3; UPDATE audit_head SET number = 3");
    EXPECT_THAT(service_->verify_audit().fault, HasSubstr("entry 3 is missing"));
}

TEST_P(ServiceState, AuditChainHoldsAmongManyWriters) {
    const auto other = another();
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&, i] {
            Service& service = i % 2 == 0 ? *service_ : *other;
            for (int n = 0; n < 10; ++n) service.note("writer", "session.begin", std::to_string(i), "{}");
        });
    }
    for (std::thread& thread : threads) thread.join();
    const Service::AuditCheck check = service_->verify_audit();
    EXPECT_TRUE(check.ok) << check.fault;
    EXPECT_EQ(check.entries, 80);
}

TEST_P(ServiceState, RefusedCallLeavesNoTrace) {
    write_some();
    EXPECT_EQ(code_of([&] { service_->create_group(kOperator, "one"); }), "exists");
    EXPECT_EQ(service_->verify_audit().entries, 4);
}

// --- secrets and schema

TEST_P(ServiceState, KeysSurviveARestartAndAreSharedByServers) {
    const std::string authority = service_->ca_certificate(), results = service_->result_key();
    EXPECT_EQ(another()->ca_certificate(), authority);
    reopen();
    EXPECT_EQ(service_->ca_certificate(), authority);
    EXPECT_EQ(service_->result_key(), results);
}

TEST_P(ServiceState, ServersThatStartAtOnceAgree) {
    service_.reset();
    options_.directory = path("fresh");
    if (on_sqlite()) {
        options_.database = "sqlite:" + path("fresh.db");
    } else {
        change("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
    }
    std::vector<std::string> authorities(6);
    std::vector<std::thread> threads;
    for (std::string& authority : authorities)
        threads.emplace_back([&] { authority = Service(options_).ca_certificate(); });
    for (std::thread& thread : threads) thread.join();
    for (const std::string& authority : authorities) EXPECT_EQ(authority, authorities[0]);
}

TEST_P(ServiceState, AnotherServersMasterKeyIsRefused) {
    server::ServiceOptions stranger = options_;
    stranger.directory = path("other");
    EXPECT_THAT(opening_error(stranger), HasSubstr("master.key"));
}

TEST_P(ServiceState, KeyFileIsItsOwnersAlone) {
    const std::string file = options_.directory + "/master.key";
    struct stat facts {};
    ASSERT_EQ(::stat(file.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0600u);
    ASSERT_EQ(::stat(options_.directory.c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0700u);
    ASSERT_EQ(::chmod(file.c_str(), 0640), 0);
    EXPECT_THAT(opening_error(options_), HasSubstr("chmod 600"));
}

TEST_P(ServiceState, DatabaseOfANewerProgramIsRefused) {
    change("UPDATE schema_version SET version = version + 1");
    EXPECT_THAT(opening_error(options_), HasSubstr("newer"));
}

TEST_P(ServiceState, ServerCertificateIsForItsNames) {
    const Service::KeyPair pair = service_->server_certificate({"attest.example", "127.0.0.1", "::1"});
    EXPECT_THAT(pair.certificate, HasSubstr("BEGIN CERTIFICATE"));
    EXPECT_THAT(pair.key, HasSubstr("PRIVATE KEY"));
    EXPECT_THROW((void)service_->server_certificate({"no,such=name"}), host::ToolError);
}

// --- fleet

TEST_P(ServiceState, FleetIsPagedSearchedAndFiltered) {
    std::vector<std::string> ids;
    for (int i = 0; i < 5; ++i) ids.push_back(enroll(SoftwareEndpoint("PC-10" + std::to_string(i) + "_%")));
    const auto names = [&](const server::EndpointQuery& query) {
        std::vector<std::string> all;
        for (const server::Endpoint& one : service_->endpoints(kReader, query).rows) all.push_back(one.id);
        std::ranges::sort(all);
        return all;
    };
    std::ranges::sort(ids);
    EXPECT_EQ(names({}), ids);
    std::vector<std::string> paged;
    std::string cursor;
    do {
        const auto page =
            service_->endpoints(kReader, {.search = "", .state = {}, .group = "", .cursor = cursor, .limit = 2});
        for (const server::Endpoint& one : page.rows) paged.push_back(one.id);
        cursor = page.next;
    } while (!cursor.empty());
    EXPECT_EQ(paged, ids);
    EXPECT_EQ(names({.search = "pc-103", .state = {}, .group = "", .cursor = ""}).size(), 1u);
    EXPECT_EQ(names({.search = "3_%", .state = {}, .group = "", .cursor = ""}).size(), 1u);
    EXPECT_EQ(names({.search = "%3", .state = {}, .group = "", .cursor = ""}).size(), 0u);
    EXPECT_EQ(names({.search = service_->endpoint(kReader, ids[2]).ek_hash.substr(0, 20),
                     .state = {},
                     .group = "",
                     .cursor = ""}),
              std::vector{ids[2]});
    service_->retire(kOperator, ids[1], "gone");
    EXPECT_EQ(names({.search = "", .state = State::kRetired, .group = "", .cursor = ""}), std::vector{ids[1]});
    EXPECT_EQ(names({.search = "", .state = State::kNew, .group = "default", .cursor = ""}).size(), 4u);
    EXPECT_EQ(names({.search = "", .state = {}, .group = "lab", .cursor = ""}).size(), 0u);
    EXPECT_EQ(code_of([&] { (void)service_->endpoint(kReader, "nobody"); }), "not_found");
}

TEST_P(ServiceState, EscrowedBlobIsGivenToAnAdminAndNotedFirst) {
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    service_->put_escrow(id, {"recovery", sample_bytes("blob", 100)});
    EXPECT_EQ(service_->escrow_names(kOperator, id), std::vector<std::string>{"recovery"});
    EXPECT_EQ(service_->get_escrow(kAdmin, id, "recovery"), sample_bytes("blob", 100));
    EXPECT_EQ(audited("escrow.get"), std::vector{id});
    EXPECT_EQ(code_of([&] { service_->put_escrow(id, {"Re/covery", Buffer(1)}); }), "name");
    EXPECT_EQ(code_of([&] { service_->put_escrow(id, {"big", Buffer(65'537)}); }), "size");
    for (int i = 0; i < 15; ++i) service_->put_escrow(id, {"blob" + std::to_string(i), Buffer(1)});
    EXPECT_EQ(code_of([&] { service_->put_escrow(id, {"another", Buffer(1)}); }), "escrow_full");
    service_->put_escrow(id, {"recovery", sample_bytes("blob", 100)});
    EXPECT_EQ(code_of([&] { service_->put_escrow(id, {"recovery", Buffer(1)}); }), "exists");
    EXPECT_EQ(service_->get_escrow(kAdmin, id, "recovery"), sample_bytes("blob", 100)) << "nothing is replaced";
    EXPECT_EQ(code_of([&] { service_->remove_escrow(kAdmin, id, "nothing"); }), "not_found");
    service_->remove_escrow(kAdmin, id, "recovery");
    EXPECT_EQ(audited("escrow.delete"), std::vector{id});
    service_->put_escrow(id, {"another", Buffer(1)});
}

TEST_P(ServiceState, RevocationListNamesWhomNotToTrust) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint good("good"), bad("bad"), silent("silent"), gone("gone");
    bad.other_kernel = true;
    std::vector<std::string> ids{enroll(good), enroll(bad), enroll(silent), enroll(gone)};
    (void)attest(ids[2], silent);
    *now_ += 901;
    (void)attest(ids[0], good);
    (void)attest(ids[1], bad);
    service_->retire(kOperator, ids[3], "sold");
    const server::Key key = server::public_key_from_pem(service_->result_key());
    const auto list = [&] {
        return nlohmann::json::parse(
            verifier::verify_jws(service_->revocation_list(), "gatehouse-revocations+jws", key.get()).value());
    };
    const nlohmann::json before = list();
    std::map<std::string, std::string> reasons;
    for (const nlohmann::json& one : before.at("endpoints")) reasons[one.at("id")] = one.at("reason");
    EXPECT_EQ(reasons,
              (std::map<std::string, std::string>{{ids[1], "untrusted"}, {ids[2], "stale"}, {ids[3], "retired"}}));
    service_->tick();
    EXPECT_GT(list().at("number"), before.at("number"));
    EXPECT_EQ(list().at("endpoints").size(), 3u);
    // Who asks again and again costs no signature each: these are random.
    EXPECT_EQ(service_->revocation_list(), service_->revocation_list());
}

TEST_P(ServiceState, OldHistoryIsDroppedButForThePresentRun) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    (void)attest(id, endpoint);
    endpoint.other_kernel = true;
    (void)attest(id, endpoint);
    *now_ += Seconds{options_.history_days} * 86'400 + 120;
    service_->tick();
    const auto rows = service_->history(kReader, id, "", 10).rows;
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].state, State::kUntrusted);
}

// What would wait for ever without the time-outs: another session holds the lock.
class TimeOuts : public ServiceState {};
TEST_P(TimeOuts, AStatementThatWaitsTooLongFailsAndTheNextOneWorks) {
    const auto setting = [](const std::string& url, const std::string& name) {
        std::string shown;
        Database::open(url)->read(
            [&](Session& session) { shown = server::value<std::string>(session, "SHOW " + name).value(); });
        return shown;
    };
    EXPECT_EQ(setting(options_.database, "statement_timeout"), "1min");
    EXPECT_EQ(setting(options_.database, "lock_timeout"), "20s");
    const std::string hasty = options_.database + "?options=-c%20lock_timeout%3D100ms";
    EXPECT_EQ(setting(hasty, "lock_timeout"), "100ms");
    EXPECT_EQ(setting(hasty, "statement_timeout"), "0");

    const std::unique_ptr<Database> database = Database::open(hasty);
    const std::unique_ptr<Database> other = Database::open(options_.database);
    const auto touch = [](Session& session) { session.execute("LOCK TABLE audit IN EXCLUSIVE MODE"); };
    other->write([&](Session& session) {
        touch(session);
        EXPECT_THROW(database->write(touch), DatabaseError);
    });
    EXPECT_NO_THROW(database->write(touch));
}

// As after a fail-over that leaves the old process stopped: what it does not answer is given up, and nothing else is.
TEST_P(TimeOuts, AServerThatIsStoppedIsGivenUp) {
    const auto pid_of = [](Session& session) {
        return static_cast<pid_t>(server::value<std::int64_t>(session, "SELECT pg_backend_pid()").value());
    };
    const auto database = server::open_postgresql(options_.database, std::chrono::seconds(5));
    pid_t stopped = 0;
    const auto stop = [&](Session& session) {
        if (stopped != 0) return;  // again, on another connection
        stopped = pid_of(session);
        ASSERT_EQ(::kill(stopped, SIGSTOP), 0) << "of a PostgreSQL that runs as another user, root alone can";
        (void)session.query("SELECT 1");
        FAIL() << "it answered";
    };
    EXPECT_NO_THROW(database->read(stop));
    ASSERT_EQ(::kill(stopped, SIGCONT), 0);

    stopped = 0;
    EXPECT_THROW(database->write([&](Session& session) {
        session.script("CREATE TABLE given_up (number BIGINT)");
        stopped = pid_of(session);
        ASSERT_EQ(::kill(stopped, SIGSTOP), 0);
    }),
                 server::DatabaseAway);
    ASSERT_EQ(::kill(stopped, SIGCONT), 0);
}

TEST_P(TimeOuts, WhoWaitsForAConnectionIsToldThatThereIsNone) {
    const auto take_connections = [&](std::chrono::seconds patience, unsigned count) {
        const auto database = server::open_postgresql(options_.database, patience);
        const std::function<void(unsigned)> take = [&](unsigned left) {
            database->read([&](Session& session) {
                (void)session.query("SELECT 1");
                if (left > 1) take(left - 1);
            });
        };
        take(count);
    };
    EXPECT_NO_THROW(take_connections(std::chrono::seconds(60), 16));
    EXPECT_THROW(take_connections(std::chrono::seconds(5), 17), server::DatabaseAway);
}

INSTANTIATE_TEST_SUITE_P(SQLite, ServiceState, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, ServiceState, testing::Values("PostgreSQL"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, TimeOuts, testing::Values("PostgreSQL"));

// --- backup

class Backup : public ServiceTest {};

TEST_P(Backup, IsMadeWhileWritingAndStartsAServer) {
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    std::atomic<bool> stop = false;
    std::thread writer([&] {
        while (!stop) service_->note("writer", "session.begin", "", "{}");
    });
    service_->backup(path("backup.db"));
    stop = true;
    writer.join();
    EXPECT_THROW(service_->backup(path("backup.db")), host::ToolError);  // an older one is not overwritten
    struct stat facts {};
    ASSERT_EQ(::stat(path("backup.db").c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 0777, 0600u);

    const std::string authority = service_->ca_certificate();
    service_.reset();
    options_.database = "sqlite:" + path("backup.db");
    reopen();
    EXPECT_EQ(service_->ca_certificate(), authority);
    EXPECT_EQ(state_of(id), State::kNew);
    EXPECT_TRUE(service_->verify_audit().ok);
}

INSTANTIATE_TEST_SUITE_P(SQLite, Backup, testing::Values("SQLite"));

}  // namespace
}  // namespace gatehouse::test

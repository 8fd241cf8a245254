// How SQLite reads what the server asks each second, each minute, and with each request of an endpoint: by an index. A
// statement that reads all rows is not noticed with three endpoints, and takes seconds with a million.
#include <gmock/gmock.h>

#include <filesystem>

#include "attestation/server/database/actions.hpp"
#include "attestation/server/database/attestations.hpp"
#include "attestation/server/database/endpoints.hpp"
#include "attestation/server/database/enrollments.hpp"
#include "attestation/server/database/migrations.hpp"
#include "attestation/server/database/record.hpp"

namespace gatehouse::server {
namespace {

// Notes, of each statement, the steps of its plan that read a table from its beginning to its end.
class Explained final : public Session {
  public:
    explicit Explained(Session& under) : under_(under) {}
    Rows query_with(std::string_view sql, std::span<const Param> params) override {
        explain(sql, params);
        return under_.query_with(sql, params);
    }
    std::int64_t execute_with(std::string_view sql, std::span<const Param> params) override {
        explain(sql, params);
        return under_.execute_with(sql, params);
    }
    void script(const std::string& sql) override { under_.script(sql); }
    bool is_postgresql() const override { return false; }

    std::vector<std::string> scans;
    unsigned statements = 0;

  private:
    void explain(std::string_view sql, std::span<const Param> params) {
        ++statements;
        const std::string question = "EXPLAIN QUERY PLAN " + std::string(sql);
        for (const Row& row : under_.query_with(question, params)) {
            const auto& step = std::get<std::string>(row.at(3));
            if (step.starts_with("SCAN ") && !step.starts_with("SCAN CONSTANT"))
                scans.push_back(step + ": " + question);
        }
    }
    Session& under_;
};

class Plans : public testing::Test {
  protected:
    Plans() {
        std::string name = (std::filesystem::temp_directory_path() / "gatehouse-plans-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
        directory_ = name;
        database_ = Database::open("sqlite:" + directory_ + "/server.db");
        migrate(*database_);
    }
    ~Plans() override {
        database_.reset();
        std::error_code ignored;
        std::filesystem::remove_all(directory_, ignored);
    }
    std::vector<std::string> scans_of(const Database::Job& job) {
        std::vector<std::string> scans;
        database_->write([&](Session& session) {
            Explained explained(session);
            job(explained);
            EXPECT_GT(explained.statements, 0u);
            scans = explained.scans;
        });
        return scans;
    }

  private:
    std::string directory_;
    std::unique_ptr<Database> database_;
};

TEST_F(Plans, AScanIsSeen) {
    EXPECT_THAT(scans_of([](Session& session) { (void)session.query("SELECT * FROM endpoints WHERE hostname = 'a'"); }),
                testing::SizeIs(1));
}

TEST_F(Plans, NothingThatIsAskedEachSecondReadsAllEndpoints) {
    EXPECT_THAT(scans_of([](Session& session) {
                    (void)list_wishes(session, 1);
                    (void)list_leases_ended(session, 1, 500);
                    (void)list_unchecked(session, 1, 100);
                    (void)has_event_due(session, 1);
                }),
                testing::IsEmpty());
}

TEST_F(Plans, NothingThatIsDroppedEachMinuteIsSoughtInAllHistory) {
    EXPECT_THAT(scans_of([](Session& session) {
                    drop_runs_before(session, 1, 10'000);
                    drop_hours_before(session, 1);
                }),
                testing::IsEmpty());
}

TEST_F(Plans, NoRequestOfAnEndpointReadsMoreThanItsRows) {
    const Sha256Digest hash{};
    EXPECT_THAT(scans_of([&](Session& session) {
                    (void)id_of_certificate(session, hash);
                    (void)id_of_next_certificate(session, hash);
                    (void)find_known(session, "id");
                    (void)set_verdict(session, KnownEndpoint{}, VerdictRow{});
                    set_present_run(session, "id", 1);
                    end_run(session, 1, 1, 1);
                    end_run_of(session, "id");
                    drop_oldest_runs(session, "id", 1000);
                    (void)list_history(session, "id", 1, 50);
                    (void)find_evidence(session, "id");
                    drop_evidence(session, "id");
                    (void)take_wish(session, "id");
                    leave_state(session, "id", State::kStale, 1, "reason");
                    count_verdict(session, "id", State::kTrusted, 1);
                }),
                testing::IsEmpty());
}

}  // namespace
}  // namespace gatehouse::server

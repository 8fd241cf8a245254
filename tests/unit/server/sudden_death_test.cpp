// What the server has acknowledged is there after its process was killed at any moment.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <random>
#include <set>
#include <sstream>

#include "attestation/server/database/attestations.hpp"
#include "tests/unit/server/service_fixture.hpp"

namespace gatehouse::test {
namespace {

constexpr unsigned kRounds = 12;

class SuddenDeath : public ServiceTest {
  protected:
    // Runs the writer, kills it after it has told of `lines` writes, and returns all it has told.
    std::string killed_writer(unsigned round, std::size_t lines, const std::vector<std::string>& ids) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return "";
        const pid_t child = ::fork();
        if (child == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::dup2(ends[1], STDOUT_FILENO);
            const std::string number = "r" + std::to_string(round);
            std::vector<const char*> words{GATEHOUSE_SERVER_WRITER, options_.database.c_str(),
                                           options_.directory.c_str(), number.c_str()};
            for (const std::string& id : ids) words.push_back(id.c_str());
            words.push_back(nullptr);
            ::execv(words[0], const_cast<char**>(words.data()));
            ::_exit(127);
        }
        ::close(ends[1]);
        std::string told;
        std::array<char, 4096> part{};
        std::size_t seen = 0;
        for (ssize_t size = 0; (size = ::read(ends[0], part.data(), part.size())) > 0;) {
            told.append(part.data(), static_cast<std::size_t>(size));
            seen += static_cast<std::size_t>(std::count(part.begin(), part.begin() + size, '\n'));
            if (seen >= lines) ::kill(child, SIGKILL);  // what is in the pipe already is still read
        }
        ::close(ends[0]);
        int status = 0;
        ::waitpid(child, &status, 0);
        EXPECT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself";
        return told;
    }
};

TEST_P(SuddenDeath, LosesNoAcknowledgedWrite) {
    options_.clock = {};  // the writer's clock is the system's
    reopen();
    std::vector<std::string> ids;
    for (int i = 0; i < 4; ++i) ids.push_back(enroll(SoftwareEndpoint("pc-" + std::to_string(i))));
    std::mt19937 random(20'261'123);
    std::set<std::string> groups, notes;
    std::map<std::string, std::int64_t> nonces;
    for (unsigned round = 0; round < kRounds; ++round) {
        service_.reset();
        std::istringstream lines(killed_writer(round, 1 + random() % 120, ids));
        for (std::string line; std::getline(lines, line);) {
            std::istringstream words(line);
            std::string what, name;
            words >> what >> name;
            if (what == "group") groups.insert(name);
            if (what == "note") notes.insert(name);
            std::int64_t time = 0;
            if (what == "attested" && words >> time) nonces[name] = std::max(nonces[name], time);
        }
        reopen();
        const Service::AuditCheck check = service_->verify_audit();
        ASSERT_TRUE(check.ok) << check.fault;
    }
    ASSERT_GT(groups.size(), kRounds / 2);
    const std::vector<std::string> kept = service_->groups(kReader);
    for (const std::string& name : groups) EXPECT_TRUE(std::ranges::find(kept, name) != kept.end()) << name;
    const std::vector<std::string> audited_notes = audited("session.begin");
    const std::set<std::string> kept_notes(audited_notes.begin(), audited_notes.end());
    for (const std::string& name : notes) EXPECT_TRUE(kept_notes.contains(name)) << name;
    const std::unique_ptr<server::Database> database = server::Database::open(options_.database);
    database->read([&](server::Session& session) {
        for (const auto& [id, time] : nonces) {
            EXPECT_GE(server::find_known(session, id).value().last_nonce, time);
            EXPECT_TRUE(server::find_evidence(session, id).has_value());
        }
    });
}

INSTANTIATE_TEST_SUITE_P(SQLite, SuddenDeath, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, SuddenDeath, testing::Values("PostgreSQL"));

}  // namespace
}  // namespace gatehouse::test

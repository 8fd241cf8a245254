// Long polls while the database is out of order.
#include "attestation/server/http/connection.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>

namespace gatehouse::http {
namespace {

TEST(Waiters, OutliveADatabaseThatDoesNotAnswer) {
    char name[] = "/tmp/gatehouse-waiters-XXXXXX";
    const std::string directory = ::mkdtemp(name);
    const std::string file = directory + "/gatehouse.db";
    {
        server::ServiceOptions options;
        options.directory = directory;
        options.database = "sqlite:" + file;
        server::Service service(options);
        web::Pages pages(service);
        Log log(::open("/dev/null", O_WRONLY | O_CLOEXEC), LogFormat::kPeople, Level::kDebug);
        Application application(service, pages, log);
        sqlite3* database = nullptr;
        ASSERT_EQ(sqlite3_open(file.c_str(), &database), SQLITE_OK);
        ASSERT_EQ(sqlite3_exec(database, "DROP TABLE endpoints", nullptr, nullptr, nullptr), SQLITE_OK);
        sqlite3_close(database);

        Waiters waiters;
        int ended = 0, waits = 0;
        waiters.add("ended", Clock::now(), [&](bool wanted) { ended += wanted ? 100 : 1; });
        waiters.add("waits", Clock::now() + std::chrono::hours(1), [&](bool) { ++waits; });
        EXPECT_THROW((void)application.take_wishes([](const std::string&) { return true; }), std::exception);
        EXPECT_NO_THROW(waiters.scan(application));
        EXPECT_EQ(ended, 1);
        EXPECT_EQ(waits, 0);
        waiters.release();
        EXPECT_EQ(waits, 1);
    }
    std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace gatehouse::http

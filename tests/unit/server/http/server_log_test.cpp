#include "attestation/server/http/server_log.hpp"

#include <gmock/gmock.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "attestation/server/http/metrics.hpp"

namespace gatehouse::http {
namespace {

using testing::HasSubstr;

TEST(Log, HostileTextStaysInItsLine) {
    const Log::Fields fields = {{"path", "/a\nlevel=error \x1b[31m\xff"}};
    for (const auto format : {LogFormat::kPeople, LogFormat::kJournal, LogFormat::kJson}) {
        const auto line = log_line(format, Level::kInfo, "request", fields, 1763870000123);
        EXPECT_EQ(line.find_first_of("\n\x1b\xff"), std::string::npos) << line;
    }
}

TEST(Log, SpeaksToTheJournalAndToPrograms) {
    EXPECT_EQ(log_line(LogFormat::kJournal, Level::kWarning, "slow", {{"ms", "5"}}, 0), "<4>slow ms=5");
    EXPECT_EQ(log_line(LogFormat::kPeople, Level::kInfo, "slow", {{"a", "b c"}}, 1763870000123),
              "2025-11-23T03:53:20.123Z info slow a=\"b c\"");
    const auto json = nlohmann::json::parse(log_line(LogFormat::kJson, Level::kError, "x", {{"a", "\""}}, 0));
    EXPECT_EQ(json["level"], "error");
    EXPECT_EQ(json["a"], "\"");
}

TEST(Log, WritesAllLinesBeforeItEnds) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    {
        Log log(ends[1], LogFormat::kJournal, Level::kInfo);
        for (int i = 0; i < 100; ++i) log.write(Level::kInfo, "line");
        log.write(Level::kDebug, "not this");
    }
    ::close(ends[1]);
    std::string text(4096, '\0');
    text.resize(static_cast<std::size_t>(::read(ends[0], text.data(), text.size())));
    ::close(ends[0]);
    EXPECT_EQ(text.size(), 100 * std::string("<6>line\n").size());
}

TEST(Metrics, CountsByRouteStatusAndTime) {
    Metrics metrics({"attest", "page"});
    metrics.count(0, 200, std::chrono::milliseconds(2));
    metrics.count(0, 200, std::chrono::milliseconds(20));
    metrics.count(0, 429, std::chrono::seconds(60));
    metrics.count(1, 418, std::chrono::milliseconds(1));
    const auto text = metrics.text({.attestations = 3,
                                    .accepted = 2,
                                    .rejected = 1,
                                    .enrollments = 0,
                                    .actions_delivered = 0,
                                    .actions_failed = 0,
                                    .crls_taken = 4,
                                    .crls_unchanged = 0,
                                    .crls_failed = 5},
                                   {.fresh = 1, .trusted = 7}, {.lists = 3, .ended = 2, .failing = 1}, false);
    for (const char* line :
         {"gatehouse_http_requests_total{route=\"attest\",status=\"200\"} 2\n",
          "gatehouse_http_requests_total{route=\"attest\",status=\"429\"} 1\n",
          "gatehouse_http_requests_total{route=\"page\",status=\"other\"} 1\n",
          "gatehouse_http_request_duration_seconds_bucket{route=\"attest\",le=\"0.0025\"} 1\n",
          "gatehouse_http_request_duration_seconds_bucket{route=\"attest\",le=\"5\"} 2\n",
          "gatehouse_http_request_duration_seconds_bucket{route=\"attest\",le=\"+Inf\"} 3\n",
          "gatehouse_attestations_total{verdict=\"accepted\"} 2\n",
          "gatehouse_crl_fetches_total{outcome=\"taken\"} 4\n", "gatehouse_crl_fetches_total{outcome=\"failed\"} 5\n",
          "gatehouse_crls 3\n", "gatehouse_crls_ended 2\n", "gatehouse_crl_sources_failing 1\n",
          "gatehouse_endpoints{state=\"trusted\"} 7\n", "gatehouse_database_up 0\n"}) {
        EXPECT_THAT(text, HasSubstr(line));
    }
}

}  // namespace
}  // namespace gatehouse::http

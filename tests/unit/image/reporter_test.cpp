// What is told of several disks at once, on a terminal, in lines and as events.
#include "image/flash/reporter.hpp"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <sstream>

namespace gatehouse::flash {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kMiB = 1 << 20;

struct Told {
    explicit Told(Style style) : reporter({"image", "/dev/a\n"}, style, out, [this] { return now; }) {}
    double now = 10;
    std::ostringstream out;
    Reporter reporter;
};

TEST(Progress, SaysPhaseRateAndTimeLeft) {
    EXPECT_EQ(progress_text(Phase::kWrite, 0, 100 * kMiB, 0), "write    0 %");
    EXPECT_EQ(progress_text(Phase::kWrite, 25 * kMiB, 100 * kMiB, 5), "write   25 %  5.0 MiB/s  0:15 left");
    EXPECT_EQ(progress_text(Phase::kVerify, 1 * kMiB, 1000 * kMiB, 1), "verify   0 %  1.0 MiB/s  16:39 left");
    EXPECT_EQ(progress_text(Phase::kVerify, 100 * kMiB, 100 * kMiB, 5), "verify 100 %  20.0 MiB/s");
    EXPECT_EQ(progress_text(Phase::kTables, 0, 0, 0), "tables 100 %");
}

TEST(Progress, IsALineForEachTenthElsewhere) {
    Told told(Style::kLines);
    for (std::uint64_t done = 0; done <= 1000; ++done) told.reporter.at(1, Phase::kWrite, done, 1000);
    told.reporter.at(1, Phase::kVerify, 0, 1000);
    told.reporter.end(1, "done");
    const std::string text = told.out.str();
    EXPECT_EQ(std::ranges::count(text, '\n'), 11 + 1 + 1) << text;
    EXPECT_TRUE(text.starts_with("/dev/a\\x0a: write    0 %\n/dev/a\\x0a: write   10 %")) << text;
    EXPECT_TRUE(text.ends_with("/dev/a\\x0a: verify   0 %\n/dev/a\\x0a: done\n")) << text;
    EXPECT_EQ(text.find('\x1b'), std::string::npos);
}

TEST(Progress, DrawsALineForEachDiskOnATerminalTenTimesASecondAtMost) {
    Told told(Style::kTerminal);
    told.reporter.at(0, Phase::kCheck, 0, 10000);
    told.reporter.at(1, Phase::kWrite, 0, 10000);
    told.out.str("");
    for (std::uint64_t done = 1; done < 100; ++done) told.reporter.at(1, Phase::kWrite, done, 10000);
    EXPECT_EQ(told.out.str(), "");
    told.now += 0.2;
    told.reporter.at(1, Phase::kWrite, 100, 10000);
    EXPECT_THAT(told.out.str(), HasSubstr("\x1b[2A\r\x1b[2Kimage  check    0 %\n\r\x1b[2K/dev/a\\x0a  write    1 %"));
}

TEST(Progress, IsAnEventALineAsJson) {
    Told told(Style::kEvents);
    told.reporter.at(1, Phase::kWrite, 0, 1000);
    told.now += 2;
    told.reporter.at(1, Phase::kWrite, 500, 1000);
    told.reporter.end(1, "done");
    std::istringstream lines(told.out.str());
    std::string line;
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_TRUE(nlohmann::json::parse(line)["bytes_per_second"].is_null());
    ASSERT_TRUE(std::getline(lines, line));
    EXPECT_EQ(nlohmann::json::parse(line), (nlohmann::json{{"event", "progress"},
                                                           {"subject", "/dev/a\\x0a"},
                                                           {"phase", "write"},
                                                           {"done", 500},
                                                           {"total", 1000},
                                                           {"bytes_per_second", 250},
                                                           {"seconds_left", 2}}));
    EXPECT_FALSE(std::getline(lines, line));
}

}  // namespace
}  // namespace gatehouse::flash

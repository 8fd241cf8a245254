// The evidence matrix: one row for each way in which evidence can be wrong, and the rules that must say so,
// and no others.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <ostream>

#include "tests/unit/verifier/software_attester.hpp"

namespace gatehouse::verifier {

using test::Buffer;
using test::Sample;

struct Row {
    const char* name;
    std::vector<std::string> rules;         // that fail, all of them; none: it is accepted
    const char* word;                       // in the detail of the first of them
    std::function<void(Sample&)> before{};  // what is quoted and signed
    std::function<void(Sample&)> after{};   // what happens to it on the way, or what is expected of it
};

inline void PrintTo(const Row& row, std::ostream* out) { *out << row.name; }

inline void expect_row(Sample sample, const Row& row) {
    if (row.before) row.before(sample);
    sample.seal();
    if (row.after) row.after(sample);
    const Verdict verdict = sample.judge();
    std::vector<std::string> failed;
    for (const Finding& finding : verdict.findings) {
        if (!finding.ok) failed.push_back(finding.rule);
    }
    std::vector<std::string> wanted = row.rules;
    std::ranges::sort(wanted);
    std::vector<std::string> found = failed;
    std::ranges::sort(found);
    std::string details;
    for (const Finding& finding : verdict.findings) {
        if (!finding.ok) details += finding.rule + ": " + finding.detail + "\n";
    }
    EXPECT_EQ(found, wanted) << details;
    EXPECT_EQ(verdict.accepted(), row.rules.empty());
    if (row.rules.empty()) return;
    const auto first = std::ranges::find(verdict.findings, row.rules.front(), &Finding::rule);
    ASSERT_NE(first, verdict.findings.end());
    EXPECT_NE(first->detail.find(row.word), std::string::npos) << first->detail;
}

inline std::string row_name(const testing::TestParamInfo<Row>& info) { return info.param.name; }

// Changes and takes over an event of the sent log: 0 is the header.
inline void change_event(Sample& sample, std::size_t number, const std::function<void(Buffer&)>& change) {
    std::vector<Buffer> parts = test::split_log(sample.log);
    change(parts.at(number));
    sample.log = test::join_log(parts);
}

}  // namespace gatehouse::verifier

// What the page says of the events of a log: of none more than a digest that was quoted does.
#include "attestation/web/endpoint_evidence.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gatehouse::web {
namespace {

using testing::HasSubstr;

std::string page_of(const std::string& hashed, bool ok = true) {
    const std::string member = hashed.empty() ? "" : R"("hashed":")" + hashed + R"(",)";
    const auto view = read_verdict(R"({"events":[{"number":1,"offset":69,"pcr":8,"type":13,"name":"set root=hd0",)" +
                                   member + R"("digest":"00","ok":)" + (ok ? "true" : "false") + "}]}");
    return view ? verdict_parts(*view, Url("/endpoints/1"), true).text() : "";
}

struct Row {
    const char* name;
    const char* hashed;
    bool ok;
    const char* said;
    bool belongs;  // the event, with all that it says
};
class EventOfThePage : public testing::TestWithParam<Row> {};
TEST_P(EventOfThePage, BelongsIfItsTextIsCovered) {
    const std::string page = page_of(GetParam().hashed, GetParam().ok);
    EXPECT_THAT(page, HasSubstr(GetParam().said));
    EXPECT_EQ(page.find(">belongs<") != std::string::npos, GetParam().belongs) << page;
    EXPECT_EQ(page.find("failing-event") != std::string::npos, !GetParam().ok);
}
INSTANTIATE_TEST_SUITE_P(Rows, EventOfThePage,
                         testing::Values(Row{"Recomputed", "as logged", true, ">belongs<", true},
                                         Row{"OfAReference", "as expected", true, ">belongs<", true},
                                         Row{"OfAFile", "elsewhere", true, "the name is in none", false},
                                         Row{"OfAVariablesValue", "value alone", true, "the name is in no digest",
                                             false},
                                         Row{"NotQuoted", "not quoted", true, "nothing vouches for it", false},
                                         Row{"ThatExtendsNothing", "nothing", true, "extends nothing", false},
                                         Row{"OfAnOlderVersion", "", true, "not known whether", false},
                                         Row{"OfAWordThatNobodyKnows", "covered", true, "the name is in none", false},
                                         Row{"ThatContradictsItself", "differs", false, ">contradicts itself<", false},
                                         Row{"Missing", "elsewhere", false, ">does not belong<", false},
                                         Row{"RecomputedAndMissing", "as logged", false, ">does not belong<", false}),
                         [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace gatehouse::web

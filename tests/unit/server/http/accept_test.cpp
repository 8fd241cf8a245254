// Which form of a result an Accept asks for.
#include "attestation/server/http/accept.hpp"

#include <gmock/gmock.h>

#include "attestation/server/http/message.hpp"

namespace gatehouse::http {
namespace {

using formats::ResultForm;
using formats::ResultProfile;
using testing::HasSubstr;

constexpr const char* kIetf = R"(application/eat+jwt; eat_profile="tag:ietf.org,2026:rats/ear#03")";
constexpr const char* kVeraison = R"(application/eat+cwt;eat_profile="tag:github.com,2023:veraison/ear")";
constexpr const char* kUnknown = R"(application/eat+jwt; eat_profile="tag:example.com,2026:x")";

bool asks(std::string_view accept, ResultProfile profile, ResultForm form) {
    const auto wanted = wanted_result(accept);
    return wanted && wanted->profile == profile && wanted->form == form;
}

unsigned refusal(std::string_view accept) {
    try {
        (void)wanted_result(accept);
    } catch (const HttpError& error) {
        return error.status;
    }
    return 0;
}

TEST(Accept, NamesAProfileAndAForm) {
    EXPECT_TRUE(asks(kIetf, ResultProfile::kIetf03, ResultForm::kJwt));
    EXPECT_TRUE(asks(kVeraison, ResultProfile::kVeraison, ResultForm::kCwt));
    EXPECT_TRUE(asks("Application/EAT-JWT", ResultProfile::kIetf03, ResultForm::kJwt)) << "as the draft writes it";
    EXPECT_TRUE(asks("application/eat-cwt; eat_profile=\"tag:ietf.org,2026:rats/ear#04\"", ResultProfile::kIetf04,
                     ResultForm::kCwt));
}

TEST(Accept, OwnJsonUnlessAResultIsNamed) {
    for (const char* const accept :
         {"", " ", "*/*", "application/json", "text/html, application/*;q=0.1", "text/plain"})
        EXPECT_EQ(wanted_result(accept), std::nullopt) << accept;
}

TEST(Accept, TheHighestQualityCounts) {
    const std::string both = std::string(kIetf) + ";q=0.5, " + kVeraison + ";q=0.501";
    EXPECT_TRUE(asks(both, ResultProfile::kVeraison, ResultForm::kCwt));
    EXPECT_TRUE(asks(std::string(kIetf) + ", " + kVeraison, ResultProfile::kIetf03, ResultForm::kJwt));
    EXPECT_TRUE(asks(std::string(kUnknown) + ", " + kVeraison + ";q=0.1", ResultProfile::kVeraison, ResultForm::kCwt));
    EXPECT_EQ(wanted_result(std::string(kIetf) + ";q=0.9, application/json"), std::nullopt);
    EXPECT_EQ(refusal(std::string(kIetf) + ";q=0"), 406u);
}

TEST(Accept, NothingOfThatKindIs406AndNamesWhatThereIs) {
    EXPECT_EQ(refusal(kUnknown), 406u);
    EXPECT_EQ(refusal(R"(application/eat+cwt; eat_profile="tag:gatehouse,2026:result")"), 406u);
    EXPECT_EQ(refusal(std::string(kUnknown) + ", application/json;q=0.1"), 0u);
    try {
        (void)wanted_result(kUnknown);
        FAIL();
    } catch (const HttpError& error) {
        EXPECT_THAT(error.message, HasSubstr("tag:ietf.org,2026:rats/ear#03"));
        EXPECT_THAT(error.message, HasSubstr("tag:github.com,2023:veraison/ear"));
    }
}

TEST(Accept, RefusesWhatIsNoList) {
    std::string many = "a/b";
    for (int i = 0; i < 40; ++i) many += ",a/b";
    for (const std::string& bad :
         {std::string("json"), std::string("a/b;q"), std::string("a/b;q=2"), std::string("a/b;q=0.0001"),
          std::string("a/b;x=\"y"), std::string("a/b;x=\"y\"z"), many, std::string("a/b;q=.5")})
        EXPECT_EQ(refusal(bad), 400u) << bad;
}

}  // namespace
}  // namespace gatehouse::http

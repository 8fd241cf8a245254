// Results by others' profiles: member for member, and read by others' implementations (read_ear.py).
#include "attestation/formats/ear.hpp"

#include <gmock/gmock.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "attestation/formats/cose.hpp"
#include "attestation/formats/jose.hpp"
#include "attestation/verifier/token.hpp"
#include "tests/unit/formats/keys.hpp"

namespace gatehouse::formats {
namespace {

using host::ToolError;
using nlohmann::json;
using testing::HasSubstr;
using verifier::ResultFacts;

const Buffer kTestNonce(32, std::byte{7});

ResultFacts facts() {
    ResultFacts facts;
    facts.issuer = "gatehouse";
    facts.issued = 1'763'870'000;
    facts.expires = 1'763'870'900;
    facts.ek_hash.fill(std::byte{5});
    facts.nonce = kTestNonce;
    facts.status = verifier::Tier::kAffirming;
    facts.vector = {.instance_identity = 2, .configuration = 2, .executables = 3, .hardware = 2, .storage_opaque = -2};
    facts.policy_id = "laptops:3:00ff";
    facts.source = "hypervisor";
    return facts;
}

std::string text_of(const Buffer& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

json claims_of(const Buffer& jwt) {
    const std::string text = text_of(jwt);
    const std::size_t first = text.find('.'), last = text.rfind('.');
    const auto payload = verifier::from_base64url(std::string_view(text).substr(first + 1, last - first - 1)).value();
    return json::parse(text_of(payload));
}

class Ear : public testing::Test {
  protected:
    Buffer jwt(ResultProfile profile, const ResultFacts& from = facts()) {
        return sign_result(from, profile, ResultForm::kJwt, key_.get());
    }
    CborItem cwt(ResultProfile profile, const ResultFacts& from = facts()) {
        const Buffer message = sign_result(from, profile, ResultForm::kCwt, key_.get());
        payload_ = verify_cose(message, key_.get(), "CWT").payload;
        return read_cbor(payload_, "claims");
    }
    host::Key key_ = test::signing_key();
    Buffer payload_;
};

// draft-ietf-rats-ear-03, figures 1 and 2.
TEST_F(Ear, IetfsJwt) {
    const json claims = claims_of(jwt(ResultProfile::kIetf03));
    EXPECT_EQ(claims, json::parse(R"({
        "eat_profile": "tag:ietf.org,2026:rats/ear#03", "iat": 1763870000, "exp": 1763870900, "iss": "gatehouse",
        "ueid": "AQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUF",
        "ear_status": "affirming",
        "ear_verifier_id": {"developer": "tag:gatehouse,2026:verifier", "build": ")" GATEHOUSE_VERSION R"("},
        "submods": {"gatehouse": {
            "ear_status": "affirming",
            "ear_trustworthiness_vector": {"instance-identity": 2, "configuration": 2, "executables": 3, "hardware": 2,
                                           "storage-opaque": -2},
            "ear_appraisal_policy_ids": ["laptops:3:00ff"],
            "eat_nonce": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}}})"));
    EXPECT_EQ(claims_of(jwt(ResultProfile::kIetf04)).at("eat_profile"), "tag:ietf.org,2026:rats/ear#04");
}

TEST_F(Ear, IetfsCwt) {
    const CborItem claims = cwt(ResultProfile::kIetf03);
    EXPECT_EQ(claims.find(265)->text(), "tag:ietf.org,2026:rats/ear#03");
    EXPECT_EQ(claims.find(6)->integer(), 1'763'870'000);
    EXPECT_EQ(claims.find(4)->integer(), 1'763'870'900);
    EXPECT_EQ(claims.find(256)->bytes.size(), 33u);
    EXPECT_EQ(claims.find(1000)->integer(), 2);
    EXPECT_EQ(claims.find(1004)->find(0)->text(), "tag:gatehouse,2026:verifier");
    const CborItem& one = *claims.find(266)->find("gatehouse");
    EXPECT_EQ(one.find(1000)->integer(), 2);
    EXPECT_EQ(one.find(1001)->find(2)->integer(), 3);
    EXPECT_EQ(one.find(1001)->find(6)->integer(), -2);
    EXPECT_EQ(one.find(1001)->find(5), nullptr) << "nothing is claimed of it";
    EXPECT_EQ(one.find(1003)->items.at(0).text(), "laptops:3:00ff");
    EXPECT_EQ(one.find(10)->bytes.size(), 32u);
}

TEST_F(Ear, VeraisonsJwtHasNothingElse) {
    const json claims = claims_of(jwt(ResultProfile::kVeraison));
    EXPECT_EQ(claims, json::parse(R"({
        "eat_profile": "tag:github.com,2023:veraison/ear", "iat": 1763870000, "exp": 1763870900, "iss": "gatehouse",
        "ear.verifier-id": {"developer": "tag:gatehouse,2026:verifier", "build": ")" GATEHOUSE_VERSION R"("},
        "submods": {"gatehouse": {
            "ear.status": "affirming",
            "ear.trustworthiness-vector": {"instance-identity": 2, "configuration": 2, "executables": 3, "hardware": 2,
                                           "storage-opaque": -2},
            "ear.appraisal-policy-id": "laptops:3:00ff",
            "ear.veraison.annotated-evidence": {
                "ueid": "AQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUF", "source": "hypervisor",
                "eat_nonce": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}}}})"));
    const CborItem cbor = cwt(ResultProfile::kVeraison);
    EXPECT_EQ(cbor.find(256), nullptr);
    EXPECT_EQ(cbor.find(266)->find("gatehouse")->find(1003)->text(), "laptops:3:00ff") << "one, no array";
    EXPECT_EQ(cbor.find(266)->find("gatehouse")->find(-70000)->find("source")->text(), "hypervisor");
}

TEST_F(Ear, SaysNoBetterThanTheVector) {
    ResultFacts bad = facts();
    bad.vector.executables = 33;
    EXPECT_EQ(claims_of(jwt(ResultProfile::kIetf03, bad)).at("ear_status"), "warning");
    EXPECT_EQ(cwt(ResultProfile::kIetf03, bad).find(266)->find("gatehouse")->find(1000)->integer(), 32);
    bad.vector.executables = 99;
    EXPECT_EQ(cwt(ResultProfile::kIetf03, bad).find(1000)->integer(), 96);
}

TEST_F(Ear, LeavesOutWhatIsEmpty) {
    ResultFacts bare = facts();
    bare.vector = {};
    bare.policy_id.clear();
    bare.expires = bare.issued;
    const json claims = claims_of(jwt(ResultProfile::kIetf03, bare));
    const json& one = claims.at("submods").at("gatehouse");
    EXPECT_FALSE(claims.contains("exp")) << "it says what was seen, and stands for no time";
    EXPECT_FALSE(one.contains("ear_trustworthiness_vector")) << "a vector has one claim at least";
    EXPECT_FALSE(one.contains("ear_appraisal_policy_ids")) << "the list is not empty";
    const CborItem cbor = cwt(ResultProfile::kIetf03, bare);
    EXPECT_EQ(cbor.find(4), nullptr);
    EXPECT_EQ(cbor.find(266)->find("gatehouse")->find(1001), nullptr);
}

TEST_F(Ear, NamesItsProfiles) {
    EXPECT_EQ(result_profile("tag:github.com,2023:veraison/ear"), ResultProfile::kVeraison);
    EXPECT_EQ(result_profile("ietf"), ResultProfile::kIetf03);
    EXPECT_EQ(result_profile("tag:ietf.org,2026:rats/ear#02"), std::nullopt);
    for (const ResultProfileRow& row : kResultProfiles) {
        EXPECT_EQ(uri_of(row.profile), row.uri);
        EXPECT_THAT(result_profiles(), HasSubstr(row.uri));
    }
    EXPECT_THROW((void)sign_result(facts(), ResultProfile::kGatehouse, ResultForm::kCwt, key_.get()), ToolError);
}

TEST_F(Ear, AKeptResultIsTheSameByAnotherProfile) {
    ResultFacts given = facts();
    const KeptResult kept = read_result(verifier::make_result(given));
    EXPECT_EQ(claims_of(jwt(ResultProfile::kIetf03, kept.facts)), claims_of(jwt(ResultProfile::kIetf03, given)));
    EXPECT_EQ(claims_of(jwt(ResultProfile::kVeraison, kept.facts)), claims_of(jwt(ResultProfile::kVeraison, given)));
    given.status = verifier::Tier::kContraindicated;
    EXPECT_EQ(read_result(verifier::make_result(given)).facts.status, verifier::Tier::kContraindicated);
    for (const char* const bad : {"", "{}", "[]", R"({"submods":{"gatehouse":{}}})"})
        EXPECT_THROW((void)read_result(bad), ToolError) << bad;
}

// By PyJWT, ruby-cose (the key from the set) and Debian's cddl, by the grammar in ear.cddl.
TEST_F(Ear, OthersReadIt) {
    const std::string directory = testing::TempDir() + "ear." + std::to_string(::getpid());
    std::filesystem::create_directory(directory);
    const auto keep = [&](const std::string& name, const Buffer& content) {
        host::replace_file(directory + "/" + name, content);
    };
    const std::string jwks = json{{"keys", {public_jwk(key_.get())}}}.dump();
    host::replace_file(directory + "/jwks.json", host::text_bytes(jwks));
    ResultFacts bare = facts();
    bare.vector = {};
    bare.policy_id.clear();
    bare.ek_hash = {};
    bare.expires = bare.issued;
    for (const ResultProfileRow& row : kResultProfiles) {
        if (row.profile == ResultProfile::kGatehouse) continue;
        for (const auto& [name, which] : {std::pair{"whole", facts()}, std::pair{"bare", bare}}) {
            keep(std::string(row.name) + "." + name + ".jwt", jwt(row.profile, which));
            keep(std::string(row.name) + "." + name + ".cwt",
                 sign_result(which, row.profile, ResultForm::kCwt, key_.get()));
        }
    }
    const Buffer said = host::run_program(
        {"/usr/bin/python3", GATEHOUSE_READERS "/read_ear.py", GATEHOUSE_CDDL, directory}, {}, 1 << 16);
    EXPECT_EQ(text_of(said), "12 results read\n");
    std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace gatehouse::formats

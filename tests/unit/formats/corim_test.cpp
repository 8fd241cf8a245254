// Reference values as CoRIM: out of a prediction and back, others' PCRs in, and what must be refused.
#include "attestation/formats/corim.hpp"

#include <gmock/gmock.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "attestation/formats/jose.hpp"
#include "tests/unit/formats/keys.hpp"
#include "tests/unit/policies/appliance.hpp"

namespace gatehouse::formats {
namespace {

using host::ToolError;
using nlohmann::json;
using policies::Prediction;
using testing::Contains;
using testing::HasSubstr;

constexpr std::int64_t kNow = 1'763'870'000;

class CorimTest : public testing::Test {
  protected:
    Buffer file(const CorimFacts& facts) { return corim_file(facts, key_.get()); }
    Corim read(Bytes file) { return read_corim(file, key_.get(), kNow, "rim"); }

    // A corim-map around one CoMID, signed.
    Buffer signed_map(const Buffer& map) {
        const Buffer meta = CborWriter().map(1).integer(0).map(1).integer(0).text("ACME").out();
        return signed_with(map, {8, CborWriter().bytes(meta).out()});
    }
    Buffer signed_with(const Buffer& map, CoseParameter whose) {
        return sign_cose(map, {{3, CborWriter().text("application/rim+cbor").out()}, std::move(whose)}, key_.get());
    }
    // One reference triple of ACME's, with these measurement values.
    Buffer acme(const Buffer& values, const Buffer& more = {}, std::size_t count = 0) {
        CborWriter mid;
        mid.map(2).integer(1).map(1).integer(0).text("acme-1");
        mid.integer(4).map(1).integer(0).array(1).array(2).map(1).integer(0).map(1).integer(1).text("ACME");
        mid.array(1).map(1).integer(1).item(values);
        CborWriter map;
        map.tag(501).map(2 + count).integer(0).text("acme").integer(1).array(1).tag(506).bytes(mid.out()).item(more);
        return signed_map(map.out());
    }
    // Integrity registers of several environments, each as it stands.
    Buffer of_environments(const std::vector<Buffer>& environments) {
        CborWriter mid;
        mid.map(2).integer(1).map(1).integer(0).text("acme-1").integer(4).map(1).integer(0).array(environments.size());
        for (const Buffer& environment : environments)
            mid.array(2).item(environment).array(1).map(1).integer(1).item(registers(7, 1, digest_));
        CborWriter map;
        map.tag(501).map(2).integer(0).text("acme").integer(1).array(1).tag(506).bytes(mid.out());
        return signed_map(map.out());
    }
    static Buffer model(const char* name) { return CborWriter().map(1).integer(0).map(1).integer(2).text(name).out(); }
    static Buffer registers(std::int64_t pcr, std::int64_t algorithm, const Buffer& value) {
        CborWriter writer;
        writer.map(1).integer(14).map(1).integer(pcr).array(1).array(2).integer(algorithm).bytes(value);
        return writer.out();
    }
    std::string refusal(Bytes file) {
        try {
            (void)read(file);
        } catch (const ToolError& error) {
            return error.what();
        }
        return "accepted";
    }

    host::Key key_ = test::signing_key();
    const Buffer digest_ = Buffer(32, std::byte{0xab});
};

TEST_F(CorimTest, APredictionComesBack) {
    const test::Appliance appliance;
    const Prediction prediction = policies::predict_directory(appliance.files());
    const Corim corim = read(file({.prediction = &prediction, .vault_id = {}}));
    ASSERT_EQ(corim.launches.size(), 1u);
    EXPECT_EQ(policies::to_json(corim.launches[0]), policies::to_json(prediction));
    EXPECT_THAT(corim.id, HasSubstr(host::hex(prediction.bundle.digest)));
    EXPECT_TRUE(corim.registers.empty()) << "they follow from the events";
    EXPECT_TRUE(corim.passed_over.empty());
}

// By ruby-cose and Debian's cddl, by the grammar in corim.cddl; read_corim.py prints {PCR: SHA-256} as capped.
TEST_F(CorimTest, OthersReadIt) {
    const test::Appliance appliance;
    const Prediction prediction = policies::predict_directory(appliance.files());
    const Buffer vault(32, std::byte{3});
    const CorimFacts facts{.prediction = &prediction, .vault_id = vault};
    const std::string base = testing::TempDir() + "corim." + std::to_string(::getpid());
    host::replace_file(base, file(facts));
    const std::string jwks = json{{"keys", {public_jwk(key_.get())}}}.dump();
    host::replace_file(base + ".json", host::text_bytes(jwks));
    const Buffer said = host::run_program(
        {"/usr/bin/python3", GATEHOUSE_READERS "/read_corim.py", GATEHOUSE_CDDL, base, base + ".json"}, {}, 1 << 16);
    const json values = json::parse(std::string(reinterpret_cast<const char*>(said.data()), said.size()));
    for (const std::uint32_t pcr : {17u, 18u})
        EXPECT_EQ(values.at("capped").at(std::to_string(pcr)),
                  host::hex(prediction.capped_value(HashAlgorithm::kSha256, pcr, vault).bytes()));
    EXPECT_EQ(values.at("unseal").at("17"), host::hex(prediction.sealing_value(HashAlgorithm::kSha256, 17).bytes()));
    std::filesystem::remove(base);
    std::filesystem::remove(base + ".json");
}

TEST_F(CorimTest, OthersRegistersAreValuesOfPcrs) {
    const Corim corim = read(acme(registers(7, 1, digest_)));
    ASSERT_EQ(corim.registers.at(HashAlgorithm::kSha256).at(7).size(), 1u);
    EXPECT_EQ(host::hex(corim.registers.at(HashAlgorithm::kSha256).at(7)[0].bytes()), host::hex(digest_));
    EXPECT_TRUE(corim.launches.empty());
}

TEST_F(CorimTest, NamesWhatItPassesOver) {
    EXPECT_THAT(read(acme(registers(24, 1, digest_))).passed_over, Contains(HasSubstr("no PCR")));
    EXPECT_THAT(read(acme(registers(7, 12, digest_))).passed_over, Contains(HasSubstr("algorithm")));
    const Buffer named = CborWriter().map(1).integer(11).text("fw").out();
    EXPECT_THAT(read(acme(named)).passed_over, Contains(HasSubstr("without integrity registers")));
    CborWriter more;
    more.map(2).integer(1).integer(5).integer(14).map(1).integer(7).array(1).array(2).integer(1).bytes(digest_);
    EXPECT_THAT(read(acme(more.out())).passed_over, Contains(HasSubstr("besides its integrity registers")));
    CborWriter linked;
    linked.map(3).integer(1).map(1).integer(0).text("acme-2").integer(3).array(1).map(2).integer(0).text("acme-1");
    linked.integer(1).integer(1).integer(4).map(1).integer(0).array(1).array(2).item(
        CborWriter().map(1).integer(0).map(1).integer(1).text("ACME").out());
    linked.array(1).map(1).integer(1).item(registers(7, 1, digest_));
    CborWriter both;
    both.tag(501).map(2).integer(0).text("acme").integer(1).array(1).tag(506).bytes(linked.out());
    EXPECT_THAT(read(signed_map(both.out())).passed_over, Contains(HasSubstr("replaces or supplements")));
    CborWriter swid;
    swid.tag(501).map(2).integer(0).text("acme").integer(1).array(1).tag(505).bytes({});
    EXPECT_THAT(read(signed_map(swid.out())).passed_over, Contains(HasSubstr("505")));
}

// With it, "authorized-by", the draft's condition is met by evidence that one of these keys vouches for.
TEST_F(CorimTest, RefusesWhatIsForEvidenceOfCertainSigners) {
    const auto with = [&](const Buffer& environment, const Buffer& name, const Buffer& values) {
        CborWriter mid;
        mid.map(2).integer(1).map(1).integer(0).text("acme-1").integer(4).map(1).integer(0).array(1).array(2);
        mid.item(environment).array(2).map(2).integer(1).item(registers(0, 1, digest_));
        mid.integer(2).array(1).tag(557).array(2).integer(1).bytes(digest_).map(2).integer(0).item(name);
        mid.integer(1).item(values);
        CborWriter map;
        map.tag(501).map(2).integer(0).text("acme").integer(1).array(1).tag(506).bytes(mid.out());
        return refusal(signed_map(map.out()));
    };
    const Buffer name = CborWriter().text("fw").out();
    EXPECT_THAT(with(model("A"), name, registers(7, 1, digest_)), HasSubstr("certain signers alone (authorized-by)"));
    // Of an instance it is passed over, as all else.
    const Buffer instance = CborWriter().map(1).integer(1).tag(560).bytes(digest_).out();
    EXPECT_EQ(with(instance, name, registers(7, 1, digest_)), "accepted");
}

// What is measured of the board's controller is no alternative for what is measured of the host.
TEST_F(CorimTest, TakesOnePcrOfOneMeasuredElementAlone) {
    const auto of_elements = [&](const char* first, const char* second, std::int64_t pcr) {
        CborWriter mid;
        mid.map(2).integer(1).map(1).integer(0).text("acme-1").integer(4).map(1).integer(0).array(1).array(2);
        mid.item(model("A")).array(2);
        mid.map(2).integer(0).text(first).integer(1).item(registers(7, 1, digest_));
        mid.map(2).integer(0).text(second).integer(1).item(registers(pcr, 1, Buffer(32, std::byte{0xcd})));
        CborWriter map;
        map.tag(501).map(2).integer(0).text("acme").integer(1).array(1).tag(506).bytes(mid.out());
        return signed_map(map.out());
    };
    EXPECT_EQ(refusal(of_elements("host", "host", 7)), "accepted");
    EXPECT_EQ(refusal(of_elements("host", "loader", 8)), "accepted");
    EXPECT_THAT(refusal(of_elements("host", "bmc", 7)), HasSubstr("PCR 7 of several measured elements"));
}

// A PCR of one model with a PCR of another is nobody's reference; an instance's are not its class's.
TEST_F(CorimTest, TakesTheRegistersOfOneClassAlone) {
    const Corim one = read(of_environments({model("A"), model("A")}));
    EXPECT_EQ(one.registers.at(HashAlgorithm::kSha256).at(7).size(), 2u);
    EXPECT_THAT(refusal(of_environments({model("A"), model("B")})), HasSubstr("several environments"));
    for (const std::int64_t label : {1, 2}) {
        const Buffer lab =
            CborWriter().map(2).integer(0).map(1).integer(2).text("A").integer(label).tag(560).bytes(digest_).out();
        const Corim corim = read(of_environments({lab}));
        EXPECT_TRUE(corim.registers.empty());
        EXPECT_THAT(corim.passed_over, Contains(HasSubstr("instance or a group")));
    }
    const Buffer launch_of_one = CborWriter()
                                     .map(2)
                                     .integer(0)
                                     .map(2)
                                     .integer(1)
                                     .text("Gatehouse")
                                     .integer(2)
                                     .text("launch")
                                     .integer(1)
                                     .tag(560)
                                     .bytes(digest_)
                                     .out();
    EXPECT_THAT(read(of_environments({launch_of_one})).passed_over, Contains(HasSubstr("instance or a group")));
    const auto layer = [](std::uint8_t of) {  // a float, of which CBOR has no shortest form here
        const Buffer value = {std::byte{0xf9}, std::byte{of}, std::byte{0}};
        return CborWriter().map(1).integer(0).map(1).integer(3).item(value).out();
    };
    EXPECT_EQ(refusal(of_environments({layer(0x3c), layer(0x3c)})), "accepted");
    EXPECT_THAT(refusal(of_environments({layer(0x3c), layer(0x40)})), HasSubstr("several environments"));
    EXPECT_EQ(read(of_environments({model("A")})).environment, one.environment);
    EXPECT_NE(read(of_environments({model("B")})).environment, one.environment);
    EXPECT_THAT(refusal(of_environments({CborWriter().map(0).out()})), HasSubstr("without a class"));
    const Buffer profile = CborWriter().integer(3).text("https://example.com/profile").out();
    EXPECT_THAT(refusal(acme(registers(7, 1, digest_), profile, 1)), HasSubstr("profile"));
}

TEST_F(CorimTest, KeepsToItsValidity) {
    const auto until = [&](std::int64_t end) {
        const Buffer validity = CborWriter().integer(4).map(1).integer(1).tag(1).integer(end).out();
        return acme(registers(7, 1, digest_), validity, 1);
    };
    EXPECT_EQ(refusal(until(kNow)), "accepted");
    EXPECT_THAT(refusal(until(kNow - 1)), HasSubstr("not valid any more"));
    const Buffer from = CborWriter().integer(4).map(1).integer(0).tag(1).integer(kNow + 1).out();
    EXPECT_THAT(refusal(acme(registers(7, 1, digest_), from, 1)), HasSubstr("not valid yet"));
    const Buffer none = CborWriter().integer(4).array(0).out();
    EXPECT_THAT(refusal(acme(registers(7, 1, digest_), none, 1)), HasSubstr("no map"));
}

// The signature's, beside that of what was signed: in corim-meta, or as claims of a CWT (RFC 9597).
TEST_F(CorimTest, KeepsToTheValidityOfItsSignature) {
    const Buffer map = verify_cose(acme(registers(7, 1, digest_)), key_.get(), "rim").payload;
    const auto meta = [&](std::int64_t bound, std::int64_t time) {
        const Buffer inside = CborWriter()
                                  .map(2)
                                  .integer(0)
                                  .map(1)
                                  .integer(0)
                                  .text("ACME")
                                  .integer(1)
                                  .map(1)
                                  .integer(bound)
                                  .tag(1)
                                  .integer(time)
                                  .out();
        return signed_with(map, {8, CborWriter().bytes(inside).out()});
    };
    const auto claims = [&](std::int64_t claim, std::int64_t time) {
        return signed_with(map, {15, CborWriter().map(2).integer(1).text("ACME").integer(claim).integer(time).out()});
    };
    for (const Buffer& good : {meta(0, kNow), meta(1, kNow), claims(5, kNow), claims(4, kNow + 1)})
        EXPECT_EQ(refusal(good), "accepted");
    for (const Buffer& late : {meta(1, kNow - 1), claims(4, kNow)})
        EXPECT_THAT(refusal(late), HasSubstr("not valid any more"));
    for (const Buffer& early : {meta(0, kNow + 1), claims(5, kNow + 1)})
        EXPECT_THAT(refusal(early), HasSubstr("not valid yet"));
    EXPECT_THAT(refusal(signed_with(map, {8, CborWriter().bytes(CborWriter().array(0).out()).out()})),
                HasSubstr("no map"));
    EXPECT_THAT(refusal(signed_with(map, {8, CborWriter().map(0).out()})), HasSubstr("corim-meta"));
    EXPECT_THAT(refusal(signed_with(map, {15, CborWriter().array(0).out()})), HasSubstr("no map"));
}

TEST_F(CorimTest, RefusesWhatIsNoneOrNotSigned) {
    const Buffer good = acme(registers(7, 1, digest_));
    for (std::size_t i = 0; i < good.size(); ++i) {
        Buffer changed = good;
        changed[i] ^= std::byte{1};
        EXPECT_NE(refusal(changed), "accepted") << i;
    }
    EXPECT_THROW((void)read_corim(good, test::signing_key().get(), kNow, "rim"), ToolError);
    EXPECT_THAT(refusal(sign_cose(digest_, {}, key_.get())), HasSubstr("application/rim+cbor"));
    EXPECT_THAT(refusal(signed_map(CborWriter().map(0).out())), HasSubstr("501"));
    EXPECT_THAT(refusal(acme(registers(7, 1, Buffer(31)))), HasSubstr("wrong size"));
    EXPECT_THAT(refusal(acme(CborWriter().array(0).out())), HasSubstr("without values"));
}

TEST_F(CorimTest, ALaunchIsWholeOrRefused) {
    const test::Appliance appliance;
    Prediction prediction = policies::predict_directory(appliance.files());
    prediction.events[3].name = "other";
    EXPECT_THAT(refusal(file({.prediction = &prediction, .vault_id = {}})), HasSubstr("lacks \"kernel\""));
    prediction = policies::predict_directory(appliance.files());
    prediction.events[2].digests[1].storage[0] ^= std::byte{1};
    EXPECT_THAT(refusal(file({.prediction = &prediction, .vault_id = {}})), HasSubstr("bundle is not the one"));
}

TEST_F(CorimTest, PolicyctlMixesNoEnvironments) {
    const test::Directory directory;
    const auto path = [&](const char* name) { return directory.path() + "/" + name; };
    host::replace_file(path("public"), host::text_bytes(host::public_key_pem(key_.get())));
    host::replace_file(path("a"), of_environments({model("A")}));
    host::replace_file(path("b"), of_environments({model("B")}));
    CborWriter sha1;
    sha1.map(1).integer(14).map(1).integer(7).array(1).array(2).text("sha1").bytes(Buffer(20));
    host::replace_file(path("sha1"), acme(sha1.out()));
    const auto made = [&](const char* one, const char* other) {
        return test::run_tool("policyctl",
                              {"attestation-policy", "--name", "a", "--version", "1", "--corim", path(one), "--corim",
                               path(other), "--corim-key", path("public"), "-o", path("policy")});
    };
    EXPECT_EQ(made("a", "a").status, 0);
    EXPECT_THAT(made("a", "b").errors, HasSubstr("another environment"));
    EXPECT_THAT(made("sha1", "sha1").errors, HasSubstr("no reference values"));
}

TEST_F(CorimTest, PolicyctlWritesOneAndMakesAPolicyOfIt) {
    const test::Appliance appliance;
    const test::Directory directory;
    const auto path = [&](const char* name) { return directory.path() + "/" + name; };
    (void)host::run_program({"openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path("key")}, {},
                            4096);
    (void)host::run_program({"openssl", "ec", "-in", path("key"), "-pubout", "-out", path("public")}, {}, 4096);
    const auto run = [](const std::vector<std::string>& arguments) { return test::run_tool("policyctl", arguments); };
    const test::Outcome out =
        run({"predict", "--files", appliance.files(), "--corim", path("rim"), "--corim-key", path("key"), "--json"});
    ASSERT_EQ(out.status, 0) << out.errors;
    const test::Outcome made = run({"attestation-policy", "--name", "a", "--version", "1", "--corim", path("rim"),
                                    "--corim-key", path("public"), "-o", path("policy")});
    ASSERT_EQ(made.status, 0) << made.errors;
    const Buffer text = host::read_file(path("policy"), 1 << 20);
    const json policy = json::parse(std::string(reinterpret_cast<const char*>(text.data()), text.size()));
    EXPECT_EQ(policy.at("source"), "hypervisor");
    EXPECT_EQ(policy.at("references").at(0).at("events"), json::parse(out.output).at("events"));
    EXPECT_EQ(run({"predict", "--files", appliance.files(), "--corim", path("rim")}).status, 2) << "no key";
    EXPECT_EQ(run({"attestation-policy", "--name", "a", "--version", "1", "--corim", path("key"), "--corim-key",
                   path("public"), "-o", path("policy")})
                  .status,
              3);
}

}  // namespace
}  // namespace gatehouse::formats

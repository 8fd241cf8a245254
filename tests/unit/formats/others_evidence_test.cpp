// What other agents leave: small invented files of the exact shape. tpm2-tools' real ones are attest_others_test.sh's.
#include "attestation/formats/others_evidence.hpp"

#include <gmock/gmock.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "attestation/verifier/token.hpp"

namespace gatehouse::formats {
namespace {

using host::from_hex;
using host::hex;
using host::text_bytes;
using host::ToolError;
using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using verifier::base64;

Buffer bytes_of(std::string_view text) {
    const Bytes bytes = text_bytes(text);
    return {bytes.begin(), bytes.end()};
}

Buffer joined(std::initializer_list<Buffer> parts) {
    Buffer all;
    for (const Buffer& part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
}

// TPMS_ATTEST of a quote over PCRs 0 and 7 of a bank.
Buffer quote_of(const char* bank = "000b") {
    return from_hex(std::string("ff54434780180000") + "0004" + "6e6f6e63" + "0000000000000001" + "00000001" +
                        "00000000" + "01" + "0000000000000001" + "00000001" + bank + "03810000" + "0020" +
                        std::string(64, '1'),
                    "quote");
}

const Buffer kArea = from_hex("0023000b00050072", "area");
const Buffer kSignature = from_hex("0018000b", "signature");
const Buffer kPcr0(32, std::byte{0xa0}), kPcr7(32, std::byte{0xa7});

// tpm2_quote's "serialized": as tpm2-tools 5.4 writes it.
Buffer serialized(const std::vector<Buffer>& digests) {
    Buffer file = from_hex(
        "010000000b000381000000"
        "00",
        "file");
    file.resize(132);
    file.push_back(std::byte{1});
    file.resize(136);
    file.push_back(static_cast<std::byte>(digests.size()));
    file.resize(140);
    for (std::size_t i = 0; i < 8; ++i) {
        Buffer entry(66);
        if (i < digests.size()) {
            entry[0] = static_cast<std::byte>(digests[i].size());
            std::ranges::copy(digests[i], entry.begin() + 2);
        }
        file.insert(file.end(), entry.begin(), entry.end());
    }
    return file;
}

EvidenceFiles tools() {
    return {{"quote.out", quote_of()},
            {"sig.out", kSignature},
            {"pcrs.out", serialized({kPcr0, kPcr7})},
            {"ak.pub", joined({from_hex("0008", ""), kArea})}};
}

std::string refusal(const EvidenceFiles& files) {
    try {
        (void)read_others_evidence(files);
    } catch (const ToolError& error) {
        return error.what();
    }
    return "read";
}

TEST(ToolsEvidence, IsReadUnderItsUsualNames) {
    const OthersEvidence evidence = read_others_evidence(tools());
    EXPECT_EQ(evidence.maker, "tpm2-tools");
    EXPECT_EQ(evidence.quote, quote_of());
    EXPECT_EQ(evidence.public_area, kArea) << "without its size";
    EXPECT_EQ(evidence.pcr_values, joined({kPcr0, kPcr7}));
    EXPECT_THAT(evidence.unjudged, Contains(HasSubstr("no event log")));
    EXPECT_THAT(evidence.unjudged, Contains(HasSubstr("endorsement")));
}

TEST(ToolsEvidence, ValuesAndOtherNamesDoToo) {
    EvidenceFiles files{{"quote.msg", quote_of()},
                        {"quote.sig", kSignature},
                        {"quote.pcrs", joined({kPcr0, kPcr7})},
                        {"ak.pub", kArea},
                        {"binary_bios_measurements", bytes_of("log")}};
    EXPECT_TRUE(is_others_evidence(files));
    const OthersEvidence evidence = read_others_evidence(files);
    EXPECT_EQ(evidence.pcr_values, joined({kPcr0, kPcr7}));
    EXPECT_EQ(evidence.event_log, bytes_of("log"));
    files.erase("quote.pcrs");
    EXPECT_FALSE(is_others_evidence(files)) << "this project's own names";
}

TEST(ToolsEvidence, RefusesWhatDoesNotFit) {
    for (const char* const name : {"quote.out", "sig.out", "ak.pub"}) {
        EvidenceFiles files = tools();
        files.erase(name);
        EXPECT_THAT(refusal(files), HasSubstr(name));
    }
    EvidenceFiles files = tools();
    files["pcrs.out"] = serialized({kPcr0});
    EXPECT_THAT(refusal(files), HasSubstr("has not the PCRs"));
    files["pcrs.out"].pop_back();
    EXPECT_THAT(refusal(files), HasSubstr("neither"));
    files["pcrs.out"] = serialized({kPcr0, kPcr7});
    files["pcrs.out"][136] = std::byte{9};
    EXPECT_THAT(refusal(files), HasSubstr("neither")) << "more digests than a list has";
    files["pcrs.out"] = serialized({kPcr0, kPcr7});
    files["pcrs.out"][141] = std::byte{1};
    EXPECT_THAT(refusal(files), HasSubstr("neither")) << "a digest longer than its place";
    files = tools();
    files["ak.pub"] = bytes_of("-----BEGIN PUBLIC KEY-----\n");
    EXPECT_THAT(refusal(files), HasSubstr("PEM says nothing"));
    files = tools();
    files["quote.out"][0] = std::byte{0};
    EXPECT_THAT(refusal(files), HasSubstr("quote"));
}

json keylime() {
    const std::string quote =
        "r" + base64(quote_of()) + ":" + base64(kSignature) + ":" + base64(serialized({kPcr0, kPcr7}));
    return {{"code", 200},
            {"status", "Success"},
            {"results",
             {{"quote", quote},
              {"hash_alg", "sha256"},
              {"enc_alg", "rsa"},
              {"sign_alg", "rsassa"},
              {"pubkey", "-----BEGIN PUBLIC KEY-----"},
              {"ima_measurement_list", "10 ..."},
              {"mb_measurement_list", base64(bytes_of("log"))}}}};
}

EvidenceFiles in_json(const json& value) {
    return {{"answer.json", bytes_of(value.dump())}, {"ak.pub", joined({from_hex("0008", ""), kArea})}};
}

TEST(KeylimeEvidence, IsReadOutOfTheAgentsAnswer) {
    const OthersEvidence evidence = read_others_evidence(in_json(keylime()));
    EXPECT_EQ(evidence.maker, "Keylime");
    EXPECT_EQ(evidence.quote, quote_of());
    EXPECT_EQ(evidence.signature, kSignature);
    EXPECT_EQ(evidence.pcr_values, joined({kPcr0, kPcr7}));
    EXPECT_EQ(evidence.event_log, bytes_of("log"));
    EXPECT_THAT(evidence.unjudged, Contains(HasSubstr("IMA")));
    EXPECT_THAT(evidence.unjudged, Contains(HasSubstr("PCR 16")));
}

TEST(KeylimeEvidence, TakesTheRegistrarsKey) {
    EvidenceFiles files = in_json(keylime());
    files.erase("ak.pub");
    EXPECT_THAT(refusal(files), HasSubstr("ak.pub"));
    files["registrar.json"] =
        bytes_of(json{{"results", {{"aik_tpm", base64(joined({from_hex("0008", ""), kArea}))}}}}.dump());
    EXPECT_EQ(read_others_evidence(files).public_area, kArea);
}

TEST(KeylimeEvidence, RefusesQuotesOfAnotherForm) {
    const auto with = [](const std::string& quote) {
        json value = keylime();
        value["results"]["quote"] = quote;
        return refusal(in_json(value));
    };
    EXPECT_THAT(with("x"), HasSubstr("does not begin with r"));
    EXPECT_THAT(with("r"), HasSubstr("fewer than three"));
    EXPECT_THAT(with("rAAAA:AAAA"), HasSubstr("fewer than three"));
    EXPECT_THAT(with("rAAAA:AAAA:AAAA:AAAA"), HasSubstr("more than three"));
    EXPECT_THAT(with("rAAAA:?:AAAA"), HasSubstr("not base64"));
    EXPECT_THAT(with("reJwA:AAAA:AAAA"), HasSubstr("compressed"));
}

json go_parameters() {
    const auto pcr = [](unsigned index, const Buffer& digest, unsigned alg) {
        return json{{"Index", index}, {"Digest", base64(digest)}, {"DigestAlg", alg}};
    };
    return {{"Public", base64(kArea)},
            {"Quotes",
             {{{"Quote", base64(quote_of("0004"))}, {"Signature", base64(bytes_of("sha1"))}},
              {{"Quote", base64(quote_of())}, {"Signature", base64(kSignature)}}}},
            {"PCRs", {pcr(0, kPcr0, 5), pcr(7, kPcr7, 5), pcr(0, Buffer(20), 3)}},
            {"EventLog", base64(bytes_of("log"))}};
}

TEST(GoEvidence, TakesTheStrongestBank) {
    const OthersEvidence evidence = read_others_evidence(in_json(go_parameters()));
    EXPECT_EQ(evidence.maker, "go-attestation");
    EXPECT_EQ(evidence.quote, quote_of());
    EXPECT_EQ(evidence.signature, kSignature);
    EXPECT_EQ(evidence.pcr_values, joined({kPcr0, kPcr7}));
    EXPECT_EQ(evidence.event_log, bytes_of("log"));
    EXPECT_THAT(evidence.unjudged, Contains(HasSubstr("1 quotes of other banks")));
}

TEST(GoEvidence, SaysWhenAValueIsMissing) {
    json value = go_parameters();
    value["PCRs"].erase(1);
    const OthersEvidence evidence = read_others_evidence(in_json(value));
    EXPECT_TRUE(evidence.pcr_values.empty());
    EXPECT_THAT(evidence.unjudged, Contains(HasSubstr("not all quoted PCRs")));
}

TEST(GoEvidence, ReadsADump) {
    const json all = go_parameters();
    json dump{{"Static", {{"EKPem", ""}}}, {"AK", {{"Public", all["Public"]}}}, {"Quote", all["Quotes"][1]}};
    dump["Log"] = {{"PCRs", all["PCRs"]}, {"PCRAlg", 11}, {"Raw", all["EventLog"]}};
    const OthersEvidence evidence = read_others_evidence(in_json(dump));
    EXPECT_EQ(evidence.pcr_values, joined({kPcr0, kPcr7}));
    EXPECT_EQ(evidence.event_log, bytes_of("log"));
}

TEST(GoEvidence, RefusesMembersOfAnotherKind) {
    for (const auto& [pointer, bad] :
         {std::pair{"/PCRs/0/Digest", json("AAAA")}, std::pair{"/PCRs/0/Index", json(-1)},
          std::pair{"/PCRs/0", json(1)}, std::pair{"/Quotes", json::array()}, std::pair{"/Quotes/0", json(1)},
          std::pair{"/Quotes/1/Quote", json(7)}, std::pair{"/EventLog", json("?")}, std::pair{"/Public", json({})}}) {
        json value = go_parameters();
        value[json::json_pointer(pointer)] = bad;
        EXPECT_NE(refusal(in_json(value)), "read") << pointer;
    }
    EXPECT_THAT(refusal({{"a.json", bytes_of("{")}}), HasSubstr("not JSON"));
    EXPECT_THAT(refusal({{"a.json", bytes_of(std::string(2000, '['))}}), HasSubstr("too deeply"));
}

// One tar archive of GNU tar's.
TEST(Tar, IsReadAsTarWritesIt) {
    const std::string base = testing::TempDir() + "tar." + std::to_string(::getpid());
    std::filesystem::create_directories(base + "/inside");
    host::replace_file(base + "/inside/a", bytes_of("one"));
    host::replace_file(base + "/inside/b", Buffer(600, std::byte{7}));
    const Buffer archive = host::run_program({"tar", "-C", base, "-c", "--format=ustar", "inside"}, {}, 1 << 20);
    const EvidenceFiles files = read_tar(archive, "x");
    EXPECT_EQ(files, read_directory(base + "/inside"));
    EXPECT_EQ(files.at("a"), bytes_of("one"));
    for (std::size_t size = 0; size < 3 * 512; ++size)
        EXPECT_THROW((void)read_tar(Bytes(archive).first(size), "x"), ToolError) << size;
    Buffer changed = archive;
    changed[1] ^= std::byte{1};
    EXPECT_THROW((void)read_tar(changed, "x"), ToolError);
    const Buffer twice = host::run_program(
        {"tar", "-C", base, "-c", "--format=ustar", "inside/a", "inside/a", "--hard-dereference"}, {}, 1 << 20);
    EXPECT_THROW((void)read_tar(twice, "x"), ToolError) << "two files of one name";
    std::filesystem::remove_all(base);
}

// Python's archives are of pax, GNU tar's of its own format.
TEST(Tar, NamesThatDoNotFitTheHeaderAreWhole) {
    const std::string base = testing::TempDir() + "names." + std::to_string(::getpid());
    const std::string inside = base + "/" + std::string(60, 'd') + "/" + std::string(60, 'e');
    const std::string long_name = std::string(120, 'n') + ".json";
    std::filesystem::create_directories(inside);
    for (const std::string& name : {std::string("quote.msg"), long_name, std::string("a")})
        host::replace_file(inside + "/" + name, bytes_of(name));
    for (const char* const format : {"gnu", "pax"}) {
        SCOPED_TRACE(format);
        const Buffer archive = host::run_program(
            {"tar", "-C", base, "-c", std::string("--format=") + format, std::string(60, 'd')}, {}, 1 << 20);
        EXPECT_EQ(read_tar(archive, "x"), read_directory(inside));
    }
    std::filesystem::remove_all(base);
}

// One entry of a pax header by hand, then a file.
TEST(Tar, PaxRecordsAreReadToTheByte) {
    const auto entry = [](char kind, const std::string& name, const std::string& content) {
        std::string block(512, '\0');
        block.replace(0, name.size(), name);
        std::array<char, 16> size{};
        (void)std::snprintf(size.data(), size.size(), "%011zo", content.size());
        block.replace(124, 11, size.data(), 11);
        block[156] = kind;
        block.replace(148, 8, 8, ' ');
        unsigned sum = 0;
        for (const char one : block) sum += static_cast<unsigned char>(one);
        (void)std::snprintf(size.data(), size.size(), "%06o", sum);
        block.replace(148, 7, size.data(), 7);
        return block + content + std::string((512 - content.size() % 512) % 512, '\0');
    };
    const auto names = [&](const std::string& records) {
        std::vector<std::string> found;
        const std::string archive = entry('x', "head", records) + entry('0', "short", "x") + entry('0', "next", "y");
        for (const auto& [name, content] : read_tar(bytes_of(archive), "x")) found.push_back(name);
        return found;
    };
    EXPECT_THAT(names("14 path=d/own\n"), ElementsAre("next", "own"));
    EXPECT_THAT(names("11 mtime=1\n14 path=d/own\n"), ElementsAre("next", "own"));
    EXPECT_THAT(names(""), ElementsAre("next", "short"));
    for (const char* const bad :
         {"14 path=d/own", "15 path=d/own\n", "13 path=d/own\n", "0 path=d\n", "x", "14", "14 ", "2 ", "3 \n1",
          "-14 path=d/own\n", "99999999999999999999 a=b\n", "14path=d/owns\n", "9 size=1\n"}) {
        EXPECT_THROW((void)names(bad), ToolError) << bad;
    }
}

}  // namespace
}  // namespace gatehouse::formats

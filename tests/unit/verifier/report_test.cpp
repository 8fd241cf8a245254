// What `attest log` and `attest endorsement` show.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "attestation/tool/endorsement_report.hpp"
#include "attestation/tool/event_log_report.hpp"
#include "attestation/verifier/quick_hash.hpp"
#include "tests/unit/verifier/certificates.hpp"

namespace gatehouse::verifier {
namespace {

using test::ca_spec;
using test::ecc_key;
using test::ek_spec;
using test::issue;
using test::Issued;
using test::kNow;
using testing::HasSubstr;

constexpr std::uint32_t kAction = 0x80000007;

// A log of SHA-1 alone with one EV_EFI_ACTION of PCR 4.
Buffer log_of(std::string_view measured, std::string_view logged) {
    Buffer log(32 + logged.size());
    Writer writer(log);
    writer.u32(4);
    writer.u32(kAction);
    writer.bytes(quick_hash(HashAlgorithm::kSha1, {host::text_bytes(measured)}).bytes());
    writer.u32(static_cast<std::uint32_t>(logged.size()));
    writer.bytes(host::text_bytes(logged));
    return log;
}

TEST(LogReport, ShowsEventsAndWhatTheyReplayTo) {
    const Buffer bytes = log_of("Exit", "Exit");
    const LogReport report = inspect_log(bytes);
    EXPECT_TRUE(report.consistent);
    const nlohmann::json shown = log_json(report);
    EXPECT_EQ(shown["banks"], nlohmann::json({"sha1"}));
    ASSERT_EQ(shown["events"].size(), 1u);
    EXPECT_EQ(shown["events"][0]["hashed"], "as logged");
    EXPECT_EQ(shown["stopped"], nullptr);
    const Digest event = quick_hash(HashAlgorithm::kSha1, {host::text_bytes("Exit")});
    const Buffer zeros(20);
    EXPECT_EQ(shown["pcrs"]["sha1"]["4"], host::hex(quick_hash(HashAlgorithm::kSha1, {zeros, event.bytes()}).bytes()));
    EXPECT_FALSE(shown["pcrs"]["sha1"].contains("5"));
    EXPECT_THAT(log_text(report), HasSubstr("PCR 4  EV_EFI_ACTION"));
    EXPECT_THAT(log_text(report), HasSubstr("no Spec ID event"));
}

TEST(LogReport, NamesTheEventThatLies) {
    const Buffer bytes = log_of("Exit", "Stay");
    const LogReport report = inspect_log(bytes);
    EXPECT_FALSE(report.consistent);
    EXPECT_EQ(log_json(report)["events"][0]["hashed"], "differs");
    EXPECT_THAT(log_text(report), HasSubstr("FAIL1"));
    EXPECT_THAT(log_text(report), HasSubstr("another digest in SHA-1"));
}

TEST(LogReport, SaysWhereReadingStopped) {
    Buffer bytes = log_of("Exit", "Exit");
    bytes.pop_back();
    const LogReport report = inspect_log(bytes);
    EXPECT_FALSE(report.consistent);
    EXPECT_THAT(log_json(report)["stopped"].get<std::string>(), HasSubstr("0x"));
    EXPECT_THAT(log_text(report), HasSubstr("NOT CONSISTENT"));
}

TEST(LogReport, AnEmptyFileIsNoLog) { EXPECT_FALSE(inspect_log({}).consistent); }

TEST(LogReport, SaysWhyAFileIsNoLog) {
    const Buffer zeros(100);
    const LogReport report = inspect_log(zeros);
    EXPECT_FALSE(report.consistent);
    EXPECT_THAT(log_json(report)["stopped"].get<std::string>(), HasSubstr("no event in it"));
    EXPECT_THAT(log_text(report), HasSubstr("NOT CONSISTENT"));
}

TEST(LogReport, CountsWhatWasRecomputed) {
    const Buffer bytes = log_of("Exit", "Exit");
    EXPECT_EQ(log_json(inspect_log(bytes))["recomputed"], 1);
    Buffer retyped = log_of("Exit", "Stay");
    Writer(MutableBytes(retyped).subspan(4)).u32(0x0d);
    retyped.insert(retyped.end(), bytes.begin(), bytes.end());
    const LogReport report = inspect_log(retyped);
    EXPECT_TRUE(report.consistent) << "nothing in it shows the lie";
    EXPECT_EQ(log_json(report)["recomputed"], 1);
    EXPECT_THAT(log_text(report), HasSubstr("1 of 2 events recomputed"));
}

class EndorsementReport : public testing::Test {
  protected:
    ~EndorsementReport() override { std::filesystem::remove_all(directory); }

    std::string write(const std::string& name, Bytes bytes) const {
        const std::string path = directory + "/" + name;
        std::ofstream file(path, std::ios::binary);
        file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
        return path;
    }
    static std::string pem(const Issued& one) {
        char* text = nullptr;
        const openssl::Pointer<BIO, BIO_free> bio(BIO_new(BIO_s_mem()));
        PEM_write_bio_X509(bio.get(), one.certificate.get());
        const long size = BIO_get_mem_data(bio.get(), &text);
        return std::string(text, static_cast<std::size_t>(size));
    }

    static std::string new_directory() {
        std::string path = testing::TempDir() + "endorsement-report-" + std::to_string(::getpid());
        std::filesystem::create_directories(path);
        return path;
    }

    std::string directory = new_directory();
    Issued root = issue(ca_spec("Vendor Root"), ecc_key("P-384"));
    Issued intermediate = issue(ca_spec("Vendor EK CA"), ecc_key(), &root);
    Issued ek = issue(ek_spec(), ecc_key(), &intermediate);
    Buffer area = test::ek_public_area(ek.key.get());
    EndorsementRequest request{.certificate = write("ek.der", ek.der()),
                               .public_area = write("ek.pub", area),
                               .roots = {write("root.der", root.der())},
                               .intermediates = {},
                               .revocations = {},
                               .chain = {}};
};

TEST_F(EndorsementReport, TakesDerAndPemAndSizedPublicAreas) {
    const std::string both = pem(intermediate) + pem(root);
    request.intermediates = {write("several.pem", host::text_bytes(both))};
    request.certificate = write("ek.pem", host::text_bytes(pem(ek)));
    Buffer sized(2 + area.size());
    Writer writer(sized, Endian::kBig);
    writer.u16(static_cast<std::uint16_t>(area.size()));
    writer.bytes(area);
    request.public_area = write("ek.tss", sized);
    const EndorsementVerdict verdict = inspect_endorsement(request, kNow);
    EXPECT_TRUE(verdict.accepted());
    const nlohmann::json shown = endorsement_json(request, verdict);
    EXPECT_EQ(shown["accepted"], true);
    EXPECT_EQ(shown["ek_hash"], host::hex(endorsement_hash(area)));
}

TEST_F(EndorsementReport, NamesTheRuleThatFails) {
    const EndorsementVerdict verdict = inspect_endorsement(request, kNow);
    EXPECT_FALSE(verdict.accepted());
    EXPECT_THAT(endorsement_json(request, verdict).dump(), HasSubstr("Vendor EK CA"));
    request.intermediates = {write("ca.der", intermediate.der())};
    EXPECT_TRUE(inspect_endorsement(request, kNow).accepted());
    request.revocations = {write("crl.der", test::revoke(intermediate, {&ek})),
                           write("root-crl.der", test::revoke(root, {}))};
    EXPECT_FALSE(inspect_endorsement(request, kNow).accepted());
}

TEST_F(EndorsementReport, OneUnreadableCertificateDoesNotHideTheOthersOfABundle) {
    const std::string broken = "-----BEGIN CERTIFICATE-----\nMII!\n-----END CERTIFICATE-----\n";
    const std::string bundle = pem(root) + broken + std::string(1 << 20, '#') + "\n" + pem(intermediate);
    request.intermediates = {write("bundle.pem", host::text_bytes(bundle))};
    const EndorsementVerdict verdict = inspect_endorsement(request, kNow);
    EXPECT_TRUE(verdict.accepted());
    EXPECT_THAT(verdict.quirks, testing::Contains(HasSubstr("passed over of what was given: intermediate 2: not a")));
}

TEST_F(EndorsementReport, NamesTheFileThatHoldsSomethingElse) {
    request.roots = {
        write("key.pem", host::text_bytes("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"))};
    try {
        (void)inspect_endorsement(request, kNow);
        FAIL() << "accepted";
    } catch (const host::ToolError& error) {
        EXPECT_THAT(error.what(), HasSubstr("key.pem: no CERTIFICATE"));
    }
}

}  // namespace
}  // namespace gatehouse::verifier

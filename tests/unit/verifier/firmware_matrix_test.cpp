// The evidence matrix, evidence of a TPM alone: PCR values, firmware log, policy.
#include "tests/unit/verifier/evidence_matrix.hpp"

namespace gatehouse::verifier {
namespace {

using test::filler;

class FirmwareMatrix : public testing::TestWithParam<Row> {};
TEST_P(FirmwareMatrix, IsRefusedForTheRightReason) { expect_row(Sample::of_tpm(), GetParam()); }

constexpr std::size_t kDataAt = 12 + 2 + 20 + 2 + 32 + 4;  // in an event of the sample's log (SHA-1, SHA-256)
constexpr std::size_t kSha256At = 12 + 2 + 20 + 2;
// Numbers of events in the sample's log; 0 is the header.
constexpr std::size_t kLocality = 1;
constexpr std::size_t kVersion = 2;
constexpr std::size_t kVariable = 4;
constexpr std::size_t kBootLoader = 14;
constexpr std::size_t kGrub = 15;

Row data_changed(const char* name, std::size_t event, const char* word) {
    return {name, {"events"}, word, {}, [event](Sample& s) {
                change_event(s, event, [](Buffer& bytes) { bytes.at(kDataAt) ^= std::byte{1}; });
            }};
}

const std::vector<Row> kRows{
    {"Untampered", {}, ""},
    {"UntamperedWithoutALog", {}, "", {}, [](Sample& s) { s.log.clear(); }},
    {"UntamperedWithoutValues",
     {"log", "pcrs"},
     "does not replay",
     [](Sample& s) { s.events[0].data.back() = std::byte{0}; },
     [](Sample& s) { s.pcr_values.clear(); }},
    {"PaddedLogIsAQuirk", {}, "", {}, [](Sample& s) { s.log.resize(s.log.size() + 100); }},
    {"MissingLocalityIsAQuirk",
     {},
     "",
     {},
     [](Sample& s) {
         std::vector<Buffer> parts = test::split_log(s.log);
         parts.erase(parts.begin() + kLocality);
         s.log = test::join_log(parts);
     }},
    {"OperatingSystemExtendedPcr8",
     {},
     "",
     [](Sample& s) {
         s.logged = s.events;
         s.events.push_back({8, 0x0d, filler("later"), filler("later")});
     }},
    {"WrongNonce", {"nonce"}, "not made for this nonce", {}, [](Sample& s) { s.nonce[0] ^= std::byte{1}; }},
    {"ValuesOfAnotherQuote",
     {"log", "pcrs"},
     "not those quoted",
     {},
     [](Sample& s) { s.pcr_values[5] ^= std::byte{1}; }},
    {"ValuesSwapped",
     {"log", "pcrs"},
     "not those quoted",
     {},
     [](Sample& s) { std::rotate(s.pcr_values.begin(), s.pcr_values.begin() + 32, s.pcr_values.begin() + 64); }},
    {"ValuesTooFew", {"log", "pcrs"}, "truncated", {}, [](Sample& s) { s.pcr_values.resize(32 * 8); }},
    {"ValuesTooMany", {"log", "pcrs"}, "trailing", {}, [](Sample& s) { s.pcr_values.resize(32 * 10); }},
    {"NeitherValuesNorLog",
     {"log", "pcrs"},
     "neither",
     {},
     [](Sample& s) {
         s.pcr_values.clear();
         s.log.clear();
     }},
    {"ValueThatThePolicyDoesNotList",
     {"pcrs"},
     "sha256 PCR 4 is",
     [](Sample& s) { s.events[13].measured = filler("another boot loader"); }},
    {"PcrOfThePolicyNotQuoted",
     {"selection", "pcrs"},
     "sha256 PCR 7 is not quoted",
     [](Sample& s) { s.attest.selections[0].pcrs = 0x7f; }},
    {"BankOfThePolicyNotQuoted",
     {"selection", "pcrs"},
     "not quoted",
     [](Sample& s) { s.attest.selections[0].bank = HashAlgorithm::kSha384; }},
    {"BankQuotedTwice",
     {"selection"},
     "twice",
     [](Sample& s) { s.attest.selections.push_back(s.attest.selections[0]); }},
    {"UnknownBankQuoted",
     {"log", "pcrs"},
     "unknown algorithm",
     [](Sample& s) {
         s.attest.selections.push_back({static_cast<HashAlgorithm>(0x27), 1});
     }},
    {"LogLacksAnEvent",
     {"log"},
     "sha256 PCR 4",
     {},
     [](Sample& s) {
         std::vector<Buffer> parts = test::split_log(s.log);
         parts.erase(parts.begin() + kBootLoader);
         s.log = test::join_log(parts);
     }},
    {"LogDigestChanged",
     {"log"},
     "sha256 PCR 4",
     {},
     [](Sample& s) { change_event(s, kBootLoader, [](Buffer& e) { e[kSha256At] ^= std::byte{1}; }); }},
    {"LogEventMovedToAnotherPcr",
     {"log"},
     "sha256 PCR 2",
     {},
     [](Sample& s) { change_event(s, kBootLoader, [](Buffer& e) { e[0] = std::byte{2}; }); }},
    {"LogCutInADigest", {"log", "events", "pcrs"}, "truncated", {}, [](Sample& s) { test::cut_off(s.log, 60); }},
    {"LogOfNoKnownForm", {"log", "events", "pcrs"}, "truncated", {}, [](Sample& s) { s.log = filler("x", 31); }},
    data_changed("VersionTextChanged", kVersion, "EV_S_CRTM_VERSION"),
    data_changed("VariableChanged", kVariable, "EV_EFI_VARIABLE_DRIVER_CONFIG"),
    data_changed("ActionTextChanged", 5, "EV_EFI_ACTION"),
    data_changed("SeparatorChanged", 6, "EV_SEPARATOR"),
    {"BootLoaderTextThatWasNotHashed",
     {},
     "",
     {},
     [](Sample& s) { change_event(s, kGrub, [](Buffer& e) { e.at(kDataAt + 15) ^= std::byte{1}; }); }},
    {"ClaimedToBeAHypervisors",
     {"ak", "source", "selection", "events", "claims", "policy", "iommu", "counter", "version", "vault id", "vault pin",
      "vault", "machine", "acpi"},
     "locality 2",
     {},
     [](Sample& s) { s.source = Source::kHypervisor; }},
    // The guest of a good launch asks the TPM with a key of its own, and writes the claims itself.
    {"HypervisorsClaimsUnderAnyKey",
     {"ak", "signer"},
     "locality 2",
     [](Sample& s) {
         const test::KeyFields key = s.key_fields;
         s = Sample::of_hypervisor();
         s.key_fields = key;
         s.srk_name = test::some_name("the guest's own SRK");
     }},
    {"ForAHypervisorPolicy",
     {"source", "pcrs"},
     "wants a hypervisor",
     {},
     [](Sample& s) { s.policy = Sample::of_hypervisor().policy; }},
    {"EmptyPolicy", {"reference", "pcrs"}, "expects nothing", {}, [](Sample& s) { s.policy.pcrs.clear(); }},
    {"NoPolicy",
     {"reference", "source", "selection", "pcrs"},
     "nothing is accepted",
     {},
     [](Sample& s) { s.with_policy = false; }},
};
INSTANTIATE_TEST_SUITE_P(Tpm, FirmwareMatrix, testing::ValuesIn(kRows), row_name);

TEST(FirmwareCoverage, CountsWhatWasComparedOrRecomputed) {
    Sample sample = Sample::of_tpm();
    sample.seal();
    const Coverage coverage = sample.judge().coverage;
    EXPECT_EQ(coverage.events, 14u);  // all but the start-up locality
    EXPECT_EQ(coverage.events_judged,
              14u);  // 12 by their data; the firmware volume and the boot loader by PCRs 0 and 4
    EXPECT_EQ(coverage.pcrs, 9u);
    EXPECT_EQ(coverage.pcrs_judged, 3u);
}

// What nobody measured can be logged by anybody.
TEST(FirmwareCoverage, LeavesOutEventsThatTheQuoteDoesNotVouchFor) {
    Sample sample = Sample::of_tpm();
    sample.attest.selections = {{HashAlgorithm::kSha256, 1u << 4}};
    std::erase_if(sample.policy.pcrs[HashAlgorithm::kSha256], [](const auto& pcr) { return pcr.first != 4; });
    sample.seal();
    const Verdict verdict = sample.judge();
    EXPECT_TRUE(verdict.accepted());
    EXPECT_EQ(verdict.coverage.events, 14u);
    EXPECT_EQ(verdict.coverage.events_judged, 3u);
}

TEST(FirmwareCoverage, LeavesOutAnEventWithoutADigestOfTheQuotedBank) {
    Sample sample = Sample::of_tpm();
    sample.seal();
    std::vector<Buffer> parts = test::split_log(sample.log);
    parts.push_back(parts.at(kBootLoader));
    Buffer& phantom = parts.back();
    phantom[8] = std::byte{1};  // SHA-1's digest alone
    phantom.erase(phantom.begin() + 12 + 2 + 20, phantom.begin() + kSha256At + 32);
    sample.log = test::join_log(parts);
    const Verdict verdict = sample.judge(true);
    EXPECT_TRUE(verdict.accepted());
    EXPECT_EQ(verdict.coverage.events, 15u);
    EXPECT_EQ(verdict.coverage.events_judged, 14u);
    EXPECT_TRUE(verdict.events[13].ok);
    EXPECT_FALSE(verdict.events.back().ok);
}

TEST(FirmwareViews, ShowExpectedAndFoundSideBySide) {
    Sample sample = Sample::of_tpm();
    sample.events[13].measured = filler("another boot loader");
    sample.seal();
    const Verdict verdict = sample.judge();
    ASSERT_EQ(verdict.pcrs.size(), 9u);
    EXPECT_EQ(verdict.pcrs[0].expected, verdict.pcrs[0].found);
    EXPECT_NE(verdict.pcrs[4].expected, verdict.pcrs[4].found);
    EXPECT_TRUE(verdict.pcrs[1].expected.empty());
    EXPECT_EQ(verdict.events[3].name, "SecureBoot");
}

}  // namespace
}  // namespace gatehouse::verifier

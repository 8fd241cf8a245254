// The evidence matrix, quotes: key, signature, signer, nonce, clock, firmware version, selection.
#include "tests/unit/verifier/evidence_matrix.hpp"

namespace gatehouse::verifier {
namespace {

using evidence::Claims;
using test::ecdsa_signature;
using test::filler;

constexpr std::uint32_t kLaunch = 3u << 17;
// What fails where the quote cannot be read at all.
const std::vector<std::string> kUnreadable{"quote", "signer", "nonce", "clock", "firmware", "selection", "log"};
const std::vector<std::string> kUnreadableAndForged{"quote", "signature", "signer",    "nonce",
                                                    "clock", "firmware",  "selection", "log"};

void earlier_quote(Sample& sample) { sample.remember(); }
// r and s of the sent signature, 32 bytes each.
Buffer number(const Sample& sample, bool second) {
    const Signature signature = *parse_signature(sample.signature);
    const Bytes bytes = second ? signature.s : signature.r;
    Buffer padded(32 - bytes.size());
    padded.insert(padded.end(), bytes.begin(), bytes.end());
    return padded;
}
void reseal_with_key(Sample& sample, const std::function<void(test::KeyFields&)>& change) { change(sample.key_fields); }
Row key_row(const char* name, const char* word, void (*change)(test::KeyFields&)) {
    return {name, {"ak"}, word, [change](Sample& s) { reseal_with_key(s, change); }};
}
Row type_row(const char* name, std::uint16_t tag, const char* word) {
    return {name, kUnreadable, word, [tag](Sample& s) { s.attest.type = tag; }};
}

class QuoteMatrix : public testing::TestWithParam<Row> {};
TEST_P(QuoteMatrix, IsRefusedForTheRightReason) { expect_row(Sample::of_hypervisor(), GetParam()); }

const std::vector<Row> kAccepted{
    {"Untampered", {}, ""},
    {"UntamperedAfterAnEarlierQuote", {}, "", {}, earlier_quote},
    {"Sha256BankAlone", {}, "", [](Sample& s) { s.attest.selections.pop_back(); }},
    {"ClockOneSlackBackAfterPowerLoss",
     {},
     "",
     [](Sample& s) { s.attest.safe = 0; },
     [](Sample& s) {
         s.remember();
         s.known.clock += 1u << 22;
         s.known.reset_count -= 1;
     }},
    {"ResetCountAcrossItsObfuscatedWrap",
     {},
     "",
     [](Sample& s) { s.attest.reset_count = 1; },
     [](Sample& s) {
         s.remember();
         s.known.reset_count = 0xffffffff;
     }},
    {"RestartCountSmallerAfterAReset",
     {},
     "",
     {},
     [](Sample& s) {
         s.remember();
         s.known.reset_count -= 1;
         s.known.restart_count += 9;
     }},
};

const std::vector<Row> kNonce{
    {"WrongNonce", {"nonce"}, "not made for this nonce", {}, [](Sample& s) { s.nonce[31] ^= std::byte{1}; }},
    {"ReplayedQuote",
     {"nonce"},
     "not made for this nonce",
     {},
     [](Sample& s) {
         s.remember();
         s.nonce = filler("the next nonce");
     }},
    {"NonceTooShort", {"nonce"}, "16 to 64", [](Sample& s) { s.nonce.resize(15); }},
    {"NonceTooLong", {"nonce"}, "16 to 64", [](Sample& s) { s.nonce.resize(65); }},
    {"ExtraDataEmpty", {"nonce"}, "0 bytes", [](Sample& s) { s.quoted_extra_data = Buffer{}; }},
    {"ExtraDataLonger", {"nonce"}, "33 bytes", [](Sample& s) { s.quoted_extra_data = filler("x", 33); }},
    {"ExtraDataShorter", {"nonce"}, "31 bytes", [](Sample& s) { s.quoted_extra_data = filler("x", 31); }},
    {"NonceHashedWithoutClaims",
     {"nonce"},
     "not made for",
     [](Sample& s) {
         const Sha256Digest digest = sha256(s.nonce);
         s.quoted_extra_data = Buffer(digest.begin(), digest.end());
     }},
    {"NonceQuotedWithoutClaims", {"nonce"}, "not made for", [](Sample& s) { s.quoted_extra_data = s.nonce; }},
};

const std::vector<Row> kKey{
    {"SignedByAnotherKey",
     {"signature"},
     "not made by the enrolled",
     {},
     [](Sample& s) { s.signature = test::sign(test::make_software_key().get(), s.quote); }},
    {"OtherKeyEnrolled",
     {"signature", "signer"},
     "not made by the enrolled",
     {},
     [](Sample& s) { s.enrolled = s.key_fields.marshal(test::make_software_key().get()); }},
    key_row("UnrestrictedKey", "restricted", [](test::KeyFields& k) { k.clear(Attribute::kRestricted); }),
    key_row("DecryptionKey", "decrypt is set", [](test::KeyFields& k) { k.set(Attribute::kDecrypt); }),
    key_row("KeyThatDoesNotSign", "sign is clear", [](test::KeyFields& k) { k.clear(Attribute::kSign); }),
    key_row("KeyWithoutFixedTpm", "fixedTPM", [](test::KeyFields& k) { k.clear(Attribute::kFixedTpm); }),
    key_row("KeyWithoutFixedParent", "fixedParent", [](test::KeyFields& k) { k.clear(Attribute::kFixedParent); }),
    key_row("ImportedKey", "sensitiveDataOrigin", [](test::KeyFields& k) { k.clear(Attribute::kSensitiveDataOrigin); }),
    key_row("KeyUsableWithAnAuthorization", "userWithAuth",
            [](test::KeyFields& k) { k.set(Attribute::kUserWithAuth); }),
    key_row("KeyOfAnotherLocality", "locality", [](test::KeyFields& k) { k.policy = filler("locality 3"); }),
    key_row("KeyWithoutPolicy", "empty", [](test::KeyFields& k) { k.policy.clear(); }),
};

const std::vector<Row> kSignature{
    {"SignatureBitFlipped", {"signature"}, "not made by", {}, [](Sample& s) { s.signature.back() ^= std::byte{1}; }},
    {"SignatureRZero",
     {"signature"},
     "not made by",
     {},
     [](Sample& s) { s.signature = ecdsa_signature(Buffer(32), number(s, true)); }},
    {"SignatureSZero",
     {"signature"},
     "not made by",
     {},
     [](Sample& s) { s.signature = ecdsa_signature(number(s, false), Buffer(32)); }},
    {"SignatureEmptyNumbers",
     {"signature"},
     "not made by",
     {},
     [](Sample& s) { s.signature = ecdsa_signature({}, {}); }},
    {"SignatureNumbersSwapped",
     {"signature"},
     "not made by",
     {},
     [](Sample& s) { s.signature = ecdsa_signature(number(s, true), number(s, false)); }},
    {"SignatureRLonger",
     {"signature"},
     "longer than 32",
     {},
     [](Sample& s) {
         Buffer r = number(s, false);
         r.insert(r.begin(), std::byte{0});
         s.signature = ecdsa_signature(r, number(s, true));
     }},
    {"SignatureRAllOnes",
     {"signature"},
     "not made by",
     {},
     [](Sample& s) { s.signature = ecdsa_signature(Buffer(32, std::byte{0xff}), number(s, true)); }},
    {"SignatureTrailingByte", {"signature"}, "trailing", {}, [](Sample& s) { s.signature.push_back(std::byte{0}); }},
    {"SignatureTruncated", {"signature"}, "truncated", {}, [](Sample& s) { s.signature.pop_back(); }},
    {"SignatureMissing", {"signature"}, "truncated", {}, [](Sample& s) { s.signature.clear(); }},
    {"SignatureOfAnotherScheme",
     {"signature"},
     "RSASSA",
     {},
     [](Sample& s) { s.signature = test::sign(test::make_software_key("RSA").get(), s.quote, 0x0014); }},
    {"SignatureOfAnUnknownScheme",
     {"signature"},
     "scheme",
     {},
     [](Sample& s) { s.signature[1] = std::byte{0x1b}; }},  // SM2
    {"SignatureWithSha384",
     {"signature"},
     "another hash",
     {},
     [](Sample& s) { s.signature = test::sign(s.key(), s.quote, 0x0018, HashAlgorithm::kSha384); }},
    {"SignatureThatSaysSha384", {"signature"}, "another hash", {}, [](Sample& s) { s.signature[3] = std::byte{0x0c}; }},
    {"SignatureThatSaysSha1", {"signature"}, "hash is not", {}, [](Sample& s) { s.signature[3] = std::byte{4}; }},
};

const std::vector<Row> kQuote{
    {"NotMadeByATpm", kUnreadable, "not generated by a TPM", [](Sample& s) { s.attest.magic = 0xff544348; }},
    type_row("CertifyInPlaceOfAQuote", 0x8017, "certify"),
    type_row("CreationInPlaceOfAQuote", 0x801a, "creation"),
    type_row("TimeInPlaceOfAQuote", 0x8019, "time"),
    type_row("SessionAuditInPlaceOfAQuote", 0x8016, "session audit"),
    type_row("NvCertifyInPlaceOfAQuote", 0x8014, "NV certify"),
    type_row("UnknownStructure", 0x8001, "unknown"),
    {"QuoteTrailingByte", kUnreadableAndForged, "trailing", {}, [](Sample& s) { s.quote.push_back(std::byte{0}); }},
    {"QuoteTruncated", kUnreadableAndForged, "truncated", {}, [](Sample& s) { s.quote.pop_back(); }},
    {"QuoteEmpty", kUnreadableAndForged, "truncated", {}, [](Sample& s) { s.quote.clear(); }},
    {"SafeIsNoBoolean", kUnreadable, "safe", [](Sample& s) { s.attest.safe = 2; }},
    {"TooManySelections", kUnreadable, "number of PCR selections", [](Sample& s) { s.attest.selections.resize(17); }},
    {"PcrBitmapTooLong", kUnreadable, "PCR selection", [](Sample& s) { s.attest.bitmap_size = 5; }},
    {"ClockInTheQuoteChanged",
     {"signature"},
     "not made by",
     {},
     [](Sample& s) { s.quote[8 + 34 + 2 + 32 + 7] ^= std::byte{1}; }},
};

const std::vector<Row> kSigner{
    {"ChildOfAnotherSrk", {"signer"}, "SRK", [](Sample& s) { s.srk_name = test::some_name("another SRK"); }},
    {"AnotherKeyOfTheSrkQuoted",
     {"signer"},
     "SRK",
     [](Sample& s) {
         s.quoted_signer = Buffer{std::byte{0}, std::byte{0xb}};
         const Buffer digest = filler("another key");
         s.quoted_signer->insert(s.quoted_signer->end(), digest.begin(), digest.end());
     }},
    {"SignerOfAnotherNameAlgorithm", {"signer"}, "another kind", [](Sample& s) { s.quoted_signer = filler("x", 50); }},
    {"SignerEmpty", {"signer"}, "another kind", [](Sample& s) { s.quoted_signer = Buffer{}; }},
    {"SignerOtherThanInEarlierQuotes",
     {"signer"},
     "earlier quotes",
     {},
     [](Sample& s) {
         s.remember();
         s.known.qualified_signer.back() ^= std::byte{1};
     }},
};

const std::vector<Row> kClock{
    {"ClockBack",
     {"clock"},
     "clock went back by 1 ms",
     {},
     [](Sample& s) {
         s.remember();
         s.known.clock += 1;
     }},
    {"ClockBackAfterAnOrderlyReset",
     {"clock"},
     "clock went back",
     {},
     [](Sample& s) {
         s.remember();
         s.known.clock += 1;
         s.known.reset_count -= 1;
     }},
    {"ClockTooFarBackAfterPowerLoss",
     {"clock"},
     "clock went back",
     [](Sample& s) { s.attest.safe = 0; },
     [](Sample& s) {
         s.remember();
         s.known.clock += (1u << 22) + 1;
         s.known.reset_count -= 1;
     }},
    {"ClockBackInTheSameBootThoughNotSafe",
     {"clock"},
     "clock went back",
     [](Sample& s) { s.attest.safe = 0; },
     [](Sample& s) {
         s.remember();
         s.known.clock += 1;
     }},
    {"ClockThatNoTpmCanShow", {"clock"}, "later than any", [](Sample& s) { s.attest.clock = 0xffff'0000'0000'0000; }},
    {"ResetCountBack",
     {"clock"},
     "resetCount went back by 1",
     {},
     [](Sample& s) {
         s.remember();
         s.known.reset_count += 1;
     }},
    {"ResetCountImplausible",
     {"clock"},
     "not plausible",
     {},
     [](Sample& s) {
         s.remember();
         s.known.reset_count -= (1u << 20) + 1;
     }},
    {"RestartCountBack",
     {"clock"},
     "restartCount went back by 2",
     {},
     [](Sample& s) {
         s.remember();
         s.known.restart_count += 2;
     }},
    {"RestartCountImplausible",
     {"clock"},
     "not plausible",
     {},
     [](Sample& s) {
         s.remember();
         s.known.restart_count -= (1u << 20) + 1;
     }},
    {"FirmwareVersionChanged",
     {"firmware"},
     "changed after enrollment",
     {},
     [](Sample& s) {
         s.remember();
         s.known.firmware_version += 1;
     }},
    {"FirmwareVersionNotListed",
     {"firmware"},
     "not in the policy's list",
     {},
     [](Sample& s) {
         s.policy.tpm_firmware = {1, 2};
     }},
};

const std::vector<Row> kSelection{
    {"Pcr18LeftOut",
     {"selection"},
     "17, 18 and 19",
     [](Sample& s) {
         s.attest.selections = {{HashAlgorithm::kSha256, 1u << 17}};
     }},
    {"Pcr17LeftOutOfOneBank", {"selection"}, "sha384", [](Sample& s) { s.attest.selections[1].pcrs = 1u << 18; }},
    {"OtherBankInPlaceOfSha256",
     {"selection"},
     "sha384",
     [](Sample& s) {
         s.attest.selections = {{HashAlgorithm::kSha384, kLaunch}};
     }},
    {"FurtherPcrQuoted", {"selection"}, "no others", [](Sample& s) { s.attest.selections[0].pcrs |= 1u << 16; }},
    {"BankQuotedTwice", {"selection"}, "twice", [](Sample& s) { s.attest.selections[1] = s.attest.selections[0]; }},
    {"NothingQuoted", {"selection", "log"}, "nothing is quoted", [](Sample& s) { s.attest.selections.clear(); }},
    {"BankOutsideOfTheLog",
     {"selection", "log"},
     "sha512",
     [](Sample& s) {
         s.attest.selections.push_back({HashAlgorithm::kSha512, kLaunch});
     }},
    {"BankThatCannotBeComputed",
     {"selection", "log"},
     "sm3_256",
     [](Sample& s) {
         s.attest.selections.push_back({HashAlgorithm::kSm3_256, kLaunch});
     }},
};

INSTANTIATE_TEST_SUITE_P(Accepted, QuoteMatrix, testing::ValuesIn(kAccepted), row_name);
INSTANTIATE_TEST_SUITE_P(Nonce, QuoteMatrix, testing::ValuesIn(kNonce), row_name);
INSTANTIATE_TEST_SUITE_P(Key, QuoteMatrix, testing::ValuesIn(kKey), row_name);
INSTANTIATE_TEST_SUITE_P(Signature, QuoteMatrix, testing::ValuesIn(kSignature), row_name);
INSTANTIATE_TEST_SUITE_P(Quote, QuoteMatrix, testing::ValuesIn(kQuote), row_name);
INSTANTIATE_TEST_SUITE_P(Signer, QuoteMatrix, testing::ValuesIn(kSigner), row_name);
INSTANTIATE_TEST_SUITE_P(Clock, QuoteMatrix, testing::ValuesIn(kClock), row_name);
INSTANTIATE_TEST_SUITE_P(Selection, QuoteMatrix, testing::ValuesIn(kSelection), row_name);

// What an appraisal leaves for the next one.
TEST(TpmStateAfterAppraisal, IsThatOfTheQuote) {
    Sample sample = Sample::of_hypervisor();
    sample.seal();
    const Verdict verdict = sample.judge();
    ASSERT_TRUE(verdict.tpm.has_value());
    EXPECT_EQ(verdict.tpm->qualified_signer, sample.attest.qualified_signer);
    EXPECT_EQ(verdict.tpm->clock, sample.attest.clock);
    EXPECT_EQ(verdict.tpm->reset_count, sample.attest.reset_count);
}

TEST(TpmStateAfterAppraisal, IsNotTakenFromAQuoteThatIsNotAuthentic) {
    Sample sample = Sample::of_hypervisor();
    sample.seal();
    sample.signature.back() ^= std::byte{1};
    EXPECT_FALSE(sample.judge().tpm.has_value());
    sample.seal();
    sample.nonce[0] ^= std::byte{1};
    EXPECT_FALSE(sample.judge().tpm.has_value());
}

TEST(TpmStateAfterAppraisal, DoesNotLearnAFirmwareVersionThatWasRefused) {
    Sample sample = Sample::of_hypervisor();
    sample.seal();
    sample.remember();
    sample.known.firmware_version += 1;
    for (int attempt = 0; attempt < 2; ++attempt) {
        const Verdict verdict = sample.judge();
        EXPECT_FALSE(verdict.accepted());
        ASSERT_TRUE(verdict.tpm.has_value());
        sample.known = *verdict.tpm;
    }
}

TEST(TpmStateAfterAppraisal, IsKeptThoughThePolicyRefuses) {
    Sample sample = Sample::of_hypervisor();
    sample.claims.iommu = evidence::Iommu::kNone;
    sample.seal();
    EXPECT_FALSE(sample.judge().accepted());
    EXPECT_TRUE(sample.judge().tpm.has_value());
}

}  // namespace
}  // namespace gatehouse::verifier

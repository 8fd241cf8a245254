// Attestation keys: which are refused at enrollment, and which signatures they verify.
#include "tests/unit/verifier/evidence_matrix.hpp"

namespace gatehouse::verifier {
namespace {

using test::KeyFields;
using test::make_software_key;

struct KeyRow {
    const char* name;
    const char* rule;  // that fails; empty: none
    const char* word;
    void (*change)(KeyFields&);
    Source source = Source::kHypervisor;
    const char* kind = "EC";
    const char* group = "P-256";
};

class EnrolledKey : public testing::TestWithParam<KeyRow> {};

TEST_P(EnrolledKey, IsRefusedForTheRightReason) {
    const KeyRow& row = GetParam();
    KeyFields fields = KeyFields::with_defaults();
    row.change(fields);
    const Buffer area = fields.marshal(make_software_key(row.kind, row.group).get());
    const std::vector<Finding> findings = check_attestation_key(area, row.source);
    ASSERT_EQ(findings.size(), 3u);
    for (const Finding& finding : findings) {
        EXPECT_EQ(finding.ok, finding.rule != row.rule) << finding.rule << ": " << finding.detail;
        if (finding.rule == row.rule) {
            EXPECT_NE(finding.detail.find(row.word), std::string::npos) << finding.detail;
        }
    }
    if (std::string_view(row.rule) == "ak type") {
        EXPECT_THROW(AttestationKey{Bytes(area)}, host::ToolError);
    } else {
        EXPECT_NO_THROW(AttestationKey{Bytes(area)});
    }
}

void rsa(KeyFields& fields, std::uint16_t scheme) {
    fields.type = 1;
    fields.scheme = scheme;
}
void ecc_p384(KeyFields& fields) {
    fields.curve = 4;
    fields.scheme_hash = 0x000c;
}

INSTANTIATE_TEST_SUITE_P(
    Rows, EnrolledKey,
    testing::Values(
        KeyRow{"AsProvisioned", "", "", [](KeyFields&) {}},
        KeyRow{"P384", "", "", ecc_p384, Source::kHypervisor, "EC", "P-384"},
        KeyRow{"RsaRsassa", "", "", [](KeyFields& k) { rsa(k, 0x0014); }, Source::kHypervisor, "RSA"},
        KeyRow{"RsaPss", "", "", [](KeyFields& k) { rsa(k, 0x0016); }, Source::kHypervisor, "RSA"},
        KeyRow{"OfATpmWithAnyPolicy", "", "",
               [](KeyFields& k) {
                   k.policy.clear();
                   k.set(Attribute::kUserWithAuth);
               },
               Source::kTpm},
        KeyRow{"CurveP521", "ak type", "curve 5", [](KeyFields& k) { k.curve = 5; }, Source::kHypervisor, "EC",
               "P-521"},
        KeyRow{"CurveBn256", "ak type", "curve 16", [](KeyFields& k) { k.curve = 0x10; }},
        KeyRow{"P256WithSha1", "ak type", "not SHA-256", [](KeyFields& k) { k.scheme_hash = 4; }},
        KeyRow{"P256WithSha384", "ak type", "not SHA-256", [](KeyFields& k) { k.scheme_hash = 0x0c; }},
        KeyRow{"P384WithSha256", "ak type", "not SHA-384", [](KeyFields& k) { k.curve = 4; }, Source::kHypervisor, "EC",
               "P-384"},
        KeyRow{"WithoutScheme", "ak type", "must be ECDSA", [](KeyFields& k) { k.scheme = 0x0010; }},
        KeyRow{"Schnorr", "ak type", "must be ECDSA", [](KeyFields& k) { k.scheme = 0x001c; }},
        KeyRow{"RsaWithSha1", "ak type", "hash must be",
               [](KeyFields& k) {
                   rsa(k, 0x0014);
                   k.scheme_hash = 4;
               },
               Source::kHypervisor, "RSA"},
        KeyRow{"RsaEncryption", "ak type", "RSASSA or RSAPSS", [](KeyFields& k) { rsa(k, 0x0017); },
               Source::kHypervisor, "RSA"},
        KeyRow{"Rsa1024", "ak type", "2048 to 4096",
               [](KeyFields& k) {
                   rsa(k, 0x0014);
                   k.rsa_bits = 1024;
               },
               Source::kHypervisor, "RSA"},
        KeyRow{"NamedBySha1", "ak type", "name algorithm",
               [](KeyFields& k) {
                   k.name_algorithm = 4;
                   k.policy.clear();
               },
               Source::kTpm},
        KeyRow{"Unrestricted", "ak attributes", "restricted", [](KeyFields& k) { k.clear(Attribute::kRestricted); }},
        KeyRow{"UnrestrictedOfATpm", "ak attributes", "restricted",
               [](KeyFields& k) { k.clear(Attribute::kRestricted); }, Source::kTpm},
        KeyRow{"Decryption", "ak attributes", "decrypt", [](KeyFields& k) { k.set(Attribute::kDecrypt); }},
        KeyRow{"Duplicable", "ak attributes", "fixedTPM", [](KeyFields& k) { k.clear(Attribute::kFixedTpm); }},
        KeyRow{"Movable", "ak attributes", "fixedParent", [](KeyFields& k) { k.clear(Attribute::kFixedParent); }},
        KeyRow{"Imported", "ak attributes", "sensitiveDataOrigin",
               [](KeyFields& k) { k.clear(Attribute::kSensitiveDataOrigin); }},
        KeyRow{"OtherLocality", "ak policy", "not that of locality 2",
               [](KeyFields& k) { k.policy[0] ^= std::byte{1}; }},
        KeyRow{"WithAuthorization", "ak policy", "userWithAuth", [](KeyFields& k) { k.set(Attribute::kUserWithAuth); }},
        KeyRow{"WithoutPolicy", "ak policy", "empty", [](KeyFields& k) { k.policy.clear(); }}),
    [](const auto& row) { return row.param.name; });

// Every kind of signature that a key may be enrolled for.
struct SchemeRow {
    const char* name;
    const char* kind;
    const char* group;
    void (*change)(KeyFields&);
    std::uint16_t scheme;
    HashAlgorithm hash;
};
class SignatureScheme : public testing::TestWithParam<SchemeRow> {};

TEST_P(SignatureScheme, HoldsForItsMessageAndNoOther) {
    const SchemeRow& row = GetParam();
    const host::Key key = make_software_key(row.kind, row.group);
    KeyFields fields = KeyFields::with_defaults();
    row.change(fields);
    const AttestationKey enrolled(fields.marshal(key.get()));
    EXPECT_TRUE(enrolled.is_key(key.get()));
    EXPECT_FALSE(enrolled.is_key(make_software_key().get()));
    EXPECT_EQ(enrolled.hash(), row.hash);
    const Buffer message = test::filler("message", 150);
    for (int i = 0; i < 20; ++i) {  // numbers with leading zeros come about once in 128
        Buffer signature = test::sign(key.get(), message, row.scheme, row.hash);
        EXPECT_TRUE(enrolled.verify(message, signature));
        EXPECT_FALSE(enrolled.verify(test::filler("other", 150), signature));
        signature.back() ^= std::byte{1};
        EXPECT_FALSE(enrolled.verify(message, signature));
    }
}

INSTANTIATE_TEST_SUITE_P(
    Rows, SignatureScheme,
    testing::Values(
        SchemeRow{"EcdsaP256", "EC", "P-256", [](KeyFields&) {}, 0x0018, HashAlgorithm::kSha256},
        SchemeRow{"EcdsaP384", "EC", "P-384", ecc_p384, 0x0018, HashAlgorithm::kSha384},
        SchemeRow{"RsassaSha256", "RSA", "", [](KeyFields& k) { rsa(k, 0x0014); }, 0x0014, HashAlgorithm::kSha256},
        SchemeRow{"RsapssSha256", "RSA", "", [](KeyFields& k) { rsa(k, 0x0016); }, 0x0016, HashAlgorithm::kSha256},
        SchemeRow{"RsassaSha512", "RSA", "",
                  [](KeyFields& k) {
                      rsa(k, 0x0014);
                      k.scheme_hash = 0x0d;
                  },
                  0x0014, HashAlgorithm::kSha512}),
    [](const auto& row) { return row.param.name; });

TEST(EnrolledKeyParsing, RefusesEveryTruncationAndATrailingByte) {
    Buffer area = KeyFields::with_defaults().marshal(make_software_key().get());
    for (std::size_t size = 0; size < area.size(); ++size)
        EXPECT_FALSE(parse_public_area(Bytes(area).first(size)).ok()) << size;
    area.push_back(std::byte{0});
    EXPECT_EQ(parse_public_area(area).error(), Error::kTrailingBytes);
}

TEST(EnrolledKeyParsing, RefusesAPointThatIsNotOnTheCurve) {
    Buffer area = KeyFields::with_defaults().marshal(make_software_key().get());
    area.back() ^= std::byte{1};
    EXPECT_THROW(AttestationKey{Bytes(area)}, host::ToolError);
}

}  // namespace
}  // namespace gatehouse::verifier

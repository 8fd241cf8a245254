// Endorsement keys and their certificates: those of a TPM as its maker leaves it, and all that is wrong about
// others.
#include "attestation/verifier/endorsement.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/verifier/crl.hpp"
#include "tests/unit/verifier/certificates.hpp"
#include "tests/unit/verifier/manufactured_tpm.hpp"

namespace gatehouse::verifier {
namespace {

using test::ca_spec;
using test::CertificateSpec;
using test::ecc_key;
using test::ek_spec;
using test::issue;
using test::Issued;
using test::kDay;
using test::kNow;
using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;

const Finding& finding(const EndorsementVerdict& verdict, const std::string& rule) {
    const auto found = std::ranges::find(verdict.findings, rule, &Finding::rule);
    if (found == verdict.findings.end()) throw std::runtime_error("no finding " + rule);
    return *found;
}

std::string failures(const EndorsementVerdict& verdict) {
    std::string text;
    for (const Finding& one : verdict.findings) {
        if (!one.ok) text += (text.empty() ? "" : "; ") + one.rule + ": " + one.detail;
    }
    return text;
}

// A vendor with a root and an intermediate, and an ECC EK certificate by it.
class Endorsement : public testing::Test {
  protected:
    Issued root = issue(ca_spec("Vendor Root"), ecc_key("P-384"));
    Issued intermediate = issue(ca_spec("Vendor EK CA"), ecc_key(), &root);
    Vendor vendor{"Vendor", {root.der()}, {intermediate.der()}, {}};
    std::time_t now = kNow;

    EndorsementVerdict judge(const EndorsementEvidence& evidence) const {
        TrustStore store;
        store.add(vendor);
        return verify_endorsement(evidence, store, now);
    }
    EndorsementVerdict judge(const Issued& ek, std::vector<Buffer> chain = {}) const {
        return judge(EndorsementEvidence{ek.der(), std::move(chain), test::ek_public_area(ek.key.get())});
    }
    EndorsementVerdict judge_spec(const CertificateSpec& spec) const {
        return judge(issue(spec, ecc_key(), &intermediate));
    }
    // This rule fails, with these words, and no other (but the revocation, which needs a path).
    static void expect_only(const EndorsementVerdict& verdict, const std::string& rule, const std::string& words) {
        EXPECT_FALSE(verdict.accepted());
        EXPECT_THAT(finding(verdict, rule).detail, HasSubstr(words));
        for (const Finding& one : verdict.findings) {
            const bool follows = rule == "ek chain" && one.rule == "ek revocation";
            EXPECT_EQ(one.ok, one.rule != rule && !follows) << one.rule << ": " << one.detail;
        }
        if (rule == "ek chain" || rule == "ek revocation") {
            EXPECT_EQ(verdict.vendor, "");
        }
    }
    void expect_accepted(const EndorsementVerdict& verdict) const {
        EXPECT_TRUE(verdict.accepted()) << failures(verdict);
        EXPECT_EQ(verdict.vendor, "Vendor");
    }
};

// --- as a maker of TPMs makes them

class ManufacturedEndorsement : public testing::Test {
  public:
    static void SetUpTestSuite() { tpm_ = std::make_unique<test::ManufacturedTpm>(); }
    static void TearDownTestSuite() { tpm_.reset(); }

  protected:
    static TrustStore store(std::vector<Buffer> intermediates) {
        TrustStore store;
        store.add({"swtpm", {tpm_->root()}, std::move(intermediates), {}});
        return store;
    }
    static EndorsementEvidence evidence(TPM2_NV_INDEX index, TPM2_HANDLE handle, std::vector<Buffer> chain = {}) {
        return {tpm_->read_nv(index), std::move(chain), tpm_->persistent(handle).public_area};
    }
    static std::unique_ptr<test::ManufacturedTpm> tpm_;
};
std::unique_ptr<test::ManufacturedTpm> ManufacturedEndorsement::tpm_;

TEST_F(ManufacturedEndorsement, RsaAndEccCertificatesInNvAreAccepted) {
    const auto rsa =
        verify_endorsement(evidence(test::kRsaCertificate, test::kRsaEk), store({tpm_->issuer()}), std::time(nullptr));
    EXPECT_TRUE(rsa.accepted()) << failures(rsa);
    EXPECT_EQ(rsa.vendor, "swtpm");
    EXPECT_EQ(rsa.manufacturer, "id:00001014");
    EXPECT_EQ(rsa.model, "swtpm");
    EXPECT_EQ(finding(rsa, "ek public").detail, "template L-1 (RSA 2048)");
    EXPECT_THAT(rsa.quirks, IsEmpty());

    const auto ecc = verify_endorsement(evidence(test::kP384Certificate, test::kP384Ek), store({tpm_->issuer()}),
                                        std::time(nullptr));
    EXPECT_TRUE(ecc.accepted()) << failures(ecc);
    EXPECT_EQ(finding(ecc, "ek public").detail, "template H-3 (ECC P-384)");
}

TEST_F(ManufacturedEndorsement, IntermediateMayComeFromTheEndpoint) {
    EXPECT_TRUE(verify_endorsement(evidence(test::kRsaCertificate, test::kRsaEk, {tpm_->issuer()}), store({}),
                                   std::time(nullptr))
                    .accepted());
    const auto without =
        verify_endorsement(evidence(test::kRsaCertificate, test::kRsaEk), store({}), std::time(nullptr));
    EXPECT_THAT(finding(without, "ek chain").detail, HasSubstr("issued by CN=swtpm-localca, of which there is no"));
}

TEST_F(ManufacturedEndorsement, CertificateIsNotGoodForAnotherEkOfTheSameTpm) {
    const auto verdict =
        verify_endorsement(evidence(test::kRsaCertificate, test::kP384Ek), store({tpm_->issuer()}), std::time(nullptr));
    EXPECT_FALSE(verdict.accepted());
    EXPECT_EQ(finding(verdict, "ek key").detail,
              "the certificate is of another key (RSA 2048) than the EK (ECC P-384)");
    EXPECT_TRUE(finding(verdict, "ek chain").ok);
}

TEST_F(ManufacturedEndorsement, TemplatesOfLongerKeysAreKnown) {
    const std::pair<test::EkTemplate, const char*> rows[] = {{test::kH4, "template H-4 (ECC P-521)"},
                                                             {test::kH6, "template H-6 (RSA 3072)"}};
    for (const auto& [like, text] : rows) {
        const auto ek = tpm_->create_ek(like);
        const auto verdict = verify_endorsement({{}, {}, ek.public_area}, store({}), std::time(nullptr));
        EXPECT_TRUE(finding(verdict, "ek public").ok);
        EXPECT_EQ(finding(verdict, "ek public").detail, text);
        tpm_->flush(ek);
    }
}

TEST_F(ManufacturedEndorsement, TemplateL2IsKnown) {
    const auto ek = tpm_->create_ek(test::kL2);
    const auto verdict = verify_endorsement({{}, {}, ek.public_area}, store({}), std::time(nullptr));
    EXPECT_EQ(finding(verdict, "ek public").detail, "template L-2 (ECC P-256)");
    EXPECT_EQ(finding(verdict, "ek certificate").detail, "there is none");
    EXPECT_FALSE(verdict.accepted());
    for (const Finding& one : verdict.findings) EXPECT_EQ(one.ok, one.rule == "ek public") << one.rule;
    EXPECT_EQ(endorsement_hash(ek.public_area), sha256(ek.public_area));
    tpm_->flush(ek);
}

// --- deny by default

TEST_F(Endorsement, GoodOneIsAccepted) {
    const auto verdict = judge_spec(ek_spec());
    expect_accepted(verdict);
    EXPECT_EQ(verdict.manufacturer, "id:4E544300");
    EXPECT_EQ(verdict.model, "NPCT75x");
    EXPECT_EQ(verdict.version, "id:00070002");
    EXPECT_THAT(verdict.quirks, IsEmpty());
    EXPECT_EQ(finding(verdict, "ek chain").detail, "Vendor: CN=Vendor EK CA <- CN=Vendor Root");
    EXPECT_THAT(finding(verdict, "ek revocation").detail, HasSubstr("not checked: there is no CRL of Vendor"));
}

TEST_F(Endorsement, EmptyTrustStoreTrustsNobody) {
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    const TrustStore store;
    EXPECT_TRUE(store.empty());
    const auto verdict = verify_endorsement(
        {ek.der(), {intermediate.der(), root.der()}, test::ek_public_area(ek.key.get())}, store, now);
    expect_only(verdict, "ek chain", "no vendor is trusted");
}

TEST_F(Endorsement, OfSeveralVendorsTheRightOneIsNamed) {
    const auto other = issue(ca_spec("Other Root"), ecc_key());
    TrustStore store;
    store.add({"Other", {other.der()}, {}, {}});
    store.add(vendor);
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    const EndorsementEvidence evidence{ek.der(), {}, test::ek_public_area(ek.key.get())};
    const auto verdict = verify_endorsement(evidence, store, now);
    expect_accepted(verdict);
    // And if it is at fault, it is that vendor's fault that is told.
    EXPECT_THAT(finding(verify_endorsement(evidence, store, now + 20 * kDay), "ek chain").detail,
                HasSubstr("Vendor: CA 2 (CN=Vendor Root): expired on 2027-01-25"));
}

// --- "ek chain"

TEST_F(Endorsement, RefusesAnExpiredCertificate) {
    now = kNow + 11 * kDay;
    auto spec = ca_spec("Vendor Root");
    spec.to = kNow + 100 * kDay;
    root = issue(spec, ecc_key());
    spec.subject = "Vendor EK CA";
    intermediate = issue(spec, ecc_key(), &root);
    vendor = {"Vendor", {root.der()}, {intermediate.der()}, {}};
    expect_only(judge_spec(ek_spec()), "ek chain", "EK certificate: expired on 2027-01-25 08:00:00 UTC");
}

TEST_F(Endorsement, RefusesACertificateThatIsNotYetValid) {
    auto spec = ek_spec();
    spec.from = kNow + kDay;
    expect_only(judge_spec(spec), "ek chain", "EK certificate: not valid before 2027-01-16");
}

TEST_F(Endorsement, RefusesAnExpiredIntermediate) {
    auto spec = ca_spec("Old CA");
    spec.to = kNow - kDay;
    intermediate = issue(spec, ecc_key(), &root);
    vendor.intermediates = {intermediate.der()};
    expect_only(judge_spec(ek_spec()), "ek chain", "CA 1 (CN=Old CA): expired on");
}

TEST_F(Endorsement, RefusesASelfSignedCertificate) {
    expect_only(judge(issue(ek_spec(), ecc_key())), "ek chain", "EK certificate: ");
    auto spec = ek_spec();
    spec.subject = "EK";
    expect_only(judge(issue(spec, ecc_key())), "ek chain", "signed by itself, not by a vendor");
}

TEST_F(Endorsement, RefusesARootThatTheEndpointBrings) {
    const auto own_root = issue(ca_spec("Own Root"), ecc_key());
    const auto ek = issue(ek_spec(), ecc_key(), &own_root);
    expect_only(judge(ek, {own_root.der()}), "ek chain", "CA 1 (CN=Own Root): a root that is not in the trust store");
    // Not even with the name of the vendor's.
    const auto twin = issue(ca_spec("Vendor Root"), ecc_key());
    expect_only(judge(issue(ek_spec(), ecc_key(), &twin), {twin.der()}), "ek chain", "");
}

TEST_F(Endorsement, RefusesASignatureThatIsNotTheIssuers) {
    const Issued impostor = issue(ca_spec("Vendor EK CA"), ecc_key());
    expect_only(judge(issue(ek_spec(), ecc_key(), &impostor)), "ek chain",
                "EK certificate: its signature is not by the key of CN=Vendor EK CA");
}

TEST_F(Endorsement, RefusesAnIntermediateThatIsNotACa) {
    for (const char* basic : {"critical,CA:FALSE", ""}) {
        auto spec = ca_spec("No CA");
        spec.basic = basic;
        spec.usage = "";
        const auto middle = issue(spec, ecc_key(), &intermediate);
        const auto ek = issue(ek_spec(), ecc_key(), &middle);
        expect_only(judge(ek, {middle.der()}), "ek chain", "CA 1 (CN=No CA): issued a certificate, but is not a CA");
    }
    // An EK whose certificate is good must not be able to make others.
    auto spec = ek_spec();
    spec.subject = "Endpoint";
    const auto endpoint = issue(spec, ecc_key(), &intermediate);
    EXPECT_FALSE(finding(judge(issue(ek_spec(), ecc_key(), &endpoint), {endpoint.der()}), "ek chain").ok);
}

TEST_F(Endorsement, RefusesAnIntermediateWhoseKeyMayNotSignCertificates) {
    auto spec = ca_spec("Signs CRLs");
    spec.usage = "critical,cRLSign";
    const auto middle = issue(spec, ecc_key(), &intermediate);
    EXPECT_THAT(finding(judge(issue(ek_spec(), ecc_key(), &middle), {middle.der()}), "ek chain").detail,
                testing::AnyOf(HasSubstr("its key usage does not allow it"), HasSubstr("not a CA"),
                               HasSubstr("key usage does not include")));
    EXPECT_FALSE(finding(judge(issue(ek_spec(), ecc_key(), &middle), {middle.der()}), "ek chain").ok);
}

TEST_F(Endorsement, RefusesAPathThatIsLongerThanItsConstraint) {
    auto spec = ca_spec("Last CA");
    spec.basic = "critical,CA:TRUE,pathlen:0";
    const auto last = issue(spec, ecc_key(), &root);
    const auto one_more = issue(ca_spec("One more"), ecc_key(), &last);
    expect_only(judge(issue(ek_spec(), ecc_key(), &one_more), {last.der(), one_more.der()}), "ek chain",
                "CA 2 (CN=Last CA): its path length constraint is exceeded");
    expect_accepted(judge(issue(ek_spec(), ecc_key(), &last), {last.der()}));
}

TEST_F(Endorsement, RefusesNamesOutsideOfTheConstraintsOfACa) {
    auto spec = ca_spec("Constrained");
    spec.extra = "nameConstraints=critical,permitted;dirName:only";
    spec.sections = "[only]\nCN=Inside\n";
    const auto constrained = issue(spec, ecc_key(), &root);
    auto ek = ek_spec();
    ek.subject = "Outside";
    expect_only(judge(issue(ek, ecc_key(), &constrained), {constrained.der()}), "ek chain",
                "EK certificate: its name is outside of the name constraints");
}

TEST_F(Endorsement, RefusesACriticalExtensionThatIsNotKnown) {
    auto spec = ek_spec();
    spec.extra = "1.3.6.1.4.1.99999.1=critical,ASN1:UTF8String:must be understood";
    expect_only(judge_spec(spec), "ek chain", "EK certificate: has the critical extension 1.3.6.1.4.1.99999.1");
    spec.extra = "1.3.6.1.4.1.99999.1=ASN1:UTF8String:may be passed over";
    expect_accepted(judge_spec(spec));
}

TEST_F(Endorsement, RefusesSha1InWhatIsReliedOn) {
    auto spec = ek_spec();
    spec.digest = "SHA1";
    expect_only(judge_spec(spec), "ek chain", "EK certificate: signed with SHA1; SHA-256 at least");
    auto ca = ca_spec("Old CA");
    ca.digest = "SHA1";
    const auto old = issue(ca, ecc_key(), &root);
    expect_only(judge(issue(ek_spec(), ecc_key(), &old), {old.der()}), "ek chain",
                "CA 1 (CN=Old CA): signed with SHA1");
    // Nobody relies on a root's own signature.
    auto root_spec = ca_spec("Old Root");
    root_spec.digest = "SHA1";
    const auto old_root = issue(root_spec, ecc_key());
    vendor = {"Vendor", {old_root.der()}, {}, {}};
    expect_accepted(judge(issue(ek_spec(), ecc_key(), &old_root)));
}

TEST_F(Endorsement, RefusesKeysThatAreTooWeak) {
    auto spec = ek_spec();
    spec.usage = "critical,keyEncipherment";
    const auto ek = issue(spec, test::rsa_key(1024), &intermediate);
    const auto verdict = judge(ek);
    EXPECT_EQ(finding(verdict, "ek chain").detail, "Vendor: EK certificate: RSA 1024 is too short; 2048 bits at least");
    EXPECT_EQ(finding(verdict, "ek public").detail, "RSA 1024 is too short; 2048 bits at least");
    const auto weak = issue(ca_spec("Weak CA"), ecc_key("secp224r1"), &root);
    expect_only(judge(issue(ek_spec(), ecc_key(), &weak), {weak.der()}), "ek chain",
                "CA 1 (CN=Weak CA): ECC secp224r1 is not one of RSA, P-256");
}

TEST_F(Endorsement, RefusesChainsWithoutEnd) {
    const std::vector<Buffer> many(10'000, intermediate.der());
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    expect_only(judge(ek, many), "ek chain", "10000 parts with");
    Buffer one;
    for (int i = 0; i < 17; ++i) one.insert(one.end(), many[0].begin(), many[0].end());
    expect_only(judge(ek, {one}), "ek chain", "17 certificates were sent as chain; at most 16");

    std::vector<Issued> tower;
    tower.push_back(issue(ca_spec("CA"), ecc_key(), &root));
    std::vector<Buffer> chain{tower[0].der()};
    for (int i = 1; i < 12; ++i) {
        tower.push_back(issue(ca_spec("CA " + std::to_string(i)), ecc_key(), &tower.back()));
        chain.push_back(tower.back().der());
    }
    const auto verdict = judge(issue(ek_spec(), ecc_key(), &tower.back()), chain);
    EXPECT_THAT(finding(verdict, "ek chain").detail, HasSubstr("longer than 6 intermediates"));
}

TEST_F(Endorsement, RefusesAChainThatGoesInACircle) {
    const Issued first = issue(ca_spec("First"), ecc_key());
    const Issued second = issue(ca_spec("Second"), ecc_key());
    const Issued first_by_second =
        issue(ca_spec("First"), test::Key(EVP_PKEY_dup(first.key.get()), EVP_PKEY_free), &second);
    const Issued second_by_first =
        issue(ca_spec("Second"), test::Key(EVP_PKEY_dup(second.key.get()), EVP_PKEY_free), &first);
    const auto ek = issue(ek_spec(), ecc_key(), &first);
    const auto verdict = judge(ek, {first_by_second.der(), second_by_first.der()});
    EXPECT_FALSE(finding(verdict, "ek chain").ok);
    EXPECT_FALSE(verdict.accepted());
}

// --- the chain in NV

TEST_F(Endorsement, ChainMayBeInAnyOrderSeveralToAnIndexOrContinuedInTheNext) {
    vendor.intermediates.clear();
    const auto lower = issue(ca_spec("Lower CA"), ecc_key(), &intermediate);
    const auto ek = issue(ek_spec(), ecc_key(), &lower);
    const Buffer upper_der = intermediate.der();
    const Buffer lower_der = lower.der();
    expect_accepted(judge(ek, {upper_der, lower_der}));
    expect_accepted(judge(ek, {lower_der, upper_der}));
    Buffer both = lower_der;
    both.insert(both.end(), 40, std::byte{0xff});
    both.insert(both.end(), upper_der.begin(), upper_der.end());
    both.insert(both.end(), 7, std::byte{0});
    expect_accepted(judge(ek, {both}));
    const Buffer start(both.begin(), both.begin() + 100);
    const Buffer rest(both.begin() + 100, both.end());
    const auto split = judge(ek, {start, rest});
    expect_accepted(split);
    EXPECT_THAT(split.quirks, testing::ElementsAre(HasSubstr(": 40 bytes of 0xff passed over")));
    // The rest of an index may be empty.
    Buffer padded = upper_der;
    padded.resize(2048, std::byte{0xff});
    const auto two = judge(ek, {padded, lower_der});
    expect_accepted(two);
    EXPECT_THAT(two.quirks, IsEmpty());
}

TEST_F(Endorsement, ChainIsReadWhateverIsBeforeBetweenAndAfterItsCertificates) {
    vendor.intermediates.clear();
    const auto lower = issue(ca_spec("Lower CA"), ecc_key(), &intermediate);
    const auto ek = issue(ek_spec(), ecc_key(), &lower);
    const Buffer upper_der = intermediate.der(), lower_der = lower.der();
    const Buffer cut(upper_der.begin(), upper_der.end() - 20);
    Buffer longer = upper_der, shorter = upper_der;
    longer[3] ^= std::byte{0x10};  // says that it is longer than it is, over the next one
    longer[2] ^= std::byte{0x02};
    shorter[3] ^= std::byte{0x08};
    const Buffer gaps[] = {Buffer(5),
                           Buffer(9, std::byte{0xff}),
                           host::from_hex("01020304", "gap"),
                           host::from_hex("10010001f71002", "a TCG header"),
                           host::from_hex("3082", "half a header"),
                           host::from_hex("308201ff30820100", "a header without what it announces"),
                           host::from_hex("30800000", "another length"),
                           host::from_hex("3083ffffff30", "a length without end"),
                           cut,
                           longer,
                           shorter};
    const auto joined = [](std::initializer_list<Buffer> parts) {
        Buffer all;
        for (const Buffer& part : parts) all.insert(all.end(), part.begin(), part.end());
        return all;
    };
    for (const Buffer& gap : gaps) {
        SCOPED_TRACE(host::hex(Bytes(gap).first(std::min<std::size_t>(gap.size(), 16))));
        const Buffer between = joined({upper_der, gap, lower_der});
        for (const auto& chain :
             {std::vector<Buffer>{joined({gap, upper_der, lower_der})}, std::vector<Buffer>{between},
              std::vector<Buffer>{joined({upper_der, lower_der, gap})},
              std::vector<Buffer>{upper_der, gap, lower_der}}) {
            expect_accepted(judge(ek, chain));
        }
        EXPECT_THAT(judge(ek, {between}).quirks, Contains(HasSubstr("chain: part 1 has no certificate at byte " +
                                                                    std::to_string(upper_der.size()))));
        // Cut anywhere, it is one chain.
        for (std::size_t at = 1; at < between.size(); at += 97) {
            const auto middle = between.begin() + static_cast<std::ptrdiff_t>(at);
            expect_accepted(judge(ek, {Buffer(between.begin(), middle), Buffer(middle, between.end())}));
        }
    }
    // Whatever there is of a last one that is not whole.
    expect_only(judge(ek, {joined({lower_der, cut})}), "ek chain", "issued by CN=Vendor EK CA, of which there is no");
    EXPECT_THAT(judge(ek, {joined({lower_der, cut})}).quirks, Contains(HasSubstr("not a whole DER sequence")));
    // In as many indices as there may be.
    std::vector<Buffer> small;
    const Buffer both = joined({lower_der, upper_der});
    for (std::size_t at = 0; at < both.size(); at += 16)
        small.emplace_back(both.begin() + static_cast<std::ptrdiff_t>(at),
                           both.begin() + static_cast<std::ptrdiff_t>(std::min(at + 16, both.size())));
    expect_accepted(judge(ek, small));
}

// --- "ek revocation"

TEST_F(Endorsement, RefusesARevokedCertificate) {
    const auto good = issue(ek_spec(), ecc_key(), &intermediate);
    auto spec = ek_spec();
    spec.serial = "5678";
    const auto bad = issue(spec, ecc_key(), &intermediate);
    vendor.revocations = {test::revoke(intermediate, {&bad})};
    expect_only(judge(bad), "ek revocation", "EK certificate: revoked by CN=Vendor EK CA");
    const auto verdict = judge(good);
    expect_accepted(verdict);
    EXPECT_EQ(finding(verdict, "ek revocation").detail,
              "not revoked; not checked, for want of a CRL: CA 1 (CN=Vendor EK CA); not checked, for want of "
              "a CRL: CA 2 "
              "(CN=Vendor Root)");
}

TEST_F(Endorsement, RefusesACaWithoutACrlIfTheVendorRequiresOne) {
    vendor.require_crl = true;
    expect_only(judge_spec(ek_spec()), "ek revocation", "there is no CRL of Vendor, and its settings require one");
    vendor.revocations = {test::revoke(intermediate, {})};
    expect_only(judge_spec(ek_spec()), "ek revocation", "no CRL for CA 1 (CN=Vendor EK CA)");
}

TEST_F(Endorsement, RevocationCountsWhicheverOfTheVendorsOfARootHasTheCrl) {
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    const Vendor without{"Without a CRL", vendor.roots, vendor.intermediates, {}};
    vendor.revocations = {test::revoke(intermediate, {&ek})};
    for (const bool first : {true, false}) {
        TrustStore store;
        store.add(first ? vendor : without);
        store.add(first ? without : vendor);
        const auto verdict = verify_endorsement({ek.der(), {}, test::ek_public_area(ek.key.get())}, store, now);
        expect_only(verdict, "ek revocation", "EK certificate: revoked by CN=Vendor EK CA");
    }
}

TEST_F(Endorsement, RefusesACertificateOfARevokedCa) {
    vendor.revocations = {test::revoke(intermediate, {}), test::revoke(root, {&intermediate})};
    expect_only(judge_spec(ek_spec()), "ek revocation", "CA 1 (CN=Vendor EK CA): revoked by CN=Vendor Root");
}

TEST_F(Endorsement, RefusesAnExpiredCrl) {
    vendor.revocations = {test::revoke(intermediate, {}, kNow - 5 * kDay, kNow - kDay)};
    expect_only(judge_spec(ek_spec()), "ek revocation", "the CRL of CN=Vendor EK CA expired on 2027-01-14");
    vendor.revocations = {test::revoke(intermediate, {}, kNow + kDay, kNow + 5 * kDay)};
    expect_only(judge_spec(ek_spec()), "ek revocation", "the CRL of CN=Vendor EK CA is not valid before 2027-01-16");
}

TEST_F(Endorsement, CrlOfAnotherIssuerSaysNothingOfThisOne) {
    vendor.revocations = {test::revoke(root, {})};
    const auto verdict = judge_spec(ek_spec());
    expect_accepted(verdict);
    EXPECT_EQ(finding(verdict, "ek revocation").detail, "not checked, for want of a CRL: EK certificate");
    vendor.require_crl = true;
    expect_only(judge_spec(ek_spec()), "ek revocation", "no CRL for EK certificate, and the vendor's settings require");
}

TEST_F(Endorsement, TrustStorePassesOverACrlThatNobodyOfTheVendorSigned) {
    const auto other = issue(ca_spec("Other"), ecc_key());
    vendor.revocations = {test::revoke(other, {})};
    EXPECT_THAT(TrustStore().add(vendor),
                testing::ElementsAre(
                    "Vendor: CRL 1: no root or intermediate of this vendor signed it; its issuer is CN=Other"));
    expect_accepted(judge_spec(ek_spec()));
    const Issued twin = issue(ca_spec("Vendor EK CA"), ecc_key());
    vendor.revocations = {test::revoke(twin, {})};
    EXPECT_THROW(TrustStore().add(vendor), host::ToolError);
}

// --- what was accepted once, with other vendors

TEST_F(Endorsement, FaultOfOneThatWasAcceptedIsThatOfItsPathNow) {
    CertificateSpec spec = ek_spec();
    spec.to = kNow + kDay;
    const auto ek = issue(spec, ecc_key(), &intermediate);
    const EndorsementEvidence evidence{ek.der(), {}, {}};
    const auto fault = [&](const Vendor& by, std::time_t accepted = kNow) {
        TrustStore store;
        store.add(by);
        return endorsement_fault(evidence, store, accepted);
    };
    EXPECT_EQ(fault(vendor), "");
    EXPECT_EQ(endorsement_fault(evidence, TrustStore(), kNow), "EK certificate: no vendor is trusted any more");
    EXPECT_THAT(fault({"Vendor", {root.der()}, {}, {}}), HasSubstr("issued by CN=Vendor EK CA, of which there is no"));
    // The dates are those of then.
    EXPECT_THAT(fault(vendor, kNow + 2 * kDay), HasSubstr("Vendor: EK certificate: expired on 2027-01-16"));
    // CRLs count whatever their dates, and at each place of the path.
    vendor.revocations = {test::revoke(intermediate, {&ek}, kNow - 5 * kDay, kNow - kDay)};
    EXPECT_EQ(fault(vendor), "Vendor: EK certificate: revoked by CN=Vendor EK CA");
    vendor.revocations = {test::revoke(root, {&intermediate}, kNow + kDay, kNow + 2 * kDay)};
    EXPECT_EQ(fault(vendor), "Vendor: CA 1 (CN=Vendor EK CA): revoked by CN=Vendor Root");
    vendor.revocations = {test::revoke(intermediate, {}), test::revoke(root, {})};
    EXPECT_EQ(fault(vendor), "");
}

// The same key and name, certified anew after the endpoint was accepted; what issued it may have ended since.
TEST_F(Endorsement, ACaThatWasRenewedSinceStillVouches) {
    CertificateSpec spec = ek_spec();
    spec.to = kNow + kDay;
    const auto ek = issue(spec, ecc_key(), &intermediate);
    spec = ca_spec("Vendor EK CA");
    spec.from = kNow + 2 * kDay;
    const auto renewed = issue(spec, test::Key(EVP_PKEY_dup(intermediate.key.get()), EVP_PKEY_free), &root);
    vendor.intermediates = {renewed.der()};
    TrustStore store;
    store.add(vendor);
    EXPECT_EQ(endorsement_fault({ek.der(), {}, {}}, store, kNow), "");
    EXPECT_EQ(crls_of_path({ek.der(), {}, {}}, store, kNow).vendor, "Vendor");
    // Nobody is let in by it before it begins; and the dates of the EK certificate are its own.
    EXPECT_THAT(verify_endorsement({ek.der(), {}, {}}, store, kNow).findings,
                testing::Contains(testing::Field(&Finding::detail, HasSubstr("not valid before"))));
    EXPECT_THAT(endorsement_fault({ek.der(), {}, {}}, store, kNow + 2 * kDay), HasSubstr("EK certificate: expired on"));
    spec.from = kNow - 10 * kDay;
    spec.to = kNow - kDay;
    const auto ended = issue(spec, test::Key(EVP_PKEY_dup(intermediate.key.get()), EVP_PKEY_free), &root);
    vendor.intermediates = {ended.der()};
    TrustStore of_ended;
    of_ended.add(vendor);
    EXPECT_THAT(endorsement_fault({ek.der(), {}, {}}, of_ended, kNow), HasSubstr("expired on"));
}

// A CA is its name: where the CRL of the key that issued it lacks, that of another key of the name counts.
TEST_F(Endorsement, FaultIsThatOfAnotherKeyOfTheNameWhereTheRightCrlLacks) {
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    const Issued twin = issue(ca_spec("Vendor EK CA"), ecc_key(), &root);
    vendor.intermediates.push_back(twin.der());
    const auto fault = [&](std::vector<Buffer> lists) {
        vendor.revocations = std::move(lists);
        TrustStore store;
        store.add(vendor);
        return endorsement_fault({ek.der(), {}, {}}, store, kNow);
    };
    EXPECT_EQ(fault({test::revoke(twin, {&ek})}),
              "Vendor: EK certificate: revoked by CN=Vendor EK CA, under another key of that name");
    EXPECT_EQ(fault({test::revoke(twin, {})}), "");
    EXPECT_EQ(fault({test::revoke(twin, {&ek}), test::revoke(intermediate, {})}), "");
}

TEST_F(Endorsement, FaultIsFoundWhicheverOfTheVendorsOfARootHasTheCrl) {
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    const Vendor without{"Without a CRL", vendor.roots, vendor.intermediates, {}};
    vendor.revocations = {test::revoke(intermediate, {&ek})};
    for (const bool first : {true, false}) {
        TrustStore store;
        store.add(first ? vendor : without);
        store.add(first ? without : vendor);
        EXPECT_EQ(endorsement_fault({ek.der(), {}, {}}, store, kNow),
                  "Vendor: EK certificate: revoked by CN=Vendor EK CA");
    }
}

TEST_F(Endorsement, FaultOfWhatIsNoCertificateIsSaid) {
    TrustStore store;
    store.add(vendor);
    EXPECT_EQ(endorsement_fault({{}, {}, {}}, store, kNow), "EK certificate: there is none");
    EXPECT_THAT(endorsement_fault({Buffer(40), {}, {}}, store, kNow), testing::StartsWith("EK certificate: "));
}

// --- "ek usage"

TEST_F(Endorsement, RefusesAnotherExtendedKeyUsage) {
    auto spec = ek_spec();
    for (const char* usage : {"serverAuth", "2.23.133.8.3", "anyExtendedKeyUsage"}) {
        spec.extended_usage = usage;
        expect_only(judge_spec(spec), "ek usage", "not that of EK certificates (2.23.133.8.1)");
    }
    spec.extended_usage = "serverAuth,2.23.133.8.1";
    expect_accepted(judge_spec(spec));
}

TEST_F(Endorsement, RefusesAnotherKeyUsage) {
    auto spec = ek_spec();
    spec.usage = "critical,digitalSignature";
    expect_only(judge_spec(spec), "ek usage", "its key usage is without keyAgreement");
    spec.usage = "critical,dataEncipherment,nonRepudiation";
    expect_only(judge_spec(spec), "ek usage", "its key usage is without keyAgreement");
    for (const char* sign : {"keyCertSign", "cRLSign"}) {
        spec.usage = std::string("critical,keyEncipherment,") + sign;
        expect_only(judge_spec(spec), "ek usage", "may sign certificates");
    }
    spec.usage = "critical,keyAgreement,keyCertSign";
    expect_only(judge_spec(spec), "ek usage", "may sign certificates");
    const auto key = test::rsa_key(2048);
    spec.usage = "critical,keyAgreement";
    expect_only(judge(issue(spec, test::Key(EVP_PKEY_dup(key.get()), EVP_PKEY_free), &intermediate)), "ek usage",
                "its key usage is without keyEncipherment");
    spec.usage = "critical,keyEncipherment";
    expect_accepted(judge(issue(spec, test::Key(EVP_PKEY_dup(key.get()), EVP_PKEY_free), &intermediate)));
}

TEST_F(Endorsement, RefusesACertificateOfACa) {
    auto spec = ek_spec();
    spec.basic = "critical,CA:TRUE";
    expect_only(judge_spec(spec), "ek usage", "it is a CA's certificate");
}

// --- "ek subject"

TEST_F(Endorsement, RefusesACertificateThatDoesNotNameATpm) {
    auto spec = ek_spec();
    spec.alternative_name = "";
    expect_only(judge_spec(spec), "ek subject", "there is no subjectAltName");
    spec.alternative_name = "critical,DNS:tpm.example";
    expect_only(judge_spec(spec), "ek subject", "does not name the TPM's manufacturer (2.23.133.2.1)");
    spec.alternative_name = "critical,dirName:tpm";
    spec.sections = "[tpm]\nx.2.23.133.2.2=model\nx.2.23.133.2.3=id:00010002\n";
    expect_only(judge_spec(spec), "ek subject", "does not name the TPM's manufacturer");
    spec.sections = "[tpm]\nx.2.23.133.2.1=id:4E544300\nx.2.23.133.2.3=id:00010002\n";
    expect_only(judge_spec(spec), "ek subject", "does not name the TPM's model");
    spec.sections = "[tpm]\nx.2.23.133.2.1=id:4E544300\nx.2.23.133.2.2=model\n";
    expect_only(judge_spec(spec), "ek subject", "does not name the TPM's version");
    spec.sections =
        "[tpm]\n1.2.23.133.2.1=id:4E544300\n2.2.23.133.2.1=id:494E5443\nx.2.23.133.2.2=m\nx.2.23.133.2.3=id:"
        "1\n";
    expect_only(judge_spec(spec), "ek subject", "names the TPM's manufacturer twice");
}

TEST_F(Endorsement, WhatACertificateSaysIsPrintable) {
    auto spec = ek_spec();
    spec.subject = "a\n\x1b[31m";
    spec.sections = "[tpm]\nx.2.23.133.2.1=id:4E544300\nx.2.23.133.2.2=m\\n\\r<b>\nx.2.23.133.2.3=id:00010002\n";
    const auto verdict = judge_spec(spec);
    EXPECT_EQ(verdict.model,
              "m?"
              "?<b>");
    for (const Finding& one : verdict.findings) {
        for (const char c : one.detail) EXPECT_GE(c, ' ') << one.rule;
    }
}

// --- "ek key", "ek public"

TEST_F(Endorsement, RefusesACertificateOfAnotherKey) {
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    const auto other = ecc_key();
    expect_only(judge(EndorsementEvidence{ek.der(), {}, test::ek_public_area(other.get())}), "ek key",
                "the certificate is of another key (ECC P-256) than the EK (ECC P-256)");
}

TEST_F(Endorsement, RefusesKeysThatAreNotMadeToBeAnEk) {
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    const Buffer good = test::ek_public_area(ek.key.get());
    const auto with_bits = [&](std::size_t at, unsigned char bits) {
        Buffer area = good;
        area[at] ^= static_cast<std::byte>(bits);
        return finding(judge(EndorsementEvidence{ek.der(), {}, area}), "ek public");
    };
    // Attributes are bytes 4 to 7, the policy starts at 10.
    EXPECT_THAT(with_bits(7, 0x02).detail, HasSubstr("fixedTPM is clear"));
    EXPECT_THAT(with_bits(7, 0x10).detail, HasSubstr("fixedParent is clear"));
    EXPECT_THAT(with_bits(7, 0x20).detail, HasSubstr("sensitiveDataOrigin is clear"));
    EXPECT_THAT(with_bits(5, 0x01).detail, HasSubstr("restricted is clear"));
    EXPECT_THAT(with_bits(5, 0x02).detail, HasSubstr("decrypt is clear"));
    EXPECT_THAT(with_bits(5, 0x04).detail, HasSubstr("sign is set"));
    EXPECT_THAT(with_bits(10, 0x01).detail, HasSubstr("its authorization policy 82719767"));
    EXPECT_THAT(with_bits(43, 0x01).detail, HasSubstr("symmetric algorithm"));  // AES -> 7
    EXPECT_FALSE(with_bits(good.size() - 1, 0x01).ok);                          // not on the curve
    for (std::size_t size = 0; size < good.size(); ++size) {
        const Buffer cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
        EXPECT_FALSE(finding(judge(EndorsementEvidence{ek.der(), {}, cut}), "ek public").ok);
    }
    // userWithAuth with policy A: of no template, and no worse than one.
    const Finding odd = with_bits(7, 0x40);
    EXPECT_TRUE(odd.ok);
    EXPECT_EQ(odd.detail, "ECC P-256 with policy A, of no template of the TCG's");
}

// --- quirks: named, and not fatal

class Quirks : public Endorsement {
  protected:
    void expect_quirk(const EndorsementVerdict& verdict, const std::string& words) {
        expect_accepted(verdict);
        EXPECT_THAT(verdict.quirks, Contains(HasSubstr(words)));
    }
    EndorsementVerdict judge_stored(const Buffer& stored, const Issued& ek) const {
        return judge(EndorsementEvidence{stored, {}, test::ek_public_area(ek.key.get())});
    }
};

TEST_F(Quirks, PaddingAfterTheCertificate) {
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    Buffer stored = ek.der();
    stored.resize(1600, std::byte{0xff});  // ST33HTPH
    expect_quirk(judge_stored(stored, ek), "bytes of 0xff after its end");
    stored = ek.der();
    stored.push_back(std::byte{0});
    expect_quirk(judge_stored(stored, ek), "1 byte of 0x00 after its end");
}

TEST_F(Quirks, TcgHeaderBeforeTheCertificate) {
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    const Buffer der = ek.der();
    Buffer stored{std::byte{0x10}, std::byte{0x01}, std::byte{0x00}};
    stored.push_back(static_cast<std::byte>((der.size() + 2) >> 8));
    stored.push_back(static_cast<std::byte>((der.size() + 2) & 0xff));
    stored.push_back(std::byte{0x10});
    stored.push_back(std::byte{0x02});
    stored.insert(stored.end(), der.begin(), der.end());
    expect_quirk(judge_stored(stored, ek), "in a TCG header (0x1001)");
    stored[6] = std::byte{0x03};
    EXPECT_THAT(finding(judge_stored(stored, ek), "ek certificate").detail, HasSubstr("TCG header without"));
}

TEST_F(Quirks, RsaesOaepAsTheKeysAlgorithm) {
    auto spec = ek_spec();
    spec.usage = "critical,keyEncipherment";
    spec.oaep_key = true;
    expect_quirk(judge(issue(spec, test::rsa_key(2048), &intermediate)), "RSAES-OAEP");
    EXPECT_FALSE(judge(issue(spec, test::rsa_key(1024), &intermediate)).accepted());
}

TEST_F(Quirks, OddSerialNumbers) {
    auto spec = ek_spec();
    spec.serial = "-7B";
    expect_quirk(judge_spec(spec), "negative serial number");
    spec.serial = "7F" + std::string(48, 'A');
    expect_quirk(judge_spec(spec), "serial number of 25 bytes");
}

TEST_F(Quirks, SubjectAltNameThatIsNotCritical) {
    auto spec = ek_spec();
    spec.alternative_name = "dirName:tpm";
    expect_quirk(judge_spec(spec), "subjectAltName is not critical, though the subject is empty");
    spec.subject = "TPM";
    expect_quirk(judge_spec(spec), "subjectAltName is not critical");
}

TEST_F(Quirks, MissingUsages) {
    auto spec = ek_spec();
    spec.extended_usage = "";
    expect_quirk(judge_spec(spec), "no extended key usage");
    spec = ek_spec();
    spec.usage = "";
    expect_quirk(judge_spec(spec), "no key usage");
    spec.extended_usage = "";
    expect_only(judge_spec(spec), "ek usage", "neither key usage nor extended key usage");
}

TEST_F(Quirks, KeyEnciphermentOfAnEccKey) {
    auto spec = ek_spec();
    for (const char* curve : {"P-256", "P-384"}) {
        spec.usage = "critical,keyEncipherment";
        expect_quirk(judge(issue(spec, ecc_key(curve), &intermediate)),
                     "keyEncipherment, though the key is an ECC key");
        spec.usage = "critical,keyAgreement";
        EXPECT_THAT(judge(issue(spec, ecc_key(curve), &intermediate)).quirks, IsEmpty());
        spec.usage = "critical,keyAgreement,keyEncipherment";
        const auto both = judge(issue(spec, ecc_key(curve), &intermediate));
        expect_accepted(both);
        EXPECT_THAT(both.quirks, testing::ElementsAre("certificate: key usage is more than keyAgreement"));
    }
}

TEST_F(Quirks, ManufacturerInAnotherForm) {
    auto spec = ek_spec();
    spec.sections = "[tpm]\nx.2.23.133.2.1=Nuvoton\nx.2.23.133.2.2=m\nx.2.23.133.2.3=1\n";
    expect_quirk(judge_spec(spec), "manufacturer 'Nuvoton' is not");
}

// --- "ek certificate"

TEST_F(Endorsement, RefusesWhatIsNotACertificate) {
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    const Buffer area = test::ek_public_area(ek.key.get());
    const Buffer der = ek.der();
    for (std::size_t size = 1; size < der.size(); size += 7) {
        const Buffer cut(der.begin(), der.begin() + static_cast<std::ptrdiff_t>(size));
        EXPECT_FALSE(finding(judge(EndorsementEvidence{cut, {}, area}), "ek certificate").ok);
    }
    EXPECT_EQ(finding(judge(EndorsementEvidence{Buffer(40'000, std::byte{0x30}), {}, area}), "ek certificate").detail,
              "longer than 32768 bytes");
    auto spec = ek_spec();
    spec.version = 0;
    EXPECT_EQ(finding(judge(issue(spec, ecc_key(), &intermediate)), "ek certificate").detail, "not of version 3");
}

// --- the trust store

TEST_F(Endorsement, TrustStoreTakesOnlyCasThatAreStrongEnough) {
    const auto refusal = [&](const Vendor& wrong) -> std::string {
        try {
            TrustStore().add(wrong);
        } catch (const host::ToolError& error) {
            return error.what();
        }
        return "accepted";
    };
    const Buffer leaf = issue(ek_spec(), ecc_key(), &intermediate).der();
    EXPECT_THAT(refusal({"V", {leaf}, {}, {}}), HasSubstr("trust store: V: root 1: (empty) is not a CA's certificate"));
    EXPECT_THAT(refusal({"V", {Buffer(10)}, {}, {}}), HasSubstr("V: root 1: not a certificate in DER"));
    EXPECT_THAT(refusal({"V", {}, {}, {}}), HasSubstr("no root"));
    EXPECT_THAT(refusal({"V", {root.der()}, {}, {Buffer(10)}}), HasSubstr("V: CRL 1: not a CRL in DER"));
    const auto weak = issue(ca_spec("Weak"), test::rsa_key(1024));
    EXPECT_THAT(refusal({"V", {weak.der()}, {}, {}}), HasSubstr("root 1: CN=Weak: RSA 1024 is too short"));
    EXPECT_THAT(refusal({"V", {root.der()}, std::vector<Buffer>(4097, intermediate.der()), {}}),
                HasSubstr("V: 4097 intermediates; at most 4096"));
}

TEST_F(Endorsement, TrustStorePassesOverWhatIsNotToBeReliedOn) {
    const auto weak = issue(ca_spec("Weak"), test::rsa_key(1024), &root);
    auto spec = ca_spec("Old");
    spec.digest = "SHA1";
    const auto old = issue(spec, ecc_key(), &root);
    const auto leaf = issue(ek_spec(), ecc_key(), &intermediate);
    Buffer tail = intermediate.der();
    tail.push_back(std::byte{0});
    vendor.roots = {weak.der(), root.der()};
    vendor.intermediates = {old.der(), leaf.der(), Buffer(10), tail, weak.der(), intermediate.der()};
    // Theirs, too: the vendor has nobody any more who could have signed it.
    vendor.revocations = {test::revoke(old, {})};
    EXPECT_THAT(TrustStore().add(vendor),
                testing::ElementsAre("Vendor: root 1: CN=Weak: RSA 1024 is too short; 2048 bits at least",
                                     "Vendor: intermediate 1: CN=Old: signed with SHA1; SHA-256 at least",
                                     "Vendor: intermediate 2: (empty) is not a CA's certificate",
                                     "Vendor: intermediate 3: not a certificate in DER: not a whole DER sequence",
                                     "Vendor: intermediate 4: bytes are left after the certificate",
                                     "Vendor: intermediate 5: CN=Weak: RSA 1024 is too short; 2048 bits at least",
                                     HasSubstr("Vendor: CRL 1: no root or intermediate of this vendor signed it")));
    expect_accepted(judge_spec(ek_spec()));
    // An expired one does no harm either, beside the one that took its place.
    auto expired = ca_spec("Vendor EK CA");
    expired.to = kNow - kDay;
    const auto former = issue(expired, test::Key(EVP_PKEY_dup(intermediate.key.get()), EVP_PKEY_free), &root);
    vendor = {"Vendor", {root.der()}, {former.der(), intermediate.der()}, {}};
    EXPECT_THAT(TrustStore().add(vendor), IsEmpty());
    expect_accepted(judge_spec(ek_spec()));
}

TEST_F(Endorsement, TrustStoreHasRoomForAPublicCollection) {
    std::vector<Issued> others;
    for (int i = 0; i < 8; ++i) others.push_back(issue(ca_spec("CA " + std::to_string(i)), ecc_key(), &root));
    vendor.intermediates.clear();
    for (int i = 0; i < 2000; ++i) vendor.intermediates.push_back(others[static_cast<std::size_t>(i % 8)].der());
    vendor.intermediates.push_back(intermediate.der());
    expect_accepted(judge_spec(ek_spec()));
}

TEST_F(Endorsement, VendorOfTheSameNameIsReplaced) {
    TrustStore store;
    store.add(vendor);
    store.add({"Vendor", {issue(ca_spec("New Root"), ecc_key()).der()}, {}, {}});
    const auto ek = issue(ek_spec(), ecc_key(), &intermediate);
    EXPECT_FALSE(verify_endorsement({ek.der(), {}, test::ek_public_area(ek.key.get())}, store, now).accepted());
}

}  // namespace
}  // namespace gatehouse::verifier

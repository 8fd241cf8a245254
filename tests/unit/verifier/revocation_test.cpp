// CRLs of every kind: whose they are, whom they speak of, and what they do to an EK. The answers are those of
// `openssl verify -crl_check_all -extended_crl`, but that a CRL which says nothing of a certificate does it no harm.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attestation/verifier/crl.hpp"
#include "tests/unit/verifier/certificates.hpp"

namespace gatehouse::verifier {
namespace {

using test::ca_spec;
using test::CertificateSpec;
using test::ecc_key;
using test::ek_spec;
using test::issue;
using test::issue_list;
using test::Issued;
using test::kDay;
using test::kNow;
using test::RevocationSpec;
using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kIndirect = "issuingDistributionPoint=critical,@idp";
constexpr const char* kIndirectSections = "[idp]\nfullname=URI:http://crl.test/a\nindirectCRL=TRUE\n";
constexpr const char* kNotChecked = "not checked, for want of a CRL: EK certificate";

CertificateSpec ca_of(const std::string& subject, const std::string& serial) {
    CertificateSpec spec = ca_spec(subject);
    spec.serial = serial;
    return spec;
}
CertificateSpec named_by_key(CertificateSpec spec) {
    spec.extra = "subjectKeyIdentifier=hash";
    return spec;
}

// root <- issuing <- chip <- EK; CRLs of the chip's certificates are made by the issuing CA.
class Revocation : public testing::Test {
  protected:
    Issued root = issue(ca_of("Root", "01"), ecc_key());
    Issued issuing = issue(named_by_key(ca_of("Issuing", "02")), ecc_key(), &root);
    Issued chip = issue(ca_of("Chip", "03"), ecc_key(), &issuing);
    Issued ek = issue(by_issuing(ek_spec()), ecc_key(), &chip);
    Issued direct_ek = issue(ek_spec(), ecc_key(), &issuing);
    Vendor vendor{"Vendor", {root.der()}, {issuing.der()}, {}};

    // Names the issuing CA as who revokes it.
    static CertificateSpec by_issuing(CertificateSpec spec, const std::string& more = "") {
        spec.extra += "\ncrlDistributionPoints=point";
        spec.sections +=
            "[point]\nfullname=URI:http://crl.test/a\nCRLissuer=dirName:who\n" + more + "[who]\nCN=Issuing\n";
        return spec;
    }
    static RevocationSpec indirect(std::vector<RevocationSpec::Entry> entries = {}) {
        return {.entries = std::move(entries), .extensions = kIndirect, .sections = kIndirectSections};
    }
    static RevocationSpec direct(std::vector<RevocationSpec::Entry> entries, std::string extensions = "",
                                 std::string sections = "") {
        return {.entries = std::move(entries), .extensions = std::move(extensions), .sections = std::move(sections)};
    }

    TrustStore store(std::vector<Buffer> lists) const {
        Vendor with = vendor;
        with.revocations = std::move(lists);
        TrustStore store;
        store.add(with);
        return store;
    }
    std::string judge(const Issued& one, std::vector<Buffer> lists) const {
        const EndorsementVerdict verdict = verify_endorsement(
            {one.der(), {chip.der()}, test::ek_public_area(one.key.get())}, store(std::move(lists)), kNow);
        std::string detail;
        for (const Finding& finding : verdict.findings) {
            if (finding.rule != "ek revocation") {
                EXPECT_TRUE(finding.ok) << finding.detail;
                continue;
            }
            detail = (finding.ok ? "" : "REFUSED: ") + finding.detail;
        }
        return detail;
    }
    std::string fault(const Issued& one, std::vector<Buffer> lists) const {
        return endorsement_fault({one.der(), {chip.der()}, {}}, store(std::move(lists)), kNow);
    }
    // At enrollment and of one that is enrolled.
    void expect_revoked(const Issued& one, const std::vector<Buffer>& lists, const std::string& words) const {
        EXPECT_EQ(judge(one, lists), "REFUSED: " + words);
        EXPECT_EQ(fault(one, lists), "Vendor: " + words);
    }
    void expect_untouched(const Issued& one, const std::vector<Buffer>& lists, const std::string& words) const {
        EXPECT_THAT(judge(one, lists), StartsWith(words));
        EXPECT_EQ(fault(one, lists), "");
    }
    struct Age {
        std::time_t oldest, end;
        const char* gap;
    };
    void expect_age(const Issued& one, std::vector<Buffer> lists, const Age& age) const {
        const PathCrls path = crls_of_path({one.der(), {chip.der()}, {}}, store(std::move(lists)), kNow);
        EXPECT_EQ(path.vendor, "Vendor");
        EXPECT_EQ(path.oldest, age.oldest);
        EXPECT_EQ(path.end, age.end);
        EXPECT_EQ(path.gap, age.gap);
    }
    // Refused at enrollment; no reason to lose one that is at work.
    void expect_no_answer(const Issued& one, const std::vector<Buffer>& lists, const std::string& words) const {
        EXPECT_THAT(judge(one, lists), testing::AllOf(StartsWith("REFUSED: "), HasSubstr(words)));
        EXPECT_EQ(fault(one, lists), "");
    }
};

// --- indirect CRLs

TEST_F(Revocation, IndirectCrlRevokesWhatItListsUnderItsIssuer) {
    expect_untouched(ek, {issue_list(issuing, indirect())}, "not revoked");
    expect_revoked(ek, {issue_list(issuing, indirect({{.serial = "1234", .issuer = &chip}}))},
                   "EK certificate: revoked by CN=Issuing");
    // Of another serial number, of another issuer, of the CRL's own issuer.
    expect_untouched(ek, {issue_list(issuing, indirect({{.serial = "1235", .issuer = &chip}}))}, "not revoked");
    expect_untouched(ek, {issue_list(issuing, indirect({{.serial = "1234", .issuer = &root}}))}, "not revoked");
    expect_untouched(ek, {issue_list(issuing, indirect({{.serial = "1234"}}))}, "not revoked");
}

TEST_F(Revocation, EntryIsOfTheIssuerThatTheOneBeforeItNames) {
    expect_revoked(ek, {issue_list(issuing, indirect({{.serial = "1", .issuer = &chip}, {.serial = "1234"}}))},
                   "EK certificate: revoked by CN=Issuing");
    expect_revoked(ek,
                   {issue_list(issuing, indirect({{.serial = "1234", .issuer = &root},
                                                  {.serial = "2", .issuer = &chip},
                                                  {.serial = "3"},
                                                  {.serial = "1234"},
                                                  {.serial = "4", .issuer = &root},
                                                  {.serial = "1234"}}))},
                   "EK certificate: revoked by CN=Issuing");
    expect_untouched(ek,
                     {issue_list(issuing, indirect({{.serial = "1234"},
                                                    {.serial = "2", .issuer = &chip},
                                                    {.serial = "1", .issuer = &root},
                                                    {.serial = "1234"}}))},
                     "not revoked");
}

TEST_F(Revocation, IndirectCrlSaysNothingOfWhatDoesNotNameItsIssuer) {
    const auto without = issue(ek_spec(), ecc_key(), &chip);
    expect_untouched(without, {issue_list(issuing, indirect())}, kNotChecked);
    const auto elsewhere = indirect({{.serial = "1234", .issuer = &root}, {.serial = "77", .issuer = &chip}});
    expect_untouched(without, {issue_list(issuing, elsewhere)}, kNotChecked);
    // Whoever is listed is revoked all the same: it is its vendor who says so.
    expect_revoked(without, {issue_list(issuing, indirect({{.serial = "1234", .issuer = &chip}}))},
                   "EK certificate: revoked by CN=Issuing");
    // Nor, without indirectCRL, of what it did not issue.
    expect_untouched(ek, {issue_list(issuing, direct({{.serial = "1234"}}))}, kNotChecked);
    vendor.require_crl = true;
    EXPECT_THAT(judge(without, {issue_list(issuing, indirect())}), HasSubstr("REFUSED: no CRL for EK certificate"));
}

TEST_F(Revocation, IndirectCrlRevokesCas) {
    auto spec = by_issuing(ca_of("Chip", "03"));
    chip = issue(spec, ecc_key(), &issuing);
    ek = issue(ek_spec(), ecc_key(), &chip);
    const auto authority = issue(named_by_key(ca_spec("Authority")), ecc_key(), &root);
    expect_revoked(ek, {issue_list(issuing, indirect({{.serial = "03"}}))}, "CA 1 (CN=Chip): revoked by CN=Issuing");
    expect_untouched(ek, {issue_list(issuing, indirect({{.serial = "03", .issuer = &root}}))}, kNotChecked);
    // By one that is not on the path.
    vendor.intermediates.push_back(authority.der());
    spec.sections = "[point]\nfullname=URI:http://crl.test/a\nCRLissuer=dirName:who\n[who]\nCN=Authority\n";
    chip = issue(spec, ecc_key(), &issuing);
    ek = issue(ek_spec(), ecc_key(), &chip);
    expect_revoked(ek, {issue_list(authority, indirect({{.serial = "03", .issuer = &issuing}}))},
                   "CA 1 (CN=Chip): revoked by CN=Authority");
    expect_untouched(ek, {issue_list(authority, indirect({{.serial = "03", .issuer = &authority}}))}, kNotChecked);
}

// OpenSSL looks into one list of those that fit a certificate, the one that it prefers.
TEST_F(Revocation, NoListHidesWhatAnotherLists) {
    vendor.intermediates.push_back(chip.der());
    const auto both_ways = [&](const Issued& one, const Buffer& lists, const Buffer& does_not,
                               const std::string& words) {
        expect_revoked(one, {lists, does_not}, words);
        expect_revoked(one, {does_not, lists}, words);
    };
    const std::string ek_words = "EK certificate: revoked by CN=Issuing";
    const Buffer older = test::revoke(chip, {}, kNow - 9 * kDay, kNow + 9 * kDay);
    const auto listing = indirect({{.serial = "1234", .issuer = &chip}});
    both_ways(ek, issue_list(issuing, listing), older, ek_words);
    // Of one that does not name the list's issuer.
    const auto unnamed = issue(ek_spec(), ecc_key(), &chip);
    both_ways(unnamed, issue_list(issuing, listing), older, ek_words);
    // A CA.
    both_ways(ek, issue_list(root, indirect({{.serial = "03", .issuer = &issuing}})), test::revoke(issuing, {}),
              "CA 1 (CN=Chip): revoked by CN=Root");
    // A part of the list, older than the whole; and some of the reasons.
    const std::string part = "issuingDistributionPoint=critical,@idp";
    for (const char* what : {"fullname=URI:http://crl.test/part\n", "onlysomereasons=keyCompromise\n"}) {
        auto spec = direct({{.serial = "1234"}}, part, std::string("[idp]\n") + what);
        spec.from = kNow - 5 * kDay;
        both_ways(direct_ek, issue_list(issuing, spec), issue_list(issuing, direct({})), ek_words);
    }
    // A later one of the same list frees it, by number or by date; an older one does not.
    auto first = direct({{.serial = "1234"}}, "crlNumber=DER:02:01:05"), later = direct({}, "crlNumber=DER:02:01:06");
    first.from = later.from = kNow - 5 * kDay;
    expect_untouched(direct_ek, {issue_list(issuing, first), issue_list(issuing, later)}, "not revoked");
    first.extensions = later.extensions = "";
    later.from = kNow - 4 * kDay;
    expect_untouched(direct_ek, {issue_list(issuing, later), issue_list(issuing, first)}, "not revoked");
    std::swap(first.from, later.from);
    both_ways(direct_ek, issue_list(issuing, first), issue_list(issuing, later), ek_words);
}

// A CA's word is not taken from it by lists that do not bind it.
TEST_F(Revocation, OnlyWhoVouchesForACaSilencesIt) {
    vendor.intermediates.push_back(chip.der());
    const Buffer own = test::revoke(chip, {}),
                 word = issue_list(issuing, indirect({{.serial = "1234", .issuer = &chip}}));
    const std::string words = "EK certificate: revoked by CN=Issuing";
    const auto by_root = [this](std::vector<RevocationSpec::Entry> entries, std::time_t from,
                                const std::string& extensions = "") {
        auto spec = direct(std::move(entries), extensions, "[idp]\nonlyCA=TRUE\n");
        spec.from = from;
        return issue_list(root, spec);
    };
    const auto everyway = [&](const Buffer& one, const Buffer& other, const std::string& wanted) {
        expect_revoked(ek, {own, word, one, other}, wanted);
        expect_revoked(ek, {other, one, word, own}, wanted);
    };
    // Held once, and freed since.
    const auto held = by_root({{.serial = "02", .reason = 6}}, kNow - 9 * kDay, "crlNumber=DER:02:01:01");
    everyway(held, by_root({}, kNow - kDay, "crlNumber=DER:02:01:02"), words);
    // By another root of that name.
    const auto twin = issue(ca_of("Root", "0a"), ecc_key());
    vendor.roots.push_back(twin.der());
    everyway(issue_list(twin, direct({{.serial = "02"}})), test::revoke(root, {}), words);
    // A root that lists itself is heard about others.
    everyway(by_root({{.serial = "01"}, {.serial = "02"}}, kNow - kDay),
             by_root({}, kNow - 2 * kDay, "issuingDistributionPoint=critical,@idp"),
             "CA 2 (CN=Issuing): revoked by CN=Root");
    // Listed by its issuer it is silent; what it said of others is nobody's word.
    expect_revoked(ek, {own, word, test::revoke(root, {&issuing})}, "CA 2 (CN=Issuing): revoked by CN=Root");
}

// What is not in force yet, or cannot be read whole, frees nothing and silences nobody.
TEST_F(Revocation, NoListThatDoesNotCountHidesWhatAnotherLists) {
    const auto twin = issue(ca_of("Issuing", "05"), ecc_key(), &root);
    vendor.intermediates.push_back(twin.der());
    const auto listing = [](std::time_t from) {
        auto spec = direct({{.serial = "1234"}});
        spec.from = from;
        return spec;
    };
    const auto empty = [](std::time_t from, const std::string& extensions) {
        auto spec = direct({}, extensions);
        spec.from = from;
        return spec;
    };
    const auto tomorrow = empty(kNow + kDay, "");
    const auto unknown = empty(kNow - kDay, "1.2.3.4=critical,DER:05:00");
    for (const Issued* const by : {&twin, static_cast<const Issued*>(&issuing)}) {
        const std::string words = by == &twin ? "EK certificate: revoked by CN=Issuing, under another key of that name"
                                              : "EK certificate: revoked by CN=Issuing";
        const Buffer first = issue_list(*by, listing(kNow - 5 * kDay));
        expect_revoked(direct_ek, {first, issue_list(*by, unknown)}, words);
        expect_revoked(direct_ek, {issue_list(*by, unknown), first}, words);
        // Of one that is enrolled dates do not count: there the newest is the CA's last word.
        EXPECT_EQ(judge(direct_ek, {first, issue_list(*by, tomorrow)}), "REFUSED: " + words);
        EXPECT_EQ(judge(direct_ek, {issue_list(*by, tomorrow), first}), "REFUSED: " + words);
    }
}

TEST_F(Revocation, IntermediateIsRevokedByItsIssuer) {
    issuing = issue(ca_of("Issuing", "02"), ecc_key(), &root);
    chip = issue(ca_of("Chip", "03"), ecc_key(), &issuing);
    ek = issue(ek_spec(), ecc_key(), &chip);
    vendor.intermediates = {issuing.der()};
    expect_revoked(ek, {test::revoke(root, {&issuing})}, "CA 2 (CN=Issuing): revoked by CN=Root");
    expect_revoked(ek, {test::revoke(issuing, {&chip}), test::revoke(root, {})},
                   "CA 1 (CN=Chip): revoked by CN=Issuing");
    expect_untouched(ek, {test::revoke(chip, {}), test::revoke(issuing, {}), test::revoke(root, {})}, "not revoked");
}

TEST_F(Revocation, CrlsMayBeSignedByOneWhoSignsNothingElse) {
    CertificateSpec spec = ek_spec();
    spec.subject = "Issuing";
    spec.serial = "04";
    spec.usage = "critical,cRLSign";
    spec.extra = "subjectKeyIdentifier=hash";
    spec.extended_usage = spec.alternative_name = "";
    const auto signer = issue(spec, ecc_key(), &root);
    vendor.intermediates.push_back(signer.der());
    auto list = indirect({{.serial = "1234", .issuer = &chip}});
    list.extensions += "\nauthorityKeyIdentifier=keyid:always";
    expect_revoked(ek, {issue_list(signer, list)}, "EK certificate: revoked by CN=Issuing");
    // It makes no certificates.
    EXPECT_THAT(endorsement_fault({issue(ek_spec(), ecc_key(), &signer).der(), {}, {}}, store({}), kNow),
                HasSubstr("EK certificate: "));
    // Once it is revoked itself, its word counts for nothing.
    expect_no_answer(ek, {issue_list(signer, list), test::revoke(root, {&signer})}, "CRL path validation");
}

// --- who may sign them

// RFC 5280, 6.3.3 (f): it does not say that anything is good. What the key has said of one is held against that one.
TEST_F(Revocation, CrlByAKeyThatMayNotSignCrlsCountsAsFarAsItLists) {
    auto spec = named_by_key(ca_of("Issuing", "02"));
    spec.usage = "critical,keyCertSign";
    issuing = issue(spec, ecc_key(), &root);
    chip = issue(ca_of("Chip", "03"), ecc_key(), &issuing);
    ek = issue(by_issuing(ek_spec()), ecc_key(), &chip);
    direct_ek = issue(ek_spec(), ecc_key(), &issuing);
    vendor.intermediates = {issuing.der()};
    const std::string listed = "EK certificate: revoked by CN=Issuing, whose key usage lacks CRL signing";
    expect_revoked(ek, {issue_list(issuing, indirect({{.serial = "1234", .issuer = &chip}}))}, listed);
    expect_revoked(direct_ek, {issue_list(issuing, direct({{.serial = "1234"}}))}, listed);
    const std::string unlisted =
        "not checked: EK certificate: the CRL of CN=Issuing is by a key whose usage lacks CRL signing";
    expect_untouched(direct_ek, {issue_list(issuing, direct({}))}, unlisted);
    expect_untouched(direct_ek, {issue_list(issuing, direct({{.serial = "1235"}}))}, unlisted);
    vendor.require_crl = true;
    EXPECT_THAT(judge(direct_ek, {issue_list(issuing, direct({}))}), HasSubstr("no CRL for EK certificate"));
    vendor.require_crl = false;
    // Those that it says nothing of are none the worse.
    const auto without = issue(ek_spec(), ecc_key(), &chip);
    expect_untouched(without, {issue_list(issuing, indirect())}, kNotChecked);
    expect_untouched(issue(ek_spec(), ecc_key(), &root), {issue_list(issuing, direct({}))}, kNotChecked);
}

TEST_F(Revocation, CrlOfASecondCaOfTheSameNameDoesNotHideTheFirsts) {
    const auto twin = issue(ca_of("Issuing", "05"), ecc_key(), &root);
    vendor.intermediates.push_back(twin.der());
    const Buffer newer = issue_list(twin, {.entries = {}, .extensions = {}, .sections = {}, .from = kNow - 60});
    expect_revoked(direct_ek, {newer, test::revoke(issuing, {&direct_ek})}, "EK certificate: revoked by CN=Issuing");
    // Where the right one speaks, the other does not.
    expect_untouched(direct_ek, {test::revoke(twin, {&direct_ek}), test::revoke(issuing, {})}, "not revoked");
}

TEST_F(Revocation, CrlByAnotherKeyOfTheNameRevokesWhatItListsAndChecksNothingElse) {
    const auto twin = issue(ca_of("Issuing", "05"), ecc_key(), &root);
    vendor.intermediates.push_back(twin.der());
    const auto dated = [&](std::vector<RevocationSpec::Entry> entries, std::time_t from) {
        return issue_list(twin, {.entries = std::move(entries), .extensions = {}, .sections = {}, .from = from});
    };
    const std::string foreign = "the CRL of CN=Issuing is by another key of that name";
    expect_revoked(direct_ek, {dated({{.serial = "1234"}}, kNow - kDay)},
                   "EK certificate: revoked by CN=Issuing, under another key of that name");
    expect_untouched(direct_ek, {dated({{.serial = "77"}}, kNow - kDay)}, "not checked: EK certificate: " + foreign);
    // Of several the newest.
    expect_untouched(direct_ek, {dated({{.serial = "1234"}}, kNow - 2 * kDay), dated({}, kNow - kDay)},
                     "not checked: ");
    expect_revoked(direct_ek, {dated({{.serial = "1234"}}, kNow - kDay), dated({}, kNow - 2 * kDay)},
                   "EK certificate: revoked by CN=Issuing, under another key of that name");
    vendor.require_crl = true;
    EXPECT_THAT(judge(direct_ek, {test::revoke(root, {}), dated({}, kNow - kDay)}),
                testing::AllOf(StartsWith("REFUSED: no CRL for EK certificate"), HasSubstr(foreign)));
}

// A root that goes on with another key: either may have issued a certificate that does not say by which, whatever their order.
TEST_F(Revocation, RootsOfOneNameHideNeitherEachOthersCertificatesNorCrls) {
    const auto next = issue(ca_of("Root", "11"), ecc_key());
    const Issued eks[] = {issue(ek_spec(), ecc_key(), &root), issue(ek_spec(), ecc_key(), &next)};
    for (const bool turned : {false, true}) {
        vendor.roots = {root.der(), next.der()};
        if (turned) std::swap(vendor.roots[0], vendor.roots[1]);
        for (const Issued& one : eks) expect_untouched(one, {}, "not checked");
        const std::vector<Buffer> lists{test::revoke(root, {}), test::revoke(next, {&eks[1]})};
        expect_untouched(eks[0], lists, "not revoked");
        expect_revoked(eks[1], lists, "EK certificate: revoked by CN=Root");
    }
    vendor.roots = {root.der()};
    EXPECT_NE(fault(eks[1], {}), "");
}

// A CA that goes on with another key makes no more lists with the first.
TEST_F(Revocation, EndedCrlByTheRightKeyDoesNotHideWhatTheNextKeysLists) {
    const auto next = issue(ca_of("Issuing", "05"), ecc_key(), &root);
    vendor.intermediates.push_back(next.der());
    const auto list = [](const Issued& issuer, std::vector<RevocationSpec::Entry> entries, bool ended) {
        return issue_list(issuer, {.entries = std::move(entries),
                                   .extensions = {},
                                   .sections = {},
                                   .from = kNow - 500 * kDay,
                                   .to = ended ? kNow - 400 * kDay : kNow + 400 * kDay});
    };
    const std::string revoked = "EK certificate: revoked by CN=Issuing, under another key of that name";
    const std::vector<Buffer> by_next{list(issuing, {}, true), list(next, {{.serial = "1234"}}, false)};
    expect_revoked(direct_ek, by_next, revoked);
    expect_revoked(direct_ek, {by_next[1], by_next[0]}, revoked);
    EXPECT_EQ(fault(direct_ek, {list(issuing, {}, true), list(next, {{.serial = "77"}}, false)}), "");
    expect_untouched(direct_ek, {list(issuing, {}, false), by_next[1]}, "not revoked");
}

// Each CRL is held to the key that issued the certificate in question, though another CA of the path has the name, too.
TEST_F(Revocation, CrlIsUsedWhicheverCaOfThePathWithThatNameSignedIt) {
    const auto above = issue(named_by_key(ca_of("Issuing", "06")), ecc_key(), &root);
    auto spec = named_by_key(ca_of("Issuing", "02"));
    spec.extra += "\nauthorityKeyIdentifier=keyid:always";  // or it would be taken for signed by itself
    const auto below = issue(spec, ecc_key(), &above);
    const auto one = issue(ek_spec(), ecc_key(), &below);
    vendor.intermediates = {above.der(), below.der()};
    expect_revoked(one, {test::revoke(above, {&below})}, "CA 1 (CN=Issuing): revoked by CN=Issuing");
    expect_revoked(one, {test::revoke(below, {&one})}, "EK certificate: revoked by CN=Issuing");
    for (const bool turned : {false, true}) {
        std::vector<Buffer> lists{test::revoke(above, {&below}), test::revoke(below, {})};
        if (turned) std::swap(lists[0], lists[1]);
        expect_revoked(one, lists, "CA 1 (CN=Issuing): revoked by CN=Issuing");
    }
    expect_untouched(one, {test::revoke(above, {}), test::revoke(below, {}), test::revoke(root, {})}, "not revoked");
    expect_untouched(one, {test::revoke(above, {})},
                     "not checked: EK certificate: the CRL of CN=Issuing is by another key of that name");
}

// --- cross-certificates

TEST_F(Revocation, PathGoesByTheCrossCertificateThatLeadsToARoot) {
    const auto elsewhere = issue(ca_of("Elsewhere", "0a"), ecc_key());
    auto cross = issue(named_by_key(ca_of("Issuing", "0b")), {issuing.key.get(), [](EVP_PKEY*) {}}, &elsewhere);
    for (const bool first : {false, true}) {
        vendor.intermediates =
            first ? std::vector{cross.der(), issuing.der()} : std::vector{issuing.der(), cross.der()};
        expect_untouched(direct_ek, {}, "not checked");
        expect_untouched(direct_ek, {test::revoke(issuing, {})}, "not revoked");
        expect_revoked(direct_ek, {test::revoke(issuing, {&direct_ek})}, "EK certificate: revoked by CN=Issuing");
    }
    // Nor is a CA of that name taken that did not sign it.
    auto twin = issue(ca_of("Chip", "0c"), ecc_key(), &issuing);
    vendor.intermediates = {issuing.der(), twin.der()};
    expect_untouched(issue(ek_spec(), ecc_key(), &chip), {}, "not checked");
    vendor.intermediates = {cross.der()};
    EXPECT_THAT(fault(direct_ek, {}), HasSubstr("issued by CN=Elsewhere, of which there is no certificate"));
}

TEST_F(Revocation, CrlOfACaThatOnlyThePathBringsCountsThere) {
    const auto by_chip = issue(ek_spec(), ecc_key(), &chip);
    expect_revoked(by_chip, {test::revoke(chip, {&by_chip})}, "EK certificate: revoked by CN=Chip");
    expect_untouched(direct_ek, {test::revoke(chip, {&by_chip})}, kNotChecked);
    // A root that is somebody's: nothing is known of who made it.
    const auto above = issue(ca_spec("Above"), ecc_key());
    root = issue(ca_of("Root", "01"), ecc_key(), &above);
    issuing = issue(ca_of("Issuing", "02"), ecc_key(), &root);
    vendor = {"Vendor", {root.der()}, {issuing.der()}, {}};
    expect_untouched(issue(ek_spec(), ecc_key(), &issuing), {test::revoke(above, {&root})}, kNotChecked);
}

// --- what they cover

TEST_F(Revocation, PartitionedCrlsCoverTheirPart) {
    const auto part = [&](const std::string& what, std::vector<RevocationSpec::Entry> entries) {
        return issue_list(issuing, direct(std::move(entries), kIndirect, "[idp]\n" + what + "\n"));
    };
    expect_untouched(direct_ek, {part("onlyuser=TRUE", {})}, "not revoked");
    expect_revoked(direct_ek, {part("onlyuser=TRUE", {{.serial = "1234"}})}, "EK certificate: revoked by CN=Issuing");
    for (const char* other : {"onlyCA=TRUE", "onlyAA=TRUE"}) {
        expect_untouched(direct_ek, {part(other, {})}, kNotChecked);
        expect_untouched(direct_ek, {part(other, {}), part("onlyuser=TRUE", {})}, "not revoked");
        expect_revoked(direct_ek, {part(other, {}), part("onlyuser=TRUE", {{.serial = "1234"}})},
                       "EK certificate: revoked by CN=Issuing");
    }
    const auto by_chip = issue(ek_spec(), ecc_key(), &chip);
    expect_revoked(by_chip, {part("onlyCA=TRUE", {{.serial = "03"}})}, "CA 1 (CN=Chip): revoked by CN=Issuing");
    expect_untouched(by_chip, {part("onlyuser=TRUE", {})}, kNotChecked);
    // By distribution points.
    const std::string here = "fullname=URI:http://crl.test/1", there = "fullname=URI:http://crl.test/2";
    CertificateSpec spec = ek_spec();
    spec.extra = "crlDistributionPoints=URI:http://crl.test/1";
    const auto pointed = issue(spec, ecc_key(), &issuing);
    expect_untouched(pointed, {part(here, {})}, "not revoked");
    expect_revoked(pointed, {part(there, {}), part(here, {{.serial = "1234"}})},
                   "EK certificate: revoked by CN=Issuing");
    expect_untouched(pointed, {part(there, {})}, kNotChecked);
}

TEST_F(Revocation, CrlOfSomeReasonsLeavesTheOthersOpen) {
    const auto some = [&](const std::string& reasons, std::vector<RevocationSpec::Entry> entries) {
        return issue_list(issuing, direct(std::move(entries), kIndirect, "[idp]\nonlysomereasons=" + reasons + "\n"));
    };
    expect_untouched(direct_ek, {some("keyCompromise", {})}, kNotChecked);
    expect_revoked(direct_ek, {some("keyCompromise", {{.serial = "1234", .reason = 1}})},
                   "EK certificate: revoked by CN=Issuing");
    const std::string rest =
        "CACompromise,affiliationChanged,superseded,cessationOfOperation,certificateHold,privilegeWithdrawn,AACompromise";
    expect_untouched(direct_ek, {some("keyCompromise", {}), some(rest, {})}, "not revoked");
    expect_revoked(direct_ek, {some("keyCompromise", {}), some(rest, {{.serial = "1234", .reason = 6}})},
                   "EK certificate: revoked by CN=Issuing");
}

TEST_F(Revocation, CrlWithACriticalExtensionThatIsNotKnownAnswersNothing) {
    const std::string unknown = "1.3.6.1.4.1.99999.1=critical,DER:05:00";
    expect_no_answer(direct_ek, {issue_list(issuing, direct({{.serial = "1234"}}, unknown))}, "critical extension");
    expect_no_answer(direct_ek, {issue_list(issuing, direct({{.serial = "7", .extension = unknown}}))},
                     "critical extension");
    expect_untouched(direct_ek, {issue_list(issuing, direct({{.serial = "7"}}, "1.3.6.1.4.1.99999.1=DER:05:00"))},
                     "not revoked");
    // A good one beside it is heard.
    expect_revoked(direct_ek, {issue_list(issuing, direct({}, unknown)), test::revoke(issuing, {&direct_ek})},
                   "EK certificate: revoked by CN=Issuing");
    expect_untouched(issue(ek_spec(), ecc_key(), &root), {issue_list(issuing, direct({}, unknown))}, kNotChecked);
}

TEST_F(Revocation, DeltaCrlCountsBesideTheFullOne) {
    const std::string number = "crlNumber=DER:02:01:01\nfreshestCRL=fresh";
    const std::string fresh = "[fresh]\nfullname=URI:http://crl.test/delta\n";
    const std::string delta = "crlNumber=DER:02:01:02\ndeltaCRL=critical,DER:02:01:01";
    const Buffer full = issue_list(issuing, direct({}, number, fresh));
    const Buffer lists = issue_list(issuing, direct({{.serial = "1234"}}, delta));
    expect_untouched(direct_ek, {full, issue_list(issuing, direct({}, delta))}, "not revoked");
    expect_revoked(direct_ek, {full, lists}, "EK certificate: revoked by CN=Issuing");
    expect_revoked(direct_ek, {lists, full}, "EK certificate: revoked by CN=Issuing");
    // Alone it is no answer.
    expect_untouched(direct_ek, {issue_list(issuing, direct({}, delta))}, kNotChecked);
    // Taken back: removeFromCRL.
    const Buffer held = issue_list(issuing, direct({{.serial = "1234", .reason = 6}}, number, fresh));
    expect_revoked(direct_ek, {held}, "EK certificate: revoked by CN=Issuing");
    expect_untouched(direct_ek, {held, issue_list(issuing, direct({{.serial = "1234", .reason = 8}}, delta))},
                     "not revoked");
}

TEST_F(Revocation, DeltaCrlCountsThoughNothingAnnouncesIt) {
    const auto full = [&](std::vector<RevocationSpec::Entry> entries, const std::string& number) {
        return issue_list(issuing, direct(std::move(entries), "crlNumber=DER:02:01:" + number));
    };
    const auto delta = [&](std::vector<RevocationSpec::Entry> entries, const std::string& base,
                           const std::string& number, const std::string& more = "") {
        return issue_list(issuing, direct(std::move(entries), "crlNumber=DER:02:01:" + number +
                                                                  "\ndeltaCRL=critical,DER:02:01:" + base + more));
    };
    const std::vector<RevocationSpec::Entry> listed{{.serial = "1234"}}, held{{.serial = "1234", .reason = 6}},
        back{{.serial = "1234", .reason = 8}};
    const std::string revoked = "EK certificate: revoked by CN=Issuing";
    for (const bool first : {false, true}) {
        const auto both = [first](const Buffer& a, const Buffer& b) {
            return first ? std::vector{a, b} : std::vector{b, a};
        };
        expect_revoked(direct_ek, both(full({}, "05"), delta(listed, "05", "06")), revoked);
        expect_untouched(direct_ek, both(full({}, "05"), delta({}, "05", "06")), "not revoked");
        // A full one of as high a number has the last word; one without a number has none.
        expect_untouched(direct_ek, both(full({}, "06"), delta(listed, "05", "06")), "not revoked");
        expect_revoked(direct_ek, both(test::revoke(issuing, {}), delta(listed, "05", "06")), revoked);
        // Taken back, from a base that the full one has.
        expect_untouched(direct_ek, both(full(held, "05"), delta(back, "05", "06")), "not revoked");
        expect_revoked(direct_ek, both(full(held, "05"), delta(back, "06", "07")), revoked);
        expect_revoked(direct_ek, both(full(held, "07"), delta(back, "05", "06")), revoked);
        // By one that is to be believed.
        expect_revoked(direct_ek,
                       both(full(held, "05"), delta(back, "05", "06", "\n1.3.6.1.4.1.99999.1=critical,DER:05:00")),
                       revoked);
        // By the last of several deltas.
        expect_untouched(direct_ek,
                         {full({}, "05"), both(delta(held, "05", "06"), delta(back, "05", "07"))[0],
                          both(delta(held, "05", "06"), delta(back, "05", "07"))[1]},
                         "not revoked");
        expect_revoked(direct_ek, {full({}, "05"), delta(back, "05", "06"), delta(held, "05", "07")}, revoked);
    }
    // Alone.
    expect_revoked(direct_ek, {delta(listed, "05", "06")}, revoked);
    // Of another CA of the same name, of another scope.
    const auto twin = issue(ca_of("Issuing", "05"), ecc_key(), &root);
    vendor.intermediates.push_back(twin.der());
    const Buffer of_twin = issue_list(twin, direct(back, "crlNumber=DER:02:01:06\ndeltaCRL=critical,DER:02:01:05"));
    expect_revoked(direct_ek, {full(held, "05"), of_twin}, revoked);
    const Buffer of_users = issue_list(issuing, direct(back,
                                                       "crlNumber=DER:02:01:06\ndeltaCRL=critical,DER:02:01:05\n"
                                                       "issuingDistributionPoint=critical,@idp",
                                                       "[idp]\nonlyuser=TRUE\n"));
    expect_revoked(direct_ek, {full(held, "05"), of_users}, revoked);
}

// --- how old they are: of the very CRLs that are asked whether anything is revoked

TEST_F(Revocation, AgeIsOfTheCrlByTheCasNextKey) {
    const auto next = issue(named_by_key(ca_of("Issuing", "05")), ecc_key(), &root);
    vendor.intermediates.push_back(next.der());
    const auto list = [&](std::vector<RevocationSpec::Entry> entries) {
        return issue_list(next, {.entries = std::move(entries),
                                 .extensions = "authorityKeyIdentifier=keyid:always",
                                 .sections = {},
                                 .from = kNow - 5 * kDay,
                                 .to = kNow + 2 * kDay});
    };
    expect_revoked(direct_ek, {list({{.serial = "1234"}}), test::revoke(root, {})},
                   "EK certificate: revoked by CN=Issuing");
    expect_age(direct_ek, {list({}), test::revoke(root, {})}, {kNow - 5 * kDay, kNow + kDay, ""});
}

TEST_F(Revocation, AgeIsOfTheCrlByOneWhoSignsNothingElse) {
    auto spec = ek_spec();
    spec.subject = "Lists";
    spec.serial = "07";
    spec.usage = "critical,cRLSign";
    spec.extended_usage = spec.alternative_name = "";
    const auto lists = issue(spec, ecc_key(), &issuing);
    auto named = ek_spec();
    named.extra = "crlDistributionPoints=point";
    named.sections += "[point]\nfullname=URI:http://crl.test/a\nCRLissuer=dirName:who\n[who]\nCN=Lists\n";
    const auto one = issue(named, ecc_key(), &issuing);
    vendor.intermediates.push_back(lists.der());
    auto indirectly = indirect({{.serial = "1234", .issuer = &issuing}});
    expect_revoked(one, {issue_list(lists, indirectly), test::revoke(root, {})}, "EK certificate: revoked by CN=Lists");
    indirectly = indirect();
    indirectly.from = kNow - 4 * kDay;
    expect_age(one, {issue_list(lists, indirectly), test::revoke(root, {})}, {kNow - 4 * kDay, kNow + kDay, ""});
}

TEST_F(Revocation, AgeIsOfTheNewestOfEachCertificateAndTheOldestOfAll) {
    const auto at = [](const Issued& issuer, int days) {
        return test::revoke(issuer, {}, kNow - days * kDay, kNow + (10 - days) * kDay);
    };
    expect_age(direct_ek, {at(issuing, 9), at(issuing, 2), at(root, 3)}, {kNow - 3 * kDay, kNow + 7 * kDay, ""});
    expect_age(direct_ek, {at(root, 3)}, {kNow - 3 * kDay, kNow + 7 * kDay, "EK certificate"});
    expect_age(direct_ek, {at(issuing, 2)}, {kNow - 2 * kDay, kNow + 8 * kDay, "CA 1 (CN=Issuing)"});
    expect_age(direct_ek, {}, {0, 0, "EK certificate"});
    // Of the reasons that one leaves open nobody has said anything.
    expect_age(direct_ek,
               {issue_list(issuing, direct({}, kIndirect, "[idp]\nonlysomereasons=keyCompromise\n")), at(root, 3)},
               {kNow - 3 * kDay, kNow + kDay, "EK certificate"});
    // Of another part of the CA's, of another key, or not to be believed: no answer.
    expect_age(direct_ek, {issue_list(issuing, direct({}, kIndirect, "[idp]\nonlyCA=TRUE\n")), at(root, 3)},
               {kNow - 3 * kDay, kNow + 7 * kDay, "EK certificate"});
    expect_age(direct_ek, {issue_list(issuing, direct({}, "1.3.6.1.4.1.99999.1=critical,DER:05:00")), at(root, 3)},
               {kNow - 3 * kDay, kNow + 7 * kDay, "EK certificate"});
    // A delta makes its list no younger.
    const auto full = issue_list(issuing, {.entries = {},
                                           .extensions = "crlNumber=DER:02:01:05",
                                           .sections = {},
                                           .from = kNow - 8 * kDay,
                                           .to = kNow + 9 * kDay});
    const auto delta = issue_list(issuing, direct({}, "crlNumber=DER:02:01:06\ndeltaCRL=critical,DER:02:01:05"));
    expect_age(direct_ek, {full, delta, at(root, 3)}, {kNow - 8 * kDay, kNow + 7 * kDay, ""});
}

// --- many

// Of hundreds of CAs of one name and as many CRLs that do not say by which key they are, each CRL would be tried with each.
TEST_F(Revocation, CrlsOfManyCasOfOneNameAreNotTriedWithEach) {
    std::vector<Issued> twins;
    std::vector<Buffer> lists;
    const auto number = [](int i) { return std::to_string(1000 + i); };
    for (int i = 0; i < 150; ++i) {
        twins.push_back(issue(ca_of("Issuing", number(i)), ecc_key(), &root));
        vendor.intermediates.push_back(twins.back().der());
    }
    for (int i = 0; i < 150; ++i) lists.push_back(test::revoke(twins[149 - static_cast<std::size_t>(i)], {}));
    lists.push_back(test::revoke(issuing, {&direct_ek}));
    Vendor with = vendor;
    with.revocations = lists;
    const auto notes = TrustStore().add(with);
    EXPECT_THAT(notes, testing::Contains(HasSubstr("too many CAs of one name")));
    // The path brings the key that a list is tried with first.
    expect_revoked(direct_ek, lists, "EK certificate: revoked by CN=Issuing");
}

TEST_F(Revocation, IndirectCrlsAreFoundAmongMany) {
    std::vector<Buffer> lists;
    for (int i = 0; i < 40; ++i) {
        const auto authority = issue(named_by_key(ca_of("Authority " + std::to_string(i), "20")), ecc_key(), &root);
        vendor.intermediates.push_back(authority.der());
        std::vector<RevocationSpec::Entry> entries;
        if (i == 37)
            entries = {{.serial = "99", .issuer = &root}, {.serial = "5", .issuer = &chip}, {.serial = "1234"}};
        lists.push_back(issue_list(authority, indirect(std::move(entries))));
    }
    const auto without = issue(ek_spec(), ecc_key(), &chip);
    expect_revoked(without, lists, "EK certificate: revoked by CN=Authority 37");
    lists.erase(lists.begin() + 37);
    expect_untouched(without, lists, kNotChecked);
}

// --- how old they are

TEST_F(Revocation, NewestOfSeveralCounts) {
    const auto dated = [&](std::vector<RevocationSpec::Entry> entries, std::time_t from, std::time_t to) {
        RevocationSpec spec = indirect(std::move(entries));
        spec.from = from;
        spec.to = to;
        return issue_list(issuing, spec);
    };
    const std::vector<RevocationSpec::Entry> lists{{.serial = "1234", .issuer = &chip}};
    const Buffer old = dated({}, kNow - 9 * kDay, kNow + kDay), old_lists = dated(lists, kNow - 9 * kDay, kNow + kDay);
    const Buffer fresh = dated({}, kNow - kDay, kNow + kDay), fresh_lists = dated(lists, kNow - kDay, kNow + kDay);
    for (const bool first : {false, true}) {
        const auto both = [first](const Buffer& a, const Buffer& b) {
            return first ? std::vector{a, b} : std::vector{b, a};
        };
        expect_revoked(ek, both(old, fresh_lists), "EK certificate: revoked by CN=Issuing");
        expect_untouched(ek, both(old_lists, fresh), "not revoked");
    }
    // Of those that are at work none is lost because a list was left to expire, and none is freed by it.
    const Buffer expired = dated({}, kNow - 9 * kDay, kNow - kDay);
    expect_no_answer(ek, {expired}, "the CRL of CN=Issuing expired on 2027-01-14");
    expect_revoked(ek, {dated(lists, kNow - 9 * kDay, kNow - kDay)}, "EK certificate: revoked by CN=Issuing");
    EXPECT_EQ(fault(ek, {old, dated(lists, kNow + 30 * kDay, kNow + 60 * kDay)}),
              "Vendor: EK certificate: revoked by CN=Issuing");
    // One that says nothing of it may have expired.
    expect_untouched(issue(ek_spec(), ecc_key(), &chip), {expired}, kNotChecked);
    expect_untouched(direct_ek, {test::revoke(root, {}, kNow - 9 * kDay, kNow + kDay), test::revoke(issuing, {})},
                     "not revoked");
}

}  // namespace
}  // namespace gatehouse::verifier

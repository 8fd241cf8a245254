// Public collections of vendors' CAs, with all that may be in one, read and joined to what is trusted.
#include "attestation/server/collection.hpp"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "attestation/verifier/token.hpp"
#include "tests/unit/server/service_fixture.hpp"
#include "tests/unit/verifier/certificates.hpp"

namespace gatehouse::test {
namespace {

using server::Collection;
using server::ItemKind;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

std::string text_of(const Buffer& der) { return {reinterpret_cast<const char*>(der.data()), der.size()}; }

std::string pem(const Buffer& der, const std::string& label = "CERTIFICATE") {
    std::string body = verifier::base64(der);
    for (std::size_t at = 64; at < body.size(); at += 65) body.insert(at, "\n");
    return "Subject: whatever\n-----BEGIN " + label + "-----\n" + body + "\n-----END " + label + "-----\n";
}

CertificateSpec numbered(const std::string& subject, const std::string& serial) {
    CertificateSpec spec = ca_spec(subject);
    spec.serial = serial;
    return spec;
}

class Collections : public ServiceTest {
  protected:
    void SetUp() override {
        ServiceTest::SetUp();
        std::filesystem::create_directory(path("ca"));
    }
    void put(const std::string& name, const std::string& content) const {
        std::filesystem::create_directories(std::filesystem::path(path("ca/" + name)).parent_path());
        std::ofstream(path("ca/" + name), std::ios::binary) << content;
    }
    [[nodiscard]] Collection read(std::time_t now = kNow) const {
        return server::read_collection(path("ca"), "Rest", now);
    }
    [[nodiscard]] static std::map<std::string, std::string> reasons(const std::vector<server::PassedOver>& all) {
        std::map<std::string, std::string> by_place;
        for (const auto& one : all) by_place[one.place] = one.why;
        EXPECT_EQ(by_place.size(), all.size());
        return by_place;
    }
    Service::Import import(Service::Missing missing = Service::Missing::kStays, bool dry = false) {
        return service_->import_vendors(kAdmin, read(*now_), missing, dry);
    }

    const Issued root_ = issue(numbered("Root", "01"), ecc_key());
    const Issued issuing_ = issue(numbered("Issuing", "02"), ecc_key(), &root_);
    const Issued other_ = issue(numbered("Other Root", "03"), ecc_key());
};

TEST_P(Collections, VendorsAreDirectoriesAndKindsAreByContent) {
    put("Infineon/RootCA/wrong_name.crl", text_of(root_.der()));
    put("Infineon/IntermediateCA/a/b.cer", pem(issuing_.der()));
    put("Infineon/list.txt", pem(revoke(root_, {}), "X509 CRL"));
    put("bundle.pem", "# all\n" + pem(other_.der()) + pem(issuing_.der()) + text_of({}));
    const Collection all = read();
    ASSERT_THAT(all.vendors, SizeIs(2));
    EXPECT_EQ(all.vendors[0].name, "Infineon");
    ASSERT_THAT(all.vendors[0].items, SizeIs(3));
    EXPECT_EQ(all.vendors[0].items[0].kind, ItemKind::kIntermediate);
    EXPECT_EQ(all.vendors[0].items[0].place, "Infineon/IntermediateCA/a/b.cer: 1");
    EXPECT_EQ(all.vendors[0].items[1].kind, ItemKind::kRoot);
    EXPECT_EQ(all.vendors[0].items[1].name, "CN=Root");
    EXPECT_EQ(all.vendors[0].items[2].kind, ItemKind::kCrl);
    EXPECT_EQ(all.vendors[1].name, "Rest");
    EXPECT_THAT(all.vendors[1].items, SizeIs(2));
    EXPECT_THAT(all.passed_over, IsEmpty());
    EXPECT_EQ(all.files, 4u);
    const Collection file = server::read_collection(path("ca/bundle.pem"), "Rest", kNow);
    ASSERT_THAT(file.vendors, SizeIs(1));
    EXPECT_THAT(file.vendors[0].items, SizeIs(2));
}

TEST_P(Collections, WhatIsPassedOverIsSaidWithItsReason) {
    CertificateSpec weak = ca_spec("Weak");
    weak.digest = "SHA1";
    CertificateSpec early = ca_spec("Early");
    early.from = kNow + kDay;
    CertificateSpec old = ca_spec("Old");
    old.to = kNow - kDay;
    put("V/1.pem", pem(root_.der()) + pem(root_.der()) +
                       "-----BEGIN CERTIFICATE-----\nMIIB!\n-----END CERTIFICATE-----\n" + pem(issuing_.der()) +
                       "-----BEGIN PRIVATE KEY-----\nMII=\n-----END PRIVATE KEY-----\n" +
                       "-----BEGIN CERTIFICATE-----\nMIIB");
    put("V/2.der", text_of(root_.der()).substr(0, 100));
    put("V/3.der", text_of(other_.der()) + "x");
    put("V/4.crt", text_of(issue(ek_spec(), ecc_key(), &root_).der()));
    put("V/5.crt", text_of(issue(weak, ecc_key(), &root_).der()));
    put("V/6.crt", text_of(issue(early, ecc_key()).der()));
    put("V/7.crt", text_of(issue(old, ecc_key()).der()));
    put("V/8.crt", text_of(issue(ca_spec("Short"), rsa_key(1024)).der()));
    put("V/README.md", "see elsewhere");
    put("V/empty", "");
    put("V/.git/config", "x");
    const Collection all = read();
    const auto why = reasons(all.passed_over);
    EXPECT_EQ(why.at("V/1.pem: 2"), "CN=Root: the same as in V/1.pem: 1");
    EXPECT_EQ(why.at("V/1.pem: 3"), "its base64 is broken");
    EXPECT_EQ(why.at("V/1.pem: 5"), "a PEM block of another kind: PRIVATE KEY");
    EXPECT_EQ(why.at("V/1.pem: 6"), "a PEM block without an end");
    EXPECT_THAT(why.at("V/2.der"), HasSubstr("not a certificate in DER"));
    EXPECT_EQ(why.at("V/3.der"), "bytes are left after the certificate");
    EXPECT_THAT(why.at("V/4.crt"), HasSubstr("is not a CA's certificate"));
    EXPECT_THAT(why.at("V/5.crt"), HasSubstr("CN=Weak: signed with SHA1"));
    EXPECT_EQ(why.at("V/6.crt"), "CN=Early is not valid yet");
    EXPECT_THAT(why.at("V/8.crt"), HasSubstr("CN=Short: "));
    EXPECT_THAT(why.at("V/README.md"), HasSubstr("neither a certificate nor a CRL"));
    EXPECT_EQ(why.at("V/empty"), "empty");
    EXPECT_EQ(why.at("V/.git"), "a hidden directory");
    EXPECT_THAT(why, SizeIs(13));
    ASSERT_THAT(all.vendors, SizeIs(1));
    EXPECT_THAT(all.vendors[0].items, SizeIs(3)) << "root, issuing, and the old one, which may be trusted already";
}

// A certificate within one was perhaps not meant to be trusted, and is not what its name says.
TEST_P(Collections, ArchivesAreNotLookedInto) {
    const std::string inside = pem(issue(ca_spec("Inside"), ecc_key()).der());
    const auto tar = [&](const std::string& magic) {
        std::string header = "ca.pem";
        header.resize(257);
        header += magic;
        header.resize(512);
        return header + inside;
    };
    put("Vendor/good.pem", pem(issue(ca_spec("Good"), ecc_key()).der()));
    put("Vendor/a", tar("ustar"));
    put("Vendor/b.tar", tar(""));
    put("Vendor/c.ZIP", "PK\x03\x04" + inside);
    put("Vendor/d", "PK\x03\x04" + inside);
    put("Vendor/e", "\x1f\x8b\x08" + inside);
    put("Vendor/f", "MSCF" + std::string(4, '\0') + inside);
    put("Vendor/g.tgz", inside);
    const Collection collection = read();
    ASSERT_THAT(collection.vendors, SizeIs(1));
    EXPECT_THAT(collection.vendors[0].items, SizeIs(1));
    const auto why = reasons(collection.passed_over);
    EXPECT_THAT(why, SizeIs(7));
    for (const auto& [place, text] : why) EXPECT_EQ(text, "an archive: unpack it first") << place;
    try {
        (void)server::read_collection(path("ca/Vendor/b.tar"), "Rest", kNow);
        ADD_FAILURE() << "an archive was read";
    } catch (const host::ToolError& error) {
        EXPECT_THAT(error.what(), HasSubstr("b.tar: an archive: unpack it first"));
    }
}

TEST_P(Collections, NothingIsFollowedWaitedForOrReadWhole) {
    put("V/root.der", text_of(root_.der()));
    put("secret", pem(other_.der()));
    std::filesystem::rename(path("ca/secret"), path("secret"));
    std::filesystem::create_symlink(path("secret"), path("ca/V/link.pem"));
    std::filesystem::create_directory_symlink("..", path("ca/V/up"));
    ASSERT_EQ(::mkfifo(path("ca/V/fifo").c_str(), 0600), 0);
    put("V/large", "");
    std::filesystem::resize_file(path("ca/V/large"), server::kMostCollectionFile + 1);
    put("V/\x1b[2J\n\xff.txt", "x");
    put("\x1b/root.der", text_of(root_.der()));
    std::string deep = "D";
    for (int i = 0; i < 20; ++i) deep += "/d";
    put(deep + "/root.der", text_of(other_.der()));
    const Collection all = read();
    const auto why = reasons(all.passed_over);
    EXPECT_EQ(why.at("V/link.pem"), "a link");
    EXPECT_EQ(why.at("V/up"), "a link");
    EXPECT_EQ(why.at("V/fifo"), "neither a file nor a directory");
    EXPECT_THAT(why.at("V/large"), HasSubstr("larger than"));
    EXPECT_THAT(why.at("V/\\x1b[2J\\x0a\\xff.txt"), HasSubstr("neither"));
    EXPECT_EQ(why.at("\\x1b"), "its name is none for a vendor");
    EXPECT_THAT(why, SizeIs(7));
    ASSERT_THAT(all.vendors, SizeIs(1));
    EXPECT_THAT(all.vendors[0].items, SizeIs(1));
    EXPECT_THROW((void)server::read_collection(path("ca"), "a/b", kNow), host::ToolError);
    EXPECT_THROW((void)server::read_collection(path("ca/none"), "Rest", kNow), host::ToolError);
    EXPECT_THROW((void)server::read_collection(path("ca/V/fifo"), "Rest", kNow), host::ToolError);
}

TEST_P(Collections, ImportOnceMoreChangesNothing) {
    put("Infineon/root.der", text_of(root_.der()));
    put("Infineon/issuing.der", text_of(issuing_.der()));
    put("STM/root.der", text_of(other_.der()));
    EXPECT_TRUE(import(Service::Missing::kStays, true).changed);
    EXPECT_THAT(service_->vendors(kReader), IsEmpty()) << "a dry run";
    const auto first = import();
    EXPECT_TRUE(first.changed);
    ASSERT_THAT(first.vendors, SizeIs(2));
    EXPECT_EQ(first.vendors[0].roots, 1u);
    EXPECT_EQ(first.vendors[0].intermediates, 1u);
    EXPECT_THAT(first.vendors[0].added, UnorderedElementsAre("root CN=Root (Infineon/root.der)",
                                                             "intermediate CN=Issuing (Infineon/issuing.der)"));
    EXPECT_THAT(service_->vendors(kReader), ElementsAre("Infineon", "STM"));
    EXPECT_THAT(audited("vendor.add"), ElementsAre("Infineon", "STM"));
    const auto again = import();
    EXPECT_FALSE(again.changed);
    EXPECT_THAT(again.vendors[0].added, IsEmpty());
    EXPECT_THAT(audited("vendor.add"), SizeIs(2));
    EXPECT_EQ(code_of([&] { (void)service_->import_vendors(kOperator, read(), Service::Missing::kStays, false); }),
              "forbidden");
}

TEST_P(Collections, WhatIsTrustedAlreadyStaysUnlessItIsToGo) {
    service_->add_vendor(kAdmin, {"Own", {other_.der()}, {}, {}});
    service_->add_vendor(kAdmin, {.name = "V",
                                  .roots = {root_.der(), other_.der()},
                                  .intermediates = {issuing_.der()},
                                  .revocations = {revoke(root_, {})},
                                  .require_crl = true});
    put("V/root.der", text_of(root_.der()));
    const auto kept = import();
    EXPECT_FALSE(kept.changed);
    EXPECT_THAT(kept.absent, ElementsAre("Own"));
    ASSERT_THAT(kept.vendors, SizeIs(1));
    EXPECT_THAT(kept.vendors[0].missing, ElementsAre("CN=Other Root", "CN=Issuing"));
    EXPECT_EQ(kept.vendors[0].roots, 2u);
    const auto gone = import(Service::Missing::kGoes);
    EXPECT_TRUE(gone.changed);
    EXPECT_EQ(gone.vendors[0].removed, 2u);
    EXPECT_EQ(gone.vendors[0].roots, 1u);
    EXPECT_EQ(gone.vendors[0].crls, 1u);
    EXPECT_FALSE(import(Service::Missing::kGoes).changed);
    EXPECT_THAT(service_->vendors(kReader), ElementsAre("Own", "V"));
}

TEST_P(Collections, CaThatHasExpiredIsNotTakenAnewAndNotLost) {
    put("V/root.der", text_of(root_.der()));
    put("V/issuing.der", text_of(issuing_.der()));
    EXPECT_EQ(import().vendors.at(0).intermediates, 1u);
    *now_ += 20 * kDay;  // all have expired
    const auto later = import(Service::Missing::kGoes);
    EXPECT_FALSE(later.changed);
    EXPECT_EQ(later.vendors.at(0).intermediates, 1u);
    EXPECT_THAT(later.passed_over, IsEmpty());
    put("W/root.der", text_of(other_.der()));
    const auto why = reasons(import().passed_over);
    EXPECT_EQ(why.at("W/root.der"), "CN=Other Root: has expired");
    EXPECT_THAT(why.at("W"), HasSubstr("no root certificate"));
}

TEST_P(Collections, VendorIsTakenWholeOrNotAtAll) {
    put("Empty/issuing.der", text_of(issuing_.der()));
    put("Many/root.der", text_of(root_.der()));
    const Key key = ecc_key();
    std::string bundle;
    for (int i = 0; i <= static_cast<int>(verifier::kMaxVendorItems); ++i) {
        EVP_PKEY_up_ref(key.get());
        bundle += pem(issue(numbered("CA", std::to_string(10'000 + i)), Key(key.get(), EVP_PKEY_free), &root_).der());
    }
    put("Many/bundle.pem", bundle);
    put("Good/root.der", text_of(other_.der()));
    const auto all = import();
    const auto why = reasons(all.passed_over);
    EXPECT_THAT(why.at("Empty"), HasSubstr("the whole vendor: "));
    EXPECT_THAT(why.at("Many"), HasSubstr("4097 intermediates; at most 4096 are read"));
    EXPECT_THAT(service_->vendors(kReader), ElementsAre("Good"));
}

TEST_P(Collections, NewerCrlTakesTheOldersPlaceAndNoOther) {
    put("V/root.der", text_of(root_.der()));
    put("V/1.crl", text_of(revoke(root_, {&issuing_}, kNow - 3 * kDay)));
    EXPECT_EQ(import().vendors.at(0).crls, 1u);
    put("V/1.crl", text_of(revoke(root_, {&issuing_}, kNow - 2 * kDay)));
    put("V/2.crl", text_of(revoke(root_, {}, kNow - 4 * kDay)));
    put("V/3.crl", text_of(revoke(other_, {}, kNow - 1 * kDay)));
    const auto all = import();
    EXPECT_EQ(all.vendors.at(0).crls, 1u);
    const auto why = reasons(all.passed_over);
    EXPECT_EQ(why.at("V/2.crl"), "CN=Root: a newer CRL of this scope is there");
    EXPECT_EQ(why.at("V/3.crl"), "CN=Other Root: no certificate of the vendor's has signed this CRL");
    const auto lists = service_->crls(kReader).lists;
    ASSERT_THAT(lists, SizeIs(1));
    EXPECT_EQ(lists[0].this_update, kNow - 2 * kDay);
}

INSTANTIATE_TEST_SUITE_P(SQLite, Collections, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, Collections, testing::Values("PostgreSQL"));

}  // namespace
}  // namespace gatehouse::test

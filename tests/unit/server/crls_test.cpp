// CRLs that the server fetches: from where, what is taken of it, and how old all are.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "attestation/server/database/session.hpp"
#include "attestation/verifier/crl.hpp"
#include "attestation/verifier/token.hpp"
#include "tests/unit/server/file_server.hpp"
#include "tests/unit/server/service_fixture.hpp"
#include "tests/unit/verifier/certificates.hpp"

namespace gatehouse::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using verifier::CrlFacts;

std::string text_of(const Buffer& der) { return {reinterpret_cast<const char*>(der.data()), der.size()}; }

std::string pem_of(const Buffer& der) {
    return "-----BEGIN X509 CRL-----\n" + verifier::base64(der) + "\n-----END X509 CRL-----\n";
}

std::string points(const std::string& url) { return "crlDistributionPoints=URI:" + url; }

class Crls : public ServiceTest {
  protected:
    void SetUp() override {
        options_.crl = {.fetch = true, .urls = {}, .proxy = {}, .private_addresses = true};
        ServiceTest::SetUp();
        if (!service_) return;
        enforce(hypervisor_policy("laptops", 1));
        service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {}, {}});
    }
    void with(const server::CrlOptions& crl) {
        options_.crl = crl;
        reopen();
    }
    [[nodiscard]] Issued certificate(const SoftwareEndpoint& endpoint, const Issued& issuer) const {
        return ServiceTest::certificate(endpoint, issuer, points(files_.url("/root.crl")));
    }
    // The CRL of `issuer` with this number, made `age` days ago.
    [[nodiscard]] Buffer list(const Issued& issuer, const char* number, std::vector<const Issued*> revoked = {},
                              std::time_t age = 1) const {
        RevocationSpec spec{.entries = {},
                            .extensions = number == nullptr ? "" : "crlNumber=DER:" + std::string(number),
                            .sections = {},
                            .from = kNow - age * kDay,
                            .to = kNow + 40 * kDay};
        for (const Issued* one : revoked) {
            const Buffer serial = serial_of(*one);
            spec.entries.push_back({.serial = host::hex(serial)});
        }
        return issue_list(issuer, spec);
    }
    [[nodiscard]] static Buffer serial_of(const Issued& one) {
        const ASN1_INTEGER* const serial = X509_get0_serialNumber(one.certificate.get());
        const auto* const bytes = reinterpret_cast<const std::byte*>(ASN1_STRING_get0_data(serial));
        return {bytes, bytes + ASN1_STRING_length(serial)};
    }
    void serve(const Buffer& list, const std::string& headers = "") {
        files_.give("/root.crl", text_of(list), headers);
    }
    // Everything that is due, and what follows of it.
    std::vector<Service::CrlFetch> fetch() {
        service_->tick();
        auto all = service_->fetch_crls({});
        service_->tick();
        return all;
    }
    std::string fault() {
        const auto all = fetch();
        return all.size() == 1 ? all.front().fault : std::to_string(all.size()) + " attempts";
    }
    void pass(Seconds time) { *now_ += time; }

    FileServer files_;
    const Issued root_ = issue(ca_spec("Vendor Root"), ecc_key());
    SoftwareEndpoint endpoint_;
    const Issued ek_ = certificate(endpoint_, root_);
    static constexpr const char *kFirst = "02:01:01", *kFifth = "02:01:05", *kSixth = "02:01:06";
};

TEST_P(Crls, NothingIsFetchedUnlessTheSettingsSaySo) {
    with({});
    (void)enroll_endorsed(endpoint_, ek_);
    EXPECT_THAT(fetch(), IsEmpty());
    EXPECT_THAT(files_.requests(), IsEmpty());
    EXPECT_FALSE(service_->crls(kReader).fetching);
}

TEST_P(Crls, EndpointThatAFetchedListRevokesIsUntrusted) {
    const std::string id = enroll_endorsed(endpoint_, ek_);
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");
    serve(list(root_, kFifth, {&ek_}), "ETag: \"5\"\r\n");
    const auto all = fetch();
    ASSERT_THAT(all, SizeIs(1));
    EXPECT_EQ(all[0].fault, "");
    EXPECT_EQ(all[0].issuer, "CN=Vendor Root");
    EXPECT_EQ(state_of(id), State::kUntrusted);
    EXPECT_THAT(service_->endpoint(kReader, id).endorsement_fault, HasSubstr("revoked by CN=Vendor Root"));
    EXPECT_THAT(audited("crl.take"), ElementsAre("CN=Vendor Root"));
    const auto shown = service_->crls(kReader);
    ASSERT_THAT(shown.lists, SizeIs(1));
    EXPECT_EQ(shown.lists[0].number, "5");
    EXPECT_EQ(shown.lists[0].this_update, kNow - kDay);
    EXPECT_EQ(shown.lists[0].next_update, kNow + 40 * kDay);
    EXPECT_EQ(shown.lists[0].fetched, *now_);
    EXPECT_EQ(shown.lists[0].url, files_.url("/root.crl"));
    EXPECT_THAT(shown.lists[0].vendors, ElementsAre("Vendor"));
    ASSERT_THAT(shown.sources, SizeIs(1));
    EXPECT_EQ(shown.sources[0].origin, server::CrlOrigin::kEndorsement);
    EXPECT_EQ(shown.sources[0].due, *now_ + 86'400);

    // Not before it is due; then only if there is another.
    EXPECT_THAT(fetch(), IsEmpty());
    pass(86'400);
    files_.answer("/root.crl", "HTTP/1.1 304 x\r\n\r\n");
    EXPECT_EQ(fault(), "");
    EXPECT_THAT(files_.requests().back(), HasSubstr("If-None-Match: \"5\""));
    EXPECT_EQ(service_->totals().crls_taken, 1u);
    EXPECT_EQ(service_->totals().crls_unchanged, 1u);
    EXPECT_THAT(audited("crl.take"), SizeIs(1));
    // What was fetched stays when its source goes, and the vendor is given anew.
    service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {}, {}});
    service_->tick();
    EXPECT_EQ(state_of(id), State::kUntrusted);
    reopen();
    service_->tick();
    EXPECT_EQ(state_of(id), State::kUntrusted);
}

TEST_P(Crls, OlderListIsNotTaken) {
    const std::string id = enroll_endorsed(endpoint_, ek_);
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");
    serve(list(root_, kFifth, {&ek_}, 2));
    EXPECT_EQ(fault(), "");
    const auto refused = [&](const std::string& content, const std::string& why) {
        files_.give("/root.crl", content);
        pass(86'400);
        EXPECT_THAT(fault(), HasSubstr(why));
        EXPECT_EQ(state_of(id), State::kUntrusted) << why;
        EXPECT_THAT(audited("crl.take"), SizeIs(1)) << why;
    };
    refused(text_of(list(root_, kSixth, {}, 3)),
            "of 2027-01-12 08:00:00 UTC, and the one that is kept is of 2027-01-13 08:00:00 UTC");
    refused(text_of(list(root_, kFirst, {}, 1)), "its number 1 is below 5, that of the one that is kept");
    refused(text_of(list(root_, nullptr, {}, 1)), "it has no number, and the one that is kept has 5");
    // Of another scope it takes no place.
    RevocationSpec other;
    other.extensions = "issuingDistributionPoint=critical,@idp";
    other.sections = "[idp]\nonlyuser=TRUE\n";
    other.from = kNow - 3 * kDay;
    other.to = kNow + 9 * kDay;
    files_.give("/root.crl", text_of(issue_list(root_, other)));
    pass(86'400);
    EXPECT_EQ(fault(), "");
    EXPECT_EQ(state_of(id), State::kUntrusted);
    EXPECT_THAT(service_->crls(kReader).lists, SizeIs(2));
}

// A CA goes on under its name with another key, and each key's list is of the certificates that it has signed, whether the
// lists say by which key they are or not.
TEST_P(Crls, ListsByBothKeysOfACaAreKeptAndCountForTheirOwn) {
    CertificateSpec next = ca_spec("Vendor Root"), before = next;
    before.serial = "51";
    next.serial = "52";
    for (const bool named : {true, false}) {
        SCOPED_TRACE(named);
        for (CertificateSpec* const one : {&before, &next}) one->extra = named ? "subjectKeyIdentifier=hash" : "";
        const Issued keys[] = {issue(before, ecc_key()), issue(next, ecc_key())};
        service_->add_vendor(kAdmin, {"Vendor", {keys[0].der(), keys[1].der()}, {}, {}});
        const auto list_of = [&](const Issued& key, std::vector<RevocationSpec::Entry> entries, const char* number) {
            RevocationSpec spec{.entries = std::move(entries),
                                .extensions = "crlNumber=DER:" + std::string(number),
                                .sections = {},
                                .from = kNow - kDay,
                                .to = kNow + 40 * kDay};
            if (named) spec.extensions += "\nauthorityKeyIdentifier=keyid:always";
            return text_of(issue_list(key, spec));
        };
        SoftwareEndpoint first("first"), second("second");
        const Issued eks[] = {certificate(first, keys[0]), certificate(second, keys[1])};
        const std::string ids[] = {enroll_endorsed(first, eks[0]), enroll_endorsed(second, eks[1])};
        const auto fault_of = [&](int one) { return service_->endpoint(kReader, ids[one]).endorsement_fault; };
        const auto revoking = [](const Issued& ek) {
            return std::vector<RevocationSpec::Entry>{{.serial = host::hex(serial_of(ek))}};
        };
        // All by one URL, and the next key's numbers begin anew.
        const auto serve_and_fetch = [&](const std::string& list) {
            files_.give("/root.crl", list);
            pass(86'400);
            EXPECT_EQ(fault(), "");
        };
        const std::size_t before_these = service_->crls(kReader).lists.size();
        serve_and_fetch(list_of(keys[0], {}, kFifth));
        serve_and_fetch(list_of(keys[1], revoking(eks[1]), kFirst));
        EXPECT_THAT(service_->crls(kReader).lists, SizeIs(before_these + 2));
        EXPECT_EQ(fault_of(0), "");
        EXPECT_THAT(fault_of(1), HasSubstr("revoked by CN=Vendor Root"));
        serve_and_fetch(list_of(keys[0], revoking(eks[0]), kSixth));
        EXPECT_THAT(service_->crls(kReader).lists, SizeIs(before_these + 2));
        EXPECT_THAT(fault_of(0), HasSubstr("revoked by CN=Vendor Root"));
        EXPECT_THAT(fault_of(1), HasSubstr("revoked by CN=Vendor Root"));
    }
}

TEST_P(Crls, WhatNobodyTrustedHasSignedIsNotTaken) {
    (void)enroll_endorsed(endpoint_, ek_);
    const Issued foreign = issue(ca_spec("Vendor Root"), ecc_key());
    const auto refused = [&](const std::string& content, const std::string& why) {
        files_.give("/root.crl", content);
        EXPECT_THAT(fault(), HasSubstr(why));
        EXPECT_THAT(service_->crls(kReader).lists, IsEmpty()) << why;
        pass(86'400);
    };
    const Buffer good = list(root_, kFifth);
    refused(text_of(list(foreign, kFifth)), "no CA of a trusted vendor has signed");
    std::string broken = text_of(good);
    broken.back() = static_cast<char>(broken.back() ^ 1);
    refused(broken, "no CA of a trusted vendor has signed");
    refused(text_of(good) + "x", "bytes are left");
    refused("<html>", "neither");
    refused(text_of(root_.der()), "not a CRL");
    RevocationSpec delta;
    delta.extensions = "deltaCRL=critical,DER:02:01:05\ncrlNumber=DER:02:01:06";
    refused(text_of(issue_list(root_, delta)), "delta");
    RevocationSpec ahead;
    ahead.from = *now_ + 2 * kDay;
    ahead.to = *now_ + 9 * kDay;
    refused(text_of(issue_list(root_, ahead)), "yet to come");
    files_.give("/root.crl", pem_of(good));
    EXPECT_EQ(fault(), "");
    EXPECT_THAT(service_->crls(kReader).lists, SizeIs(1));
}

// As swtpm's own CA makes them. It stops nobody's enrollment, and revokes what it lists.
TEST_P(Crls, ListByACaThatMayNotSignListsCountsAsFarAsItLists) {
    CertificateSpec spec = ca_spec("Vendor Root");
    spec.serial = "53";
    spec.usage = "critical,keyCertSign";
    const Issued root = issue(spec, ecc_key());
    service_->add_vendor(kAdmin, {"Vendor", {root.der()}, {}, {}});
    const Issued ek = certificate(endpoint_, root);
    const std::string id = enroll_endorsed(endpoint_, ek);
    serve(list(root, kFifth));
    EXPECT_EQ(fault(), "");
    EXPECT_THAT(service_->crls(kReader).lists, SizeIs(1));
    EXPECT_EQ(service_->endpoint(kReader, id).crls.gap, "EK certificate");
    SoftwareEndpoint second("second");
    EXPECT_EQ(enroll_endorsed(second, certificate(second, root)).empty(), false);
    pass(86'400);
    serve(list(root, kSixth, {&ek}));
    EXPECT_EQ(fault(), "");
    EXPECT_EQ(attest(id, endpoint_).verdict, "untrusted");
    EXPECT_THAT(service_->endpoint(kReader, id).endorsement_fault, HasSubstr("whose key usage lacks CRL signing"));
}

TEST_P(Crls, ListIsNotOlderThanTheOneThatTheVendorWasGivenWith) {
    service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {}, {list(root_, kSixth)}});
    (void)enroll_endorsed(endpoint_, ek_);
    serve(list(root_, kFifth));
    EXPECT_THAT(fault(), HasSubstr("its number 5 is below 6, that of the one that Vendor was given with"));
    EXPECT_THAT(audited("crl.take"), IsEmpty());
}

TEST_P(Crls, CertificatesThatNobodyTrustedIssuedNameNoSource) {
    // An operator lets it in: its certificate is what it says itself.
    const Issued foreign = issue(ca_spec("Foreign"), ecc_key());
    protocol::EnrollRequest request = endpoint_.enroll_request();
    request.ek_certificate = certificate(endpoint_, foreign).der();
    request.ek_chain = {foreign.der()};
    const protocol::EnrollChallenge challenge = service_->enroll(request);
    (void)service_->activate(challenge.id, endpoint_.activate(challenge));
    service_->approve(kOperator, challenge.id, "default");
    EXPECT_THAT(fetch(), IsEmpty());
    EXPECT_THAT(service_->crls(kReader).sources, IsEmpty());
    EXPECT_THAT(files_.requests(), IsEmpty());
}

TEST_P(Crls, CasNameSourcesWhileTheyAreTrusted) {
    CertificateSpec spec = ca_spec("Issuing");
    spec.extra =
        "crlDistributionPoints=URI:" + files_.url("/root.crl") + ",URI:ldap://crl.example/x,URI:https://crl.example/x";
    const Issued issuing = issue(spec, ecc_key(), &root_);
    service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {issuing.der()}, {}});
    serve(list(root_, kFifth, {&issuing}));
    EXPECT_THAT(fetch(), SizeIs(3));
    const auto sources = service_->crls(kReader).sources;
    ASSERT_THAT(sources, SizeIs(3));
    EXPECT_EQ(sources[0].url, files_.url("/root.crl"));
    EXPECT_EQ(sources[0].fault, "");
    EXPECT_THAT(sources[1].fault, HasSubstr("only http:// is fetched"));
    EXPECT_EQ(sources[2].fault, "only http:// is fetched, not LDAP");
    EXPECT_EQ(service_->crl_health().failing, 0);
    EXPECT_EQ(service_->crl_health().lists, 1);
    service_->remove_vendor(kAdmin, "Vendor");
    pass(86'400);
    EXPECT_THAT(fetch(), IsEmpty());
    EXPECT_THAT(service_->crls(kReader).sources, IsEmpty());
    EXPECT_EQ(service_->crl_health().lists, 0);
    EXPECT_THAT(files_.requests(), SizeIs(1));
}

// A vendor may name as many places as its certificates have room for.
TEST_P(Crls, VendorThatNamesThousandsLeavesTheOthersTheirShare) {
    const Issued crowd = issue(ca_spec("Crowd Root"), ecc_key());
    verifier::Vendor vendor{"Crowd", {crowd.der()}, {}, {}};
    for (int i = 0; i < 65; ++i) {
        CertificateSpec spec = ca_spec("Crowd " + std::to_string(i));
        for (int k = 0; k < 64; ++k) {
            spec.extra += (k == 0 ? "crlDistributionPoints=" : ",") + std::string("URI:https://a.example/") +
                          std::to_string(64 * i + k);
        }
        vendor.intermediates.push_back(issue(spec, ecc_key(), &crowd).der());
    }
    service_->add_vendor(kAdmin, vendor);
    CertificateSpec spec = ca_spec("Issuing");
    spec.extra = points(files_.url("/root.crl")) + ",URI:https://a.example/4159";
    const Issued issuing = issue(spec, ecc_key(), &root_);
    service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {issuing.der()}, {}});
    serve(list(root_, kFifth));
    with({.fetch = true, .urls = {"https://b.example/own"}, .proxy = {}, .private_addresses = true});
    // Among the first, too.
    EXPECT_THAT(fetch(), testing::Contains(testing::Field(&Service::CrlFetch::url, files_.url("/root.crl"))));
    std::map<std::string, std::size_t> of;
    for (const auto& one : service_->crls(kReader).sources) ++of[one.vendor];
    EXPECT_EQ(of[""], 1u);
    EXPECT_EQ(of["Crowd"], 2047u);
    EXPECT_EQ(of["Vendor"], 2u);
    EXPECT_THAT(service_->crls(kReader).crowds, ElementsAre("Crowd"));
    // Nor by EK certificates.
    SoftwareEndpoint other("laptop-2");
    const auto named = [](const SoftwareEndpoint& endpoint, const Issued& by, const char* url) {
        return ServiceTest::certificate(endpoint, by, points(url));
    };
    (void)enroll_endorsed(endpoint_, named(endpoint_, root_, "https://b.example/ek"));
    (void)enroll_endorsed(other, named(other, crowd, "https://a.example/ek"));
    service_->tick();
    of.clear();
    for (const auto& one : service_->crls(kReader).sources) ++of[one.vendor];
    EXPECT_EQ(of["Crowd"], 2047u);
    EXPECT_EQ(of["Vendor"], 3u);
}

TEST_P(Crls, SourceOfAnEkGoesWithItsVendor) {
    (void)enroll_endorsed(endpoint_, ek_);
    service_->tick();
    EXPECT_THAT(service_->crls(kReader).sources, SizeIs(1));
    service_->remove_vendor(kAdmin, "Vendor");
    EXPECT_THAT(fetch(), IsEmpty());
    EXPECT_THAT(files_.requests(), IsEmpty());
    service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {}, {}});
    serve(list(root_, kFifth));
    EXPECT_EQ(fault(), "");
}

TEST_P(Crls, AddressesOfTheNetworkInsideAreNotAsked) {
    with({.fetch = true, .urls = {}, .proxy = {}});
    (void)enroll_endorsed(endpoint_, ek_);
    serve(list(root_, kFifth));
    EXPECT_THAT(fault(), HasSubstr("not an address of the public internet"));
    EXPECT_THAT(files_.requests(), IsEmpty());
    EXPECT_EQ(service_->crl_health().failing, 1);
}

TEST_P(Crls, FailuresAreToldAndTriedAgainLaterAndLater) {
    with({.fetch = true, .urls = {files_.url("/root.crl")}, .proxy = {}, .private_addresses = true});
    for (const Seconds pause : {900, 1800, 3600}) {
        const auto all = fetch();
        ASSERT_THAT(all, SizeIs(1));
        EXPECT_EQ(all[0].fault, "answered with status 404");
        EXPECT_EQ(all[0].was_good, pause == 900);
        EXPECT_EQ(service_->crls(kReader).sources.at(0).due, *now_ + pause);
        pass(pause - 1);
        EXPECT_THAT(fetch(), IsEmpty());
        pass(1);
    }
    EXPECT_EQ(service_->crls(kReader).sources.at(0).failures, 3);
    EXPECT_EQ(service_->totals().crls_failed, 3u);
    serve(list(root_, kFifth));
    EXPECT_EQ(fault(), "");
    EXPECT_EQ(service_->crls(kReader).sources.at(0).failures, 0);
}

TEST_P(Crls, WhatFailedIsTriedAgainAtOnceByAServerThatStartsAnew) {
    with({.fetch = true, .urls = {files_.url("/root.crl")}, .proxy = {}});
    EXPECT_THAT(fault(), HasSubstr("not an address of the public internet"));
    serve(list(root_, kFifth));
    EXPECT_THAT(fetch(), IsEmpty());
    with({.fetch = true, .urls = {files_.url("/root.crl")}, .proxy = {}, .private_addresses = true});
    EXPECT_EQ(fault(), "");
    // What is good is not due for that.
    reopen();
    EXPECT_THAT(fetch(), IsEmpty());
}

TEST_P(Crls, OperatorMayHaveAllFetchedAtOnce) {
    (void)enroll_endorsed(endpoint_, ek_);
    serve(list(root_, kFifth));
    EXPECT_EQ(fault(), "");
    EXPECT_EQ(code_of([&] { service_->hurry_crls(kReader); }), "forbidden");
    EXPECT_THAT(fetch(), IsEmpty());
    service_->hurry_crls(kOperator);
    EXPECT_EQ(fault(), "");
    EXPECT_THAT(audited("crl.hurry"), ElementsAre("all"));
    with({});
    EXPECT_EQ(code_of([&] { service_->hurry_crls(kOperator); }), "not_fetching");
}

TEST_P(Crls, UrlThatTheSettingsHaveNoMoreIsForgotten) {
    with({.fetch = true, .urls = {files_.url("/none.crl")}, .proxy = {}, .private_addresses = true});
    EXPECT_EQ(fault(), "answered with status 404");
    EXPECT_EQ(service_->crl_health().failing, 1);
    pass(2 * 3600);
    with({.fetch = true, .urls = {}, .proxy = {}, .private_addresses = true});
    EXPECT_THAT(fetch(), IsEmpty());
    // No failure of this server's; perhaps of another's.
    EXPECT_EQ(service_->crl_health().failing, 0);
    EXPECT_THAT(service_->crls(kReader).sources, IsEmpty());
    with({});
    EXPECT_EQ(service_->crl_health().failing, 0);
    with({.fetch = true, .urls = {}, .proxy = {}, .private_addresses = true});
    EXPECT_THAT(fetch(), IsEmpty());
    pass(6 * 3600);
    EXPECT_THAT(fetch(), IsEmpty());
    with({.fetch = true, .urls = {files_.url("/none.crl")}, .proxy = {}, .private_addresses = true});
    EXPECT_EQ(service_->crl_health().failing, 0);  // it was not there any more
    EXPECT_EQ(fault(), "answered with status 404");
    EXPECT_EQ(service_->crls(kReader).sources.at(0).failures, 1);
}

TEST_P(Crls, ListOfAVendorThatIsGoneIsForgottenUnlessItComesBack) {
    (void)enroll_endorsed(endpoint_, ek_);
    serve(list(root_, kFifth));
    EXPECT_EQ(fault(), "");
    service_->remove_vendor(kAdmin, "Vendor");
    EXPECT_THAT(fetch(), IsEmpty());
    EXPECT_THAT(service_->crls(kReader).lists, SizeIs(1));
    service_->add_vendor(kAdmin, {"Vendor", {root_.der()}, {}, {}});
    pass(6 * 3600);
    (void)fetch();
    pass(6 * 3600);
    (void)fetch();
    EXPECT_THAT(service_->crls(kReader).lists, SizeIs(1));
    service_->remove_vendor(kAdmin, "Vendor");
    EXPECT_THAT(fetch(), IsEmpty());
    pass(6 * 3600);
    EXPECT_THAT(fetch(), IsEmpty());
    EXPECT_THAT(service_->crls(kReader).lists, IsEmpty());
    EXPECT_THAT(audited("crl.drop"), ElementsAre("CN=Vendor Root"));
}

TEST_P(Crls, ListThatHasEndedIsTakenAndSaidToHave) {
    const std::string id = enroll_endorsed(endpoint_, ek_);
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");
    RevocationSpec spec;
    spec.from = *now_ - 9 * kDay;
    spec.to = *now_ - 8 * kDay;
    spec.entries.push_back({.serial = host::hex(serial_of(ek_))});
    serve(issue_list(root_, spec));
    EXPECT_THAT(fault(), HasSubstr("has ended"));
    EXPECT_EQ(state_of(id), State::kUntrusted);
    EXPECT_EQ(service_->crl_health().ended, 1);
}

TEST_P(Crls, OneOfSeveralServersFetches) {
    with({.fetch = true, .urls = {files_.url("/root.crl")}, .proxy = {}, .private_addresses = true});
    const std::unique_ptr<Service> other = another();
    files_.be_silent("/root.crl");
    std::stop_source stop;
    std::thread first([&] { (void)service_->fetch_crls(stop.get_token()); });
    while (files_.requests().empty()) std::this_thread::yield();
    EXPECT_THAT(other->fetch_crls({}), IsEmpty());
    stop.request_stop();
    first.join();
    EXPECT_THAT(files_.requests(), SizeIs(1));
    // Whose server ended has failed nothing: it is due at once, and not forever claimed.
    const auto sources = service_->crls(kReader).sources;
    EXPECT_EQ(sources.at(0).failures, 0);
    EXPECT_EQ(sources.at(0).due, *now_);
}

TEST_P(Crls, PolicyMaySayHowOldTheyMayBe) {
    enforce(hypervisor_policy("laptops", 2, R"({"max_crl_age_days": 30})"));
    service_->unassign(kOperator, "default", "laptops", 1);
    const std::string id = enroll_endorsed(endpoint_, ek_);
    EXPECT_THAT(attest(id, endpoint_).failures, ElementsAre("crl age: there is no CRL for EK certificate"));
    serve(list(root_, kFifth, {}, 1));
    EXPECT_EQ(fault(), "");
    EXPECT_EQ(service_->endpoint(kReader, id).crls, (server::CrlAge{kNow - kDay, kNow + 40 * kDay, ""}));
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");
    pass(29 * kDay);
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");
    pass(1);
    EXPECT_THAT(attest(id, endpoint_).failures.at(0), HasSubstr("crl age: the oldest CRL"));
    // By another policy it is good: the age is of account only where that is asked for.
    enforce(hypervisor_policy("laptops", 3));
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");
    service_->unassign(kOperator, "default", "laptops", 3);
    enforce(hypervisor_policy("laptops", 4, R"({"max_crl_age_days": 3650})"));
    EXPECT_EQ(attest(id, endpoint_).verdict, "trusted");
    pass(12 * kDay);
    EXPECT_THAT(attest(id, endpoint_).failures.at(0), HasSubstr("crl age: a CRL that it depends on has ended"));

    // Without a vendor nothing is known of it.
    SoftwareEndpoint by_hand("laptop-2");
    EXPECT_THAT(attest(enroll(by_hand), by_hand).failures.at(0), HasSubstr("crl age: no vendor vouches"));
}

INSTANTIATE_TEST_SUITE_P(SQLite, Crls, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, Crls, testing::Values("PostgreSQL"));

TEST(CrlAge, OlderByNumberOrByDate) {
    const auto facts = [](const char* number, std::time_t time) {
        CrlFacts one;
        one.number = number;
        one.this_update = time;
        return one;
    };
    const CrlFacts one = facts("ff", 10);
    EXPECT_FALSE(verifier::is_older(one, one));
    EXPECT_TRUE(verifier::is_older(facts("ff", 9), one));
    EXPECT_TRUE(verifier::is_older(facts("fe", 11), one));
    EXPECT_TRUE(verifier::is_older(facts("", 11), one));
    EXPECT_FALSE(verifier::is_older(facts("100", 10), one));
}

}  // namespace
}  // namespace gatehouse::test

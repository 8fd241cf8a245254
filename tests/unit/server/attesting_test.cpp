// What evidence does to an endpoint.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "attestation/formats/cose.hpp"
#include "attestation/server/authority.hpp"
#include "attestation/server/database/record.hpp"
#include "attestation/server/result_keys.hpp"
#include "attestation/verifier/policy.hpp"
#include "attestation/verifier/token.hpp"
#include "tests/unit/server/service_fixture.hpp"

namespace gatehouse::test {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class Attesting : public ServiceTest {
  protected:
    protocol::AttestAnswer attest_with(const std::string& id, const SoftwareEndpoint& endpoint, const Buffer& nonce) {
        return service_->attest(id, endpoint.attest(nonce));
    }
};

TEST_P(Attesting, TrustsTheExpectedLaunch) {
    enforce(hypervisor_policy("laptops", 3));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const protocol::AttestAnswer answer = attest(id, endpoint);
    EXPECT_EQ(answer.verdict, "trusted");
    EXPECT_THAT(answer.failures, IsEmpty());
    EXPECT_EQ(answer.lease_until, *now_ + 900);
    const server::Endpoint shown = service_->endpoint(kReader, id);
    EXPECT_EQ(shown.state, State::kTrusted);
    EXPECT_EQ(shown.last_seen, *now_);
    EXPECT_EQ(shown.tpm.clock, endpoint.clock);
    EXPECT_EQ(service_->counts(kReader).trusted, 1);
    EXPECT_EQ(service_->time_line(kReader, 24).back().trusted, 1);
}

TEST_P(Attesting, SignsAResultThatTheServersKeyVerifies) {
    enforce(hypervisor_policy("laptops", 3));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const Buffer nonce = service_->nonce(id).nonce;
    const std::string jws = attest_with(id, endpoint, nonce).result;
    const server::Key key = server::public_key_from_pem(service_->result_key());
    const auto payload = verifier::verify_jws(jws, "eat+jwt", key.get());
    ASSERT_TRUE(payload.has_value());
    const nlohmann::json result = nlohmann::json::parse(*payload);
    EXPECT_EQ(result.at("eat_nonce"), verifier::base64url(nonce));
    EXPECT_EQ(result.at("exp"), *now_ + 900);
    const nlohmann::json& appraisal = result.at("submods").at("gatehouse");
    EXPECT_THAT(appraisal.at("ear.appraisal-policy-id").get<std::string>(), HasSubstr("laptops:3:"));
    EXPECT_EQ(appraisal.at("ear.status"), "affirming");
}

TEST_P(Attesting, GivesTheLastResultByOthersProfiles) {
    using formats::ResultForm;
    using formats::ResultProfile;
    enforce(hypervisor_policy("laptops", 3));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    EXPECT_EQ(service_->last_result(kReader, id, ResultProfile::kIetf03, ResultForm::kCwt), std::nullopt);
    const Buffer nonce = service_->nonce(id).nonce;
    const std::string own = attest_with(id, endpoint, nonce).result;
    const server::Key key = server::public_key_from_pem(service_->result_key());
    const Buffer message = service_->last_result(kReader, id, ResultProfile::kIetf03, ResultForm::kCwt).value();
    const formats::CoseSign1 cwt = formats::verify_cose(message, key.get(), "CWT");
    const formats::CborItem claims = formats::read_cbor(cwt.payload, "claims");
    EXPECT_EQ(claims.find(4)->integer(), *now_ + 900);
    EXPECT_EQ(claims.find(1000)->integer(), 2);
    EXPECT_EQ(host::hex(claims.find(266)->find("gatehouse")->find(10)->bytes), host::hex(nonce));
    const Buffer same = service_->last_result(kReader, id, ResultProfile::kGatehouse, ResultForm::kJwt).value();
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(same.data()), same.size()), own);
}

// The signature was for what was true then. Whoever writes to the database, too, gets no new one for what is not true now.
TEST_P(Attesting, GivesNoResultAnewThatIsNotTrueAnyMore) {
    using formats::ResultForm;
    using formats::ResultProfile;
    enforce(hypervisor_policy("laptops", 3));
    const SoftwareEndpoint endpoint, other;
    const std::string id = enroll(endpoint), id_of_other = enroll(other);
    (void)attest(id, endpoint);
    (void)attest(id_of_other, other);
    const auto again = [&](ResultProfile profile = ResultProfile::kIetf03) {
        return service_->last_result(kReader, id, profile, ResultForm::kJwt);
    };
    const auto refused = [&](const char* why) {
        for (const ResultProfile profile : {ResultProfile::kIetf03, ResultProfile::kGatehouse}) {
            try {
                (void)again(profile);
                ADD_FAILURE() << "given: " << why;
            } catch (const server::ServiceError& error) {
                EXPECT_EQ(error.status(), 410);
                EXPECT_THAT(error.what(), HasSubstr(why));
            }
        }
    };
    const auto result_of = [&](const std::string& of) {
        std::string result;
        server::Database::open(options_.database)->read([&](server::Session& session) {
            result =
                server::value<std::string>(session, "SELECT result FROM evidence WHERE endpoint = $1", {of}).value();
        });
        return result;
    };
    const auto put_result = [&](const std::string& result) {
        server::Database::open(options_.database)->write([&](server::Session& session) {
            session.execute("UPDATE evidence SET result = $1 WHERE endpoint = $2", {result, id});
        });
    };
    const std::string first = result_of(id);
    EXPECT_TRUE(again());
    put_result(result_of(id_of_other));
    refused("another endorsement key");
    put_result(first);
    *now_ += 10;
    (void)attest(id, endpoint);
    put_result(first);
    refused("not of the last attestation");
    (void)attest(id, endpoint);
    EXPECT_TRUE(again());
    // Nor does it stand for longer than its endpoint's lease, which an operator has cut short.
    service_->unassign(kOperator, "default", "laptops", 3);
    const auto shown = again(ResultProfile::kGatehouse);
    const server::Key key = server::public_key_from_pem(service_->result_key());
    const auto payload =
        verifier::verify_jws({reinterpret_cast<const char*>(shown->data()), shown->size()}, "eat+jwt", key.get());
    ASSERT_TRUE(payload.has_value());
    const nlohmann::json result = nlohmann::json::parse(*payload);
    EXPECT_EQ(result.at("exp"), service_->endpoint(kReader, id).lease_until);
    EXPECT_LT(result.at("exp"), *now_ + 900);
    EXPECT_FALSE(result.at("gatehouse.findings").empty());
    // By clocks that differ the lease may end before the result was made: without an end it would be good for ever.
    server::Database::open(options_.database)->write([&](server::Session& session) {
        session.execute("UPDATE endpoints SET lease_until = $1 WHERE id = $2", {*now_ - 1, id});
    });
    refused("lease ended before");
    service_->retire(kOperator, id, "stolen");
    refused("retired");
}

TEST_P(Attesting, ARotatedKeyStaysPublishedUntilItsLastResultHasExpired) {
    using formats::ResultForm;
    using formats::ResultProfile;
    enforce(hypervisor_policy("laptops", 3));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const std::string before = attest(id, endpoint).result;
    const auto ids = [&](server::Service& service) {
        std::vector<std::string> found;
        const nlohmann::json set = nlohmann::json::parse(service.result_jwks());
        for (const nlohmann::json& one : set.at("keys")) found.push_back(one.at("kid"));
        return found;
    };
    const auto other = another();
    const std::vector<std::string> first = ids(*service_);
    ASSERT_EQ(first.size(), 1u);
    const std::string old_pem = service_->result_key();
    EXPECT_THROW(service_->rotate_result_key(kOperator), server::ServiceError);
    const std::string second = service_->rotate_result_key(kAdmin);
    EXPECT_EQ(ids(*service_), (std::vector<std::string>{second, first[0]}));
    EXPECT_NE(service_->result_key(), old_pem);
    EXPECT_EQ(ids(*other), first) << "until it looks";
    *now_ += 61;
    other->tick();
    EXPECT_EQ(ids(*other), ids(*service_));
    EXPECT_EQ(ids(*another()), ids(*service_)) << "a server that starts";

    // What the old key signed is still taken, and given out under the new one.
    const Buffer message = service_->last_result(kReader, id, ResultProfile::kIetf03, ResultForm::kCwt).value();
    const server::Key now_key = server::public_key_from_pem(service_->result_key());
    EXPECT_NO_THROW((void)formats::verify_cose(message, now_key.get(), "CWT"));
    const std::string after = attest(id, endpoint).result;
    EXPECT_TRUE(verifier::verify_jws(after, "eat+jwt", now_key.get()));
    EXPECT_FALSE(verifier::verify_jws(before, "eat+jwt", now_key.get()));
    EXPECT_TRUE(verifier::verify_jws(service_->revocation_list(), "gatehouse-revocations+jws", now_key.get()));

    *now_ += server::kResultKeyOverlap - 62;
    EXPECT_EQ(ids(*service_).size(), 2u);
    *now_ += 1;
    EXPECT_EQ(ids(*service_), std::vector<std::string>{second});
}

TEST_P(Attesting, ReplacedConnectionKeysAreVoidAtEachServer) {
    const Sha256Digest certificate = sha256(literal_bytes("a certificate"));
    const auto issue = [&](server::Service& service) {
        return service.connection_keys()->issue(certificate, *now_ + 86400, *now_).identity;
    };
    const auto is_known = [&](server::Service& service, const Buffer& identity) {
        return service.connection_keys()->find(identity, *now_).has_value();
    };
    const auto other = another();
    const Buffer old = issue(*service_);
    ASSERT_TRUE(is_known(*other, old));
    EXPECT_THROW(service_->rotate_connection_keys(kOperator), server::ServiceError);
    EXPECT_TRUE(is_known(*service_, old)) << "an operator may not";

    service_->rotate_connection_keys(kAdmin);
    EXPECT_FALSE(is_known(*service_, old));
    EXPECT_TRUE(is_known(*other, old)) << "until it looks";
    *now_ += 61;
    other->tick();
    EXPECT_FALSE(is_known(*other, old));
    const Buffer fresh = issue(*service_);
    EXPECT_TRUE(is_known(*other, fresh));
    EXPECT_TRUE(is_known(*another(), fresh)) << "a server that starts";
    EXPECT_EQ(audited("connection_keys.rotate"),
              std::vector<std::string>{host::hex(service_->connection_keys()->secret_name())});
    // By two of them at once: the last counts, at both.
    service_->rotate_connection_keys(kAdmin);
    other->rotate_connection_keys(kAdmin);
    *now_ += 61;
    service_->tick();
    EXPECT_TRUE(is_known(*service_, issue(*other)));
}

TEST_P(Attesting, GroupWithoutAPolicyAcceptsNothing) {
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const protocol::AttestAnswer answer = attest(id, endpoint);
    EXPECT_EQ(answer.verdict, "untrusted");
    EXPECT_THAT(answer.failures, Not(IsEmpty()));
    EXPECT_EQ(answer.lease_until, 0);
}

TEST_P(Attesting, EvidenceByATpmAloneIsNeverCalledTrusted) {
    enforce(tpm_policy("desktops", 1));
    const SoftwareEndpoint endpoint("pc", "tpm");
    const std::string id = enroll(endpoint);
    EXPECT_EQ(attest(id, endpoint).verdict, "unmeasured");
    EXPECT_EQ(state_of(id), State::kUnmeasured);
    EXPECT_EQ(service_->counts(kReader).unmeasured, 1);
}

TEST_P(Attesting, ALargeFleetIsCountedNowAndThen) {
    enforce(tpm_policy("desktops", 1));
    options_.endpoints_counted_a_second = 1;
    const auto server = another();
    const SoftwareEndpoint first("first", "tpm"), second("second", "tpm");
    const std::string id = enroll(first);
    (void)enroll(second);
    EXPECT_EQ(server->counts(kReader).fresh, 2);
    (void)attest(id, first);
    EXPECT_EQ(service_->counts(kReader).unmeasured, 1) << "of two that are counted in no time";
    *now_ += 1;
    EXPECT_EQ(server->counts(kReader).fresh, 2) << "for two seconds";
    *now_ += 1;
    EXPECT_EQ(server->counts(kReader).fresh, 1);
    EXPECT_EQ(server->counts(kReader).unmeasured, 1);
}

TEST_P(Attesting, RefusesAHypervisorsEvidenceFromAKeyEnrolledForATpm) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint("pc", "tpm");
    const std::string id = enroll(endpoint);
    // The key's owner makes what a hypervisor would: nothing but the check at enrollment tells.
    protocol::AttestRequest forged = endpoint.attest(service_->nonce(id).nonce);
    forged.source = "hypervisor";
    const protocol::AttestAnswer answer = service_->attest(id, forged);
    EXPECT_EQ(answer.verdict, "untrusted");
    EXPECT_THAT(answer.failures, Contains(HasSubstr("enrolled with source \"tpm\"")));
}

TEST_P(Attesting, UsesANonceOnce) {
    enforce(hypervisor_policy("laptops", 1));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const Buffer nonce = service_->nonce(id).nonce;
    const protocol::AttestRequest request = endpoint.attest(nonce);
    EXPECT_EQ(service_->attest(id, request).verdict, "trusted");
    EXPECT_EQ(code_of([&] { (void)service_->attest(id, request); }), "nonce");
    EXPECT_EQ(code_of([&] { (void)attest_with(id, endpoint, nonce); }), "nonce");
    EXPECT_EQ(code_of([&] { (void)another()->attest(id, request); }), "nonce");
    reopen();
    EXPECT_EQ(code_of([&] { (void)service_->attest(id, request); }), "nonce");
}

TEST_P(Attesting, RefusesANonceOlderThanOneThatWasUsed) {
    enforce(hypervisor_policy("laptops", 1));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const Buffer older = service_->nonce(id).nonce;
    const Buffer newer = service_->nonce(id).nonce;
    EXPECT_EQ(attest_with(id, endpoint, newer).verdict, "trusted");
    EXPECT_EQ(code_of([&] { (void)attest_with(id, endpoint, older); }), "nonce");
}

TEST_P(Attesting, RefusesForeignForgedAndExpiredNonces) {
    const SoftwareEndpoint one, two;
    const std::string first = enroll(one), second = enroll(two);
    EXPECT_EQ(code_of([&] { (void)attest_with(first, one, service_->nonce(second).nonce); }), "nonce");
    Buffer forged = service_->nonce(first).nonce;
    forged[6] ^= std::byte{1};  // a little later
    EXPECT_EQ(code_of([&] { (void)attest_with(first, one, forged); }), "nonce");
    EXPECT_EQ(code_of([&] { (void)attest_with(first, one, Buffer(31)); }), "nonce");
    const Buffer late = service_->nonce(first).nonce;
    *now_ += options_.nonce_lifetime_s + 1;
    EXPECT_EQ(code_of([&] { (void)attest_with(first, one, late); }), "nonce");
    EXPECT_EQ(state_of(first), State::kNew);  // nothing of that was evidence
}

TEST_P(Attesting, AnyServerOfTheDatabaseTakesTheNonce) {
    enforce(hypervisor_policy("laptops", 1));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const auto other = another();
    EXPECT_EQ(other->attest(id, endpoint.attest(service_->nonce(id).nonce)).verdict, "trusted");
}

TEST_P(Attesting, OneOfManyAtOnceWinsTheNonce) {
    enforce(hypervisor_policy("laptops", 1));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const auto other = another();
    const protocol::AttestRequest request = endpoint.attest(service_->nonce(id).nonce);
    std::atomic<int> accepted = 0, refused = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back([&, i] {
            Service& service = i % 2 == 0 ? *service_ : *other;
            const std::string code = code_of([&] { (void)service.attest(id, request); });
            ++(code.empty() ? accepted : refused);
            EXPECT_TRUE(code.empty() || code == "nonce") << code;
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(accepted, 1);
    EXPECT_EQ(refused, 7);
    EXPECT_TRUE(service_->verify_audit().ok);
}

TEST_P(Attesting, NextNonceSavesARoundTrip) {
    enforce(hypervisor_policy("laptops", 1));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    Buffer nonce = service_->nonce(id).nonce;
    for (int i = 0; i < 3; ++i) {
        const protocol::AttestAnswer answer = attest_with(id, endpoint, nonce);
        EXPECT_EQ(answer.verdict, "trusted");
        nonce = answer.next_nonce;
    }
}

TEST_P(Attesting, ForgedEvidenceMakesUntrustedAndTeachesNothing) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    EXPECT_EQ(attest(id, endpoint).verdict, "trusted");
    // A quote far in the future, signed by another key: were it believed, the TPM's real clock would be
    // refused.
    SoftwareEndpoint liar;
    liar.clock = 9'000'000'000;
    liar.reset_count = 500;
    EXPECT_EQ(attest(id, liar).verdict, "untrusted");
    EXPECT_EQ(state_of(id), State::kUntrusted);
    EXPECT_THAT(service_->endpoint(kReader, id).reason, HasSubstr("signature"));
    EXPECT_EQ(service_->endpoint(kReader, id).tpm.clock, endpoint.clock);
    endpoint.clock += 1000;
    EXPECT_EQ(attest(id, endpoint).verdict, "trusted");
}

TEST_P(Attesting, RefusesAClockThatGoesBack) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    EXPECT_EQ(attest(id, endpoint).verdict, "trusted");
    endpoint.clock -= 1;
    const protocol::AttestAnswer answer = attest(id, endpoint);
    EXPECT_EQ(answer.verdict, "untrusted");
    EXPECT_THAT(answer.failures, Contains(HasSubstr("clock")));
}

TEST_P(Attesting, LeaseThatEndsMakesStaleWithoutAnybodysDoing) {
    enforce(hypervisor_policy("laptops", 1));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    (void)attest(id, endpoint);
    *now_ += 900;
    EXPECT_EQ(state_of(id), State::kTrusted);
    *now_ += 1;
    EXPECT_EQ(state_of(id), State::kStale);
    EXPECT_EQ(service_->counts(kReader).stale, 1);
    EXPECT_EQ(service_->counts(kReader).trusted, 0);
    EXPECT_EQ(
        service_->endpoints(kReader, {.search = "", .state = State::kStale, .group = "", .cursor = ""}).rows.size(),
        1u);
    EXPECT_EQ(
        service_->endpoints(kReader, {.search = "", .state = State::kTrusted, .group = "", .cursor = ""}).rows.size(),
        0u);
    service_->tick();
    EXPECT_EQ(service_->counts(kReader).stale, 1);
    EXPECT_EQ(service_->history(kReader, id, "", 10).rows.at(0).state, State::kStale);
    EXPECT_EQ(audited("endpoint.state").size(), 2u);
    service_->tick();
    EXPECT_EQ(audited("endpoint.state").size(), 2u);  // noticed once
    EXPECT_EQ(attest(id, endpoint).verdict, "trusted");
    EXPECT_EQ(state_of(id), State::kTrusted);
}

TEST_P(Attesting, HistoryHasOneRowForEachRunOfTheSameOutcome) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    for (int i = 0; i < 3; ++i) {
        (void)attest(id, endpoint);
        *now_ += 10;
    }
    endpoint.other_kernel = true;
    (void)attest(id, endpoint);
    const auto rows = service_->history(kReader, id, "", 10).rows;
    ASSERT_EQ(rows.size(), 2u);
    EXPECT_EQ(rows[0].state, State::kUntrusted);
    EXPECT_EQ(rows[0].count, 1);
    EXPECT_EQ(rows[1].state, State::kTrusted);
    EXPECT_EQ(rows[1].count, 3);
    EXPECT_EQ(rows[1].until - rows[1].time, 20);
    const nlohmann::json verdict = nlohmann::json::parse(rows[0].verdict_json);
    EXPECT_TRUE(std::ranges::any_of(verdict.at("events"), [](const auto& event) {
        return !event.at("ok") && event.at("name") == "kernel";
    })) << verdict.dump(1);
    // A page at a time.
    const auto first = service_->history(kReader, id, "", 1);
    EXPECT_EQ(first.rows.at(0).number, rows[0].number);
    const auto second = service_->history(kReader, id, first.next, 1);
    EXPECT_EQ(second.rows.at(0).number, rows[1].number);
    EXPECT_EQ(second.next, "");
}

TEST_P(Attesting, KeepsTheNewestRunsOfAnEndpointThatKeepsChanging) {
    options_.history_runs = 3;
    reopen();
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    for (int i = 0; i < 5; ++i) {
        *now_ += 1;
        (void)attest(id, endpoint);
        endpoint.other_kernel = !endpoint.other_kernel;
    }
    const auto rows = service_->history(kReader, id, "", 10).rows;
    ASSERT_EQ(rows.size(), 3u);
    EXPECT_EQ(rows[0].time, *now_);
    EXPECT_EQ(rows[2].time, *now_ - 2);
}

TEST_P(Attesting, LastAttestationShowsWhatTheVerifierSaysOfTheKeptEvidence) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    EXPECT_EQ(service_->last_attestation(kReader, id), std::nullopt);
    (void)attest(id, endpoint);
    endpoint.clock += 5;
    (void)attest(id, endpoint);
    const auto last = service_->last_attestation(kReader, id);
    ASSERT_TRUE(last.has_value());
    EXPECT_EQ(last->state, State::kTrusted);
    const nlohmann::json verdict = nlohmann::json::parse(last->verdict_json);
    for (const nlohmann::json& finding : verdict.at("findings")) EXPECT_TRUE(finding.at("ok")) << finding.dump();
    EXPECT_EQ(verdict.at("policy"), "laptops:1");
    EXPECT_EQ(verdict.at("pcrs").size(), 3u);
    EXPECT_GE(verdict.at("events").size(), 8u);
    EXPECT_EQ(verdict.at("claims").at("iommu"), "AMD-Vi");
}

TEST_P(Attesting, RetiredEndpointIsNotHeard) {
    enforce(hypervisor_policy("laptops", 1));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    service_->retire(kOperator, id, "stolen");
    EXPECT_EQ(code_of([&] { (void)attest(id, endpoint); }), "retired");
    EXPECT_EQ(state_of(id), State::kRetired);
}

TEST_P(Attesting, WishForEvidenceIsToldOnce) {
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    EXPECT_FALSE(service_->wanted(id));
    service_->request_attestation(kOperator, id);
    EXPECT_TRUE(another()->wanted(id));
    EXPECT_FALSE(service_->wanted(id));
}

TEST_P(Attesting, WishesAreTakenTogetherByThoseWhoWait) {
    const SoftwareEndpoint first, second, third;
    const std::string waits = enroll(first), comes_later = enroll(second), unasked = enroll(third);
    const auto all = [](const std::string&) { return true; };
    EXPECT_TRUE(service_->take_wishes(all).empty());
    service_->request_attestation(kOperator, waits);
    service_->request_attestation(kOperator, comes_later);
    EXPECT_TRUE(service_->take_wishes([](const std::string&) { return false; }).empty());
    const auto only = [&](const std::string& endpoint) { return endpoint == waits; };
    EXPECT_EQ(another()->take_wishes(only), std::vector{waits});
    EXPECT_TRUE(service_->take_wishes(only).empty()) << "told once";
    // Who waits from now on is told when the wait begins, however old the wish is.
    *now_ += 3600;
    EXPECT_TRUE(service_->take_wishes(all).empty());
    EXPECT_TRUE(service_->wanted(comes_later));
    EXPECT_FALSE(service_->wanted(unasked));
}

// --- what changes between the judgement and its record

class Meanwhile : public Attesting {
  protected:
    // The evidence's judgement, with `change` made by another server after it and before it is recorded: when
    // the service asks for the time the second time.
    protocol::AttestAnswer attest_while(const std::string& id, const SoftwareEndpoint& endpoint,
                                        const std::function<void(Service&)>& change) {
        const auto other = another();
        const Buffer nonce = other->nonce(id).nonce;
        auto calls = std::make_shared<int>(0);
        options_.clock = [now = now_, calls, &change, &other] {
            if (++*calls == 2) change(*other);
            return now->load();
        };
        reopen();
        *calls = 0;
        const protocol::AttestAnswer answer = service_->attest(id, endpoint.attest(nonce));
        options_.clock = [now = now_] { return now->load(); };
        EXPECT_GE(*calls, 2);
        reopen();
        return answer;
    }
};

TEST_P(Meanwhile, WithdrawnPolicyGivesNoLease) {
    enforce(hypervisor_policy("laptops", 1, R"({"lease_s": 86400})"));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const auto withdraw = [](Service& other) { other.unassign(kOperator, "default", "laptops", 1); };
    EXPECT_EQ(attest_while(id, endpoint, withdraw).verdict, "untrusted");
    EXPECT_EQ(state_of(id), State::kUntrusted);
}

TEST_P(Meanwhile, OldGroupsPolicyGivesNoLease) {
    service_->create_group(kOperator, "lab");
    enforce(hypervisor_policy("laptops", 1));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const auto move = [&](Service& other) { other.move_to_group(kOperator, id, "lab"); };
    EXPECT_EQ(attest_while(id, endpoint, move).verdict, "untrusted");
    EXPECT_EQ(service_->assignments(kReader).at(0).would_pass, 0);
}

TEST_P(Meanwhile, StaleOneThatComesBackIsToldOf) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    (void)attest(id, endpoint);
    endpoint.clock += 1;
    *now_ += 899;
    const auto notice = [&](Service& other) {
        *now_ += 2;
        other.tick();
    };
    EXPECT_EQ(attest_while(id, endpoint, notice).verdict, "trusted");
    // To trusted, to stale, and back.
    EXPECT_EQ(audited("endpoint.state").size(), 3u);
    EXPECT_EQ(service_->history(kReader, id, "", 10).rows.size(), 3u);
}

// --- policies

class Policies : public Attesting {};

TEST_P(Policies, RefusesOneThatNoAuthoritySigned) {
    add_policy(hypervisor_policy("laptops", 1));
    const SoftwareKey stranger = make_p256_key();
    const std::string json = hypervisor_policy("laptops", 2);
    EXPECT_EQ(code_of([&] { (void)service_->add_policy(kOperator, verifier::sign_policy(json, stranger.get())); }),
              "policy");
    EXPECT_EQ(service_->policies(kReader).size(), 1u);
}

TEST_P(Policies, RefusesADowngradeAndTheSameVersionTwice) {
    add_policy(hypervisor_policy("laptops", 7));
    for (const std::uint64_t version : {7u, 6u}) {
        const std::string jws = verifier::sign_policy(hypervisor_policy("laptops", version), authority_.get());
        EXPECT_EQ(code_of([&] { (void)service_->add_policy(kOperator, jws); }), "downgrade");
    }
    add_policy(hypervisor_policy("laptops", 8));
    add_policy(hypervisor_policy("servers", 1));
    const server::PolicyVersion kept = service_->policy(kReader, "laptops", 7);
    EXPECT_EQ(kept.address, verifier::policy_address(kept.json));
}

TEST_P(Policies, AnyOfSeveralEnforcedOnesAccepts) {
    enforce(hypervisor_policy("laptops", 1));
    enforce(hypervisor_policy("laptops", 2, R"({"counter_floor": 100})"));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    EXPECT_EQ(attest(id, endpoint).verdict, "trusted");
    EXPECT_EQ(service_->last_attestation(kReader, id)->policy, "laptops:1");
    service_->unassign(kOperator, "default", "laptops", 1);
    const protocol::AttestAnswer answer = attest(id, endpoint);
    EXPECT_EQ(answer.verdict, "untrusted");
    EXPECT_THAT(answer.failures, Contains(HasSubstr("counter")));
}

TEST_P(Policies, ReportedOneIsTriedWithoutEffect) {
    enforce(hypervisor_policy("laptops", 1));
    enforce(hypervisor_policy("laptops", 2, R"({"counter_floor": 100})"), "default", Stage::kReport);
    SoftwareEndpoint good, old;
    good.claims.counter_limit = 100;
    const std::string first = enroll(good), second = enroll(old);
    EXPECT_EQ(attest(first, good).verdict, "trusted");
    EXPECT_EQ(attest(second, old).verdict, "trusted");
    const auto staged = [&] {
        for (const server::Assignment& one : service_->assignments(kReader)) {
            if (one.version == 2) return one;
        }
        return server::Assignment{};
    };
    EXPECT_EQ(staged().covered, 2);
    EXPECT_EQ(staged().would_pass, 1);
    EXPECT_EQ(staged().would_fail, 1);
    // The last evidence counts.
    old.claims.counter_limit = 100;
    (void)attest(second, old);
    EXPECT_EQ(staged().would_pass, 2);
    EXPECT_EQ(staged().would_fail, 0);
}

TEST_P(Policies, NamesWhomAStagedOneRefusesAndWhy) {
    enforce(hypervisor_policy("laptops", 1));
    enforce(hypervisor_policy("laptops", 2, R"({"counter_floor": 100})"), "default", Stage::kReport);
    std::vector<std::string> refused;
    for (const char* name : {"old-1", "old-2", "old-3"}) {
        SoftwareEndpoint old(name);
        refused.push_back(enroll(old));
        EXPECT_EQ(attest(refused.back(), old).verdict, "trusted");
    }
    SoftwareEndpoint good("good");
    good.claims.counter_limit = 100;
    const std::string accepted = enroll(good);
    (void)attest(accepted, good);
    std::ranges::sort(refused);

    server::RefusedQuery query{
        .group = "default", .policy = "laptops", .version = 2, .search = "", .cursor = "", .limit = 2};
    const auto first = service_->refused(kReader, query);
    ASSERT_EQ(first.rows.size(), 2u);
    EXPECT_THAT(first.rows[0].rule, HasSubstr("counter"));
    EXPECT_THAT(first.rows[0].detail, HasSubstr("100"));
    EXPECT_EQ(first.rows[0].state, State::kTrusted);
    EXPECT_EQ(first.rows[0].last_seen, *now_);
    query.cursor = first.next;
    const auto second = service_->refused(kReader, query);
    ASSERT_EQ(second.rows.size(), 1u);
    EXPECT_EQ(second.next, "");
    EXPECT_EQ((std::vector{first.rows[0].endpoint, first.rows[1].endpoint, second.rows[0].endpoint}), refused);

    query = {.group = "default", .policy = "laptops", .version = 2, .search = "OLD-2", .cursor = "", .limit = 50};
    ASSERT_EQ(service_->refused(kReader, query).rows.size(), 1u);
    EXPECT_EQ(service_->refused(kReader, query).rows[0].hostname, "old-2");
    query.search = "good";
    EXPECT_THAT(service_->refused(kReader, query).rows, IsEmpty());
    query = {.group = "default", .policy = "laptops", .version = 1, .search = "", .cursor = "", .limit = 50};
    EXPECT_THAT(service_->refused(kReader, query).rows, IsEmpty());
    query.version = 3;
    EXPECT_EQ(code_of([&] { (void)service_->refused(kReader, query); }), "not_found");
}

TEST_P(Policies, RefusalIsOfTheLastEvidence) {
    enforce(hypervisor_policy("laptops", 1));
    enforce(hypervisor_policy("laptops", 2, R"({"counter_floor": 100})"), "default", Stage::kReport);
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    (void)attest(id, endpoint);
    const server::RefusedQuery query{
        .group = "default", .policy = "laptops", .version = 2, .search = "", .cursor = "", .limit = 50};
    const std::string before = service_->refused(kReader, query).rows.at(0).detail;
    endpoint.claims.counter_limit = 8;  // refused as before, for another detail
    (void)attest(id, endpoint);
    EXPECT_NE(service_->refused(kReader, query).rows.at(0).detail, before);
    endpoint.claims.counter_limit = 100;
    (void)attest(id, endpoint);
    EXPECT_THAT(service_->refused(kReader, query).rows, IsEmpty());
}

TEST_P(Policies, ReportedOneAloneAcceptsNothing) {
    enforce(hypervisor_policy("laptops", 1), "default", Stage::kReport);
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    EXPECT_EQ(attest(id, endpoint).verdict, "untrusted");
    EXPECT_EQ(service_->assignments(kReader).at(0).would_pass, 1);
}

TEST_P(Policies, ChangeIsSeenByOtherServersAtOnce) {
    enforce(hypervisor_policy("laptops", 1));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    const auto other = another();
    EXPECT_EQ(other->attest(id, endpoint.attest(other->nonce(id).nonce)).verdict, "trusted");
    service_->unassign(kOperator, "default", "laptops", 1);
    EXPECT_EQ(other->attest(id, endpoint.attest(other->nonce(id).nonce)).verdict, "untrusted");
}

TEST_P(Policies, WithdrawnOneLeavesVerdictsAFewMinutes) {
    enforce(hypervisor_policy("laptops", 1, R"({"lease_s": 86400})"));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    (void)attest(id, endpoint);
    service_->unassign(kOperator, "default", "laptops", 1);
    EXPECT_TRUE(service_->wanted(id));
    *now_ += 301;
    EXPECT_EQ(state_of(id), State::kStale);
}

TEST_P(Policies, GroupDecidesWhichApply) {
    service_->create_group(kOperator, "lab");
    enforce(hypervisor_policy("laptops", 1), "lab");
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    EXPECT_EQ(attest(id, endpoint).verdict, "untrusted");
    service_->move_to_group(kOperator, id, "lab");
    EXPECT_TRUE(service_->wanted(id));
    EXPECT_EQ(attest(id, endpoint).verdict, "trusted");
    EXPECT_EQ(code_of([&] { service_->move_to_group(kOperator, id, "nowhere"); }), "not_found");
    EXPECT_EQ(code_of([&] { service_->assign(kOperator, "nowhere", "laptops", 1, Stage::kEnforce); }), "not_found");
    EXPECT_EQ(code_of([&] { service_->assign(kOperator, "lab", "laptops", 9, Stage::kEnforce); }), "not_found");
}

TEST_P(Policies, VerdictByTheOldGroupsStandsAFewMinutes) {
    service_->create_group(kOperator, "lab");
    enforce(hypervisor_policy("laptops", 1, R"({"lease_s": 86400})"));
    const SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    (void)attest(id, endpoint);
    service_->move_to_group(kOperator, id, "lab");
    *now_ += 301;
    EXPECT_EQ(state_of(id), State::kStale);
}

TEST_P(Policies, ExplanationNamesTheEventThatDoesNotBelong) {
    enforce(hypervisor_policy("laptops", 1));
    SoftwareEndpoint endpoint;
    const std::string id = enroll(endpoint);
    EXPECT_EQ(code_of([&] { (void)service_->explain(kReader, id, "laptops", 1); }), "no_evidence");
    (void)attest(id, endpoint);
    EXPECT_THAT(service_->explain(kReader, id, "laptops", 1), IsEmpty());
    endpoint.other_kernel = true;
    (void)attest(id, endpoint);
    EXPECT_THAT(service_->explain(kReader, id, "laptops", 1), Contains(HasSubstr("kernel")));
    add_policy(hypervisor_policy("laptops", 2, R"({"counter_floor": 100})"));
    EXPECT_THAT(service_->explain(kReader, id, "laptops", 2), Contains(HasSubstr("counter")));
}

INSTANTIATE_TEST_SUITE_P(SQLite, Attesting, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, Attesting, testing::Values("PostgreSQL"));
INSTANTIATE_TEST_SUITE_P(SQLite, Meanwhile, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, Meanwhile, testing::Values("PostgreSQL"));
INSTANTIATE_TEST_SUITE_P(SQLite, Policies, testing::Values("SQLite"));
INSTANTIATE_TEST_SUITE_P(PostgreSQL, Policies, testing::Values("PostgreSQL"));

}  // namespace
}  // namespace gatehouse::test

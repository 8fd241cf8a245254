// Messages: what one side writes the other reads, and nothing else is read.
#include "attestation/protocol/messages.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace gatehouse::protocol {
namespace {

using nlohmann::json;
using testing::HasSubstr;

Buffer filled(std::size_t size, unsigned char first = 0) {
    Buffer bytes(size);
    for (auto& byte : bytes) byte = static_cast<std::byte>(first++);
    return bytes;
}

EnrollRequest enroll_request() {
    return {.hostname = "host \"ß\" <b>\n",
            .source = "hypervisor",
            .ek_certificate = filled(700),
            .ek_chain = {filled(10), filled(900, 7)},
            .ek_public = filled(314),
            .ak_public = filled(90),
            .csr = "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n",
            .token = "",
            .identity_keys = {filled(34), filled(300)},
            .identity_attest = filled(120),
            .identity_signature = filled(72, 3)};
}
AttestRequest attest_request() {
    return {.source = "tpm",
            .nonce = filled(32),
            .quote = filled(145),
            .signature = filled(72),
            .claims = {},
            .event_log = filled(5000),
            .pcr_values = filled(64)};
}

template <typename Message>
std::string refusal(const std::string& body) {
    try {
        (void)parse<Message>(body);
    } catch (const MessageError& error) {
        return error.what();
    }
    return "accepted";
}

TEST(Messages, EnrollmentComesBackAsItWas) {
    const auto sent = enroll_request();
    const auto received = parse<EnrollRequest>(to_json(sent));
    EXPECT_EQ(received.hostname, sent.hostname);
    EXPECT_EQ(received.source, sent.source);
    EXPECT_EQ(received.ek_certificate, sent.ek_certificate);
    EXPECT_EQ(received.ek_chain, sent.ek_chain);
    EXPECT_EQ(received.ek_public, sent.ek_public);
    EXPECT_EQ(received.ak_public, sent.ak_public);
    EXPECT_EQ(received.csr, sent.csr);
    EXPECT_EQ(received.token, "");
    EXPECT_EQ(received.identity_keys, sent.identity_keys);
    EXPECT_EQ(received.identity_attest, sent.identity_attest);
    EXPECT_EQ(received.identity_signature, sent.identity_signature);
    // Of an older agent.
    const auto old = parse<EnrollRequest>(
        R"({"hostname":"a","source":"tpm","ek_certificate":"","ek_chain":[],"ek_public":"AA==","ak_public":"AA==",)"
        R"("csr":"","token":""})");
    EXPECT_TRUE(old.identity_keys.empty() && old.identity_attest.empty() && old.identity_signature.empty());

    const EnrollChallenge challenge{"01J", filled(60), filled(256), 900};
    const auto read = parse<EnrollChallenge>(to_json(challenge));
    EXPECT_EQ(read.id, "01J");
    EXPECT_EQ(read.credential_blob, challenge.credential_blob);
    EXPECT_EQ(read.secret, challenge.secret);
    EXPECT_EQ(read.expires_s, 900u);

    EXPECT_EQ(parse<ActivationRequest>(to_json(ActivationRequest{filled(32)})).secret, filled(32));
}

TEST(Messages, StatusHasTheMembersOfItsState) {
    const auto approved = parse<EnrollStatus>(to_json(EnrollStatus{"approved", "id", "PEM", "unsaid"}));
    EXPECT_EQ(approved.endpoint_id, "id");
    EXPECT_EQ(approved.certificate, "PEM");
    EXPECT_EQ(approved.reason, "");
    EXPECT_EQ(parse<EnrollStatus>(to_json(EnrollStatus{"rejected", "", "", "why"})).reason, "why");
    EXPECT_EQ(parse<EnrollStatus>(to_json(EnrollStatus{"waiting", "", "", ""})).state, "waiting");
    EXPECT_EQ(parse<EnrollStatus>(to_json(EnrollStatus{"waiting", "", "", "why"})).reason, "why");
    EXPECT_THAT(refusal<EnrollStatus>(R"({"state":"approved","endpoint_id":"x"})"),
                HasSubstr("'certificate' is missing"));
    EXPECT_THAT(refusal<EnrollStatus>(R"({"state":"green"})"), HasSubstr("waiting, approved, rejected"));
}

TEST(Messages, AttestationComesBackAsItWas) {
    const auto sent = attest_request();
    const auto received = parse<AttestRequest>(to_json(sent));
    EXPECT_EQ(received.source, sent.source);
    EXPECT_EQ(received.nonce, sent.nonce);
    EXPECT_EQ(received.quote, sent.quote);
    EXPECT_EQ(received.signature, sent.signature);
    EXPECT_EQ(received.claims, sent.claims);
    EXPECT_EQ(received.event_log, sent.event_log);
    EXPECT_EQ(received.pcr_values, sent.pcr_values);

    const AttestAnswer answer{"untrusted", "a.b.c", 1763870000, 300, filled(32), {"one", "two \"2\""}};
    const auto read = parse<AttestAnswer>(to_json(answer));
    EXPECT_EQ(read.verdict, "untrusted");
    EXPECT_EQ(read.result, "a.b.c");
    EXPECT_EQ(read.lease_until, 1763870000);
    EXPECT_EQ(read.next_s, 300u);
    EXPECT_EQ(read.next_nonce, filled(32));
    EXPECT_EQ(read.failures, answer.failures);

    const auto nonce = parse<NonceAnswer>(to_json(NonceAnswer{filled(32), 120}));
    EXPECT_EQ(nonce.nonce, filled(32));
    EXPECT_EQ(nonce.expires_s, 120u);
    const auto escrow = parse<EscrowRequest>(to_json(EscrowRequest{"slot-1", filled(4096)}));
    EXPECT_EQ(escrow.name, "slot-1");
    EXPECT_EQ(escrow.blob, filled(4096));
}

TEST(Messages, AnswerToALogFullOfFaultsCanStillBeRead) {
    AttestAnswer answer{"untrusted", "a.b.c", 0, 0, {}, {}};
    answer.failures.assign(10'000, std::string(50'000, '\xc3'));  // not UTF-8 either
    EXPECT_FALSE(parse<AttestAnswer>(to_json(answer)).failures.empty());
}

TEST(Messages, EachMemberMustBeThereAndOfItsType) {
    const json good = json::parse(to_json(attest_request()));
    for (const auto& [name, value] : good.items()) {
        json without = good;
        without.erase(name);
        EXPECT_THAT(refusal<AttestRequest>(without.dump()), HasSubstr("'" + name + "' is missing"));
        for (const json& wrong : {json(7), json(-1), json(1.5), json(true), json(nullptr), json::array({"QQ=="}),
                                  json::object({{"a", "QQ=="}})}) {
            json typed = good;
            typed[name] = wrong;
            EXPECT_THAT(refusal<AttestRequest>(typed.dump()), HasSubstr("'" + name + "' is not a text"));
        }
    }
    EXPECT_THAT(refusal<NonceAnswer>(R"({"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","expires_s":-1})"),
                HasSubstr("'expires_s' is not a whole number"));
    EXPECT_THAT(refusal<NonceAnswer>(R"({"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","expires_s":4294967296})"),
                HasSubstr("'expires_s' is 4294967296"));
}

TEST(Messages, UnknownMembersArePassedOver) {
    json message = json::parse(to_json(ActivationRequest{filled(32)}));
    message["new"] = {{"deep", {1, 2, {{"deeper", "x"}}}}};
    message["list"] = {"a", {"b"}, 3};
    EXPECT_EQ(parse<ActivationRequest>(message.dump()).secret, filled(32));
}

TEST(Messages, RefusesAMemberThatIsThereTwice) {
    EXPECT_THAT(refusal<ActivationRequest>(R"({"secret":"AAAA","secret":"BBBB"})"),
                HasSubstr("member 'secret' is there twice"));
    EXPECT_THAT(refusal<ActivationRequest>(R"({"secret":"AAAA","s\u0065cret":"BBBB"})"), HasSubstr("twice"));
}

TEST(Messages, RefusesWhatIsNotOneJsonObjectInUtf8) {
    for (const char* body : {"", " ", "[]", "\"x\"", "null", "7", "{", "{}}", "{\"a\":}", "{} {}", "\xef\xbb\xbf{}",
                             "{\"secret\":\"AAAA\",}", "{'secret':'AAAA'}", "{\"secret\":\"\xc3\x28\"}",
                             "{\"secret\":\"\\ud800\"}", "{\"a\":1e999,\"secret\":\"AAAA\"}", "//x\n{}"}) {
        EXPECT_THAT(refusal<ActivationRequest>(body), HasSubstr("not ")) << body;
    }
    EXPECT_EQ(refusal<ActivationRequest>("\r\n {\"secret\" : \"AAAA\"} \n"), "accepted");
}

TEST(Messages, DepthIsBounded) {
    const auto nested = [](std::size_t levels) {
        return R"({"secret":"AAAA","x":)" + std::string(levels, '[') + std::string(levels, ']') + "}";
    };
    EXPECT_EQ(refusal<ActivationRequest>(nested(7)), "accepted");
    EXPECT_THAT(refusal<ActivationRequest>(nested(8)), HasSubstr("nested deeper than 8 levels"));
    EXPECT_THAT(refusal<ActivationRequest>(nested(500'000)), HasSubstr("nested deeper"));
    std::string open;
    for (int i = 0; i < 100'000; ++i) open += R"({"x":)";
    EXPECT_THAT(refusal<ActivationRequest>(open), HasSubstr("nested deeper"));
}

TEST(Messages, SizesAreBounded) {
    EXPECT_THAT(refusal<ActivationRequest>("{\"x\":\"" + std::string(kMaxBody, 'a') + "\"}"), HasSubstr("are allowed"));
    auto request = enroll_request();
    request.hostname = std::string(254, 'a');
    EXPECT_THAT(refusal<EnrollRequest>(to_json(request)), HasSubstr("'hostname' has 254 bytes; 1 to 253"));
    request.hostname = "";
    EXPECT_THAT(refusal<EnrollRequest>(to_json(request)), HasSubstr("'hostname' has 0 bytes"));
    request = enroll_request();
    request.token = std::string(kMaxText + 1, 'a');
    EXPECT_THAT(refusal<EnrollRequest>(to_json(request)), HasSubstr("'token' has 8193 bytes"));
    request = enroll_request();
    request.ek_chain.assign(257, filled(1));
    EXPECT_THAT(refusal<EnrollRequest>(to_json(request)), HasSubstr("'ek_chain' has more than 256 elements"));
    request.ek_chain.assign(10'000, filled(1));
    EXPECT_THAT(refusal<EnrollRequest>(to_json(request)), HasSubstr("'ek_chain' has more than 256 elements"));
    auto evidence = attest_request();
    evidence.nonce = filled(15);
    EXPECT_THAT(refusal<AttestRequest>(to_json(evidence)), HasSubstr("'nonce' has 15 bytes; 16 to 64"));
    evidence = attest_request();
    evidence.quote = filled(5000);
    EXPECT_THAT(refusal<AttestRequest>(to_json(evidence)), HasSubstr("'quote' has 5000 bytes"));
    std::string members = "{";
    for (int i = 0; i < 100; ++i) members += "\"m" + std::to_string(i) + "\":0,";
    EXPECT_THAT(refusal<ActivationRequest>(members + R"("secret":"AAAA"})"), HasSubstr("more than 64 members"));
}

TEST(Messages, RefusesBase64ThatIsNotCanonical) {
    for (const char* text : {"A", "AA", "AAA", "AA=A", "AB==", "AAB=", "AA==AA==", "AA-_", "AAAA\\n", "A A=", "===="}) {
        EXPECT_THAT(refusal<ActivationRequest>("{\"secret\":\"" + std::string(text) + "\"}"),
                    HasSubstr("'secret' is not base64"))
            << text;
    }
}

TEST(Messages, EscrowNamesCannotBePaths) {
    for (const char* name : {"../x", "a/b", "A", "a b", "ä"}) {
        EXPECT_NE(refusal<EscrowRequest>(to_json(EscrowRequest{name, filled(1)})), "accepted") << name;
    }
}

// What is logged of a refusal has nothing in it that a terminal or a log could take for more than text.
TEST(Messages, RefusalsCarryNoControlCharacters) {
    const auto why = refusal<ActivationRequest>("{\"a\\u001b[31m\\n\":1,\"a\\u001b[31m\\n\":1}");
    EXPECT_THAT(why, HasSubstr("twice"));
    for (const char c : why) EXPECT_GE(c, ' ');
}

}  // namespace
}  // namespace gatehouse::protocol

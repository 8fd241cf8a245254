// Base64, signed statements, the attestation result.
#include "attestation/verifier/token.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <nlohmann/json.hpp>

#include "attestation/verifier/result.hpp"
#include "keyvault/host_support/authority.hpp"

namespace gatehouse::verifier {
namespace {

using host::text_bytes;
using nlohmann::json;

host::Key p256() { return {EVP_EC_gen("P-256"), EVP_PKEY_free}; }
std::string text_of(const host::Buffer& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// RFC 4648, section 10.
TEST(Base64, TestVectors) {
    const std::vector<std::pair<std::string, std::string>> vectors = {{"", ""},
                                                                      {"f", "Zg=="},
                                                                      {"fo", "Zm8="},
                                                                      {"foo", "Zm9v"},
                                                                      {"foob", "Zm9vYg=="},
                                                                      {"fooba", "Zm9vYmE="},
                                                                      {"foobar", "Zm9vYmFy"}};
    for (const auto& [plain, encoded] : vectors) {
        EXPECT_EQ(base64(text_bytes(plain)), encoded);
        ASSERT_TRUE(from_base64(encoded)) << encoded;
        EXPECT_EQ(text_of(*from_base64(encoded)), plain);
        const auto unpadded = encoded.substr(0, encoded.find('='));
        EXPECT_EQ(base64url(text_bytes(plain)), unpadded);
        EXPECT_EQ(text_of(*from_base64url(unpadded)), plain);
    }
    const std::array<std::byte, 3> high{std::byte{0xfb}, std::byte{0xff}, std::byte{0xfe}};
    EXPECT_EQ(base64(high), "+//+");
    EXPECT_EQ(base64url(high), "-__-");
}

TEST(Base64, AgreesWithOpensslForEveryLengthAndByte) {
    host::Buffer bytes;
    for (int size = 0; size < 300; ++size) {
        std::string expected(2 * bytes.size() + 8, '\0');
        expected.resize(static_cast<std::size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(expected.data()),
                                                                 raw(Bytes(bytes)), static_cast<int>(bytes.size()))));
        EXPECT_EQ(base64(bytes), expected);
        EXPECT_EQ(from_base64(expected), bytes);
        EXPECT_EQ(from_base64url(base64url(bytes)), bytes);
        bytes.push_back(static_cast<std::byte>(size * 7));
    }
}

TEST(Base64, RefusesWhatIsNotTheOneTextOfItsBytes) {
    for (const char* text : {"Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zm9v=", "Zm9v====", "=Zg=", "Zg==Zg==",
                             "Zm9v\n", " Zm9v", "Zm-_", "Zm9\xff", "===="}) {
        EXPECT_FALSE(from_base64(text)) << text;
    }
    for (const char* text : {"Z", "Zg==", "Zh", "Zm9", "Zm+/", "Zm9vYg=="}) {
        EXPECT_FALSE(from_base64url(text)) << text;
    }
    EXPECT_FALSE(from_base64url(std::string_view("Zm9v\0Zg==", 6)));
}

TEST(Jws, TheSignersPayloadComesBack) {
    const auto key = p256();
    for (const std::string payload : {"", "{}", "any \xff bytes"}) {
        const auto jws = sign_jws(payload, "gatehouse-policy+jws", key.get());
        EXPECT_EQ(verify_jws(jws, "gatehouse-policy+jws", key.get()), payload);
    }
}

// A token that another implementation made: the example in the manual of Veraison's "ear" for Rust.
TEST(Jws, ReadsWhatAnotherImplementationSigned) {
    const auto x = from_base64url("G8fAud93NgCg8C_0bY1YqVZ5zNlkb-cNsGTQia7m0is");
    const auto y = from_base64url("RK1gonvUKKQOCSHDwz3SiN9EijCqmXS4sDeRbc8RnL0");
    ASSERT_TRUE(x && y);
    const auto key = host::ecc_key(*x, *y);
    const auto payload = verify_jws(
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9."
        "eyJlYXRfcHJvZmlsZSI6InRlc3QiLCJpYXQiOjEsImVhci52ZXJpZmllci1pZCI6eyJkZXZlbG9wZXIiOiJodHRwczovL3ZlcmFp"
        "c29uLX"
        "Byb2plY3Qub3JnIiwiYnVpbGQiOiJ2c3RzIDAuMC4xIn0sInN1Ym1vZHMiOnsidGVzdCI6eyJlYXIuc3RhdHVzIjoibm9uZSJ9fX"
        "0."
        "G25v0j0NDQhSOcK3Jtfq5vqVxnoWuWf-Q0DCNkCwpyB03DGr25ZDJ3IDSAHVPZrr6TVMwj8RcGEzQnCrucem4Q",
        "JWT", key.get());
    ASSERT_TRUE(payload);
    EXPECT_EQ(json::parse(*payload)["submods"]["test"]["ear.status"], "none");
}

// The form that others make: the same members in another order and with spaces.
TEST(Jws, HeaderMayBeWrittenInAnotherWay) {
    const auto key = p256();
    const auto with_header = [&](const std::string& header) {
        // The signature over another header, made by splicing: sign with the type that makes sign_jws() write
        // it.
        const std::string head = base64url(text_bytes(header)) + "." + base64url(text_bytes("payload"));
        std::array<unsigned char, 32> digest{};
        EVP_Digest(head.data(), head.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
        const auto blob = host::sign_digest(key.get(), std::bit_cast<Sha256Digest>(digest));
        // TPMT_SIGNATURE: scheme, hash, size, r, size, s
        Reader reader(blob.bytes(), Endian::kBig);
        reader.skip(4);
        host::Buffer flat(64);
        const Bytes r = reader.sized();
        const Bytes s = reader.sized();
        copy_bytes(MutableBytes(flat).subspan(32 - r.size()), r);
        copy_bytes(MutableBytes(flat).subspan(64 - s.size()), s);
        return head + "." + base64url(flat);
    };
    const auto accepted = [&](const std::string& header) {
        return verify_jws(with_header(header), "t", key.get()).has_value();
    };
    EXPECT_TRUE(accepted(R"({"alg":"ES256","typ":"t"})"));
    EXPECT_TRUE(accepted(R"({ "typ": "t", "alg": "ES256" })"));
    EXPECT_TRUE(accepted(R"({"alg":"ES256","kid":"which","typ":"t"})"));
    EXPECT_FALSE(accepted(R"({"alg":"ES256","kid":7,"typ":"t"})"));
    EXPECT_FALSE(accepted(R"({"alg":"ES256","kid":"which","kid":"other","typ":"t"})"));
    EXPECT_FALSE(accepted(R"({"alg":"ES256","typ":"u"})"));
    EXPECT_FALSE(accepted(R"({"alg":"ES256"})"));
    EXPECT_FALSE(accepted(R"({"alg":"none","typ":"t"})"));
    EXPECT_FALSE(accepted(R"({"alg":"es256","typ":"t"})"));
    EXPECT_FALSE(accepted(R"({"alg":"HS256","typ":"t"})"));
    EXPECT_FALSE(accepted(R"({"alg":"ES256","typ":"t","crit":["b64"],"b64":false})"));
    EXPECT_FALSE(accepted(R"({"alg":"ES256","alg":"ES256","typ":"t"})"));
    EXPECT_FALSE(accepted(R"({"alg":"none","typ":"t","alg":"ES256"})"));
    EXPECT_FALSE(accepted(R"(["ES256","t"])"));
    EXPECT_FALSE(accepted(R"({"alg":{"alg":"ES256"},"typ":"t"})"));
    EXPECT_FALSE(accepted(R"({"alg":"ES256","typ":"t"} )" + std::string(300, ' ')));
    EXPECT_FALSE(accepted(std::string(100, '[')));
    EXPECT_FALSE(accepted(""));
}

TEST(Jws, NoBitOfItMayChange) {
    const auto key = p256();
    const auto jws = sign_jws("payload", "t", key.get());
    for (std::size_t i = 0; i < jws.size(); ++i) {
        for (const int bit : {0, 1, 5}) {
            auto changed = jws;
            changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
            EXPECT_FALSE(verify_jws(changed, "t", key.get())) << i;
        }
        EXPECT_FALSE(verify_jws(std::string_view(jws).substr(0, i), "t", key.get()));
    }
    EXPECT_FALSE(verify_jws(jws + ".", "t", key.get()));
    EXPECT_FALSE(verify_jws(jws + "AAAA", "t", key.get()));
    EXPECT_FALSE(verify_jws(jws, "u", key.get()));
    EXPECT_FALSE(verify_jws(jws, "t", p256().get()));
    const std::string head = jws.substr(0, jws.rfind('.') + 1);
    EXPECT_FALSE(verify_jws(head + base64url(host::Buffer(64)), "t", key.get()));  // CVE-2022-21449
    EXPECT_FALSE(verify_jws(head + base64url(host::Buffer(64, std::byte{0xff})), "t", key.get()));
    EXPECT_FALSE(verify_jws(head, "t", key.get()));
    EXPECT_EQ(ERR_peek_error(), 0u);
}

TEST(Jws, WantsAP256Key) {
    const host::Key p384{EVP_EC_gen("P-384"), EVP_PKEY_free};
    const host::Key rsa{EVP_RSA_gen(2048), EVP_PKEY_free};
    EXPECT_THROW((void)sign_jws("x", "t", p384.get()), host::ToolError);
    EXPECT_THROW((void)sign_jws("x", "t", rsa.get()), host::ToolError);
    EXPECT_THROW((void)sign_jws("x", "t", nullptr), host::ToolError);
    const auto key = p256();
    const auto jws = sign_jws("x", "t", key.get());
    EXPECT_FALSE(verify_jws(jws, "t", rsa.get()));
    EXPECT_FALSE(verify_jws(jws, "t", nullptr));
    // A public key cannot sign.
    const auto pem = host::public_key_pem(key.get());
    BIO* const bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
    const host::Key half{PEM_read_bio_PUBKEY(bio, nullptr, nullptr, nullptr), EVP_PKEY_free};
    BIO_free(bio);
    EXPECT_EQ(verify_jws(jws, "t", half.get()), "x");
    EXPECT_THROW((void)sign_jws("x", "t", half.get()), host::ToolError);
}

// draft-ietf-rats-ar4si, section 2.3.2.
TEST(Result, TiersAreThoseOfAr4si) {
    for (int value = -128; value < 128; ++value) {
        const Tier expected = value >= -1 && value <= 1      ? Tier::kNone
                              : value >= 2 && value <= 31    ? Tier::kAffirming
                              : value >= -32 && value <= -2  ? Tier::kAffirming
                              : value >= 32 && value <= 95   ? Tier::kWarning
                              : value >= -96 && value <= -33 ? Tier::kWarning
                                                             : Tier::kContraindicated;
        EXPECT_EQ(tier_of(static_cast<std::int8_t>(value)), expected) << value;
    }
}

constexpr std::array kSpeaker{"quote", "ak", "signature", "signer", "nonce"};
constexpr std::array kMeasured{"selection", "log", "events"};
constexpr std::array kStated{"claims",   "policy",    "iommu", "counter", "version",
                             "vault id", "vault pin", "vault", "machine", "acpi"};

// What a launch's appraisal finds, one rule of it failed, or not there.
std::vector<Finding> appraised(std::string_view broken = {}, std::string_view absent = {}) {
    std::vector<Finding> findings;
    const auto add = [&](const auto& rules) {
        for (const std::string_view rule : rules)
            if (rule != absent) findings.push_back({std::string(rule), rule != broken, "detail"});
    };
    add(kSpeaker);
    add(std::array{"clock", "firmware", "source", "reference"});
    add(kMeasured);
    add(kStated);
    return findings;
}

TrustVector launch_vector(const std::vector<Finding>& findings, bool endorsed = true) {
    return trust_vector(findings, Source::kHypervisor, nullptr, endorsed);
}

TEST(Result, VectorSaysWhichPartOfTheEndpointIsAtFault) {
    const auto good = launch_vector(appraised());
    EXPECT_EQ(good.instance_identity, 2);
    EXPECT_EQ(good.configuration, 2);
    EXPECT_EQ(good.executables, 3);
    EXPECT_EQ(good.hardware, 2);
    EXPECT_EQ(good.storage_opaque, -2);
    EXPECT_EQ(good.runtime_opaque, 0);
    EXPECT_EQ(good.worst(), Tier::kAffirming);
    EXPECT_EQ(launch_vector(appraised(), false).hardware, 0);  // no EK certificate: nothing known of the TPM
    EXPECT_EQ(launch_vector({}).instance_identity, 1);         // nothing was appraised

    // Failed, or not judged: the same.
    const auto each = [](const auto& rules, const auto& expect) {
        for (const char* const rule : rules) {
            for (const auto& findings : {appraised(rule), appraised({}, rule)}) {
                SCOPED_TRACE(rule);
                expect(launch_vector(findings));
            }
        }
    };
    each(kSpeaker, [](const TrustVector& vector) {
        for (const auto value : {vector.instance_identity, vector.configuration, vector.executables, vector.hardware,
                                 vector.storage_opaque})
            EXPECT_EQ(value, 99);
    });
    each(kMeasured, [](const TrustVector& vector) {
        EXPECT_EQ(vector.executables, 33);
        EXPECT_EQ(vector.storage_opaque, 1);  // who says that the disk is encrypted?
        EXPECT_EQ(vector.instance_identity, 2);
    });
    each(kStated, [](const TrustVector& vector) { EXPECT_EQ(vector.configuration, 96); });
    each(std::array{"reference", "source"}, [](const TrustVector& vector) {
        EXPECT_EQ(vector.executables, 1);
        EXPECT_EQ(vector.configuration, 1);
    });
    each(std::array{"clock"}, [](const TrustVector& vector) { EXPECT_EQ(vector.instance_identity, 96); });
    each(std::array{"firmware"}, [](const TrustVector& vector) { EXPECT_EQ(vector.hardware, 97); });
    EXPECT_EQ(launch_vector(appraised("claims")).storage_opaque, 96);
    EXPECT_EQ(launch_vector(appraised({}, "claims")).storage_opaque, 0);
}

// They are not of the appraisal, and there only if somebody asks.
TEST(Result, VectorHearsWhatIsSaidOfKeyAndEndorsement) {
    const auto with = [](const char* rule, bool ok) {
        std::vector<Finding> findings = appraised();
        findings.push_back({rule, ok, "detail"});
        return launch_vector(findings);
    };
    for (const char* const rule : {"ak type", "ak attributes", "ak policy", "ak pinned"}) {
        SCOPED_TRACE(rule);
        EXPECT_EQ(with(rule, true).worst(), Tier::kAffirming);
        const TrustVector forged = with(rule, false);
        for (const auto value : {forged.instance_identity, forged.configuration, forged.executables, forged.hardware,
                                 forged.storage_opaque})
            EXPECT_EQ(value, 99);
    }
    // Of a key that cannot be read nothing else is found.
    EXPECT_EQ(launch_vector({{"ak type", false, "detail"}}, false).executables, 99);
    EXPECT_EQ(with("endorsement", false).instance_identity, 97);
    EXPECT_EQ(with("crl age", false).hardware, 1);
}

TEST(Result, VectorOfATpmAloneClaimsWhatThePolicyExpects) {
    const auto vector = [](std::initializer_list<std::uint32_t> pcrs, std::string_view broken) {
        Policy policy;
        for (const std::uint32_t pcr : pcrs)
            policy.pcrs[HashAlgorithm::kSha256][pcr] = {hash(HashAlgorithm::kSha256, std::array{std::byte(pcr)})};
        std::vector<Finding> findings = appraised(broken);
        std::erase_if(findings,
                      [](const Finding& one) { return std::ranges::find(kStated, one.rule) != kStated.end(); });
        findings.push_back({"pcrs", broken != "pcrs", "detail"});
        return trust_vector(findings, Source::kTpm, &policy, true);
    };
    EXPECT_EQ(vector({0, 2, 4}, {}).executables, 3);
    EXPECT_EQ(vector({0, 2, 4}, {}).configuration, 0);
    EXPECT_EQ(vector({0, 2, 4}, {}).storage_opaque, 0);
    EXPECT_EQ(vector({0, 4, 7}, {}).executables, 0);
    EXPECT_EQ(vector({7}, {}).executables, 0);
    for (const char* const rule : {"selection", "log", "events", "pcrs"})
        EXPECT_EQ(vector({7}, rule).executables, 33) << rule;
}

// A policy may take a TPM as it is when no firmware has measured anything. That approves no code.
TEST(Result, NoCodeIsApprovedWhereNothingNeedHaveBeenMeasured) {
    const auto executables = [](std::uint32_t pcr, std::byte fill, std::byte last) {
        Policy policy;
        const Digest measured = hash(HashAlgorithm::kSha256, std::array{std::byte{1}});
        for (const std::uint32_t one : {0u, 2u, 4u}) policy.pcrs[HashAlgorithm::kSha256][one] = {measured};
        Digest value{.algorithm = HashAlgorithm::kSha256};
        std::ranges::fill(value.storage, fill);
        value.storage[31] = last;
        policy.pcrs[HashAlgorithm::kSha256][pcr].push_back(value);
        std::vector<Finding> findings = appraised();
        findings.push_back({"pcrs", true, "detail"});
        return trust_vector(findings, Source::kTpm, &policy, true).executables;
    };
    for (const std::uint32_t pcr : {0u, 2u, 4u}) {
        SCOPED_TRACE(pcr);
        for (const unsigned locality : {0u, 3u, 4u}) EXPECT_EQ(executables(pcr, {}, std::byte(locality)), 0);
        EXPECT_EQ(executables(pcr, std::byte{0xff}, std::byte{0xff}), 0);
        EXPECT_EQ(executables(pcr, std::byte{1}, {}), 3);
        EXPECT_EQ(executables(pcr, {}, std::byte{5}), 3);
    }
    EXPECT_EQ(executables(7, {}, {}), 3);
}

// Nor by the separator that a firmware measures before the boot, whatever it measured.
TEST(Result, ASeparatorIsNoCode) {
    for (const HashAlgorithm bank : {HashAlgorithm::kSha256, HashAlgorithm::kSha384}) {
        const auto executables = [bank](std::uint32_t pcr, const std::vector<std::uint32_t>& separators,
                                        unsigned locality) {
            Policy policy;
            for (const std::uint32_t one : {0u, 2u, 4u})
                policy.pcrs[bank][one] = {hash(bank, std::array{std::byte{1}})};
            Digest value{.algorithm = bank};
            value.storage[digest_size(bank) - 1] = std::byte(locality);
            for (const std::uint32_t separator : separators) {
                std::array<std::byte, 4> data{};
                store(data.data(), separator, Endian::kLittle);
                Buffer both(value.bytes().begin(), value.bytes().end());
                const Digest event = hash(bank, data);
                both.insert(both.end(), event.bytes().begin(), event.bytes().end());
                value = hash(bank, both);
            }
            policy.pcrs[bank][pcr].push_back(value);
            std::vector<Finding> findings = appraised();
            findings.push_back({"pcrs", true, "detail"});
            return trust_vector(findings, Source::kTpm, &policy, true).executables;
        };
        for (const std::uint32_t pcr : {0u, 2u, 4u}) {
            SCOPED_TRACE(pcr);
            for (const unsigned locality : {0u, 3u, 4u}) {
                EXPECT_EQ(executables(pcr, {0}, locality), 0);
                EXPECT_EQ(executables(pcr, {0xffff'ffff}, locality), 0);
            }
            EXPECT_EQ(executables(pcr, {7, 0}, 0), 3);
            EXPECT_EQ(executables(pcr, {0, 7}, 0), 3);
        }
    }
}

TEST(Result, IsAnEatWithAnEarAppraisal) {
    const auto findings = appraised("counter");
    ResultFacts facts;
    facts.issuer = "gatehouse";
    facts.issued = 1763870000;
    facts.expires = 1763870900;
    facts.ek_hash = sha256(text_bytes("ek"));
    const auto nonce = sha256(text_bytes("nonce"));
    facts.nonce = nonce;
    facts.status = Tier::kAffirming;
    facts.vector = launch_vector(findings);
    facts.policy_id = "laptops:7:abcd";
    facts.source = "hypervisor";
    facts.findings = &findings;
    facts.coverage = {10, 9, 4, 2};
    const auto key = p256();
    const auto jws = sign_jws(make_result(facts), kResultType, key.get());
    const auto payload = verify_jws(jws, kResultType, key.get());
    ASSERT_TRUE(payload);
    const json result = json::parse(*payload);
    EXPECT_EQ(result["iat"], 1763870000);
    EXPECT_EQ(result["exp"], 1763870900);
    EXPECT_EQ(result["iss"], "gatehouse");
    EXPECT_EQ(result["eat_profile"], "tag:gatehouse,2026:result");
    EXPECT_EQ(result["eat_nonce"], base64url(nonce));
    const auto ueid = from_base64url(result["ueid"].get<std::string>());
    ASSERT_TRUE(ueid);
    ASSERT_EQ(ueid->size(), 33u);
    EXPECT_EQ(ueid->front(), std::byte{1});
    EXPECT_TRUE(equal_bytes(Bytes(*ueid).subspan(1), facts.ek_hash));
    const json& appraisal = result["submods"]["gatehouse"];
    // A status is never better than the worst claim, whatever the caller says (EAR).
    EXPECT_EQ(appraisal["ear.status"], "contraindicated");
    EXPECT_EQ(appraisal["ear.appraisal-policy-id"], "laptops:7:abcd");
    EXPECT_EQ(appraisal["ear.trustworthiness-vector"],
              json::parse(R"({"instance-identity":2,"configuration":96,"executables":3,"hardware":2,
                              "storage-opaque":-2})"));
    EXPECT_EQ(result["gatehouse.source"], "hypervisor");
    EXPECT_EQ(result["gatehouse.findings"].size(), findings.size());
    EXPECT_EQ(result["gatehouse.findings"][15], (json{{"rule", "counter"}, {"ok", false}, {"detail", "detail"}}));
    EXPECT_EQ(result["gatehouse.coverage"],
              (json{{"events", 10}, {"events_judged", 9}, {"pcrs", 4}, {"pcrs_judged", 2}}));
}

TEST(Result, TextOfAnEndpointThatIsNotUtf8DoesNotStopIt) {
    const std::vector<Finding> findings{{"log", false, "event 'a\xff\xfe'"}};
    ResultFacts facts;
    facts.findings = &findings;
    EXPECT_EQ(json::parse(make_result(facts))["gatehouse.findings"].size(), 1u);
}

}  // namespace
}  // namespace gatehouse::verifier

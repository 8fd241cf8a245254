// The verifier against evidence of a software TPM, good and tampered with in every way that has a rule
// against it.
#include "attestation/verifier/appraisal.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "attestation/evidence_reader/launch_log_reader.hpp"
#include "keyvault/host_support/authority.hpp"
#include "policies/bundle_writer/bundle_writer.hpp"
#include "tests/unit/keyvault/tool/endpoint.hpp"

namespace gatehouse::verifier {
namespace {

using nlohmann::json;
using test::Buffer;
using test::EvidenceFiles;
using test::Outcome;

const Buffer kNonce = [] {
    const Sha256Digest digest = sha256(literal_bytes("nonce"));
    return Buffer(digest.begin(), digest.end());
}();

// One endpoint, launched and capped once, for all tests of this file.
class Appraisal : public testing::Test {
  public:
    static void SetUpTestSuite() {
        endpoint_ = std::make_unique<test::Endpoint>();
        endpoint_->provision();
        endpoint_->launch();
        header_ = std::make_unique<volume::Header>();
        volume::Keys keys;
        endpoint_->open_vault(*header_, keys);
        endpoint_->cap();
        good_ = std::make_unique<EvidenceFiles>(quoted(endpoint_->claims()));
    }
    static void TearDownTestSuite() {
        good_.reset();
        header_.reset();
        endpoint_.reset();
    }

  protected:
    static EvidenceFiles quoted(const evidence::Claims& claims) {
        return endpoint_->attest(*header_, claims, kNonce, endpoint_->selections());
    }
    static EvidenceFiles quoted_over(std::vector<tpm::PcrSelection> selections) {
        return endpoint_->attest(*header_, endpoint_->claims(), kNonce, selections);
    }
    // What the endpoint should show, and the key that was enrolled for it.
    struct Expectations {
        Buffer nonce = kNonce;
        Policy policy;
        Buffer key;  // TPMT_PUBLIC
    };
    static Expectations expectations() {
        Expectations expected;
        expected.policy.name = "test";
        expected.policy.references.push_back(policies::predict_directory(endpoint_->appliance.files()));
        const Bytes area = host::expect(parse_sized(good_->key, "ak.pub"), "ak.pub");
        expected.key.assign(area.begin(), area.end());
        return expected;
    }
    static Verdict judge(const EvidenceFiles& files, const Expectations& expected = expectations(),
                         const TpmState& known = {}) {
        return appraise({.source = Source::kHypervisor,
                         .quote = files.quote,
                         .signature = files.signature,
                         .claims = files.claims,
                         .event_log = files.event_log,
                         .pcr_values = {}},
                        AttestationKey(expected.key), known, expected.nonce, &expected.policy);
    }
    // Rejected, by this rule among others; `word` is in its reason.
    static void expect_rejected(const Verdict& verdict, const std::string& rule, const std::string& word = "") {
        EXPECT_FALSE(verdict.accepted());
        const auto finding = std::ranges::find(verdict.findings, rule, &Finding::rule);
        ASSERT_NE(finding, verdict.findings.end());
        EXPECT_FALSE(finding->ok) << rule;
        EXPECT_NE(finding->detail.find(word), std::string::npos) << finding->detail;
    }
    // Rejected by this rule and by no other.
    static void expect_only(const Verdict& verdict, const std::string& rule, const std::string& word = "") {
        expect_rejected(verdict, rule, word);
        for (const Finding& finding : verdict.findings) {
            EXPECT_EQ(finding.ok, finding.rule != rule) << finding.rule << ": " << finding.detail;
        }
    }

    // The log's events as byte ranges, the header first.
    static std::vector<Buffer> split(const Buffer& log) {
        std::vector<Buffer> parts;
        auto reader = host::expect(evidence::EventLogReader::open(log), "log");
        std::size_t start = 0;
        const auto take = [&] {
            parts.emplace_back(log.begin() + static_cast<std::ptrdiff_t>(start),
                               log.begin() + static_cast<std::ptrdiff_t>(reader.offset()));
            start = reader.offset();
        };
        take();
        while (!reader.at_end()) {
            (void)host::expect(reader.next(), "log");
            take();
        }
        return parts;
    }
    static Buffer join(const std::vector<Buffer>& parts) {
        Buffer log;
        for (const Buffer& part : parts) log.insert(log.end(), part.begin(), part.end());
        return log;
    }

    static std::unique_ptr<test::Endpoint> endpoint_;
    static std::unique_ptr<volume::Header> header_;
    static std::unique_ptr<EvidenceFiles> good_;
};
std::unique_ptr<test::Endpoint> Appraisal::endpoint_;
std::unique_ptr<volume::Header> Appraisal::header_;
std::unique_ptr<EvidenceFiles> Appraisal::good_;

// Offsets in TPMS_ATTEST: magic, type, qualified signer (34 bytes), extra data (32 bytes), clock information.
constexpr std::size_t kTypeAt = 4;
constexpr std::size_t kSignerAt = 8;
constexpr std::size_t kExtraDataAt = kSignerAt + 34 + 2;

TEST_F(Appraisal, AcceptsTheEvidenceOfTheExpectedLaunch) {
    const Verdict verdict = judge(*good_);
    for (const Finding& finding : verdict.findings) EXPECT_TRUE(finding.ok) << finding.rule << ": " << finding.detail;
    EXPECT_TRUE(verdict.accepted());
    EXPECT_EQ(verdict.findings.size(), 22u);
    EXPECT_EQ(verdict.coverage.events_judged, verdict.coverage.events);
    EXPECT_EQ(verdict.coverage.pcrs_judged, verdict.coverage.pcrs);
    EXPECT_GE(verdict.coverage.pcrs, 2u);
}

TEST_F(Appraisal, AcceptsAQuoteOfTheSha256BankAlone) {
    EXPECT_TRUE(judge(quoted_over({{HashAlgorithm::kSha256, tpm::kQuotedPcrs.pcrs}})).accepted());
}

TEST_F(Appraisal, PredictsThePcrsThatTheTpmHolds) {
    const policies::Prediction reference = expectations().policy.references.front();
    for (const tpm::PcrSelection& bank : endpoint_->selections()) {
        for (const std::uint32_t pcr : {17u, 18u}) {
            const auto held = endpoint_->tpm.pcr_read(bank.bank, pcr);
            ASSERT_TRUE(held.ok());
            EXPECT_EQ(host::hex(held->bytes()),
                      host::hex(reference.capped_value(bank.bank, pcr, endpoint_->claims().vault_id).bytes()));
        }
    }
}

TEST_F(Appraisal, AcceptsNothingFromAnEmptyVerdict) { EXPECT_FALSE(Verdict{}.accepted()); }

// --- quote and signature

TEST_F(Appraisal, RejectsAnotherNonce) {
    Expectations expected = expectations();
    Buffer other = kNonce;
    other[31] ^= std::byte{1};
    expected.nonce = other;
    expect_only(judge(*good_, expected), "nonce");
}

TEST_F(Appraisal, RejectsANonceThatIsTooShortToBeFresh) {
    const Buffer nonce(kNonce.begin(), kNonce.begin() + 15);
    const EvidenceFiles files = endpoint_->attest(*header_, endpoint_->claims(), nonce, endpoint_->selections());
    Expectations expected = expectations();
    expected.nonce = nonce;
    expect_only(judge(files, expected), "nonce", "16 to 64");
}

TEST_F(Appraisal, RejectsClaimsMovedAcrossTheBorderToTheNonce) {
    EvidenceFiles files = *good_;
    const Bytes all = files.claims;
    Buffer nonce = kNonce;
    nonce.push_back(all[0]);
    files.claims.assign(all.begin() + 1, all.end());
    Expectations expected = expectations();
    expected.nonce = nonce;
    expect_rejected(judge(files, expected), "claims");
}

TEST_F(Appraisal, RejectsASignatureWithAnyBitChanged) {
    for (std::size_t bit = 0; bit < 8 * good_->signature.size(); bit += 3) {
        EvidenceFiles files = *good_;
        files.signature[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        expect_only(judge(files), "signature");
    }
}

TEST_F(Appraisal, RejectsAQuoteWithAnyByteChanged) {
    for (std::size_t i = 0; i < good_->quote.size(); ++i) {
        EvidenceFiles files = *good_;
        files.quote[i] ^= std::byte{0x40};
        expect_rejected(judge(files), "signature");
    }
}

TEST_F(Appraisal, RejectsWhatNoTpmMade) {
    EvidenceFiles files = *good_;
    files.quote[0] = std::byte{0};
    expect_rejected(judge(files), "quote", "not generated by a TPM");
}

TEST_F(Appraisal, RejectsAnotherKindOfAttestation) {
    EvidenceFiles files = *good_;
    files.quote[kTypeAt + 1] = std::byte{0x17};  // TPM_ST_ATTEST_CERTIFY
    expect_rejected(judge(files), "quote", "another kind");
}

// Re-signed with a key of the attacker's: structure checks alone must not carry the verdict.
TEST_F(Appraisal, RejectsEverythingMadeByAnotherKey) {
    const std::string path = endpoint_->appliance.path("attacker.pem");
    test::make_key("EC", path);
    const host::Key key = host::read_private_key(path);
    EvidenceFiles files = *good_;
    const tpm::SignatureBlob signature = host::sign_digest(key.get(), sha256(files.quote));
    files.signature.assign(signature.bytes().begin(), signature.bytes().end());
    expect_only(judge(files), "signature");

    // With the attacker's key enrolled, the quote still names the TPM's.
    Expectations expected = expectations();
    const tpm::PublicArea area = host::authority_public_area(key.get());
    const Bytes point = area.bytes().last(68);
    std::copy(point.begin(), point.end(), expected.key.end() - 68);
    expect_only(judge(files, expected), "signer");
}

TEST_F(Appraisal, RejectsAKeyOfAnotherSrkThanTheBundlePins) {
    Expectations expected = expectations();
    expected.policy.references.front().bundle.srk_name[10] ^= std::byte{1};
    expect_only(judge(*good_, expected), "signer");
}

// --- one image, many endpoints

class AppraisalOwnRoot : public Appraisal {
  protected:
    // Reference values made on another endpoint: the same image, its bundle pinning that one's SRK.
    static Expectations expectations_of_another() {
        Expectations expected = expectations();
        policies::Prediction& reference = expected.policy.references.front();
        Buffer other = reference.bundle.srk_name;
        other[20] ^= std::byte{1};
        reference = policies::with_endpoint(reference, other, reference.bundle.vault_id);
        return expected;
    }
};

TEST_F(AppraisalOwnRoot, AcceptsAnEndpointByTheReferenceOfAnother) {
    Expectations expected = expectations_of_another();
    expected.policy.own_storage_root = true;
    const Verdict verdict = judge(*good_, expected);
    EXPECT_TRUE(verdict.accepted());
    EXPECT_EQ(verdict.coverage.events, verdict.coverage.events_judged);
}

TEST_F(AppraisalOwnRoot, IsNotForPoliciesThatPinTheSrk) {
    expect_rejected(judge(*good_, expectations_of_another()), "events", "policy bundle");
}

TEST_F(AppraisalOwnRoot, RejectsABundleThatDiffersInAnythingElse) {
    Expectations expected = expectations_of_another();
    expected.policy.own_storage_root = true;
    policies::Prediction& reference = expected.policy.references.front();
    reference.bundle.policy_ref.push_back(std::byte{'x'});
    Buffer bundle(policies::kMaxBundleSize);
    bundle.resize(host::expect(policies::write_bundle({.flags = reference.bundle.flags,
                                                       .counter_index = reference.bundle.counter_index,
                                                       .srk_name = reference.bundle.srk_name,
                                                       .vault_id = reference.bundle.vault_id,
                                                       .enrollment = reference.bundle.enrollment,
                                                       .authority = reference.bundle.authority,
                                                       .policy_ref = reference.bundle.policy_ref},
                                                      bundle),
                               "bundle"));
    reference.bundle.digest = sha256(bundle);
    for (policies::ExpectedEvent& event : reference.events) {
        if (event.name != "policy bundle") continue;
        for (Digest& digest : event.digests) digest = hash(digest.algorithm, bundle);
    }
    expect_rejected(judge(*good_, expected), "events", "policy bundle");
}

// The hypervisor states its SRK; a statement that the quote's signer does not bear out is a lie.
TEST_F(AppraisalOwnRoot, RejectsAClaimedSrkThatIsNotTheSigners) {
    Expectations expected = expectations();
    expected.policy.own_storage_root = true;
    evidence::Claims claims = endpoint_->claims();
    claims.storage_root[20] ^= std::byte{1};
    const Verdict verdict = judge(quoted(claims), expected);
    expect_rejected(verdict, "signer", "child of the SRK");
    expect_rejected(verdict, "events", "policy bundle");
}

TEST_F(Appraisal, RejectsEveryTruncationOfEveryFile) {
    Buffer EvidenceFiles::*const parts[] = {&EvidenceFiles::quote, &EvidenceFiles::signature, &EvidenceFiles::claims,
                                            &EvidenceFiles::event_log};
    for (const auto part : parts) {
        const std::size_t size = (*good_.*part).size();
        for (std::size_t shorter = 0; shorter<size; shorter += size> 500 ? 37 : 1) {
            EvidenceFiles files = *good_;
            (files.*part) =
                Buffer((*good_.*part).begin(), (*good_.*part).begin() + static_cast<std::ptrdiff_t>(shorter));
            ASSERT_FALSE(judge(files).accepted()) << shorter;
        }
        EvidenceFiles files = *good_;
        (files.*part).push_back(std::byte{0});
        ASSERT_FALSE(judge(files).accepted()) << "a trailing byte";
    }
}

// --- PCR selection

TEST_F(Appraisal, RejectsAQuoteThatLacksPcr18) {
    expect_rejected(judge(quoted_over({{HashAlgorithm::kSha256, 1u << 17}})), "selection", "17, 18 and 19");
}

TEST_F(Appraisal, RejectsAQuoteThatLacksTheSha256Bank) {
    expect_only(judge(quoted_over({{HashAlgorithm::kSha384, tpm::kLaunchPcrs.pcrs}})), "selection", "sha384");
}

TEST_F(Appraisal, RejectsAQuoteOfFurtherPcrs) {
    expect_rejected(judge(quoted_over({{HashAlgorithm::kSha256, tpm::kLaunchPcrs.pcrs | 1u << 16}})), "selection");
}

TEST_F(Appraisal, RejectsAQuoteOfNothing) { expect_rejected(judge(quoted_over({})), "selection"); }

// --- event log

TEST_F(Appraisal, RejectsAnEventWithAnotherDigest) {
    std::vector<Buffer> parts = split(good_->event_log);
    for (std::size_t i = 1; i < parts.size(); ++i) {
        std::vector<Buffer> changed = parts;
        changed[i][16 + 40] ^= std::byte{1};  // in the second digest, SHA-256's
        EvidenceFiles files = *good_;
        files.event_log = join(changed);
        const Verdict verdict = judge(files);
        expect_rejected(verdict, "log", "does not replay");
        expect_rejected(verdict, "events", "event " + std::to_string(i) + " at offset");
    }
}

TEST_F(Appraisal, RejectsEventsInAnotherOrder) {
    std::vector<Buffer> parts = split(good_->event_log);
    std::swap(parts[4], parts[5]);  // kernel and initrd
    EvidenceFiles files = *good_;
    files.event_log = join(parts);
    expect_rejected(judge(files), "log");
    expect_rejected(judge(files), "events", "digest is not that of the kernel");
}

TEST_F(Appraisal, RejectsALogThatLacksAnEvent) {
    const std::vector<Buffer> parts = split(good_->event_log);
    for (std::size_t missing = 1; missing < parts.size(); ++missing) {
        std::vector<Buffer> fewer = parts;
        fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(missing));
        EvidenceFiles files = *good_;
        files.event_log = join(fewer);
        expect_rejected(judge(files), "log");
        expect_rejected(judge(files), "events");
    }
}

TEST_F(Appraisal, RejectsALogWithOneMoreEvent) {
    std::vector<Buffer> parts = split(good_->event_log);
    parts.push_back(parts.back());
    EvidenceFiles files = *good_;
    files.event_log = join(parts);
    expect_rejected(judge(files), "events", "one more than expected");
}

TEST_F(Appraisal, RejectsAnEventOfAPcrOutsideOfTheLaunch) {
    std::vector<Buffer> parts = split(good_->event_log);
    parts.push_back(parts.back());
    parts.back()[0] = std::byte{20};
    EvidenceFiles files = *good_;
    files.event_log = join(parts);
    expect_only(judge(files), "events", "PCR 20");  // the replay of the launch's PCRs is right
}

TEST_F(Appraisal, RejectsAnEventOfAnotherType) {
    std::vector<Buffer> parts = split(good_->event_log);
    parts[1][4] = std::byte{4};  // a separator in place of the secure loader block
    EvidenceFiles files = *good_;
    files.event_log = join(parts);
    expect_only(judge(files), "events", "not of the type");
}

TEST_F(Appraisal, RejectsTheReferenceValuesOfAnotherImage) {
    const auto& files = endpoint_->appliance;
    for (const std::string& name : policies::measured_files()) {
        const Buffer content = files.read(name);
        Buffer changed = content;
        changed[name == policies::kBundleFile ? 30 : 10] ^= std::byte{1};
        files.write(name, changed);
        const Verdict verdict = judge(*good_);
        files.write(name, content);
        expect_rejected(verdict, "events");
        const auto log = std::ranges::find(verdict.findings, std::string("log"), &Finding::rule);
        EXPECT_TRUE(log->ok) << "the log is the TPM's truth; what it says is not what was expected";
    }
}

// --- claims and policy

TEST_F(Appraisal, RejectsClaimsThatWereChangedAfterwards) {
    for (std::size_t i = 0; i < good_->claims.size(); ++i) {
        EvidenceFiles files = *good_;
        files.claims[i] ^= std::byte{1};
        expect_rejected(judge(files), "nonce");
    }
}

struct ClaimCase {
    const char* name;
    void (*change)(evidence::Claims&);
    const char* rule;
};
class VerifyClaims : public Appraisal, public testing::WithParamInterface<ClaimCase> {};

// Claims that the hypervisor itself makes: quoted and authentic, and not acceptable.
TEST_P(VerifyClaims, AreRejectedByTheirRule) {
    evidence::Claims claims = endpoint_->claims();
    GetParam().change(claims);
    Expectations expected = expectations();
    expected.policy.counter_floor = endpoint_->claims().counter_limit;
    expect_only(judge(quoted(claims), expected), GetParam().rule);
}

INSTANTIATE_TEST_SUITE_P(
    Rules, VerifyClaims,
    testing::Values(
        ClaimCase{"NoDynamicLaunch", [](evidence::Claims& c) { c.launch = evidence::Launch::kNone; }, "claims"},
        ClaimCase{"NotCapped", [](evidence::Claims& c) { c.flags &= 2; }, "claims"},
        ClaimCase{"VaultNotOpened", [](evidence::Claims& c) { c.flags &= 1; }, "claims"},
        ClaimCase{"NoDisk", [](evidence::Claims& c) { c.disk_count = 0; }, "claims"},
        ClaimCase{"NoDiskEncrypted", [](evidence::Claims& c) { c.disks[0].state = evidence::DiskState::kAbsent; },
                  "claims"},
        ClaimCase{"AnotherPolicy", [](evidence::Claims& c) { c.policy_digest[0] ^= std::byte{1}; }, "policy"},
        ClaimCase{"NoIommu", [](evidence::Claims& c) { c.iommu = evidence::Iommu::kNone; }, "iommu"},
        ClaimCase{"CounterBelowFloor", [](evidence::Claims& c) { c.counter_limit -= 1; }, "counter"}),
    [](const auto& row) { return row.param.name; });

TEST_F(Appraisal, AcceptsNoIommuIfTheBundleAllowsIt) {
    evidence::Claims claims = endpoint_->claims();
    claims.iommu = evidence::Iommu::kNone;
    Expectations expected = expectations();
    expected.policy.references.front().bundle.flags |= static_cast<std::uint32_t>(policies::BundleFlag::kAllowNoIommu);
    expect_only(judge(quoted(claims), expected), "iommu", "the policy requires one");
    expected.policy.require_iommu = false;
    EXPECT_TRUE(judge(quoted(claims), expected).accepted());
}

// --- the vault

TEST_F(Appraisal, RemembersTheVaultOfTheFirstAcceptedEvidence) {
    const Verdict first = judge(*good_);
    ASSERT_TRUE(first.tpm && first.accepted());
    ASSERT_EQ(first.tpm->vaults.size(), 1u);
    EXPECT_EQ(first.tpm->vaults[0].sealed_name, endpoint_->claims().disks[0].sealed_name);
    EXPECT_EQ(first.tpm->vaults[0].generation, 5u);
    evidence::Claims claims = endpoint_->claims();
    claims.disks[0].generation = 6;
    const Verdict second = judge(quoted(claims), expectations(), *first.tpm);
    EXPECT_TRUE(second.accepted());
    EXPECT_EQ(second.tpm->vaults.at(0).generation, 6u);
}

TEST_F(Appraisal, RejectsAVaultThatWasRolledBack) {
    TpmState known = *judge(*good_).tpm;
    known.vaults[0].generation = 6;
    const Verdict verdict = judge(*good_, expectations(), known);
    expect_only(verdict, "vault", "from generation 6 to 5");
    EXPECT_EQ(verdict.tpm->vaults.at(0).generation, 6u);
}

TEST_F(Appraisal, RejectsAVaultThatSomebodyElseSealedToTheSamePolicy) {
    const TpmState known = *judge(*good_).tpm;
    evidence::Claims claims = endpoint_->claims();
    claims.disks[0].sealed_name[20] ^= std::byte{1};
    claims.disks[0].generation = 100;
    const Verdict verdict = judge(quoted(claims), expectations(), known);
    expect_only(verdict, "vault", "not the endpoint's");
    ASSERT_EQ(verdict.tpm->vaults.size(), 1u) << "what was rejected is not remembered";
    EXPECT_EQ(verdict.tpm->vaults[0].sealed_name, endpoint_->claims().disks[0].sealed_name);
}

TEST_F(Appraisal, RejectsAFurtherDiskWithAVaultOfItsOwn) {
    const TpmState known = *judge(*good_).tpm;
    evidence::Claims claims = endpoint_->claims();
    claims.disk_count = 2;
    claims.disks[1].state = evidence::DiskState::kEncrypted;
    claims.disks[1].sealed_name.fill(std::byte{0x0c});
    expect_only(judge(quoted(claims), expectations(), known), "vault", "not the endpoint's");
    claims.disks[1].sealed_name.fill(std::byte{0});
    EXPECT_TRUE(judge(quoted(claims), expectations(), known).accepted())
        << "a member, for which the boot vault vouches";
    claims.disks[1].state = evidence::DiskState::kAbsent;
    EXPECT_TRUE(judge(quoted(claims), expectations(), known).accepted()) << "a disk without a vault";
}

TEST_F(Appraisal, EvidenceThatIsRejectedPinsNoVault) {
    Expectations expected = expectations();
    expected.policy.counter_floor = endpoint_->claims().counter_limit + 1;
    const Verdict verdict = judge(*good_, expected);
    EXPECT_FALSE(verdict.accepted());
    ASSERT_TRUE(verdict.tpm);
    EXPECT_TRUE(verdict.tpm->vaults.empty());
}

// --- another boot: not capped

TEST(VerifyUncapped, RejectsALaunchThatWasNotCapped) {
    test::Endpoint endpoint;
    endpoint.provision();
    endpoint.launch();
    volume::Header header;
    volume::Keys keys;
    endpoint.open_vault(header, keys);
    const EvidenceFiles files = endpoint.attest(header, endpoint.claims(), kNonce, endpoint.selections());
    Policy policy;
    policy.references.push_back(policies::predict_directory(endpoint.appliance.files()));
    const AttestationKey key(host::expect(parse_sized(files.key, "ak.pub"), "ak.pub"));
    const Verdict verdict = appraise({.source = Source::kHypervisor,
                                      .quote = files.quote,
                                      .signature = files.signature,
                                      .claims = files.claims,
                                      .event_log = files.event_log,
                                      .pcr_values = {}},
                                     key, {}, kNonce, &policy);
    EXPECT_FALSE(verdict.accepted());
    for (const Finding& finding : verdict.findings) {
        EXPECT_EQ(finding.ok, finding.rule != "events") << finding.rule << ": " << finding.detail;
        if (!finding.ok) {
            EXPECT_NE(finding.detail.find("no event for the cap"), std::string::npos);
        }
    }
}

// --- the tool

class Attest : public Appraisal {
  protected:
    static std::string directory(const EvidenceFiles& files) {
        const std::string path = endpoint_->appliance.path("evidence");
        std::filesystem::create_directories(path);
        files.write_to(path);
        return path;
    }
    static std::vector<std::string> arguments(const std::string& evidence) {
        return {"verify", evidence, "--nonce", host::hex(kNonce), "--ak", endpoint_->attestation_key(), "--json"};
    }
    static Outcome run_with_image(const EvidenceFiles& files) {
        std::vector<std::string> all = arguments(directory(files));
        all.insert(all.end(), {"--image", endpoint_->appliance.image()});
        return test::run_tool("attest", all);
    }
};

TEST_F(Attest, AcceptsByTheImage) {
    const Outcome outcome = run_with_image(*good_);
    EXPECT_EQ(outcome.status, 0) << outcome.output << outcome.errors;
    EXPECT_EQ(json::parse(outcome.output)["accepted"], true);
    EXPECT_EQ(json::parse(outcome.output)["claims"]["launch"], "SKINIT");
    EXPECT_EQ(json::parse(outcome.output)["vault_pinned"], true);
    EXPECT_EQ(json::parse(outcome.output)["vault_pinned_by"], "image");
}

TEST_F(Attest, JudgesByThePinnedVault) {
    std::vector<std::string> all = arguments(directory(*good_));
    all.insert(all.end(), {"--image", endpoint_->appliance.image(), "--vault-id"});
    all.push_back(host::hex(endpoint_->claims().vault_id));
    EXPECT_EQ(json::parse(test::run_tool("attest", all).output)["vault_pinned_by"], "policy");
    all.back()[0] = all.back()[0] == '0' ? '1' : '0';
    const Outcome other = test::run_tool("attest", all);
    EXPECT_EQ(other.status, 1);
    EXPECT_NE(other.output.find("is not one that the policy pins"), std::string::npos);
    all.back() = "00";
    EXPECT_EQ(test::run_tool("attest", all).status, 2);
    all.erase(all.end() - 2, all.end());
    all.insert(all.end(), {"--record", "x"});
    EXPECT_EQ(test::run_tool("attest", all).status, 2) << "a record without the key that signed it";
}

TEST_F(Attest, AcceptsByThePredictionOfTheImage) {
    const Outcome prediction = test::run_tool("policyctl", {"predict", endpoint_->appliance.image(), "--json"});
    const std::string expected = endpoint_->appliance.path("expected.json");
    host::replace_file(expected, host::text_bytes(prediction.output));
    const std::string nonce = endpoint_->appliance.path("nonce");
    host::replace_file(nonce, kNonce);
    EXPECT_EQ(test::run_tool("attest", {"verify", directory(*good_), "--nonce-file", nonce, "--ak",
                                        endpoint_->attestation_key(), "--expected", expected})
                  .status,
              0);
    host::replace_file(expected, literal_bytes("{}"));
    EXPECT_EQ(test::run_tool("attest", {"verify", directory(*good_), "--nonce-file", nonce, "--ak",
                                        endpoint_->attestation_key(), "--expected", expected})
                  .status,
              3);
}

TEST_F(Attest, AnswersNoWith1AndNamesTheRule) {
    EvidenceFiles files = *good_;
    files.claims[40] ^= std::byte{1};
    const Outcome outcome = run_with_image(files);
    EXPECT_EQ(outcome.status, 1);
    const json verdict = json::parse(outcome.output);
    EXPECT_EQ(verdict["accepted"], false);
    const auto rule = std::find_if(verdict["rules"].begin(), verdict["rules"].end(),
                                   [](const json& one) { return one["rule"] == "nonce"; });
    EXPECT_EQ((*rule)["ok"], false);
}

TEST_F(Attest, AnswersMissingInputWith3AndWrongUsageWith2) {
    std::vector<std::string> all = arguments(endpoint_->appliance.path("nowhere"));
    EXPECT_EQ(test::run_tool("attest", all).status, 2) << "no reference values";
    all.insert(all.end(), {"--image", endpoint_->appliance.image()});
    EXPECT_EQ(test::run_tool("attest", all).status, 3) << "no evidence";
    EXPECT_EQ(test::run_tool("attest", {"verify", directory(*good_), "--nonce", "xy", "--ak",
                                        endpoint_->attestation_key(), "--image", endpoint_->appliance.image()})
                  .status,
              2);
    EXPECT_EQ(test::run_tool("attest", {}).status, 2);
}

// --- policies: made, signed and applied by the tools

class AttestByPolicy : public Attest {
  protected:
    static std::string path(const char* name) { return endpoint_->appliance.path(name); }
    // Makes a policy of these arguments and signs it.
    static Outcome make_policy(std::vector<std::string> arguments, const std::string& key) {
        arguments.insert(arguments.begin(),
                         {"attestation-policy", "--name", "fleet", "--version", "4", "-o", path("policy.json")});
        const Outcome made = test::run_tool("policyctl", arguments);
        if (made.status != 0) return made;
        return test::run_tool("policyctl",
                              {"sign-attestation-policy", path("policy.json"), "--key", key, "-o", path("policy.jws")});
    }
    // The policy that was made last.
    static json written() {
        const Buffer text = host::read_file(path("policy.json"), 1 << 20);
        return json::parse(std::string(reinterpret_cast<const char*>(text.data()), text.size()));
    }
    static Outcome verify(const std::string& evidence, const std::string& ak, const std::string& authority) {
        return test::run_tool("attest", {"verify", evidence, "--nonce", host::hex(kNonce), "--ak", ak, "--policy",
                                         path("policy.jws"), "--authority", authority, "--json"});
    }
};

TEST_F(AttestByPolicy, AcceptsUnderTheAuthoritysSignatureOnly) {
    const Outcome made =
        make_policy({"--image", endpoint_->appliance.image()}, endpoint_->appliance.authority_private());
    ASSERT_EQ(made.status, 0) << made.errors;
    const std::string evidence = directory(*good_);
    const Outcome accepted = verify(evidence, endpoint_->attestation_key(), endpoint_->appliance.authority_public());
    EXPECT_EQ(accepted.status, 0) << accepted.output << accepted.errors;
    EXPECT_EQ(json::parse(accepted.output)["policy"], "fleet");
    EXPECT_EQ(json::parse(accepted.output)["policy_version"], 4);
    EXPECT_EQ(json::parse(accepted.output)["events"].size(), 11u);

    test::make_key("EC", path("stranger.pem"));
    ASSERT_EQ(make_policy({"--image", endpoint_->appliance.image()}, path("stranger.pem")).status, 0);
    EXPECT_EQ(verify(evidence, endpoint_->attestation_key(), endpoint_->appliance.authority_public()).status, 3);
}

TEST_F(AttestByPolicy, AppliesWhatItDemands) {
    const std::string evidence = directory(*good_);
    ASSERT_EQ(make_policy({"--image", endpoint_->appliance.image(), "--minimum-hypervisor", "9.0.0", "--counter-floor",
                           "1000000"},
                          endpoint_->appliance.authority_private())
                  .status,
              0);
    const Outcome refused = verify(evidence, endpoint_->attestation_key(), endpoint_->appliance.authority_public());
    EXPECT_EQ(refused.status, 1) << refused.errors;
    const json result = json::parse(refused.output);
    for (const json& rule : result["rules"]) {
        const bool demanded = rule["rule"] == "version" || rule["rule"] == "counter";
        EXPECT_EQ(rule["ok"], !demanded) << rule;
    }
}

TEST_F(AttestByPolicy, IsNotMadeWithoutAnyExpectation) {
    EXPECT_EQ(make_policy({}, endpoint_->appliance.authority_private()).status, 2);
    EXPECT_EQ(make_policy({"--pcr", "sha1:0=00"}, endpoint_->appliance.authority_private()).status, 3);
    EXPECT_EQ(make_policy({"--pcr", "7"}, endpoint_->appliance.authority_private()).status, 2);
    EXPECT_EQ(make_policy({"--image", endpoint_->appliance.image(), "--minimum-hypervisor", "new"},
                          endpoint_->appliance.authority_private())
                  .status,
              3);
}

TEST_F(Attest, SaysThatALogInAnothersFormatIsOfOneThatContradictsItself) {
    Buffer log = host::read_file(GATEHOUSE_TEST_DATA "/event_logs/ovmf.bin", 1 << 20);
    const std::string file = endpoint_->appliance.path("log");
    const auto write = [&] { host::replace_file(file, log); };
    write();
    const Outcome good = test::run_tool("attest", {"log", file, "--cel", "json"});
    EXPECT_EQ(good.status, 0);
    EXPECT_EQ(good.errors, "");
    // The data of an event, which its digest is not of then.
    const auto text = std::as_bytes(std::span(std::string_view("Calling EFI Application")));
    const auto at = std::ranges::search(log, text);
    ASSERT_FALSE(at.empty());
    at.front() = std::byte{'X'};
    write();
    const Outcome bad = test::run_tool("attest", {"log", file, "--cel", "json"});
    EXPECT_EQ(bad.status, 1);
    EXPECT_NE(bad.output, "");
    EXPECT_NE(bad.errors.find("not consistent"), std::string::npos) << bad.errors;
}

TEST_F(AttestByPolicy, SaysHowOldCrlsMayBeIfItIsTold) {
    const std::string value = "sha256:7=" + std::string(64, '0');
    ASSERT_EQ(make_policy({"--pcr", value}, endpoint_->appliance.authority_private()).status, 0);
    EXPECT_FALSE(written().contains("max_crl_age_days"));
    ASSERT_EQ(
        make_policy({"--pcr", value, "--max-crl-age-days", "30"}, endpoint_->appliance.authority_private()).status, 0);
    EXPECT_EQ(written()["max_crl_age_days"], 30);
}

TEST_F(AttestByPolicy, RefusesContradictionsIfItIsTold) {
    const std::string value = "sha256:7=" + std::string(64, '0');
    ASSERT_EQ(make_policy({"--pcr", value}, endpoint_->appliance.authority_private()).status, 0);
    EXPECT_FALSE(written().contains("refuse_contradictions"));
    ASSERT_EQ(make_policy({"--pcr", value, "--refuse-contradictions"}, endpoint_->appliance.authority_private()).status,
              0);
    EXPECT_EQ(written()["refuse_contradictions"], true);
    // Is for evidence of a TPM alone.
    const Outcome refused = make_policy({"--image", endpoint_->appliance.image(), "--refuse-contradictions"},
                                        endpoint_->appliance.authority_private());
    EXPECT_EQ(refused.status, 2);
    EXPECT_NE(refused.errors.find("--refuse-contradictions is for policies of PCR values"), std::string::npos);
    EXPECT_NE(test::run_tool("policyctl", {"attestation-policy", "--help"}).output.find("--refuse-contradictions"),
              std::string::npos);
}

// What stock tools make, judged here: a TPM's own attestation key and quote, by tpm2-tools.
TEST_F(AttestByPolicy, JudgesAQuoteThatTpm2ToolsMade) {
    test::SoftwareTpm device;
    device.disconnect();
    const std::string files = path("tpm");
    std::filesystem::create_directories(files);
    const auto tool = [&](std::vector<std::string> command) {
        command.insert(command.end(), {"-T", device.tcti()});
        (void)host::run_program(command, {}, 1 << 20);
        (void)host::run_program({"tpm2_flushcontext", "-t", "-T", device.tcti()}, {}, 1 << 20);
    };
    const Sha256Digest qualifying = evidence::qualifying_data(kNonce, {});
    tool({"tpm2_createek", "-G", "rsa", "-c", files + "/ek.ctx"});
    tool({"tpm2_createak", "-C", files + "/ek.ctx", "-c", files + "/ak.ctx", "-G", "rsa", "-g", "sha256", "-s",
          "rsassa", "-u", files + "/ak.pub", "-f", "tss"});
    tool({"tpm2_readpublic", "-c", files + "/ak.ctx", "-f", "pem", "-o", files + "/ak.pem"});
    tool({"tpm2_quote", "-c", files + "/ak.ctx", "-l", "sha256:0,7", "-q", host::hex(qualifying), "-m",
          files + "/quote.msg", "-s", files + "/quote.sig"});
    host::replace_file(files + "/pcrs.bin", Buffer(64));  // as they are before any extend
    const std::string zeros(64, '0');
    ASSERT_EQ(make_policy({"--pcr", "sha256:0=" + zeros, "--pcr", "sha256:7=" + zeros},
                          endpoint_->appliance.authority_private())
                  .status,
              0);
    const Outcome accepted = verify(files, files + "/ak.pem", endpoint_->appliance.authority_public());
    EXPECT_EQ(accepted.status, 0) << accepted.output << accepted.errors;
    ASSERT_EQ(
        make_policy({"--pcr", "sha256:7=" + std::string(64, '1')}, endpoint_->appliance.authority_private()).status, 0);
    EXPECT_EQ(verify(files, files + "/ak.pem", endpoint_->appliance.authority_public()).status, 1);
}

// What stock tools make of the same files.
TEST_F(Attest, GivesTpm2CheckquoteAQuoteThatItAccepts) {
    const std::string path = directory(*good_);
    const host::Buffer qualifying = [&] {
        const Sha256Digest digest = evidence::qualifying_data(kNonce, good_->claims);
        return Buffer(digest.begin(), digest.end());
    }();
    const std::vector<std::string> command{"tpm2_checkquote",    "-u", endpoint_->attestation_key(), "-m",
                                           path + "/quote.msg",  "-s", path + "/quote.sig",          "-q",
                                           host::hex(qualifying)};
    EXPECT_NO_THROW((void)host::run_program(command, {}, 1 << 16));
    std::vector<std::string> wrong = command;
    wrong.back()[0] = wrong.back()[0] == '0' ? '1' : '0';
    EXPECT_THROW((void)host::run_program(wrong, {}, 1 << 16), host::ToolError);
}

}  // namespace
}  // namespace gatehouse::verifier

#include "attestation/verifier/verify.hpp"

#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>

#include <algorithm>
#include <memory>

#include "keyvault/tool/authority.hpp"
#include "keyvault/tpm/templates.hpp"

namespace gatehouse::verifier {
namespace {

using evidence::Claims;
using evidence::Event;
using host::hex;
using policies::bank_name;
using policies::ExpectedEvent;

constexpr std::uint32_t kQuotedPcrs = (1u << evidence::kLaunchPcr) | (1u << evidence::kPayloadPcr);
constexpr std::array kPcrs{evidence::kLaunchPcr, evidence::kPayloadPcr};
constexpr std::size_t kMinNonce = 16;
constexpr std::size_t kMaxNonce = 64;

// A rule's outcome: what it found, or a Rejection that says why it does not hold.
struct Rejection : std::runtime_error {
    using std::runtime_error::runtime_error;
};
[[noreturn]] void reject(const std::string& why) { throw Rejection(why); }
void demand(bool holds, const std::string& why) {
    if (!holds) reject(why);
}
template <typename T>
T must(Result<T> result) {
    if (!result.ok()) reject(host::describe(result.failure()));
    if constexpr (!std::is_void_v<T>) return std::move(result.value());
}

// A Name of SHA-256 (Part 1, 16): 0x000b and a digest.
tpm::Name sha256_name(std::initializer_list<Bytes> parts) {
    tpm::Name name{std::byte{0x00}, std::byte{0x0b}};
    copy_bytes(MutableBytes(name).subspan(2), sha256(parts));
    return name;
}

bool ecdsa_holds(EVP_PKEY* key, const Sha256Digest& digest, const Signature& signature) {
    const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> numbers(ECDSA_SIG_new(), ECDSA_SIG_free);
    const auto number = [](Bytes bytes) {
        return BN_bin2bn(raw(bytes), static_cast<int>(bytes.size()), nullptr);
    };
    ECDSA_SIG_set0(numbers.get(), number(signature.r), number(signature.s));
    unsigned char* der = nullptr;
    const int size = i2d_ECDSA_SIG(numbers.get(), &der);
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(EVP_PKEY_CTX_new(key, nullptr),
                                                                              EVP_PKEY_CTX_free);
    const bool holds =
        size > 0 && context && EVP_PKEY_verify_init(context.get()) == 1 &&
        EVP_PKEY_CTX_set_signature_md(context.get(), EVP_sha256()) == 1 &&
        EVP_PKEY_verify(context.get(), der, static_cast<std::size_t>(size), raw(digest), digest.size()) == 1;
    OPENSSL_free(der);
    ERR_clear_error();
    return holds;
}

class Verification {
  public:
    Verification(const Evidence& evidence, const Expectations& expectations)
        : evidence_(evidence), expectations_(expectations) {}

    Verdict run() {
        rule("ak", &Verification::check_key);
        rule("quote", &Verification::check_quote);
        rule("signature", &Verification::check_signature);
        rule("signer", &Verification::check_signer);
        rule("nonce", &Verification::check_nonce);
        rule("selection", &Verification::check_selection);
        rule("log", &Verification::check_log);
        rule("events", &Verification::check_events);
        rule("claims", &Verification::check_claims);
        rule("policy", &Verification::check_policy);
        rule("iommu", &Verification::check_iommu);
        rule("counter", &Verification::check_counter);
        return std::move(verdict_);
    }

  private:
    void rule(const char* name, std::string (Verification::*check)()) {
        Finding finding{.rule = name, .ok = false, .detail = {}};
        try {
            finding.detail = (this->*check)();
            finding.ok = true;
        } catch (const std::exception& why) {  // Rejection; whatever else goes wrong is no proof either
            finding.detail = why.what();
        }
        verdict_.findings.push_back(std::move(finding));
    }

    [[nodiscard]] const Attestation& attestation() const {
        if (!verdict_.attestation) reject("no quote to judge");
        return *verdict_.attestation;
    }
    [[nodiscard]] const Claims& claims() const {
        if (!verdict_.claims) reject("no claims to judge");
        return *verdict_.claims;
    }

    std::string check_key() {
        Reader reader(evidence_.key, Endian::kBig);
        public_area_ = reader.sized();
        must(reader.finished("attestation key"));
        const PublicArea key = must(parse_public_area(public_area_));
        const tpm::PublicArea expected = tpm::attestation_key_template();
        const Bytes fixed = expected.bytes().first(expected.size() - 4);  // it ends with an empty point
        demand(public_area_.size() > fixed.size() && equal_bytes(public_area_.first(fixed.size()), fixed),
               "attestation key: not a restricted ECDSA key of locality 2");
        host::Key parsed = host::ecc_key(key.x, key.y);
        demand(EVP_PKEY_eq(parsed.get(), expectations_.pinned_key) == 1,
               "the evidence's key is not the pinned attestation key");
        key_ = std::move(parsed);
        return hex(sha256_name({public_area_}));
    }

    std::string check_quote() {
        verdict_.attestation = must(parse_attestation(evidence_.quote));
        return "reset " + std::to_string(attestation().reset_count) + ", restart " +
               std::to_string(attestation().restart_count);
    }

    std::string check_signature() {
        const Signature signature = must(parse_signature(evidence_.signature));
        demand(key_ != nullptr, "no key to check it with");
        demand(signature.scheme == Algorithm::kEcdsa && signature.hash == HashAlgorithm::kSha256,
               "not ECDSA with SHA-256");
        demand(ecdsa_holds(key_.get(), sha256(evidence_.quote), signature),
               "not made by the attestation key");
        return "ECDSA P-256, SHA-256";
    }

    // The qualified Name of a key is H(parent's qualified Name || its Name), a hierarchy's is its handle
    // (Part 1, 26.5): it binds the key to the pinned SRK of the owner hierarchy.
    std::string check_signer() {
        demand(key_ != nullptr, "no key to judge");
        std::array<std::byte, 4> owner{};
        store(owner.data(), std::uint32_t{TPM2_RH_OWNER}, Endian::kBig);
        const tpm::Name srk = sha256_name({owner, expectations_.reference.bundle.srk_name});
        const tpm::Name expected = sha256_name({srk, sha256_name({public_area_})});
        demand(equal_bytes(attestation().qualified_signer, expected),
               "the signing key is not a child of the SRK that the policy bundle pins");
        return "child of SRK " + hex(expectations_.reference.bundle.srk_name);
    }

    std::string check_nonce() {
        demand(expectations_.nonce.size() >= kMinNonce && expectations_.nonce.size() <= kMaxNonce,
               "the nonce must have 16 to 64 bytes");
        demand(equal_bytes(attestation().extra_data,
                           evidence::qualifying_data(expectations_.nonce, evidence_.claims)),
               "the quote was not made for this nonce and these claims");
        return hex(expectations_.nonce);
    }

    std::string check_selection() {
        std::string found;
        for (const Selection& selection : attestation().selections) {
            const std::string name = bank_name(selection.bank);
            demand(selection.pcrs == kQuotedPcrs,
                   "bank " + name + ": PCRs 17 and 18 are wanted, and no others");
            demand(found.find(name + " ") == std::string::npos, "bank " + name + " is quoted twice");
            found += name + " ";
        }
        demand(found.find("sha256 ") != std::string::npos, "the SHA-256 bank is not quoted");
        found.pop_back();
        return found;
    }

    std::string check_log() {
        // Values in the order of the quote (Part 3, 18.4): banks as selected, PCRs ascending.
        demand(!attestation().selections.empty(), "nothing is quoted");
        Hash digest(HashAlgorithm::kSha256);  // of the key's scheme
        for (const Selection& selection : attestation().selections) {
            for (const std::uint32_t pcr : kPcrs) {
                if ((selection.pcrs & (1u << pcr)) == 0) continue;
                digest.update(must(evidence::replay(evidence_.event_log, selection.bank, pcr)).bytes());
            }
        }
        if (!equal_bytes(digest.finish().bytes(), attestation().pcr_digest)) {
            reject("the event log does not replay to the quoted PCRs" + first_difference());
        }
        return std::to_string(evidence_.event_log.size()) + " bytes";
    }

    // For people: why a replay may have failed.
    [[nodiscard]] std::string first_difference() {
        try {
            (void)check_events();
        } catch (const std::exception& why) {
            return std::string("; ") + why.what();
        }
        return "; its events are those expected, so the PCRs hold something else";
    }

    std::string check_events() {
        auto reader = must(evidence::EventLogReader::open(evidence_.event_log));
        std::array<std::size_t, kPcrs.size()> next{};  // expected event of each PCR
        std::uint32_t count = 0;
        while (!reader.at_end()) {
            const Event event = must(reader.next());
            const std::string place = "event " + std::to_string(event.number) + " at offset " +
                                      std::to_string(event.offset) + " (PCR " + std::to_string(event.pcr) +
                                      "): ";
            const auto pcr = std::ranges::find(kPcrs, event.pcr);
            demand(pcr != kPcrs.end(), place + "extends a PCR that is not part of the launch");
            std::size_t& position = next[static_cast<std::size_t>(pcr - kPcrs.begin())];
            check_event(event, expected_event(event.pcr, position), reader.banks(), place);
            ++position;
            count = event.number;
        }
        for (std::size_t i = 0; i < kPcrs.size(); ++i) {
            if (const ExpectedEvent* const missing = expected_event(kPcrs[i], next[i])) {
                reject("PCR " + std::to_string(kPcrs[i]) + ": no event for the " + missing->name);
            }
        }
        return std::to_string(count) + " events as expected";
    }

    // The reference's event number `position` of a PCR; null past the end.
    [[nodiscard]] const ExpectedEvent* expected_event(std::uint32_t pcr, std::size_t position) const {
        for (const ExpectedEvent& event : expectations_.reference.events) {
            if (event.pcr == pcr && position-- == 0) return &event;
        }
        return nullptr;
    }

    static void check_event(const Event& event, const ExpectedEvent* expected,
                            const evidence::LogBanks& banks, const std::string& place) {
        if (expected == nullptr) reject(place + "one more than expected");
        const auto type =
            expected->tag == 0 ? evidence::EventType::kSeparator : evidence::EventType::kEventTag;
        demand(event.type == type, place + "not of the type of the " + expected->name);
        for (std::size_t i = 0; i < banks.count; ++i) {
            const Bytes digest = expected->digest(banks.algorithms[i]);
            if (digest.empty())
                continue;  // a bank that cannot be predicted cannot be quoted either: see check_log
            demand(equal_bytes(event.digests[i], digest),
                   place + bank_name(banks.algorithms[i]) + " digest is not that of the " + expected->name);
        }
    }

    std::string check_claims() {
        verdict_.claims = must(evidence::decode_claims(evidence_.claims));
        const auto has = [&](evidence::ClaimFlag flag) {
            return (claims().flags & static_cast<std::uint32_t>(flag)) != 0;
        };
        demand(claims().launch != evidence::Launch::kNone, "no dynamic launch");
        demand(has(evidence::ClaimFlag::kCapped), "PCRs 17 and 18 were not capped");
        demand(has(evidence::ClaimFlag::kVaultOpened), "the vault was not opened");
        const auto disks = std::span(claims().disks).first(claims().disk_count);
        demand(std::ranges::any_of(
                   disks, [](const auto& disk) { return disk.state == evidence::DiskState::kEncrypted; }),
               "no disk is encrypted");
        return std::to_string(claims().cpus) + " CPUs, " + std::to_string(disks.size()) + " disks";
    }

    std::string check_policy() {
        demand(equal_bytes(claims().policy_digest, expectations_.reference.bundle.digest),
               "the claimed policy bundle is another one");
        return hex(claims().policy_digest);
    }

    std::string check_iommu() {
        if (claims().iommu != evidence::Iommu::kNone) return "in use";
        demand(expectations_.reference.bundle.has(policies::BundleFlag::kAllowNoIommu),
               "no IOMMU: any device can read the disk key");
        return "none, as the policy bundle allows";
    }

    std::string check_counter() {
        demand(claims().counter_limit >= expectations_.counter_floor,
               "the approval's counter limit is " + std::to_string(claims().counter_limit) + ", the floor " +
                   std::to_string(expectations_.counter_floor));
        return "limit " + std::to_string(claims().counter_limit);
    }

    const Evidence& evidence_;
    const Expectations& expectations_;
    Verdict verdict_;
    Bytes public_area_;
    host::Key key_{nullptr, EVP_PKEY_free};
};

}  // namespace

bool Verdict::accepted() const {
    return !findings.empty() &&
           std::ranges::all_of(findings, [](const Finding& finding) { return finding.ok; });
}

Verdict verify(const Evidence& evidence, const Expectations& expectations) {
    return Verification(evidence, expectations).run();
}

}  // namespace gatehouse::verifier

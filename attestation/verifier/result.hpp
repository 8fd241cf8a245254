// The attestation result: an EAT (RFC 9711) in JSON with one EAR appraisal (draft-ietf-rats-ear) and its
// AR4SI trustworthiness vector (draft-ietf-rats-ar4si, section 2.3). What it looks like is in token.hpp;
// sign_jws() signs it.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

#include "attestation/verifier/finding.hpp"
#include "attestation/verifier/policy.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::verifier {

inline constexpr std::string_view kResultType = "eat+jwt";  // typ of the JWS
inline constexpr const char* kVerifierDeveloper = "tag:gatehouse,2026:verifier";

// Tiers of AR4SI; the value of a claim says which tier it is in.
enum class Tier : std::uint8_t { kNone, kAffirming, kWarning, kContraindicated };
[[nodiscard]] std::string_view name_of(Tier tier);  // "none", "affirming", "warning", "contraindicated"
// -1 to 1: none; 2 to 31, -2 to -32: affirming; 32 to 95, -33 to -96: warning; 96 to 127, -97 to -128:
// contraindicated.
[[nodiscard]] Tier tier_of(std::int8_t claim);

// Values that the draft enumerates, of the claims that this verifier makes. Negative: not of the standard.
namespace claim {
inline constexpr std::int8_t kNone = 0;     // no assertion: the claim is left out
inline constexpr std::int8_t kUnknown = 1;  // of the wrong kind, or cannot be evaluated
inline constexpr std::int8_t kForged = 99;  // any claim: cryptographic validation of the evidence has failed

inline constexpr std::int8_t kInstanceRecognized = 2;
inline constexpr std::int8_t kInstanceUntrustworthy = 96;
inline constexpr std::int8_t kInstanceUnrecognized = 97;

inline constexpr std::int8_t kConfigurationApproved = 2;
inline constexpr std::int8_t kConfigurationVulnerable = 32;
inline constexpr std::int8_t kConfigurationUnavailable = 36;  // elements of it that matter
inline constexpr std::int8_t kConfigurationUnsupportable = 96;

inline constexpr std::int8_t kExecutablesApproved = 2;      // during and after boot
inline constexpr std::int8_t kExecutablesApprovedBoot = 3;  // during boot
inline constexpr std::int8_t kExecutablesUnrecognized = 33;
inline constexpr std::int8_t kExecutablesContraindicated = 96;

inline constexpr std::int8_t kHardwareGenuine = 2;
inline constexpr std::int8_t kHardwareVulnerable = 32;
inline constexpr std::int8_t kHardwareContraindicated = 96;
inline constexpr std::int8_t kHardwareUnrecognized = 97;

inline constexpr std::int8_t kStorageKeysInHardware = 2;
// The standard's 2 asks for keys that are never visible outside of an HSM or a TEE's hardware, its 32 is for
// keys without any hardware. Here the TPM releases the key to the measured hypervisor, which holds it in
// memory.
inline constexpr std::int8_t kStorageKeysInHypervisor = -2;
inline constexpr std::int8_t kStoragePlain = 96;

inline constexpr std::int8_t kRuntimeEncrypted = 2;
inline constexpr std::int8_t kRuntimeIsolated = 32;
inline constexpr std::int8_t kRuntimeVisible = 96;
}  // namespace claim

struct TrustVector {
    std::int8_t instance_identity = claim::kNone;
    std::int8_t configuration = claim::kNone;
    std::int8_t executables = claim::kNone;
    std::int8_t hardware = claim::kNone;
    std::int8_t storage_opaque = claim::kNone;
    std::int8_t runtime_opaque = claim::kNone;
    [[nodiscard]] Tier worst() const;
};

// The vector that the findings of an appraisal make (rules of appraisal.hpp; of the key, "ak pinned": it is the one that was
// asked for; of the server, "endorsement" and "crl age"). A claim affirms only what every rule behind it says, and a rule
// that was not judged says nothing. Of evidence by a TPM alone nothing is claimed of storage and configuration, and of the
// executables that they are approved only if the policy expects the PCRs of all code, 0, 2 and 4 in one bank, and takes for
// none of them the value of one into which nothing was measured. `policy`: null if there is none. `endorsed`: the EK's certificate was accepted; without, nothing is claimed of the hardware. The memory's
// opacity is never claimed: the hypervisor's is closed to the guest, but not encrypted, and the standard's value for that is
// a warning.
[[nodiscard]] TrustVector trust_vector(const std::vector<Finding>& findings, Source source, const Policy* policy,
                                       bool endorsed);

struct ResultFacts {
    std::string issuer;
    std::time_t issued = 0;
    std::time_t expires = 0;  // the lease's end
    Sha256Digest ek_hash{};   // endorsement_hash(): the endpoint's UEID is 0x01 (random type) and this
    Bytes nonce;
    Tier status = Tier::kNone;  // given out no better than the vector's worst
    TrustVector vector;
    std::string policy_id;    // "name:version:address"; empty if no policy was applied
    std::string_view source;  // "hypervisor", "tpm"
    const std::vector<Finding>* findings = nullptr;
    Coverage coverage;
};
// One line of JSON. Text of an endpoint's that is not UTF-8 is given out with replacement characters.
[[nodiscard]] std::string make_result(const ResultFacts& facts);

}  // namespace gatehouse::verifier

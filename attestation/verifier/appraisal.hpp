// The appraisal of one attestation of an enrolled endpoint. No I/O, no clock of its own; deny by default.
//
//   rule       holds if
//   quote      TPMS_ATTEST, made by a TPM, of type quote
//   ak         the enrolled key is fit for evidence of this source (check_attestation_key())
//   signature  the enrolled key's over the quote
//   signer     the quote names the enrolled key: qualified name as at enrollment (the first quote fixes
//              it), and a child of the SRK where the policy's reference pins that
//   nonce      qualifying data is evidence::qualifying_data() of nonce and claims (or see Evidence::bare_nonce)
//   clock      clock, resetCount and restartCount have not gone back since the last authentic quote
//   firmware   firmwareVersion as the policy lists it, or as at enrollment
//   source     the evidence is of the policy's kind
//   reference  there is a policy, and it expects something
//   selection  source hypervisor: PCRs 17, 18 and 19 of SHA-256, and exactly these in any other bank;
//              source tpm: all that the policy expects
//   log        well-formed and replays to the quoted digest, PCR 0 from any start that there is (start_localities()); source tpm: the values sent are those
//              quoted, and the log, which may be empty, replays to those of PCRs 0 to 7
//   events     source hypervisor: PCRs 17 and 18 as one of the references has them with the claimed vault's identity, in
//              order; PCR 19 the machine, ACPI tables only if the claims say that they are the machine's; all three capped;
//              source tpm: an event whose digest is not its data's is named, and neither believed nor counted: some
//              firmware is so, and who lies changes its type, too. It refuses the evidence if the policy says so
//              (refuse_contradictions), or if it is of a launch's PCR (17 to 22)
//   pcrs       source tpm: each PCR of the policy has one of its values
//   claims, policy, iommu, counter, version
//              source hypervisor: what the hypervisor states (evidence/claims.hpp)
//   vault id   source hypervisor: PCR 18 has the identity of the claimed vault
//   vault pin  source hypervisor: bundle or record pin the vault, unless the policy allows that nobody does, and it is
//              the one that the policy lists, the reference's bundle pins and was first accepted, as far as they say
//   machine    source hypervisor: PCR 19 has the claimed machine facts, which are those of an approved model and above
//              the policy's minimums; without models, those that were first accepted
//   acpi       source hypervisor: ACPI as policy and bundle say; each table of the machine's is an approved model's
//   vault      source hypervisor: each encrypted disk's vault has the sealed Name of one in the first
//              evidence that was accepted, and its generation has not gone back since the last that was
//
// Each rule is judged even if an earlier one failed, as far as it can be; one that cannot be is failed.
//
// To resetCount, restartCount and firmwareVersion a key of the owner hierarchy adds numbers of its own,
// constant for the key, modulo their width (Part 2, 10.12.12): only differences mean something.
#pragma once

#include <memory>
#include <optional>

#include "attestation/evidence/claims.hpp"
#include "attestation/verifier/finding.hpp"
#include "attestation/verifier/policy.hpp"
#include "attestation/verifier/tpm_structures.hpp"

struct evp_pkey_st;  // EVP_PKEY

namespace gatehouse::verifier {

// All hostile.
struct Evidence {
    Source source = Source::kHypervisor;
    Bytes quote;       // TPMS_ATTEST
    Bytes signature;   // TPMT_SIGNATURE
    Bytes claims;      // evidence/claims.hpp; empty for Source::kTpm
    Bytes event_log;   // the launch's (kHypervisor), or the firmware's (kTpm); may be empty for kTpm
    Bytes pcr_values;  // kTpm: the quoted PCRs' values one after the other, in the order of the quote's
                       // selections
    // kTpm: whether the quote may also be over SHA-256 of the nonce alone, as agents of older releases made it. For evidence
    // that somebody looks at by hand; an agent that is enrolled makes it anew.
    bool bare_nonce = false;
};

// A vault that was accepted: whose secret it is, by the Name of the sealed object, and its age. A member has no Name of its
// own (zeros), and is known by its disk: the boot vault vouches for it.
struct VaultState {
    decltype(evidence::DiskClaim::sealed_name) sealed_name{};
    std::uint64_t generation = 0;
    decltype(evidence::DiskClaim::guid) disk{};
};

// Whose endpoint it is and what machine, by the first evidence that was accepted.
struct EndpointIdentity {
    Sha256Digest vault_id{};
    evidence::VaultPin vault_pin = evidence::VaultPin::kNone;
    evidence::Acpi acpi = evidence::Acpi::kMinimal;
    evidence::MachineFacts machine{};  // where the policy has approved another one since: that
};

// What the verifier remembers of an endpoint's TPM; given back updated.
struct TpmState {
    Buffer qualified_signer;  // empty before the first quote
    std::uint64_t clock = 0;  // milliseconds
    // As quoted: with the key's own offset.
    std::uint32_t reset_count = 0;
    std::uint32_t restart_count = 0;
    std::uint64_t firmware_version = 0;
    // Of the first evidence that was accepted, with the generations of the last; empty before. The same
    // policy can be sealed to by anybody: only this tells the endpoint's own vault from another.
    std::vector<VaultState> vaults{};
    std::optional<EndpointIdentity> identity{};
};

// The enrolled attestation key, ready for use.
class AttestationKey;

struct Verdict {
    std::vector<Finding> findings;
    Coverage coverage;
    std::vector<std::string> quirks;  // of the log: named, never fatal by themselves
    std::string policy;               // name of the policy that was applied
    std::uint64_t policy_version = 0;
    std::optional<TpmState> tpm;  // to be remembered: only if quote, signature, signer, nonce, clock hold
    std::optional<evidence::Claims> claims;
    // Who told this verifier which vault is the endpoint's: "policy", "image", "enrollment"; empty: nobody, so that the
    // evidence shows that some vault was opened, not whose.
    std::string vault_pinned_by;
    // ACPI tables that the guest was given, with those of the approved model that it lacks (`logged` false).
    struct TableView {
        std::string name;
        bool ok;
        bool logged;
    };
    std::vector<TableView> tables;
    // Of SHA-256: PCR, expected (empty if the policy has none), found (by replay or as sent, matching the
    // quote).
    struct PcrView {
        std::uint32_t pcr;
        std::string expected;
        std::string found;
    };
    std::vector<PcrView> pcrs;
    // The log, for people; `ok` is false for the events that do not belong.
    struct EventView {
        std::size_t offset;
        std::uint32_t number;
        std::uint32_t pcr;
        std::uint32_t type;
        std::string name;
        std::string digest;
        // What of its name the quote vouches for: "as logged" (all of it), "value alone" (of a variable, whose name may be
        // any), "elsewhere" (nothing: what was hashed is not in the log), "differs" (it says something else, and is not
        // shown), "nothing" (EV_NO_ACTION), "not quoted". Of a launch: "as expected" (digests, type and name are the
        // reference's), or else "elsewhere" or "not quoted".
        std::string hashed;
        bool ok;
    };
    std::vector<EventView> events;  // filled if `with_views`

    [[nodiscard]] bool accepted() const { return all_hold(findings); }
};

// `policy` null: nothing is expected, so nothing is accepted, but the evidence is read all the same.
// `with_views` fills pcrs and events of a verdict that accepts, too (one that rejects always has them).
[[nodiscard]] Verdict appraise(const Evidence& evidence, const AttestationKey& key, const TpmState& known, Bytes nonce,
                               const Policy* policy, bool with_views = false);

// The attestation key by its TPMT_PUBLIC: three findings. Rules "ak type" (ECC P-256 ECDSA/SHA-256,
// P-384/SHA-384, RSA-2048+ RSASSA or RSAPSS; no Name by SHA-1), "ak attributes" (fixedTPM, fixedParent,
// sensitiveDataOrigin, restricted, sign, !decrypt), "ak policy" (kHypervisor: locality 2 and not usable with
// an authorization value; kTpm: any).
[[nodiscard]] std::vector<Finding> check_attestation_key(Bytes public_area, Source source);

class AttestationKey {
  public:
    // ToolError if it is not a public area that can be used at all.
    explicit AttestationKey(Bytes public_area);
    ~AttestationKey();
    AttestationKey(AttestationKey&&) noexcept;
    AttestationKey& operator=(AttestationKey&&) noexcept;
    [[nodiscard]] Bytes name() const;                                 // nameAlg || digest
    [[nodiscard]] bool verify(Bytes message, Bytes signature) const;  // TPMT_SIGNATURE
    // The same, in words: empty if the signature holds.
    [[nodiscard]] std::string why_not(Bytes message, const Signature& signature) const;
    // Of the scheme: what quotes by this key digest their PCRs with.
    [[nodiscard]] HashAlgorithm hash() const;
    // What is wrong with the key for evidence of a source, in words; empty if nothing.
    [[nodiscard]] const std::string& unfit_for(Source source) const;
    // Whether this is the same public key.
    [[nodiscard]] bool is_key(const evp_pkey_st* other) const;

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace gatehouse::verifier

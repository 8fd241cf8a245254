// Attestation policies: what an endpoint must show. JSON, signed by an authority that the server's operator
// trusts.
//
//   {"gatehouse_attestation_policy": 1,
//    "name": "laptops",               1 to 64 of [a-z0-9._-]
//    "version": 7,                    rises with each issue of the same name
//    "source": "hypervisor",          or "tpm": evidence by a TPM alone, nothing vouches for who asked it
//    "references": [PREDICTION...],   source hypervisor: what `policyctl predict --json` printed, one for
//                                     each acceptable image; the evidence must match one of them whole
//    "pcrs": {"sha256": {"0": ["hex"...], ...}},  source tpm: acceptable values of each PCR; sha256, sha384
//                                     or sha512
//    "refuse_contradictions": true,  source tpm: whether an event of the log whose digest is not its data's refuses the
//                                     evidence; default false: it is named, and what it says counts for nothing. Finds
//                                     firmware that contradicts itself, and nobody who lies: types are in no digest
//    "storage_root": "own",           source hypervisor: "pinned" (default): the SRK that the reference's
//    bundle pins;
//                                     "own": each endpoint's own SRK, the bundle being the reference's in all
//                                     else, so that one reference serves all endpoints with the same image
//    "counter_floor": 3,              least counter limit of the approval that the boot used
//    "minimum_hypervisor": "0.1.0",
//    "require_iommu": true,           default true: the bundle's own permission does not suffice
//    "tpm_firmware": ["hex"...],      acceptable firmwareVersion (16 hex digits) as the endpoint quotes it;
//                                     empty: it must not change after enrollment
//    "vault": {                       source hypervisor: whose vault it must be
//      "ids": ["hex"...],             acceptable vault ids; none: that which the reference's bundle pins, or that was
//                                     first accepted
//      "allow_unpinned": false},      whether a boot is accepted whose vault neither the bundle nor a record pins
//    "machine": {                     source hypervisor: what kind of machine it must be
//      "models": [MODEL...],          what `policyctl machine learn` wrote, one for each approved model; none: the machine
//                                     must stay as it was first accepted
//      "minimum_microcode": {"0x00a20f10": "0x0a20102b"},   oldest level for each processor signature (CPUID 1 EAX);
//                                     if there are any, no other processor is accepted
//      "smm_locked": false,           whether SMM must be locked
//      "minimum_iommus": 1},
//    "acpi": "minimal",               source hypervisor, "minimal" or "machine": whose ACPI tables the guest may have;
//                                     default: as the reference's bundle says. The machine's own are accepted only if
//                                     each is one of an approved model's
//    "max_crl_age_days": 30,          how old the CRLs may be that the EK certificate's path depends on, by their thisUpdate,
//                                     1 to 3,650; one must be for each certificate below the root, and none past its
//                                     nextUpdate. Default: as long as nothing revokes it, their age is of no account
//    "lease_s": 900}                  how long a good verdict stands, 60 to 86,400
//
// All but the first four may lack. An unknown member is an error, as is one that is there twice, or one that
// demands what evidence of the policy's source does not show: a rule that is not applied must not be passed
// over. A policy without references and without PCRs is well-formed, and accepts nothing.
//
// A signed policy is a JWS in compact form, ES256, header {"alg":"ES256","typ":"gatehouse-policy+jws"},
// payload as above.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "attestation/evidence/claims.hpp"
#include "policies/prediction/machine_model.hpp"
#include "policies/prediction/predict.hpp"
#include "policies/prediction/show.hpp"

struct evp_pkey_st;  // EVP_PKEY

namespace gatehouse::verifier {

using host::Buffer;

enum class Source : std::uint8_t { kHypervisor, kTpm };
[[nodiscard]] std::string source_name(Source source);  // "hypervisor", "tpm"

struct Policy {
    std::string name;
    std::uint64_t version = 0;
    Source source = Source::kHypervisor;
    std::vector<policies::Prediction> references;
    std::map<HashAlgorithm, std::map<std::uint32_t, std::vector<Digest>>> pcrs;
    bool own_storage_root = false;
    std::uint64_t counter_floor = 0;
    std::uint32_t minimum_hypervisor = 0;  // as in claims
    bool require_iommu = true;
    std::vector<std::uint64_t> tpm_firmware;
    std::vector<Sha256Digest> vault_ids;
    bool allow_unpinned_vault = false;
    std::vector<policies::MachineModel> machine_models;
    std::map<std::uint32_t, std::uint32_t> minimum_microcode;  // by processor signature
    bool require_smm_lock = false;
    std::uint32_t minimum_iommus = 0;
    std::optional<evidence::Acpi> acpi;
    bool refuse_contradictions = false;
    std::uint32_t max_crl_age_days = 0;  // 0: of no account
    std::uint32_t lease_s = 900;
};

// ToolError naming the member that is wrong.
[[nodiscard]] Policy parse_policy(std::string_view from);

// SHA-256 of the payload, hex: a policy's address.
[[nodiscard]] std::string policy_address(std::string_view json);

// The payload of a signed policy if one of `authorities` (public keys, P-256) signed it; ToolError naming
// what is wrong.
[[nodiscard]] std::string verify_signed_policy(std::string_view jws, std::span<const evp_pkey_st* const> authorities);
[[nodiscard]] std::string sign_policy(std::string_view json, evp_pkey_st* authority);

}  // namespace gatehouse::verifier

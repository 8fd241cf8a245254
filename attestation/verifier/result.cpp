#include "attestation/verifier/result.hpp"

#include <nlohmann/json.hpp>

#include "attestation/verifier/quick_hash.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::verifier {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kProfile = "tag:gatehouse,2026:result";
constexpr std::byte kUeidRandom{0x01};  // RFC 9711, section 4.2.1: a type byte, then 16, 24 or 32 bytes

bool fails(const std::vector<Finding>& findings, std::initializer_list<std::string_view> rules) {
    return std::ranges::any_of(findings, [&](const Finding& finding) {
        return !finding.ok && std::ranges::find(rules, std::string_view(finding.rule)) != rules.end();
    });
}

bool has(const std::vector<Finding>& findings, std::string_view rule) {
    return std::ranges::any_of(findings, [&](const Finding& finding) { return finding.rule == rule; });
}

// What was not judged does not hold.
bool hold(const std::vector<Finding>& findings, std::initializer_list<std::string_view> rules) {
    return !fails(findings, rules) &&
           std::ranges::all_of(rules, [&](std::string_view rule) { return has(findings, rule); });
}

// PCRs of code: firmware, option ROMs, boot loaders (TCG PC Client Platform Firmware Profile, section 2.3.4).
constexpr std::array<std::uint32_t, 3> kBootCode{0, 2, 4};

// What a PCR of the firmware starts with: zeros, or the locality of the start in the last byte; ones if it cannot be used.
bool is_start_value(const Digest& value) {
    const Bytes all = value.bytes();
    const auto is_all = [](Bytes bytes, std::byte what) {
        return std::ranges::all_of(bytes, [what](std::byte one) { return one == what; });
    };
    return all.empty() || is_all(all, std::byte{0xff}) ||
           (is_all(all.first(all.size() - 1), std::byte{0}) && all.back() <= std::byte{4});
}

// What a PCR may hold of a firmware that measured no more than the separator before the boot: zeros or, as some have it, ones
// (TCG PC Client Platform Firmware Profile, section 10.4.1, EV_SEPARATOR).
std::vector<Digest> separators_alone() {
    constexpr std::array<std::byte, 4> kZeros{},
        kOnes{std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}};
    std::vector<Digest> values;
    for (const HashAlgorithm bank : policies::kPredictedBanks) {
        Digest start{.algorithm = bank};
        for (std::uint8_t locality = 0; locality <= 4; ++locality) {
            start.storage[digest_size(bank) - 1] = std::byte{locality};
            for (const auto& separator : {kZeros, kOnes})
                values.push_back(quick_hash(bank, {start.bytes(), quick_hash(bank, {separator}).bytes()}));
        }
    }
    return values;
}

bool shows_no_code(const Digest& value) {
    static const std::vector<Digest> kSeparators = separators_alone();
    return is_start_value(value) || std::ranges::any_of(kSeparators, [&value](const Digest& one) {
               return equal_bytes(one.bytes(), value.bytes());
           });
}

// No value that it takes may be of a PCR into which no code was measured.
bool expects_boot_code(const Policy* policy) {
    return policy != nullptr && std::ranges::any_of(policy->pcrs, [](const auto& bank) {
               return std::ranges::all_of(kBootCode, [&](std::uint32_t pcr) {
                   const auto accepted = bank.second.find(pcr);
                   return accepted != bank.second.end() && std::ranges::none_of(accepted->second, shows_no_code);
               });
           });
}

void put(Json& vector, const char* name, std::int8_t value) {
    if (value != claim::kNone) vector[name] = value;
}

Json vector_json(const TrustVector& vector) {
    Json json = Json::object();
    put(json, "instance-identity", vector.instance_identity);
    put(json, "configuration", vector.configuration);
    put(json, "executables", vector.executables);
    put(json, "hardware", vector.hardware);
    put(json, "storage-opaque", vector.storage_opaque);
    put(json, "runtime-opaque", vector.runtime_opaque);
    return json;
}

}  // namespace

std::string_view name_of(Tier tier) {
    switch (tier) {
        case Tier::kAffirming: return "affirming";
        case Tier::kWarning: return "warning";
        case Tier::kContraindicated: return "contraindicated";
        case Tier::kNone: break;
    }
    return "none";
}

Tier tier_of(std::int8_t claim) {
    if (claim >= -1 && claim <= 1) return Tier::kNone;
    if (claim >= -32 && claim < 32) return Tier::kAffirming;
    if (claim >= -96 && claim < 96) return Tier::kWarning;
    return Tier::kContraindicated;
}

Tier TrustVector::worst() const {
    Tier worst = Tier::kNone;
    for (const auto value : {instance_identity, configuration, executables, hardware, storage_opaque, runtime_opaque}) {
        worst = std::max(worst, tier_of(value));
    }
    return worst;
}

TrustVector trust_vector(const std::vector<Finding>& findings, Source source, const Policy* policy, bool endorsed) {
    const bool hypervisor = source == Source::kHypervisor;
    TrustVector vector;
    // Nothing that the evidence says counts unless the TPM said it, now, with the endpoint's key, which says nothing else.
    if (!hold(findings, {"quote", "ak", "signature", "signer", "nonce"}) ||
        fails(findings, {"ak type", "ak attributes", "ak policy", "ak pinned"})) {
        const std::int8_t value = findings.empty() ? claim::kUnknown : claim::kForged;
        vector.instance_identity = vector.configuration = vector.executables = value;
        if (hypervisor) vector.storage_opaque = value;
        if (endorsed) vector.hardware = value;
        return vector;
    }
    vector.instance_identity = fails(findings, {"endorsement"}) ? claim::kInstanceUnrecognized
                               : hold(findings, {"clock"})      ? claim::kInstanceRecognized
                                                                : claim::kInstanceUntrustworthy;

    // Without a reference there is nothing to recognize anything by.
    if (!hold(findings, {"reference", "source"})) {
        vector.executables = vector.configuration = claim::kUnknown;
    } else if (hypervisor) {
        vector.executables = hold(findings, {"selection", "log", "events"}) ? claim::kExecutablesApprovedBoot
                                                                            : claim::kExecutablesUnrecognized;
        vector.configuration = hold(findings, {"claims", "policy", "iommu", "counter", "version", "vault id",
                                               "vault pin", "vault", "machine", "acpi"})
                                   ? claim::kConfigurationApproved
                                   : claim::kConfigurationUnsupportable;
    } else if (!hold(findings, {"selection", "log", "events", "pcrs"})) {
        vector.executables = claim::kExecutablesUnrecognized;
    } else if (expects_boot_code(policy)) {
        vector.executables = claim::kExecutablesApprovedBoot;
    }
    if (endorsed) {
        vector.hardware = fails(findings, {"crl age"})   ? claim::kUnknown
                          : hold(findings, {"firmware"}) ? claim::kHardwareGenuine
                                                         : claim::kHardwareUnrecognized;
    }
    // The rule "claims" holds only if the vault was opened and a disk is said to be encrypted, all others
    // being hidden; what is said counts only if the events are those of a hypervisor that tells the truth.
    if (hypervisor && has(findings, "claims")) {
        const bool known = vector.executables == claim::kExecutablesApprovedBoot;
        vector.storage_opaque = !known                        ? claim::kUnknown
                                : fails(findings, {"claims"}) ? claim::kStoragePlain
                                                              : claim::kStorageKeysInHypervisor;
    }
    return vector;
}

std::string make_result(const ResultFacts& facts) {
    host::Buffer ueid{kUeidRandom};
    ueid.insert(ueid.end(), facts.ek_hash.begin(), facts.ek_hash.end());
    const Tier status = std::max(facts.status, facts.vector.worst());

    Json appraisal;
    appraisal["ear.status"] = name_of(status);
    appraisal["ear.trustworthiness-vector"] = vector_json(facts.vector);
    if (!facts.policy_id.empty()) appraisal["ear.appraisal-policy-id"] = facts.policy_id;

    Json findings = Json::array();
    if (facts.findings != nullptr) {
        for (const auto& finding : *facts.findings) {
            // Member by member: an initializer list of JSON is copied as often as it is nested.
            Json one = Json::object();
            one["rule"] = finding.rule;
            one["ok"] = finding.ok;
            one["detail"] = finding.detail;
            findings.push_back(std::move(one));
        }
    }
    Json result;
    result["iat"] = facts.issued;
    result["exp"] = facts.expires;
    result["iss"] = facts.issuer;
    result["ueid"] = base64url(ueid);
    result["eat_nonce"] = base64url(facts.nonce);
    result["eat_profile"] = kProfile;
    result["ear.verifier-id"] = {{"developer", kVerifierDeveloper}, {"build", GATEHOUSE_VERSION}};
    result["submods"]["gatehouse"] = std::move(appraisal);
    result["gatehouse.source"] = facts.source;
    result["gatehouse.findings"] = std::move(findings);
    result["gatehouse.coverage"] = {{"events", facts.coverage.events},
                                    {"events_judged", facts.coverage.events_judged},
                                    {"pcrs", facts.coverage.pcrs},
                                    {"pcrs_judged", facts.coverage.pcrs_judged}};
    return result.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace gatehouse::verifier

#include "attestation/formats/ear.hpp"

#include <nlohmann/json.hpp>

#include "attestation/formats/cose.hpp"
#include "attestation/formats/jose.hpp"
#include "attestation/verifier/token.hpp"

namespace gatehouse::formats {
namespace {

using host::ToolError;
using verifier::ResultFacts;
using verifier::Tier;
using verifier::TrustVector;
using Json = nlohmann::ordered_json;

constexpr std::byte kUeidRandom{0x01};  // RFC 9711, section 4.2.1: a type byte, then 16, 24 or 32 bytes
constexpr const char* kSubmodule = "gatehouse";

// Labels of claims in CWT.
constexpr std::int64_t kIss = 1, kExp = 4, kIat = 6;                              // RFC 8392
constexpr std::int64_t kNonce = 10, kUeid = 256, kProfile = 265, kSubmods = 266;  // RFC 9711
constexpr std::int64_t kStatus = 1000, kVector = 1001, kPolicyIds = 1003, kVerifierId = 1004;
constexpr std::int64_t kVeraisonEvidence = -70000;

// AR4SI: the numbers of its claims, and of its tiers (draft-ietf-rats-ar4si-09, sections 3.1 and 3.2).
struct VectorClaim {
    std::int64_t label;
    const char* name;
    std::int8_t TrustVector::*value;
};
constexpr std::array kVectorClaims{
    VectorClaim{0, "instance-identity", &TrustVector::instance_identity},
    VectorClaim{1, "configuration", &TrustVector::configuration},
    VectorClaim{2, "executables", &TrustVector::executables},
    VectorClaim{4, "hardware", &TrustVector::hardware},
    VectorClaim{5, "runtime-opaque", &TrustVector::runtime_opaque},
    VectorClaim{6, "storage-opaque", &TrustVector::storage_opaque},
};
constexpr std::array kTierNumbers{std::pair{Tier::kNone, 0}, std::pair{Tier::kAffirming, 2},
                                  std::pair{Tier::kWarning, 32}, std::pair{Tier::kContraindicated, 96}};

std::int64_t number_of(Tier tier) {
    for (const auto& [one, number] : kTierNumbers)
        if (one == tier) return number;
    return 0;
}

std::size_t claims_made(const TrustVector& vector) {
    return static_cast<std::size_t>(std::ranges::count_if(
        kVectorClaims, [&](const VectorClaim& one) { return vector.*one.value != verifier::claim::kNone; }));
}

Tier status_of(const ResultFacts& facts) { return std::max(facts.status, facts.vector.worst()); }
bool knows_endpoint(const ResultFacts& facts) { return facts.ek_hash != Sha256Digest{}; }
bool stands(const ResultFacts& facts) { return facts.expires > facts.issued; }

Buffer ueid_of(const ResultFacts& facts) {
    Buffer ueid(1 + facts.ek_hash.size());
    ueid[0] = kUeidRandom;
    copy_bytes(MutableBytes(ueid).subspan(1), facts.ek_hash);
    return ueid;
}

Json vector_json(const TrustVector& vector) {
    Json json = Json::object();
    for (const VectorClaim& one : kVectorClaims)
        if (vector.*one.value != verifier::claim::kNone) json[one.name] = vector.*one.value;
    return json;
}

Json verifier_json() { return {{"developer", verifier::kVerifierDeveloper}, {"build", GATEHOUSE_VERSION}}; }

Json common_json(const ResultFacts& facts, ResultProfile profile) {
    Json result;
    result["eat_profile"] = uri_of(profile);
    result["iat"] = facts.issued;
    if (stands(facts)) result["exp"] = facts.expires;
    result["iss"] = facts.issuer;
    return result;
}

Json ietf_json(const ResultFacts& facts, ResultProfile profile) {
    Json appraisal;
    appraisal["ear_status"] = name_of(status_of(facts));
    if (claims_made(facts.vector) != 0) appraisal["ear_trustworthiness_vector"] = vector_json(facts.vector);
    if (!facts.policy_id.empty()) appraisal["ear_appraisal_policy_ids"] = Json::array({facts.policy_id});
    appraisal["eat_nonce"] = verifier::base64url(facts.nonce);
    Json result = common_json(facts, profile);
    if (knows_endpoint(facts)) result["ueid"] = verifier::base64url(ueid_of(facts));
    result["ear_status"] = name_of(status_of(facts));
    result["ear_verifier_id"] = verifier_json();
    result["submods"][kSubmodule] = std::move(appraisal);
    return result;
}

Json veraison_json(const ResultFacts& facts) {
    Json appraisal;
    appraisal["ear.status"] = name_of(status_of(facts));
    appraisal["ear.trustworthiness-vector"] = vector_json(facts.vector);
    if (!facts.policy_id.empty()) appraisal["ear.appraisal-policy-id"] = facts.policy_id;
    Json& evidence = appraisal["ear.veraison.annotated-evidence"];
    if (knows_endpoint(facts)) evidence["ueid"] = verifier::base64url(ueid_of(facts));
    evidence["source"] = facts.source;
    evidence["eat_nonce"] = verifier::base64url(facts.nonce);
    Json result = common_json(facts, ResultProfile::kVeraison);
    result["ear.verifier-id"] = verifier_json();
    result["submods"][kSubmodule] = std::move(appraisal);
    return result;
}

// Keys in the order of their encodings (RFC 8949, section 4.2.1), here and below: positive labels by value, then negative.
Buffer appraisal_cbor(const ResultFacts& facts, bool veraison) {
    const std::size_t claims = claims_made(facts.vector);
    const bool has_policy = !facts.policy_id.empty();
    CborWriter writer;
    writer.map(2 + (claims != 0 ? 1 : 0) + (has_policy ? 1 : 0));
    if (!veraison) writer.integer(kNonce).bytes(facts.nonce);
    writer.integer(kStatus).integer(number_of(status_of(facts)));
    if (claims != 0) {
        writer.integer(kVector).map(claims);
        for (const VectorClaim& one : kVectorClaims)
            if (facts.vector.*one.value != verifier::claim::kNone)
                writer.integer(one.label).integer(facts.vector.*one.value);
    }
    if (has_policy) {
        writer.integer(kPolicyIds);
        if (!veraison) writer.array(1);
        writer.text(facts.policy_id);
    }
    if (veraison) {
        writer.integer(kVeraisonEvidence).map(knows_endpoint(facts) ? 3 : 2);
        if (knows_endpoint(facts)) writer.text("ueid").bytes(ueid_of(facts));
        writer.text("source").text(facts.source);
        writer.text("eat_nonce").bytes(facts.nonce);
    }
    return writer.out();
}

Buffer claims_cbor(const ResultFacts& facts, ResultProfile profile) {
    const bool veraison = profile == ResultProfile::kVeraison;
    CborWriter writer;
    const bool ueid = !veraison && knows_endpoint(facts);
    writer.map(5 + (stands(facts) ? 1 : 0) + (veraison ? 0 : 1) + (ueid ? 1 : 0));
    writer.integer(kIss).text(facts.issuer);
    if (stands(facts)) writer.integer(kExp).integer(facts.expires);
    writer.integer(kIat).integer(facts.issued);
    if (ueid) writer.integer(kUeid).bytes(ueid_of(facts));
    writer.integer(kProfile).text(uri_of(profile));
    writer.integer(kSubmods).map(1).text(kSubmodule).item(appraisal_cbor(facts, veraison));
    if (!veraison) writer.integer(kStatus).integer(number_of(status_of(facts)));
    writer.integer(kVerifierId).map(2);
    writer.integer(0).text(verifier::kVerifierDeveloper).integer(1).text(GATEHOUSE_VERSION);
    return writer.out();
}

Tier tier_named(const std::string& name) {
    for (const auto& [tier, number] : kTierNumbers)
        if (name_of(tier) == name) return tier;
    throw ToolError("kept result: no tier is called \"" + name + "\"");
}

}  // namespace

std::optional<ResultProfile> result_profile(std::string_view text) {
    for (const ResultProfileRow& row : kResultProfiles)
        if (text == row.name || text == row.uri) return row.profile;
    return std::nullopt;
}

std::string_view uri_of(ResultProfile profile) { return kResultProfiles.at(static_cast<std::size_t>(profile)).uri; }

std::string result_profiles() {
    std::string text;
    for (const ResultProfileRow& row : kResultProfiles) {
        if (!text.empty()) text += ", ";
        text.append(row.name).append(" (").append(row.uri).append(")");
    }
    return text;
}

bool is_offered(ResultProfile profile, ResultForm form) {
    return profile != ResultProfile::kGatehouse || form == ResultForm::kJwt;
}

std::string result_media_type(ResultProfile profile, ResultForm form) {
    return std::string(form == ResultForm::kJwt ? "application/eat+jwt" : "application/eat+cwt") + "; eat_profile=\"" +
           std::string(uri_of(profile)) + '"';
}

Buffer sign_result(const ResultFacts& facts, ResultProfile profile, ResultForm form, EVP_PKEY* key) {
    if (!is_offered(profile, form))
        throw ToolError("results of profile " + std::string(uri_of(profile)) + " are JWTs only",
                        host::ExitCode::kUsage);
    if (form == ResultForm::kCwt) return sign_cose(claims_cbor(facts, profile), {}, key);
    std::string payload;
    if (profile == ResultProfile::kGatehouse) {
        payload = make_result(facts);
    } else {
        const Json json = profile == ResultProfile::kVeraison ? veraison_json(facts) : ietf_json(facts, profile);
        payload = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    const std::string jws = sign_jwt(payload, verifier::kResultType, key, key_id(key));
    const Bytes bytes = host::text_bytes(jws);
    return {bytes.begin(), bytes.end()};
}

KeptResult read_result(std::string_view payload) {
    KeptResult kept;
    ResultFacts& facts = kept.facts;
    try {
        const Json json = Json::parse(payload);
        const Json& appraisal = json.at("submods").at(kSubmodule);
        facts.issuer = json.at("iss").get<std::string>();
        facts.issued = json.at("iat").get<std::time_t>();
        facts.expires = json.at("exp").get<std::time_t>();
        const auto ueid = verifier::from_base64url(json.at("ueid").get<std::string>());
        auto nonce = verifier::from_base64url(json.at("eat_nonce").get<std::string>());
        if (!ueid || ueid->size() != 1 + facts.ek_hash.size() || !nonce)
            throw ToolError("kept result: its ueid or nonce is not in base64url");
        copy_bytes(facts.ek_hash, Bytes(*ueid).subspan(1));
        kept.nonce = std::move(*nonce);
        facts.nonce = kept.nonce;
        facts.status = tier_named(appraisal.at("ear.status").get<std::string>());
        const Json& vector = appraisal.at("ear.trustworthiness-vector");
        for (const VectorClaim& one : kVectorClaims)
            if (vector.contains(one.name)) facts.vector.*one.value = vector.at(one.name).get<std::int8_t>();
        facts.policy_id = appraisal.value("ear.appraisal-policy-id", "");
        facts.source = json.at("gatehouse.source") == "hypervisor" ? "hypervisor" : "tpm";
    } catch (const Json::exception& error) {
        throw ToolError(std::string("kept result: ") + error.what());
    }
    return kept;
}

}  // namespace gatehouse::formats

#include "attestation/verifier/tpm_identity.hpp"

#include <tss2/tss2_tpm2_types.h>

#include "attestation/verifier/endorsement.hpp"
#include "keyvault/tpm_templates/templates.hpp"

namespace gatehouse::verifier {
namespace {

constexpr const char* kRule = "tpm identity";

// B.6.2: PolicySecret(TPM_RH_ENDORSEMENT).
constexpr std::string_view kPolicyA = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";

Buffer big_endian(std::uint32_t value) {
    Buffer bytes(sizeof(value));
    store(bytes.data(), value, Endian::kBig);
    return bytes;
}

// Part 1, 18.7: H(commandCode || Name of the hierarchy || parameters).
Sha256Digest command_hash(std::uint32_t hierarchy, Bytes public_template) {
    const std::array<std::byte, 6> sensitive{std::byte{0}, std::byte{4}};  // TPM2B_SENSITIVE_CREATE: empty parts
    std::array<std::byte, 2> size{};
    store(size.data(), static_cast<std::uint16_t>(public_template.size()), Endian::kBig);
    const std::array<std::byte, 6> rest{};  // outsideInfo, creationPCR
    return sha256({big_endian(TPM2_CC_CreatePrimary), big_endian(hierarchy), sensitive, size, public_template, rest});
}

// Part 1, 18.8: H(responseCode || commandCode || parameters).
Sha256Digest response_hash(Bytes parameters) {
    return sha256({big_endian(TPM2_RC_SUCCESS), big_endian(TPM2_CC_CreatePrimary), parameters});
}

// TPMT_PUBLIC of the key that a response is of.
Result<Bytes> public_area_of(Bytes parameters) {
    Reader reader(parameters, Endian::kBig);
    const Bytes area = reader.sized();
    GATEHOUSE_TRY(reader.status("primary key"));
    return area;
}

bool is_name(Bytes name) {
    return name.size() == 2 + kSha256Size &&
           load<std::uint16_t>(name.data(), Endian::kBig) == static_cast<std::uint16_t>(HashAlgorithm::kSha256);
}

std::string by_audit(const IdentityEvidence& evidence, TpmIdentity& identity) {
    if (evidence.keys.size() != 2)
        return std::to_string(evidence.keys.size()) + " keys: must be the ECC EK and the SRK";
    const Result<Bytes> digest = parse_session_audit(evidence.attest);
    if (!digest.ok()) return host::describe(digest.failure());
    const auto srk_template = tpm::storage_root_key_template();
    Sha256Digest expected{};
    expected = sha256(
        {expected, command_hash(TPM2_RH_ENDORSEMENT, ecc_endorsement_key_template()), response_hash(evidence.keys[0])});
    expected = sha256({expected, command_hash(TPM2_RH_OWNER, srk_template.bytes()), response_hash(evidence.keys[1])});
    if (!equal_bytes(*digest, expected)) return "the TPM did not make these keys of the standard templates";
    const Result<Bytes> ek = public_area_of(evidence.keys[0]), srk = public_area_of(evidence.keys[1]);
    if (!ek.ok()) return host::describe(ek.failure());
    if (!srk.ok()) return host::describe(srk.failure());
    try {
        identity.endorsement_key = host::hex(endorsement_key_hash(*ek));
    } catch (const host::ToolError& error) {
        return error.what();
    }
    identity.storage_root = host::hex(sha256(*srk));
    return {};
}

std::string by_quote(const AttestationKey& key, const IdentityEvidence& evidence, TpmIdentity& identity) {
    if (evidence.keys.size() != 1 || !is_name(evidence.keys[0])) return "must be the Name of the SRK";
    const Result<Attestation> quote = parse_attestation(evidence.attest);
    if (!quote.ok()) return host::describe(quote.failure());
    if (!equal_bytes(quote->qualified_signer, qualified_name(evidence.keys[0], key).bytes()))
        return "the attestation key is not a child of an SRK of this Name";
    identity.storage_root = host::hex(Bytes(evidence.keys[0]).subspan(2));
    return {};
}

}  // namespace

TpmIdentity check_tpm_identity(const AttestationKey& key, Source source, const IdentityEvidence& evidence) {
    TpmIdentity identity{
        .finding = {.rule = kRule, .ok = false, .detail = {}}, .endorsement_key = {}, .storage_root = {}};
    std::string& detail = identity.finding.detail;
    if (evidence.keys.empty()) {
        detail = "the agent shows no key that this TPM has whatever EK it shows";
        return identity;
    }
    if (!key.verify(evidence.attest, evidence.signature)) {
        detail = "not signed by the attestation key";
        return identity;
    }
    detail = source == Source::kTpm ? by_audit(evidence, identity) : by_quote(key, evidence, identity);
    identity.finding.ok = detail.empty();
    if (!identity.finding.ok) {
        identity.endorsement_key.clear();
        return identity;
    }
    detail = "SRK " + identity.storage_root;
    if (!identity.endorsement_key.empty()) detail += ", ECC EK " + identity.endorsement_key;
    return identity;
}

Buffer ecc_endorsement_key_template() {
    Buffer area(256);
    Writer writer(area, Endian::kBig);
    writer.u16(TPM2_ALG_ECC);
    writer.u16(TPM2_ALG_SHA256);
    writer.u32(TPMA_OBJECT_FIXEDTPM | TPMA_OBJECT_FIXEDPARENT | TPMA_OBJECT_SENSITIVEDATAORIGIN |
               TPMA_OBJECT_ADMINWITHPOLICY | TPMA_OBJECT_RESTRICTED | TPMA_OBJECT_DECRYPT);
    writer.sized(host::from_hex(std::string(kPolicyA), "EK policy"));
    writer.u16(TPM2_ALG_AES);
    writer.u16(128);
    writer.u16(TPM2_ALG_CFB);
    writer.u16(TPM2_ALG_NULL);  // scheme
    writer.u16(TPM2_ECC_NIST_P256);
    writer.u16(TPM2_ALG_NULL);  // KDF
    constexpr std::size_t coordinate = 32;
    for (int i = 0; i < 2; ++i) writer.sized(Buffer(coordinate));
    area.resize(writer.offset());
    return area;
}

ObjectName qualified_name(Bytes srk_name, const AttestationKey& key) {
    std::array<std::byte, 4> owner{};
    store(owner.data(), static_cast<std::uint32_t>(TPM2_RH_OWNER), Endian::kBig);
    const ObjectName srk = name_of_parts(HashAlgorithm::kSha256, {owner, srk_name});
    const auto algorithm = static_cast<HashAlgorithm>(load<std::uint16_t>(key.name().data(), Endian::kBig));
    return name_of_parts(algorithm, {srk.bytes(), key.name()});
}

}  // namespace gatehouse::verifier

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <array>

#include "attestation/verifier/appraisal.hpp"
#include "attestation/verifier/ecdsa_der.hpp"
#include "attestation/verifier/public_key.hpp"
#include "attestation/verifier/quick_hash.hpp"
#include "keyvault/tpm_templates/policy.hpp"

namespace gatehouse::verifier {
namespace {

using Context = std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)>;

constexpr std::uint16_t kMinimumRsaBits = 2048;
constexpr std::uint16_t kMaximumRsaBits = 4096;

// The curves of attestation keys, and the only hash that goes with each.
struct CurveRow {
    Curve curve;
    const char* group;
    std::size_t coordinate;
    HashAlgorithm hash;
};
constexpr CurveRow kCurves[] = {
    {Curve::kP256, "P-256", 32, HashAlgorithm::kSha256},
    {Curve::kP384, "P-384", 48, HashAlgorithm::kSha384},
};
const CurveRow* row_of(Curve curve) {
    const auto* const row = std::ranges::find(kCurves, curve, &CurveRow::curve);
    return row == std::end(kCurves) ? nullptr : row;
}

// Of signatures: SHA-1's are not believed.
const EVP_MD* digest_of(HashAlgorithm hash) { return hash == HashAlgorithm::kSha1 ? nullptr : openssl_digest(hash); }

// A verification context that is ready but for signature and digest.
Context prepared(EVP_PKEY* key, Algorithm scheme, HashAlgorithm hash) {
    Context context(EVP_PKEY_CTX_new(key, nullptr), EVP_PKEY_CTX_free);
    bool ready = context && EVP_PKEY_verify_init(context.get()) == 1;
    if (scheme != Algorithm::kEcdsa) {
        ready =
            ready && EVP_PKEY_CTX_set_rsa_padding(
                         context.get(), scheme == Algorithm::kRsapss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) == 1;
    }
    ready = ready && EVP_PKEY_CTX_set_signature_md(context.get(), digest_of(hash)) == 1;
    if (scheme == Algorithm::kRsapss) {
        // Salts are of the digest's size or as long as fits (Part 1, B.7).
        ready = ready && EVP_PKEY_CTX_set_rsa_pss_saltlen(context.get(), RSA_PSS_SALTLEN_AUTO) == 1;
    }
    ERR_clear_error();
    if (!ready) throw host::ToolError("attestation key: OpenSSL cannot verify its signatures");
    return context;
}

std::string bits_text(const PublicArea& area) {
    if (area.type == Algorithm::kRsa) return "RSA of " + std::to_string(area.key_bits) + " bits";
    if (area.type != Algorithm::kEcc) return algorithm_name(area.type);
    const CurveRow* const row = row_of(area.curve);
    return row != nullptr ? "ECC on " + std::string(row->group)
                          : "ECC on curve " + std::to_string(static_cast<unsigned>(area.curve));
}

Finding type_finding(const PublicArea& area) {
    Finding finding{.rule = "ak type", .ok = false, .detail = {}};
    const std::string scheme = algorithm_name(area.scheme);
    const std::string found = bits_text(area) + ", scheme " + scheme;
    const CurveRow* const row = row_of(area.curve);
    if (area.name_algorithm == HashAlgorithm::kSha1) {
        // A credential is for a Name. With a collision it would be for a key of the TPM and one outside of
        // it.
        finding.detail = found + ": the name algorithm must not be SHA-1";
    } else if (area.type == Algorithm::kEcc && row == nullptr) {
        finding.detail = found + ": the curve must be P-256 or P-384";
    } else if (area.type == Algorithm::kEcc && area.scheme != Algorithm::kEcdsa) {
        finding.detail = found + ": the scheme must be ECDSA";
    } else if (area.type == Algorithm::kEcc && area.scheme_hash != row->hash) {
        finding.detail =
            found + ": the scheme's hash is not " + (row->hash == HashAlgorithm::kSha256 ? "SHA-256" : "SHA-384");
    } else if (area.type == Algorithm::kRsa && (area.key_bits < kMinimumRsaBits || area.key_bits > kMaximumRsaBits)) {
        finding.detail = found + ": must be of 2048 to 4096 bits";
    } else if (area.type == Algorithm::kRsa && area.exponent != 65537) {
        finding.detail = found + ": the exponent must be 65537";
    } else if (area.type == Algorithm::kRsa && area.scheme != Algorithm::kRsassa && area.scheme != Algorithm::kRsapss) {
        finding.detail = found + ": the scheme must be RSASSA or RSAPSS";
    } else if (area.type == Algorithm::kRsa && digest_of(area.scheme_hash) == nullptr) {
        finding.detail = found + ": the scheme's hash must be SHA-256, SHA-384 or SHA-512";
    } else if (area.type != Algorithm::kEcc && area.type != Algorithm::kRsa) {
        finding.detail = found + ": not a key that signs for others to verify";
    } else {
        finding.ok = true;
        finding.detail = found;
    }
    return finding;
}

struct WantedAttribute {
    Attribute attribute;
    bool set;
    const char* if_not;
};
constexpr WantedAttribute kWanted[] = {
    {Attribute::kFixedTpm, true, "fixedTPM is clear: the key can be duplicated to another TPM"},
    {Attribute::kFixedParent, true, "fixedParent is clear: the key can be moved"},
    {Attribute::kSensitiveDataOrigin, true, "sensitiveDataOrigin is clear: the key was not made by the TPM"},
    {Attribute::kRestricted, true, "restricted is clear: the key signs whatever it is given"},
    {Attribute::kSign, true, "sign is clear"},
    {Attribute::kDecrypt, false, "decrypt is set: not a key for signing alone"},
};

Finding attributes_finding(const PublicArea& area) {
    Finding finding{.rule = "ak attributes", .ok = false, .detail = {}};
    for (const WantedAttribute& wanted : kWanted) {
        if (area.has(wanted.attribute) == wanted.set) continue;
        if (!finding.detail.empty()) finding.detail += "; ";
        finding.detail += wanted.if_not;
    }
    finding.ok = finding.detail.empty();
    if (finding.ok) finding.detail = "restricted signing key of one TPM";
    return finding;
}

Finding policy_finding(const PublicArea& area, Source source) {
    Finding finding{.rule = "ak policy", .ok = false, .detail = {}};
    if (source == Source::kTpm) {
        finding.ok = true;
        finding.detail = "any is accepted: whoever asked the TPM is not known";
    } else if (!equal_bytes(area.policy, tpm::attestation_key_policy_digest()) ||
               area.name_algorithm != HashAlgorithm::kSha256) {
        finding.detail = "usable at another locality than 2: its policy is " +
                         (area.policy.empty() ? std::string("empty") : host::hex(area.policy)) +
                         ", not that of locality 2";
    } else if (area.has(Attribute::kUserWithAuth)) {
        finding.detail = "userWithAuth is set: usable at any locality with an authorization value";
    } else {
        finding.ok = true;
        finding.detail = "usable at locality 2 only";
    }
    return finding;
}

}  // namespace

std::vector<Finding> check_attestation_key(Bytes public_area, Source source) {
    const Result<PublicArea> parsed = parse_public_area(public_area);
    if (!parsed.ok()) {
        const std::string why = host::describe(parsed.failure());
        return {{"ak type", false, why}, {"ak attributes", false, why}, {"ak policy", false, why}};
    }
    return {type_finding(*parsed), attributes_finding(*parsed), policy_finding(*parsed, source)};
}

struct AttestationKey::Inside {
    Algorithm scheme = Algorithm::kNull;
    HashAlgorithm hash = HashAlgorithm::kSha256;
    std::size_t number_size = 0;  // of r and s, or of an RSA signature
    ObjectName name;
    host::Key key{nullptr, EVP_PKEY_free};
    Context verification{nullptr, EVP_PKEY_CTX_free};  // copied for each use
    std::array<std::string, 2> unfit;                  // by Source: what is wrong with the key
};

AttestationKey::AttestationKey(Bytes public_area) : inside_(std::make_unique<Inside>()) {
    const PublicArea area = host::expect(parse_public_area(public_area), "attestation key");
    if (const Finding type = type_finding(area); !type.ok) throw host::ToolError("attestation key: " + type.detail);
    inside_->scheme = area.scheme;
    inside_->hash = area.scheme_hash;
    inside_->name = name_of_parts(area.name_algorithm, {public_area});
    inside_->number_size = area.type == Algorithm::kEcc ? row_of(area.curve)->coordinate : area.modulus.size();
    inside_->key = public_key(area);
    if (!inside_->key) throw host::ToolError("attestation key: " + bits_text(area) + ": not a key of that kind");
    inside_->verification = prepared(inside_->key.get(), area.scheme, area.scheme_hash);
    for (const Source source : {Source::kHypervisor, Source::kTpm}) {
        for (const Finding& finding : {attributes_finding(area), policy_finding(area, source)}) {
            if (!finding.ok) inside_->unfit[static_cast<std::size_t>(source)] += finding.detail + ". ";
        }
    }
}

AttestationKey::~AttestationKey() = default;
AttestationKey::AttestationKey(AttestationKey&&) noexcept = default;
AttestationKey& AttestationKey::operator=(AttestationKey&&) noexcept = default;

Bytes AttestationKey::name() const { return inside_->name.bytes(); }
HashAlgorithm AttestationKey::hash() const { return inside_->hash; }
const std::string& AttestationKey::unfit_for(Source source) const {
    return inside_->unfit[static_cast<std::size_t>(source)];
}
bool AttestationKey::is_key(const evp_pkey_st* other) const {
    const bool same = EVP_PKEY_eq(inside_->key.get(), other) == 1;
    ERR_clear_error();
    return same;
}

bool AttestationKey::verify(Bytes message, Bytes signature) const {
    const Result<Signature> parsed = parse_signature(signature);
    return parsed.ok() && why_not(message, *parsed).empty();
}

std::string AttestationKey::why_not(Bytes message, const Signature& signature) const {
    if (signature.scheme != inside_->scheme)
        return "scheme " + algorithm_name(signature.scheme) + ", the key's is " + algorithm_name(inside_->scheme);
    if (signature.hash != inside_->hash) return "made with another hash than the key's";
    const bool ecdsa = signature.scheme == Algorithm::kEcdsa;
    const std::size_t limit = inside_->number_size;
    if (ecdsa && (signature.r.size() > limit || signature.s.size() > limit))
        return "r or s is longer than " + std::to_string(limit) + " bytes";
    if (!ecdsa && signature.rsa.size() != limit) return "not of the size of the key";
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned digest_bytes = 0;
    const EcdsaDer der = ecdsa ? ecdsa_der(signature.r, signature.s) : EcdsaDer{};
    const unsigned char* encoded = ecdsa ? der.storage.data() : raw(signature.rsa);
    const std::size_t encoded_size = ecdsa ? der.size : signature.rsa.size();
    const Context context(EVP_PKEY_CTX_dup(inside_->verification.get()), EVP_PKEY_CTX_free);
    const bool holds = context &&
                       EVP_Digest(message.data(), message.size(), digest.data(), &digest_bytes,
                                  digest_of(inside_->hash), nullptr) == 1 &&
                       EVP_PKEY_verify(context.get(), encoded, encoded_size, digest.data(), digest_bytes) == 1;
    if (holds) return {};
    ERR_clear_error();
    return "not made by the enrolled attestation key over this quote";
}

}  // namespace gatehouse::verifier

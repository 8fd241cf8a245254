#include "attestation/verifier/endorsement.hpp"

#include <openssl/err.h>

#include "attestation/verifier/ek_certificate.hpp"
#include "attestation/verifier/ek_chain.hpp"
#include "attestation/verifier/public_key.hpp"

namespace gatehouse::verifier {
namespace {

constexpr std::size_t kMaxParts = 256;            // NV indices: as many as there may be
constexpr std::size_t kMaxChain = 16;             // certificates in them
constexpr std::size_t kMaxChainBytes = 64 << 10;  // in all
constexpr std::size_t kMaxStored = 32 << 10;      // certificate with padding

constexpr const char* kEkUsage = "2.23.133.8.1";  // tcg-kp-EKCertificate
constexpr std::uint32_t kNoKeyUsage = 0xffffffff;

// --- the EK's public area

// What the templates use as authorization policy (TCG EK Credential Profile 2.5, annex B.6). Each is computed
// here from its definition, for the EK's own name algorithm.
struct EkPolicies {
    Buffer a;  // PolicySecret(endorsement hierarchy)
    Buffer b;  // PolicyOR(A, C)
    Buffer c;  // PolicyAuthorizeNV(0x01c07f01 to 0x01c07f03)
};

Buffer hashed(HashAlgorithm algorithm, std::initializer_list<Bytes> parts) {
    Hash running(algorithm);
    for (const Bytes part : parts) running.update(part);
    const Digest digest = running.finish();
    const Bytes bytes = digest.bytes();
    return {bytes.begin(), bytes.end()};
}

EkPolicies ek_policies(HashAlgorithm algorithm) {
    const std::size_t size = digest_size(algorithm);
    const Buffer zero(size);
    const Bytes policy_secret = literal_bytes("\x00\x00\x01\x51");
    const Bytes policy_or = literal_bytes("\x00\x00\x01\x71");
    const Bytes policy_authorize_nv = literal_bytes("\x00\x00\x01\x92");
    const Bytes endorsement = literal_bytes("\x40\x00\x00\x0b");

    EkPolicies policies;
    policies.a = hashed(algorithm, {hashed(algorithm, {zero, policy_secret, endorsement})});
    // TPMS_NV_PUBLIC of the index with the owner's policy, written: its attributes are POLICYWRITE, WRITEALL,
    // PPREAD, OWNERREAD, AUTHREAD, POLICYREAD, NO_DA, WRITTEN; its policy is A, it holds a TPMT_HA.
    std::array<std::byte, 10 + 2 + kMaxDigestSize + 2> area{};
    Writer writer(area, Endian::kBig);
    writer.u32(algorithm == HashAlgorithm::kSha256   ? 0x01c07f01
               : algorithm == HashAlgorithm::kSha384 ? 0x01c07f02
                                                     : 0x01c07f03);
    writer.u16(static_cast<std::uint16_t>(algorithm));
    writer.u32(0x220f1008);
    writer.sized(policies.a);
    writer.u16(static_cast<std::uint16_t>(2 + size));
    const ObjectName name = name_of_parts(algorithm, {writer.written()});
    policies.c = hashed(algorithm, {zero, policy_authorize_nv, name.bytes()});
    policies.b = hashed(algorithm, {zero, policy_or, policies.a, policies.c});
    return policies;
}

struct Template {
    const char* name;
    Algorithm type;
    std::uint16_t key_bits;  // of RSA
    Curve curve;             // of ECC
    HashAlgorithm name_algorithm;
    std::uint16_t symmetric_bits;
    bool high_range;  // policy B and userWithAuth; else policy A
};
// TCG EK Credential Profile 2.5, annexes B.3 and B.4.
constexpr Template kTemplates[] = {
    {"L-1 (RSA 2048)", Algorithm::kRsa, 2048, Curve::kP256, HashAlgorithm::kSha256, 128, false},
    {"L-2 (ECC P-256)", Algorithm::kEcc, 0, Curve::kP256, HashAlgorithm::kSha256, 128, false},
    {"H-1 (RSA 2048)", Algorithm::kRsa, 2048, Curve::kP256, HashAlgorithm::kSha256, 128, true},
    {"H-2 (ECC P-256)", Algorithm::kEcc, 0, Curve::kP256, HashAlgorithm::kSha256, 128, true},
    {"H-3 (ECC P-384)", Algorithm::kEcc, 0, Curve::kP384, HashAlgorithm::kSha384, 256, true},
    {"H-4 (ECC P-521)", Algorithm::kEcc, 0, Curve::kP521, HashAlgorithm::kSha512, 256, true},
    {"H-6 (RSA 3072)", Algorithm::kRsa, 3072, Curve::kP256, HashAlgorithm::kSha384, 256, true},
    {"H-7 (RSA 4096)", Algorithm::kRsa, 4096, Curve::kP256, HashAlgorithm::kSha384, 256, true},
};

const char* template_of(const PublicArea& area, bool policy_b) {
    for (const Template& one : kTemplates) {
        const bool size = area.type == Algorithm::kRsa ? area.key_bits == one.key_bits : area.curve == one.curve;
        if (area.type == one.type && size && area.name_algorithm == one.name_algorithm &&
            area.symmetric.key_bits == one.symmetric_bits && policy_b == one.high_range &&
            area.has(Attribute::kUserWithAuth) == one.high_range) {
            return one.name;
        }
    }
    return nullptr;
}

std::string attribute_fault(const PublicArea& area) {
    const struct {
        Attribute attribute;
        const char* name;
        bool wanted;
    } rules[] = {{Attribute::kFixedTpm, "fixedTPM", true},
                 {Attribute::kFixedParent, "fixedParent", true},
                 {Attribute::kRestricted, "restricted", true},
                 {Attribute::kDecrypt, "decrypt", true},
                 {Attribute::kSign, "sign", false},
                 {Attribute::kSensitiveDataOrigin, "sensitiveDataOrigin", true},
                 {Attribute::kEncryptedDuplication, "encryptedDuplication", false}};
    for (const auto& rule : rules) {
        if (area.has(rule.attribute) != rule.wanted) {
            return std::string(rule.name) + " is " + (rule.wanted ? "clear" : "set") +
                   ": not a key that only this TPM has and that only decrypts what TPMs encrypt";
        }
    }
    return "";
}

Finding judge_public(const Result<PublicArea>& parsed, const EVP_PKEY* key) {
    const auto refuse = [](const std::string& why) { return Finding{"ek public", false, why}; };
    if (!parsed.ok()) return refuse(host::describe(parsed.failure()));
    const PublicArea& area = parsed.value();
    if (area.type != Algorithm::kRsa && area.type != Algorithm::kEcc) return refuse("neither an RSA nor an ECC key");
    if (const std::string fault = attribute_fault(area); !fault.empty()) return refuse(fault);
    if (key == nullptr) return refuse("not a key: no modulus, or no point of a curve that is known");
    if (const std::string weakness = key_weakness(key); !weakness.empty()) return refuse(weakness);
    if (area.symmetric.algorithm != Algorithm::kAes || area.symmetric.mode != Algorithm::kCfb ||
        (area.symmetric.key_bits != 128 && area.symmetric.key_bits != 256)) {
        return refuse("its symmetric algorithm is not AES-128 or AES-256 in CFB mode");
    }
    if (area.name_algorithm == HashAlgorithm::kSha1) return refuse("its name algorithm is SHA-1");
    const EkPolicies policies = ek_policies(area.name_algorithm);
    const bool a = equal_bytes(area.policy, policies.a);
    const bool b = equal_bytes(area.policy, policies.b);
    const bool c = equal_bytes(area.policy, policies.c);
    if (!a && !b && !c) {
        return refuse("its authorization policy " + (area.policy.empty() ? "is empty" : host::hex(area.policy)) +
                      ", none of those of the TCG's templates");
    }
    const char* const name = c ? nullptr : template_of(area, b);
    if (name != nullptr) return {"ek public", true, std::string("template ") + name};
    return {"ek public", true,
            describe_key(key) + " with policy " +
                (a   ? "A"
                 : b ? "B"
                     : "C") +
                ", of no template of the TCG's"};
}

// --- the certificate

bool has_ek_usage(const EXTENDED_KEY_USAGE* usages) {
    for (int i = 0; i < sk_ASN1_OBJECT_num(usages); ++i) {
        char text[80] = "";
        OBJ_obj2txt(text, sizeof(text), sk_ASN1_OBJECT_value(usages, i), 1);
        if (std::string_view(text) == kEkUsage) return true;
    }
    return false;
}

// What an EK is certified for, of key usages that have it: keyEncipherment of an RSA key, keyAgreement of an ECC
// key (TCG EK Credential Profile 2.5, section 3.2); and keyEncipherment of an ECC key, as some makers have it. 0: nothing.
std::uint32_t purpose_of(std::uint32_t usage, bool rsa) {
    if (!rsa && (usage & KU_KEY_AGREEMENT) != 0) return KU_KEY_AGREEMENT;
    return usage & KU_KEY_ENCIPHERMENT;
}

const char* usage_name(std::uint32_t usage) {
    return usage == KU_KEY_ENCIPHERMENT ? "keyEncipherment" : "keyAgreement";
}

Finding judge_usage(X509* certificate, bool rsa, std::vector<std::string>& quirks) {
    const auto refuse = [](const std::string& why) { return Finding{"ek usage", false, why}; };
    const std::uint32_t flags = X509_get_extension_flags(certificate);
    if ((flags & EXFLAG_INVALID) != 0) return refuse("an extension cannot be read, or is there twice");
    if ((flags & EXFLAG_CA) != 0) return refuse("it is a CA's certificate");

    const std::uint32_t usage = X509_get_key_usage(certificate);
    const std::uint32_t wanted = rsa ? KU_KEY_ENCIPHERMENT : KU_KEY_AGREEMENT;
    const std::uint32_t purpose = usage == kNoKeyUsage ? wanted : purpose_of(usage, rsa);
    const char* const purpose_name = usage_name(purpose);
    if (usage != kNoKeyUsage) {
        if ((usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) != 0) return refuse("its key may sign certificates or CRLs");
        if (purpose == 0) return refuse(std::string("its key usage is without ") + usage_name(wanted));
        if (purpose != wanted)
            quirks.emplace_back("certificate: key usage is keyEncipherment, though the key is an ECC key");
        if (usage != purpose) quirks.push_back(std::string("certificate: key usage is more than ") + purpose_name);
    }
    int critical = -1;
    const openssl::KeyUsages usages(
        static_cast<EXTENDED_KEY_USAGE*>(X509_get_ext_d2i(certificate, NID_ext_key_usage, &critical, nullptr)));
    ERR_clear_error();
    if (!usages && critical != -1) return refuse("its extended key usage cannot be read");
    if (!usages && usage == kNoKeyUsage) return refuse("it has neither key usage nor extended key usage");
    if (usage == kNoKeyUsage) quirks.emplace_back("certificate: no key usage");
    if (!usages) {
        quirks.emplace_back("certificate: no extended key usage");
        return {"ek usage", true, purpose_name};
    }
    if (!has_ek_usage(usages.get())) {
        return refuse(std::string("its extended key usage is not that of EK certificates (") + kEkUsage + ")");
    }
    return {"ek usage", true, std::string(usage == kNoKeyUsage ? "" : purpose_name) + " EK certificate"};
}

Finding judge_key(X509* certificate, const EVP_PKEY* ek) {
    const EVP_PKEY* const key = X509_get0_pubkey(certificate);
    if (key == nullptr) return {"ek key", false, "the certificate's key is of a kind that is not known"};
    if (ek == nullptr) return {"ek key", false, "there is no EK to compare with"};
    const bool same = EVP_PKEY_eq(key, ek) == 1;
    ERR_clear_error();
    if (same) return {"ek key", true, describe_key(ek)};
    return {"ek key", false,
            "the certificate is of another key (" + describe_key(key) + ") than the EK (" + describe_key(ek) + ")"};
}

std::string chain_excess(const std::vector<Buffer>& chain) {
    std::size_t size = 0;
    for (const Buffer& one : chain) size += one.size();
    if (chain.size() <= kMaxParts && size <= kMaxChainBytes) return "";
    return std::to_string(chain.size()) + " parts with " + std::to_string(size) +
           " bytes were sent as chain; at most " + std::to_string(kMaxParts) + " with " +
           std::to_string(kMaxChainBytes) + " are read";
}

// Why the chain that was sent is too much to read; empty, and the chain in `others`, if it is not.
std::string parse_chain(const EndorsementEvidence& evidence, std::vector<openssl::Certificate>& others,
                        std::vector<std::string>& quirks) {
    std::string excess = chain_excess(evidence.chain);
    if (!excess.empty()) return excess;
    others = parse_stored_chain(evidence.chain, quirks);
    if (others.size() <= kMaxChain) return "";
    return std::to_string(others.size()) + " certificates were sent as chain; at most " + std::to_string(kMaxChain) +
           " are read";
}

void judge_chain(X509* certificate, const EndorsementEvidence& evidence, const TrustStore& store, std::time_t now,
                 EndorsementVerdict& verdict) {
    std::vector<openssl::Certificate> others;
    if (std::string excess = parse_chain(evidence, others, verdict.quirks); !excess.empty()) {
        verdict.findings.push_back({"ek chain", false, excess});
        verdict.findings.push_back({"ek revocation", false, "there is no path to a trusted root"});
        return;
    }
    ChainVerdict chain = verify_chain(certificate, others, store.contents(), now);
    if (chain.chain.ok && chain.revocation.ok) verdict.vendor = chain.vendor->name;
    verdict.findings.push_back(std::move(chain.chain));
    verdict.findings.push_back(std::move(chain.revocation));
}

ParsedCertificate read_certificate(const EndorsementEvidence& evidence, std::vector<std::string>& quirks) {
    if (evidence.certificate.empty()) return {nullptr, 0, "there is none"};
    if (evidence.certificate.size() > kMaxStored) {
        return {nullptr, 0, "longer than " + std::to_string(kMaxStored) + " bytes"};
    }
    auto parsed = parse_stored_certificate(evidence.certificate, quirks);
    if (parsed.certificate && X509_get_version(parsed.certificate.get()) != X509_VERSION_3) {
        return {nullptr, 0, "not of version 3"};
    }
    return parsed;
}

}  // namespace

Sha256Digest endorsement_hash(Bytes public_area) { return sha256(public_area); }

Sha256Digest endorsement_key_hash(Bytes public_area) {
    const host::Key key = public_key(host::expect(parse_public_area(public_area), "EK"));
    unsigned char* der = nullptr;
    const int size = key ? i2d_PUBKEY(key.get(), &der) : 0;
    if (size <= 0) throw host::ToolError("EK: not a key");
    const Sha256Digest hash = sha256(std::as_bytes(std::span(der, static_cast<std::size_t>(size))));
    OPENSSL_free(der);
    return hash;
}

std::string endorsement_fault(const EndorsementEvidence& evidence, const TrustStore& store, std::time_t accepted) {
    std::vector<std::string> quirks;
    const ParsedCertificate parsed = read_certificate(evidence, quirks);
    if (!parsed.certificate) return "EK certificate: " + parsed.why;
    std::vector<openssl::Certificate> others;
    if (std::string excess = parse_chain(evidence, others, quirks); !excess.empty()) return excess;
    return chain_fault(parsed.certificate.get(), others, store.contents(), accepted);
}

EndorsementVerdict verify_endorsement(const EndorsementEvidence& evidence, const TrustStore& store, std::time_t now) {
    EndorsementVerdict verdict;
    const Result<PublicArea> area = parse_public_area(evidence.public_area);
    const host::Key ek = area.ok() ? public_key(area.value()) : host::Key{nullptr, EVP_PKEY_free};
    verdict.findings.push_back(judge_public(area, ek.get()));

    const ParsedCertificate parsed = read_certificate(evidence, verdict.quirks);
    X509* const certificate = parsed.certificate.get();
    if (certificate == nullptr) {
        verdict.findings.push_back({"ek certificate", false, parsed.why});
        for (const char* rule : {"ek key", "ek chain", "ek revocation", "ek usage", "ek subject"}) {
            verdict.findings.push_back({rule, false, "there is no certificate to judge"});
        }
        ERR_clear_error();
        return verdict;
    }
    verdict.findings.push_back({"ek certificate", true,
                                "subject " + name_text(X509_get_subject_name(certificate)) + ", issuer " +
                                    name_text(X509_get_issuer_name(certificate))});
    verdict.findings.push_back(judge_key(certificate, ek.get()));
    judge_chain(certificate, evidence, store, now, verdict);
    const EVP_PKEY* const key = X509_get0_pubkey(certificate);
    verdict.findings.push_back(
        judge_usage(certificate, key != nullptr && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA, verdict.quirks));
    std::string why;
    if (const auto tpm = named_tpm(certificate, why, verdict.quirks)) {
        verdict.manufacturer = tpm->manufacturer;
        verdict.model = tpm->model;
        verdict.version = tpm->version;
        verdict.findings.push_back(
            {"ek subject", true, tpm->manufacturer + ", model " + tpm->model + ", version " + tpm->version});
    } else {
        verdict.findings.push_back({"ek subject", false, why});
    }
    ERR_clear_error();
    return verdict;
}

}  // namespace gatehouse::verifier

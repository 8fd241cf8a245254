#include "attestation/verifier/tpm_structures.hpp"

#include <tss2/tss2_tpm2_types.h>

#include <cstdio>
#include <string>

namespace gatehouse::verifier {
namespace {

constexpr std::uint32_t kMaxSelections = 16;
constexpr std::uint32_t kDefaultExponent = 65537;

Result<Selection> read_selection(Reader& reader) {
    Selection selection;
    selection.bank = static_cast<HashAlgorithm>(reader.u16());
    const std::size_t size_at = reader.offset();
    const std::uint8_t size = reader.u8();
    const Bytes bitmap = reader.bytes(size);
    GATEHOUSE_TRY(reader.status("quote: PCR selection"));
    if (size > sizeof(selection.pcrs)) return {Error::kBadLength, "quote: PCR selection", size_at};
    for (std::size_t i = 0; i < bitmap.size(); ++i) {
        selection.pcrs |= std::to_integer<std::uint32_t>(bitmap[i]) << (8 * i);
    }
    return selection;
}

Symmetric read_symmetric(Reader& reader) {
    Symmetric symmetric{.algorithm = static_cast<Algorithm>(reader.u16())};
    if (symmetric.algorithm == Algorithm::kNull) return symmetric;
    symmetric.key_bits = reader.u16();
    symmetric.mode = static_cast<Algorithm>(reader.u16());
    return symmetric;
}

// TPMT_RSA_SCHEME and TPMT_ECC_SCHEME (Part 2, 11.2.4.2 and 11.2.5.6).
void read_scheme(Reader& reader, PublicArea& area) {
    area.scheme = static_cast<Algorithm>(reader.u16());
    if (area.scheme == Algorithm::kNull || area.scheme == Algorithm::kRsaes) return;
    area.scheme_hash = static_cast<HashAlgorithm>(reader.u16());
    if (area.scheme == Algorithm::kEcdaa) reader.skip(2);  // count
}

Status read_rsa(Reader& reader, PublicArea& area) {
    area.symmetric = read_symmetric(reader);
    read_scheme(reader, area);
    const std::size_t bits_at = reader.offset();
    area.key_bits = reader.u16();
    area.exponent = reader.u32();
    if (area.exponent == 0) area.exponent = kDefaultExponent;
    area.modulus = reader.sized();
    GATEHOUSE_TRY(reader.status("public area: RSA parameters"));
    // An empty one is a template's.
    if (!area.modulus.empty() && area.modulus.size() * 8 != area.key_bits) {
        return {Error::kBadLength, "public area: RSA modulus", bits_at};
    }
    return {};
}

Status read_ecc(Reader& reader, PublicArea& area) {
    area.symmetric = read_symmetric(reader);
    read_scheme(reader, area);
    area.curve = static_cast<Curve>(reader.u16());
    if (static_cast<Algorithm>(reader.u16()) != Algorithm::kNull) reader.skip(2);  // KDF and its hash
    area.x = reader.sized();
    area.y = reader.sized();
    return reader.status("public area: ECC parameters");
}

Status read_keyed_hash(Reader& reader, PublicArea& area) {
    area.scheme = static_cast<Algorithm>(reader.u16());
    if (area.scheme != Algorithm::kNull) area.scheme_hash = static_cast<HashAlgorithm>(reader.u16());
    if (area.scheme == static_cast<Algorithm>(TPM2_ALG_XOR)) reader.skip(2);  // KDF
    area.unique = reader.sized();
    return reader.status("public area: keyed hash parameters");
}

Status read_parameters(Reader& reader, PublicArea& area) {
    switch (area.type) {
        case Algorithm::kRsa: return read_rsa(reader, area);
        case Algorithm::kEcc: return read_ecc(reader, area);
        case Algorithm::kKeyedHash: return read_keyed_hash(reader, area);
        case Algorithm::kSymmetricCipher:
            area.symmetric = read_symmetric(reader);
            area.unique = reader.sized();
            return reader.status("public area: symmetric parameters");
        default: return {Error::kUnsupported, "public area: type", 0};
    }
}

}  // namespace

const char* attestation_kind(std::uint16_t structure_tag) {
    switch (structure_tag) {
        case TPM2_ST_ATTEST_NV: return "NV certify";
        case TPM2_ST_ATTEST_COMMAND_AUDIT: return "command audit";
        case TPM2_ST_ATTEST_SESSION_AUDIT: return "session audit";
        case TPM2_ST_ATTEST_CERTIFY: return "certify";
        case TPM2_ST_ATTEST_QUOTE: return "quote";
        case TPM2_ST_ATTEST_TIME: return "time";
        case TPM2_ST_ATTEST_CREATION: return "creation";
        case 0x801c:  // TPM_ST_ATTEST_NV_DIGEST, newer than the headers
            return "NV digest";
        default: return "unknown";
    }
}

std::string algorithm_name(Algorithm algorithm) {
    switch (algorithm) {
        case Algorithm::kRsa: return "RSA";
        case Algorithm::kAes: return "AES";
        case Algorithm::kKeyedHash: return "keyed hash";
        case Algorithm::kNull: return "none";
        case Algorithm::kRsassa: return "RSASSA";
        case Algorithm::kRsaes: return "RSAES";
        case Algorithm::kRsapss: return "RSAPSS";
        case Algorithm::kOaep: return "OAEP";
        case Algorithm::kEcdsa: return "ECDSA";
        case Algorithm::kEcdh: return "ECDH";
        case Algorithm::kEcdaa: return "ECDAA";
        case Algorithm::kEcc: return "ECC";
        case Algorithm::kSymmetricCipher: return "symmetric cipher";
        case Algorithm::kCfb: return "CFB";
    }
    char text[24];
    std::snprintf(text, sizeof(text), "algorithm 0x%04x", static_cast<unsigned>(algorithm));
    return text;
}

Result<Attestation> parse_attestation(Bytes bytes) {
    Reader reader(bytes, Endian::kBig);
    const std::uint32_t magic = reader.u32();
    const std::uint16_t type = reader.u16();
    GATEHOUSE_TRY(reader.status("quote"));
    if (magic != TPM2_GENERATED_VALUE) return {Error::kBadMagic, "quote: not generated by a TPM", 0};
    if (type != TPM2_ST_ATTEST_QUOTE) return {Error::kBadValue, "quote: another kind of attestation", 4};
    Attestation attestation;
    attestation.qualified_signer = reader.sized();
    attestation.extra_data = reader.sized();
    attestation.clock = reader.u64();
    attestation.reset_count = reader.u32();
    attestation.restart_count = reader.u32();
    const std::size_t safe_at = reader.offset();
    const std::uint8_t safe = reader.u8();
    attestation.firmware_version = reader.u64();
    const std::size_t count_at = reader.offset();
    const std::uint32_t count = reader.u32();
    GATEHOUSE_TRY(reader.status("quote"));
    if (safe > 1) return {Error::kBadValue, "quote: safe", safe_at};
    attestation.clock_safe = safe == 1;
    if (count > kMaxSelections) return {Error::kBadValue, "quote: number of PCR selections", count_at};
    attestation.selections.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        GATEHOUSE_ASSIGN(const Selection selection, read_selection(reader));
        attestation.selections.push_back(selection);
    }
    attestation.pcr_digest = reader.sized();
    GATEHOUSE_TRY(reader.finished("quote"));
    return attestation;
}

Result<Bytes> parse_session_audit(Bytes bytes) {
    Reader reader(bytes, Endian::kBig);
    const std::uint32_t magic = reader.u32();
    const std::uint16_t type = reader.u16();
    GATEHOUSE_TRY(reader.status("session audit"));
    if (magic != TPM2_GENERATED_VALUE) return {Error::kBadMagic, "session audit: not generated by a TPM", 0};
    if (type != TPM2_ST_ATTEST_SESSION_AUDIT)
        return {Error::kBadValue, "session audit: another kind of attestation", 4};
    (void)reader.sized();        // qualifiedSigner
    (void)reader.sized();        // extraData
    reader.skip(8 + 4 + 4 + 1);  // clockInfo
    reader.skip(8);              // firmwareVersion
    reader.skip(1);              // exclusiveSession: what else the TPM did meanwhile does not matter
    const Bytes digest = reader.sized();
    GATEHOUSE_TRY(reader.finished("session audit"));
    return digest;
}

Result<Signature> parse_signature(Bytes bytes) {
    Reader reader(bytes, Endian::kBig);
    Signature signature;
    signature.scheme = static_cast<Algorithm>(reader.u16());
    signature.hash = static_cast<HashAlgorithm>(reader.u16());
    GATEHOUSE_TRY(reader.status("signature"));
    switch (signature.scheme) {
        case Algorithm::kEcdsa:
            signature.r = reader.sized();
            signature.s = reader.sized();
            break;
        case Algorithm::kRsassa:
        case Algorithm::kRsapss: signature.rsa = reader.sized(); break;
        default: return {Error::kUnsupported, "signature: scheme is not ECDSA, RSASSA or RSAPSS", 0};
    }
    if (!can_hash(signature.hash) || signature.hash == HashAlgorithm::kSha1) {
        return {Error::kUnsupported, "signature: hash is not SHA-256, SHA-384 or SHA-512", 2};
    }
    GATEHOUSE_TRY(reader.finished("signature"));
    return signature;
}

Result<PublicArea> parse_public_area(Bytes bytes) {
    Reader reader(bytes, Endian::kBig);
    PublicArea area;
    area.type = static_cast<Algorithm>(reader.u16());
    area.name_algorithm = static_cast<HashAlgorithm>(reader.u16());
    area.attributes = reader.u32();
    const std::size_t policy_at = reader.offset();
    area.policy = reader.sized();
    GATEHOUSE_TRY(reader.status("public area"));
    if (!can_hash(area.name_algorithm)) return {Error::kUnsupported, "public area: name algorithm", 2};
    if (!area.policy.empty() && area.policy.size() != digest_size(area.name_algorithm)) {
        return {Error::kBadLength, "public area: policy", policy_at};
    }
    GATEHOUSE_TRY(read_parameters(reader, area));
    GATEHOUSE_TRY(reader.finished("public area"));
    return area;
}

Result<Bytes> parse_sized(Bytes bytes, const char* item) {
    Reader reader(bytes, Endian::kBig);
    const Bytes contents = reader.sized();
    GATEHOUSE_TRY(reader.finished(item));
    return contents;
}

Bytes without_size(Bytes public_area) {
    const Result<Bytes> inside = parse_sized(public_area, "public area");
    return inside.ok() ? *inside : public_area;
}

ObjectName name_of_parts(HashAlgorithm algorithm, std::initializer_list<Bytes> parts) {
    Hash hash(algorithm);
    for (const Bytes part : parts) hash.update(part);
    ObjectName name;
    store(name.storage.data(), static_cast<std::uint16_t>(algorithm), Endian::kBig);
    const Digest digest = hash.finish();
    copy_bytes(MutableBytes(name.storage).subspan(2), digest.bytes());
    name.size = 2 + digest.bytes().size();
    return name;
}

Result<ObjectName> name_of_public_area(Bytes public_area) {
    GATEHOUSE_ASSIGN(const PublicArea area, parse_public_area(public_area));
    return name_of_parts(area.name_algorithm, {public_area});
}

}  // namespace gatehouse::verifier

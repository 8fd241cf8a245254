// TPM structures that endpoints send, read as hostile bytes. "Part 2" is that of the TPM 2.0 Library
// Specification, revision 1.59. All numbers are big-endian; all `Bytes` are views into the parsed bytes.
//
// Every parser reads the whole of its input (kTrailingBytes if some is left over) and answers an error with
// the item in words and, in Failure::detail, its offset.
#pragma once

#include <string>
#include <vector>

#include "hypervisor/base/hash.hpp"

namespace gatehouse::verifier {

// --- TPMS_ATTEST (Part 2, 10.12.12)

// PCRs of one bank: bit n of `pcrs` is PCR n (0 to 31).
struct Selection {
    HashAlgorithm bank = HashAlgorithm::kSha256;  // perhaps one that is not known
    std::uint32_t pcrs = 0;
};

// A quote's.
struct Attestation {
    Bytes qualified_signer;  // Name, nameAlg first
    Bytes extra_data;
    std::uint64_t clock = 0;  // milliseconds
    std::uint32_t reset_count = 0;
    std::uint32_t restart_count = 0;
    bool clock_safe = false;
    std::uint64_t firmware_version = 0;
    std::vector<Selection> selections;  // in the order quoted
    Bytes pcr_digest;
};
// kBadMagic: not made by a TPM (TPM_GENERATED_VALUE). kBadValue: another kind of attestation, or a value
// outside of its domain. kBadLength: a PCR bitmap of more than 4 bytes. kTruncated, kTrailingBytes.
[[nodiscard]] Result<Attestation> parse_attestation(Bytes bytes);

// The session digest of a TPMS_ATTEST with a TPMS_SESSION_AUDIT_INFO (Part 2, 10.12.6). Errors as parse_attestation()'s.
[[nodiscard]] Result<Bytes> parse_session_audit(Bytes bytes);

// "certify" for TPM_ST_ATTEST_CERTIFY and so on; "unknown" for what is no attestation.
[[nodiscard]] const char* attestation_kind(std::uint16_t structure_tag);

// --- TPMT_SIGNATURE (Part 2, 11.3.4)

// TPM_ALG_ID of what public areas and signatures name (Algorithm Registry, table 3).
enum class Algorithm : std::uint16_t {
    kRsa = 0x0001,
    kAes = 0x0006,
    kKeyedHash = 0x0008,
    kNull = 0x0010,
    kRsassa = 0x0014,
    kRsaes = 0x0015,
    kRsapss = 0x0016,
    kOaep = 0x0017,
    kEcdsa = 0x0018,
    kEcdh = 0x0019,
    kEcdaa = 0x001a,
    kEcc = 0x0023,
    kSymmetricCipher = 0x0025,
    kCfb = 0x0043,
};
// "ECDSA" and the like; "algorithm 0x1234" for others.
[[nodiscard]] std::string algorithm_name(Algorithm algorithm);

struct Signature {
    Algorithm scheme = Algorithm::kNull;  // kEcdsa, kRsassa or kRsapss
    HashAlgorithm hash = HashAlgorithm::kSha256;
    Bytes r;  // of kEcdsa
    Bytes s;
    Bytes rsa;  // of kRsassa and kRsapss
};
// kUnsupported: another scheme, or a hash that is not SHA-256, SHA-384 or SHA-512.
[[nodiscard]] Result<Signature> parse_signature(Bytes bytes);

// --- TPMT_PUBLIC (Part 2, 12.2.4)

// TPMA_OBJECT (Part 2, 8.3).
enum class Attribute : std::uint32_t {
    kFixedTpm = 1u << 1,
    kStClear = 1u << 2,
    kFixedParent = 1u << 4,
    kSensitiveDataOrigin = 1u << 5,
    kUserWithAuth = 1u << 6,
    kAdminWithPolicy = 1u << 7,
    kNoDictionaryAttack = 1u << 10,
    kEncryptedDuplication = 1u << 11,
    kRestricted = 1u << 16,
    kDecrypt = 1u << 17,
    kSign = 1u << 18,
};

// TPM_ECC_CURVE (Part 2, 6.4).
enum class Curve : std::uint16_t { kP256 = 0x0003, kP384 = 0x0004, kP521 = 0x0005 };

// TPMT_SYM_DEF_OBJECT (Part 2, 11.1.7).
struct Symmetric {
    Algorithm algorithm = Algorithm::kNull;
    std::uint16_t key_bits = 0;
    Algorithm mode = Algorithm::kNull;
};

struct PublicArea {
    Algorithm type = Algorithm::kNull;  // kRsa, kEcc, kKeyedHash or kSymmetricCipher
    HashAlgorithm name_algorithm = HashAlgorithm::kSha256;
    std::uint32_t attributes = 0;
    Bytes policy;         // empty, or of the size of name_algorithm
    Symmetric symmetric;  // of kRsa, kEcc and kSymmetricCipher

    Algorithm scheme = Algorithm::kNull;                 // of all but kSymmetricCipher
    HashAlgorithm scheme_hash = HashAlgorithm::kSha256;  // if the scheme has one
    std::uint16_t key_bits = 0;                          // of kRsa
    std::uint32_t exponent = 0;                          // of kRsa; 0 as encoded is 65537 here
    Bytes modulus;                                       // of kRsa
    Curve curve = Curve::kP256;                          // of kEcc; perhaps one that is not known
    Bytes x;                                             // of kEcc
    Bytes y;
    Bytes unique;  // of kKeyedHash and kSymmetricCipher

    [[nodiscard]] bool has(Attribute attribute) const {
        return (attributes & static_cast<std::uint32_t>(attribute)) != 0;
    }
};
// kUnsupported: another type, or a name algorithm that cannot be computed. kBadLength: a policy of another
// size than a digest, an RSA modulus that is not of key_bits.
[[nodiscard]] Result<PublicArea> parse_public_area(Bytes bytes);

// The contents of a TPM2B, which must be the whole of `bytes`.
[[nodiscard]] Result<Bytes> parse_sized(Bytes bytes, const char* item);
// TPMT_PUBLIC of what is given as it is, or as TPM2B_PUBLIC: in either of the forms that programs keep it.
[[nodiscard]] Bytes without_size(Bytes public_area);

// --- Names (Part 1, 16)

inline constexpr std::size_t kMaxNameSize = 2 + kMaxDigestSize;

// nameAlg || H(contents).
struct ObjectName {
    std::array<std::byte, kMaxNameSize> storage{};
    std::size_t size = 0;
    [[nodiscard]] Bytes bytes() const { return Bytes(storage).first(size); }
};
// nameAlg || H(parts one after the other); `algorithm` must satisfy can_hash().
[[nodiscard]] ObjectName name_of_parts(HashAlgorithm algorithm, std::initializer_list<Bytes> parts);
// The Name of a TPMT_PUBLIC, by its name algorithm; the errors of parse_public_area().
[[nodiscard]] Result<ObjectName> name_of_public_area(Bytes public_area);

}  // namespace gatehouse::verifier

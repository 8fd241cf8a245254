#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>

#include "attestation/verifier/endorsement.hpp"
#include "attestation/verifier/openssl_pointers.hpp"
#include "attestation/verifier/public_key.hpp"

namespace gatehouse::verifier {
namespace {

using host::ToolError;

// Labels of Part 1, annexes B.4 and C.6.1 and section 24; the terminating zero is part of each.
constexpr Bytes kNoContext{};
Bytes identity_label() { return std::as_bytes(std::span("IDENTITY")); }
Bytes storage_label() { return std::as_bytes(std::span("STORAGE")); }
Bytes integrity_label() { return std::as_bytes(std::span("INTEGRITY")); }

// Bytes that are wiped when they go.
struct Sensitive {
    Buffer bytes;
    explicit Sensitive(std::size_t size) : bytes(size) {}
    ~Sensitive() { wipe(MutableBytes(bytes)); }
    Sensitive(const Sensitive&) = delete;
    Sensitive& operator=(const Sensitive&) = delete;
    Sensitive(Sensitive&&) = default;
};

[[noreturn]] void fail(const char* what) {
    ERR_clear_error();
    throw ToolError(std::string("credential: ") + what);
}

const EVP_MD* method_of(HashAlgorithm algorithm) {
    switch (algorithm) {
        case HashAlgorithm::kSha256: return EVP_sha256();
        case HashAlgorithm::kSha384: return EVP_sha384();
        case HashAlgorithm::kSha512: return EVP_sha512();
        default: fail("the EK's name algorithm is none of SHA-256, SHA-384, SHA-512");
    }
}

void append(Buffer& out, Bytes bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }
void append_u16(Buffer& out, std::size_t value) {
    out.push_back(static_cast<std::byte>(value >> 8 & 0xff));
    out.push_back(static_cast<std::byte>(value & 0xff));
}
void append_u32(Buffer& out, std::size_t value) {
    append_u16(out, value >> 16);
    append_u16(out, value & 0xffff);
}
void append_sized(Buffer& out, Bytes bytes) {
    append_u16(out, bytes.size());
    append(out, bytes);
}

Buffer hmac(HashAlgorithm algorithm, Bytes key, Bytes message) {
    Buffer out(digest_size(algorithm));
    unsigned size = 0;
    if (HMAC(method_of(algorithm), key.data(), static_cast<int>(key.size()), raw(message), message.size(),
             raw(MutableBytes(out)), &size) == nullptr) {
        fail("HMAC failed in OpenSSL");
    }
    return out;
}

// KDFa (Part 1, 11.4.10.2): HMAC in counter mode of SP 800-108. At most one digest's bits are needed here.
Sensitive kdf_a(HashAlgorithm algorithm, Bytes key, Bytes label, Bytes context, std::size_t bits) {
    Buffer message;
    append_u32(message, 1);
    append(message, label);
    append(message, context);
    append_u32(message, bits);
    Sensitive out(0);
    out.bytes = hmac(algorithm, key, message);
    if (bits / 8 > out.bytes.size()) fail("the EK's symmetric key is longer than its name algorithm's digest");
    out.bytes.resize(bits / 8);
    return out;
}

// KDFe (Part 1, 11.4.10.3), for one digest's bits.
Sensitive kdf_e(HashAlgorithm algorithm, Bytes z, Bytes label, Bytes party_u, Bytes party_v) {
    std::array<std::byte, 4> counter{};
    counter[3] = std::byte{1};
    Hash running(algorithm);
    running.update(counter).update(z).update(label).update(party_u).update(party_v);
    const Digest digest = running.finish();
    Sensitive out(digest.bytes().size());
    copy_bytes(out.bytes, digest.bytes());
    return out;
}

struct Seed {
    Sensitive seed;
    Buffer encrypted;  // contents of TPM2B_ENCRYPTED_SECRET
};

// Part 1, annex B.10.4: OAEP with the name algorithm, and the label with its zero.
Seed rsa_seed(const PublicArea& ek, EVP_PKEY* key) {
    Seed result{Sensitive(digest_size(ek.name_algorithm)), {}};
    if (RAND_bytes(raw(MutableBytes(result.seed.bytes)), static_cast<int>(result.seed.bytes.size())) != 1) {
        fail("no random numbers from OpenSSL");
    }
    const EVP_MD* const method = method_of(ek.name_algorithm);
    const Bytes label = identity_label();
    // OpenSSL takes ownership of the label.
    auto* const copy = static_cast<unsigned char*>(OPENSSL_memdup(label.data(), label.size()));
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
    if (!context || EVP_PKEY_encrypt_init(context.get()) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(context.get(), RSA_PKCS1_OAEP_PADDING) != 1 ||
        EVP_PKEY_CTX_set_rsa_oaep_md(context.get(), method) != 1 ||
        EVP_PKEY_CTX_set_rsa_mgf1_md(context.get(), method) != 1 ||
        EVP_PKEY_CTX_set0_rsa_oaep_label(context.get(), copy, static_cast<int>(label.size())) != 1) {
        OPENSSL_free(copy);
        fail("OpenSSL does not take the EK for OAEP");
    }
    std::size_t size = ek.modulus.size();
    result.encrypted.resize(size);
    if (EVP_PKEY_encrypt(context.get(), raw(MutableBytes(result.encrypted)), &size, raw(Bytes(result.seed.bytes)),
                         result.seed.bytes.size()) != 1) {
        fail("OpenSSL cannot encrypt to the EK");
    }
    result.encrypted.resize(size);
    return result;
}

// Part 1, annex C.6.1 and C.6.3: one-pass Diffie-Hellman with an ephemeral key.
Seed ecc_seed(const PublicArea& ek, EVP_PKEY* key) {
    const std::size_t size = coordinate_size(ek.curve);
    const host::Key ephemeral{EVP_EC_gen(curve_name(ek.curve)), EVP_PKEY_free};
    Buffer point(1 + 2 * size);
    std::size_t point_size = 0;
    if (!ephemeral ||
        EVP_PKEY_get_octet_string_param(ephemeral.get(), OSSL_PKEY_PARAM_PUB_KEY, raw(MutableBytes(point)),
                                        point.size(), &point_size) != 1 ||
        point_size != point.size() || point[0] != std::byte{4}) {
        fail("OpenSSL makes no ephemeral key");
    }
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_pkey(nullptr, ephemeral.get(), nullptr));
    Sensitive z(size);
    std::size_t z_size = size;
    if (!context || EVP_PKEY_derive_init(context.get()) != 1 || EVP_PKEY_derive_set_peer(context.get(), key) != 1 ||
        EVP_PKEY_derive(context.get(), raw(MutableBytes(z.bytes)), &z_size) != 1 || z_size != size) {
        fail("OpenSSL cannot agree on a key with the EK");
    }
    const Bytes x = Bytes(point).subspan(1, size);
    const Bytes y = Bytes(point).subspan(1 + size, size);
    Buffer ek_x(size);  // with the leading zeros that a TPM may leave out
    copy_bytes(MutableBytes(ek_x).subspan(size - ek.x.size()), ek.x);
    Seed result{kdf_e(ek.name_algorithm, z.bytes, identity_label(), x, ek_x), {}};
    append_sized(result.encrypted, x);
    append_sized(result.encrypted, y);
    return result;
}

Buffer encrypt(Bytes key, Bytes plain) {
    const EVP_CIPHER* const method = key.size() == 16 ? EVP_aes_128_cfb128() : EVP_aes_256_cfb128();
    const std::array<unsigned char, 16> zero{};
    Buffer out(plain.size());
    int size = 0;
    const openssl::CipherContext context(EVP_CIPHER_CTX_new());
    if (!context || EVP_EncryptInit_ex(context.get(), method, nullptr, raw(key), zero.data()) != 1 ||
        EVP_EncryptUpdate(context.get(), raw(MutableBytes(out)), &size, raw(plain), static_cast<int>(plain.size())) !=
            1) {
        fail("AES failed in OpenSSL");
    }
    return out;
}

}  // namespace

Credential make_credential(Bytes ek_public_area, Bytes object_name, Bytes secret) {
    const PublicArea ek = host::expect(parse_public_area(ek_public_area), "credential: EK");
    const HashAlgorithm algorithm = ek.name_algorithm;
    (void)method_of(algorithm);
    if (ek.symmetric.algorithm != Algorithm::kAes || ek.symmetric.mode != Algorithm::kCfb ||
        (ek.symmetric.key_bits != 128 && ek.symmetric.key_bits != 256)) {
        fail("the EK's symmetric algorithm is not AES-128 or AES-256 in CFB mode");
    }
    if (secret.empty() || secret.size() > digest_size(algorithm)) {
        fail("the secret is empty, or longer than a digest of the EK's name algorithm");
    }
    if (object_name.size() <= 2 || object_name.size() > kMaxNameSize) fail("the object's name is not a name");
    const host::Key key = public_key(ek);
    if (!key) fail("the EK is not RSA, nor a point of P-256, P-384 or P-521");

    const Seed seed = ek.type == Algorithm::kRsa ? rsa_seed(ek, key.get()) : ecc_seed(ek, key.get());
    const Sensitive storage = kdf_a(algorithm, seed.seed.bytes, storage_label(), object_name, ek.symmetric.key_bits);
    const Sensitive integrity =
        kdf_a(algorithm, seed.seed.bytes, integrity_label(), kNoContext, 8 * digest_size(algorithm));
    Sensitive plain(0);
    append_sized(plain.bytes, secret);
    const Buffer encrypted = encrypt(storage.bytes, plain.bytes);
    Buffer authenticated = encrypted;
    append(authenticated, object_name);
    Buffer contents;
    append_sized(contents, hmac(algorithm, integrity.bytes, authenticated));
    append(contents, encrypted);

    Credential credential;
    append_sized(credential.blob, contents);
    append_sized(credential.secret, seed.encrypted);
    return credential;
}

}  // namespace gatehouse::verifier

#include "keyvault/host_support/authority.hpp"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "keyvault/tpm_templates/templates.hpp"

namespace gatehouse::host {
namespace {

constexpr std::size_t kCoordinate = 32;

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Number = std::unique_ptr<BIGNUM, decltype(&BN_free)>;

Bio open_pem(const std::string& path) {
    Bio bio(BIO_new_file(path.c_str(), "r"), BIO_free);
    if (!bio) throw ToolError(path + ": cannot be opened: " + std::strerror(errno));
    return bio;
}

Number number_of(const EVP_PKEY* key, const char* name) {
    BIGNUM* number = nullptr;
    if (EVP_PKEY_get_bn_param(key, name, &number) != 1) throw ToolError(std::string("key: no parameter ") + name);
    return {number, BN_free};
}

Buffer padded(const BIGNUM* number, std::size_t size) {
    Buffer bytes(size);
    if (BN_bn2binpad(number, raw(MutableBytes(bytes)), static_cast<int>(size)) < 0) {
        throw ToolError("key: number of more than " + std::to_string(size) + " bytes");
    }
    return bytes;
}

bool is_p256(const EVP_PKEY* key) {
    char group[32];
    std::size_t size = 0;
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
           EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof(group), &size) == 1 &&
           (std::string_view(group, size) == "prime256v1" || std::string_view(group, size) == "P-256");
}

// r || s of a DER signature.
Buffer ecdsa_of(Bytes der) {
    const unsigned char* at = raw(der);
    const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> parsed(
        d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size())), ECDSA_SIG_free);
    if (!parsed) throw ToolError("signing: OpenSSL made no ECDSA signature");
    Buffer both = padded(ECDSA_SIG_get0_r(parsed.get()), kCoordinate);
    const Buffer s = padded(ECDSA_SIG_get0_s(parsed.get()), kCoordinate);
    both.insert(both.end(), s.begin(), s.end());
    return both;
}

// The other way, of numbers of one coordinate's size each; else empty.
Buffer der_of(Bytes r, Bytes s) {
    if (r.size() != kCoordinate || s.size() != kCoordinate) return {};
    const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> both(ECDSA_SIG_new(), ECDSA_SIG_free);
    Number first(BN_bin2bn(raw(r), kCoordinate, nullptr), BN_free);
    Number second(BN_bin2bn(raw(s), kCoordinate, nullptr), BN_free);
    if (!both || !first || !second || ECDSA_SIG_set0(both.get(), first.get(), second.get()) != 1) {
        throw ToolError("signature: no memory");
    }
    (void)first.release();
    (void)second.release();
    Buffer der(128);
    unsigned char* end = raw(MutableBytes(der));
    der.resize(static_cast<std::size_t>(i2d_ECDSA_SIG(both.get(), &end)));
    return der;
}

// As OpenSSL encodes it.
Buffer sign_encoded(EVP_PKEY* key, const Sha256Digest& digest) {
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(EVP_PKEY_CTX_new(key, nullptr),
                                                                              EVP_PKEY_CTX_free);
    Buffer signature(1024);
    std::size_t size = signature.size();
    if (!context || EVP_PKEY_sign_init(context.get()) != 1 ||
        // Of ECDSA it says the digest's size alone, and is looked up by name each time.
        (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC && EVP_PKEY_CTX_set_signature_md(context.get(), EVP_sha256()) != 1) ||
        EVP_PKEY_sign(context.get(), raw(MutableBytes(signature)), &size, raw(digest), digest.size()) != 1) {
        ERR_clear_error();
        throw ToolError("signing failed: is the key a private one?");
    }
    signature.resize(size);
    return signature;
}

// With the exponent 65537.
Key rsa_key(Bytes modulus) {
    const Number n(BN_bin2bn(raw(modulus), static_cast<int>(modulus.size()), nullptr), BN_free);
    const std::unique_ptr<OSSL_PARAM_BLD, decltype(&OSSL_PARAM_BLD_free)> builder(OSSL_PARAM_BLD_new(),
                                                                                  OSSL_PARAM_BLD_free);
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> maker(
        EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr), EVP_PKEY_CTX_free);
    if (!n || !builder || !maker || OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
        OSSL_PARAM_BLD_push_ulong(builder.get(), OSSL_PKEY_PARAM_RSA_E, 65537) != 1) {
        throw ToolError("authority key: no memory");
    }
    const std::unique_ptr<OSSL_PARAM, decltype(&OSSL_PARAM_free)> parameters(OSSL_PARAM_BLD_to_param(builder.get()),
                                                                             OSSL_PARAM_free);
    EVP_PKEY* key = nullptr;
    if (!parameters || EVP_PKEY_fromdata_init(maker.get()) != 1 ||
        EVP_PKEY_fromdata(maker.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
        ERR_clear_error();
        throw ToolError("authority key: OpenSSL takes no such RSA modulus");
    }
    return {key, EVP_PKEY_free};
}

}  // namespace

Key read_public_key(const std::string& path) {
    {
        const Bio bio = open_pem(path);
        if (Key key(PEM_read_bio_PUBKEY(bio.get(), nullptr, no_pass_phrase, nullptr), EVP_PKEY_free); key) return key;
    }
    const Bio bio = open_pem(path);
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(
        PEM_read_bio_X509(bio.get(), nullptr, no_pass_phrase, nullptr), X509_free);
    ERR_clear_error();
    if (certificate) return {X509_get_pubkey(certificate.get()), EVP_PKEY_free};
    throw ToolError(path + ": no public key in PEM form (openssl pkey -pubout makes one)");
}

Key read_private_key(const std::string& path) {
    const Bio bio = open_pem(path);
    Key key(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
    if (!key) {
        ERR_clear_error();
        throw ToolError(path + ": no private key in PEM form, or a wrong pass phrase");
    }
    return key;
}

tpm::PublicArea authority_public_area(const EVP_PKEY* key) {
    if (is_p256(key)) {
        return expect(tpm::authority_public_ecc(padded(number_of(key, OSSL_PKEY_PARAM_EC_PUB_X).get(), kCoordinate),
                                                padded(number_of(key, OSSL_PKEY_PARAM_EC_PUB_Y).get(), kCoordinate)),
                      "authority key");
    }
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        if (BN_is_word(number_of(key, OSSL_PKEY_PARAM_RSA_E).get(), 65537) != 1) {
            throw ToolError("authority key: RSA exponent must be 65537");
        }
        const Number modulus = number_of(key, OSSL_PKEY_PARAM_RSA_N);
        return expect(
            tpm::authority_public_rsa(padded(modulus.get(), static_cast<std::size_t>(BN_num_bytes(modulus.get())))),
            "authority key");
    }
    throw ToolError("authority key: must be EC on P-256, or RSA of 2048 or 3072 bits");
}

Key authority_key(Bytes public_area) {
    constexpr std::size_t kKeyBits =
        16;  // where they are: after type, name algorithm, attributes, policy, symmetric, scheme
    constexpr std::size_t kY = 2 + kCoordinate;
    Reader reader(public_area, Endian::kBig);
    const bool elliptic = reader.u16() == TPM2_ALG_ECC;
    reader.skip(kKeyBits - 2);
    const std::size_t number = elliptic ? kCoordinate + kY : reader.u16() / 8u;
    Key key(nullptr, EVP_PKEY_free);
    if (!reader.failed() && number < public_area.size()) {
        const Bytes end = public_area.last(number);
        key = elliptic ? ecc_key(end.first(kCoordinate), end.last(kCoordinate)) : rsa_key(end);
    }
    if (!key || !equal_bytes(authority_public_area(key.get()).bytes(), public_area)) {
        throw ToolError("authority key: not of a form that policyctl writes");
    }
    return key;
}

tpm::SignatureBlob sign_digest(EVP_PKEY* key, const Sha256Digest& digest) {
    const Buffer signature = sign_encoded(key, digest);
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC) return expect(tpm::signature_rsassa(signature), "signing");
    const Buffer both = ecdsa_of(signature);
    return expect(tpm::signature_ecdsa(Bytes(both).first(kCoordinate), Bytes(both).last(kCoordinate)), "signing");
}

bool verify_digest(EVP_PKEY* key, const Sha256Digest& digest, Bytes signature) {
    (void)authority_public_area(key);
    const bool elliptic = EVP_PKEY_get_base_id(key) == EVP_PKEY_EC;
    Reader reader(signature, Endian::kBig);
    const bool of_this_kind =
        reader.u16() == (elliptic ? TPM2_ALG_ECDSA : TPM2_ALG_RSASSA) && reader.u16() == TPM2_ALG_SHA256;
    const Bytes first = reader.sized();
    const Bytes second = elliptic ? reader.sized() : Bytes{};
    if (!of_this_kind || !reader.finished("signature").ok()) return false;
    const Buffer encoded = elliptic ? der_of(first, second) : Buffer(first.begin(), first.end());
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(EVP_PKEY_CTX_new(key, nullptr),
                                                                              EVP_PKEY_CTX_free);
    const bool good = context && EVP_PKEY_verify_init(context.get()) == 1 &&
                      EVP_PKEY_CTX_set_signature_md(context.get(), EVP_sha256()) == 1 &&
                      EVP_PKEY_verify(context.get(), raw(encoded), encoded.size(), raw(digest), digest.size()) == 1;
    ERR_clear_error();
    return good;
}

Buffer p256_point(const EVP_PKEY* key, const std::string& item) {
    if (!is_p256(key)) throw ToolError(item + ": must be a key on P-256 (openssl genpkey -algorithm EC ...)");
    Buffer point(1, std::byte{4});  // uncompressed
    for (const char* const name : {OSSL_PKEY_PARAM_EC_PUB_X, OSSL_PKEY_PARAM_EC_PUB_Y}) {
        const Buffer coordinate = padded(number_of(key, name).get(), kCoordinate);
        point.insert(point.end(), coordinate.begin(), coordinate.end());
    }
    return point;
}

Buffer sign_p256(EVP_PKEY* key, const Sha256Digest& digest) { return ecdsa_of(sign_encoded(key, digest)); }

Key ecc_key(Bytes x, Bytes y) {
    Buffer point(1 + 2 * kCoordinate, std::byte{4});  // uncompressed
    if (x.size() != kCoordinate || y.size() != kCoordinate) throw ToolError("P-256 key: wrong size of its point");
    copy_bytes(MutableBytes(point).subspan(1), x);
    copy_bytes(MutableBytes(point).subspan(1 + kCoordinate), y);
    char group[] = "P-256";
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
                               OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()),
                               OSSL_PARAM_construct_end()};
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> maker(
        EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr), EVP_PKEY_CTX_free);
    EVP_PKEY* key = nullptr;
    if (!maker || EVP_PKEY_fromdata_init(maker.get()) != 1 ||
        EVP_PKEY_fromdata(maker.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters) != 1) {
        ERR_clear_error();
        throw ToolError("P-256 key: its point is not on the curve");
    }
    return {key, EVP_PKEY_free};
}

std::string public_key_pem(const EVP_PKEY* key) {
    const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
    char* text = nullptr;
    if (!bio || PEM_write_bio_PUBKEY(bio.get(), key) != 1) throw ToolError("public key: cannot be written as PEM");
    const long size = BIO_get_mem_data(bio.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

}  // namespace gatehouse::host

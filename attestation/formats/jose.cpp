#include "attestation/formats/jose.hpp"

#include <openssl/err.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "attestation/verifier/ecdsa_der.hpp"
#include "attestation/verifier/token.hpp"
#include "hypervisor/base/hash.hpp"
#include "keyvault/host_support/authority.hpp"

namespace gatehouse::formats {
namespace {

using nlohmann::json;

constexpr std::size_t kNumberSize = 32;  // of a coordinate, r and s

struct Point {
    std::string x, y;  // base64url
};
Point point_of(const EVP_PKEY* key) {
    const host::Buffer point = host::p256_point(key, "signing key");
    const Bytes bytes(point);
    return {verifier::base64url(bytes.subspan(1, kNumberSize)), verifier::base64url(bytes.subspan(1 + kNumberSize))};
}

}  // namespace

// RFC 7638, section 3.2: the members that a key needs, in the order of their names, without spaces.
std::string key_id(const EVP_PKEY* key) {
    const Point point = point_of(key);
    return verifier::base64url(
        sha256(host::text_bytes(R"({"crv":"P-256","kty":"EC","x":")" + point.x + R"(","y":")" + point.y + R"("})")));
}

json public_jwk(const EVP_PKEY* key) {
    const Point point = point_of(key);
    return {{"kty", "EC"},  {"crv", "P-256"}, {"x", point.x},      {"y", point.y},
            {"use", "sig"}, {"alg", "ES256"}, {"kid", key_id(key)}};
}

std::string sign_jwt(std::string_view payload, std::string_view type, EVP_PKEY* key, const std::string& id) {
    const json header{{"alg", "ES256"}, {"kid", id}, {"typ", type}};
    std::string jws =
        verifier::base64url(host::text_bytes(header.dump())) + "." + verifier::base64url(host::text_bytes(payload));
    jws += "." + verifier::base64url(host::sign_p256(key, sha256(host::text_bytes(jws))));
    return jws;
}

bool verify_p256(Bytes message, Bytes signature, const EVP_PKEY* key) {
    if (signature.size() != 2 * kNumberSize || EVP_PKEY_get_bits(key) != 256 ||
        EVP_PKEY_get_base_id(key) != EVP_PKEY_EC)
        return false;
    const verifier::EcdsaDer der = verifier::ecdsa_der(signature.first(kNumberSize), signature.subspan(kNumberSize));
    const Sha256Digest digest = sha256(message);
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
        EVP_PKEY_CTX_new_from_pkey(nullptr, const_cast<EVP_PKEY*>(key), nullptr), EVP_PKEY_CTX_free);
    const bool good = context && EVP_PKEY_verify_init(context.get()) == 1 &&
                      EVP_PKEY_verify(context.get(), der.storage.data(), der.size,
                                      reinterpret_cast<const unsigned char*>(digest.data()), digest.size()) == 1;
    if (!good) ERR_clear_error();
    return good;
}

}  // namespace gatehouse::formats

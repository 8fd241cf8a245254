#include "attestation/verifier/public_key.hpp"

#include <openssl/core_names.h>
#include <openssl/err.h>

#include "attestation/verifier/openssl_pointers.hpp"

namespace gatehouse::verifier {
namespace {

constexpr int kLeastRsaBits = 2048;

host::Key from_parameters(const char* type, OSSL_PARAM_BLD* builder) {
    const openssl::Parameters parameters(OSSL_PARAM_BLD_to_param(builder));
    const openssl::KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr));
    EVP_PKEY* key = nullptr;
    if (!parameters || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1) {
        ERR_clear_error();  // of a hostile key, and nobody else's business
        key = nullptr;
    }
    return {key, EVP_PKEY_free};
}

host::Key rsa_key(const PublicArea& area) {
    const openssl::BigNumber n(BN_bin2bn(raw(area.modulus), static_cast<int>(area.modulus.size()), nullptr));
    const openssl::BigNumber e(BN_new());
    const openssl::ParameterBuilder builder(OSSL_PARAM_BLD_new());
    if (!n || !e || !builder || BN_set_word(e.get(), area.exponent) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
        OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1) {
        return {nullptr, EVP_PKEY_free};
    }
    return from_parameters("RSA", builder.get());
}

host::Key ecc_key(const PublicArea& area) {
    const std::size_t size = coordinate_size(area.curve);
    if (size == 0 || area.x.size() > size || area.y.size() > size) return {nullptr, EVP_PKEY_free};
    host::Buffer point(1 + 2 * size);
    point[0] = std::byte{4};  // uncompressed (SEC 1, 2.3.3)
    // A TPM may leave out leading zeros.
    copy_bytes(MutableBytes(point).subspan(1 + size - area.x.size()), area.x);
    copy_bytes(MutableBytes(point).subspan(1 + 2 * size - area.y.size()), area.y);
    const openssl::ParameterBuilder builder(OSSL_PARAM_BLD_new());
    if (!builder ||
        OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, curve_name(area.curve), 0) != 1 ||
        OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) != 1) {
        return {nullptr, EVP_PKEY_free};
    }
    return from_parameters("EC", builder.get());
}

// OpenSSL's name of the group, "" if the key is not on a named one.
std::string group_of(const EVP_PKEY* key) {
    char name[64] = "";
    std::size_t size = 0;
    if (EVP_PKEY_get_group_name(key, name, sizeof(name), &size) != 1) return "";
    return {name, size};
}

}  // namespace

host::Key public_key(const PublicArea& area) {
    if (area.type == Algorithm::kRsa && !area.modulus.empty()) return rsa_key(area);
    if (area.type == Algorithm::kEcc) return ecc_key(area);
    return {nullptr, EVP_PKEY_free};
}

const char* curve_name(Curve curve) {
    switch (curve) {
        case Curve::kP256: return "P-256";
        case Curve::kP384: return "P-384";
        case Curve::kP521: return "P-521";
    }
    return nullptr;
}

std::size_t coordinate_size(Curve curve) {
    switch (curve) {
        case Curve::kP256: return 32;
        case Curve::kP384: return 48;
        case Curve::kP521: return 66;
    }
    return 0;
}

std::string describe_key(const EVP_PKEY* key) {
    if (key == nullptr) return "a key of a kind that is not known";
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) return "RSA " + std::to_string(EVP_PKEY_get_bits(key));
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) {
        const std::string group = group_of(key);
        if (group == "prime256v1") return "ECC P-256";
        if (group == "secp384r1") return "ECC P-384";
        if (group == "secp521r1") return "ECC P-521";
        return "ECC " + (group.empty() ? "on a curve without a name" : group);
    }
    const char* const name = EVP_PKEY_get0_type_name(key);
    return name == nullptr ? "a key of a kind that is not known" : name;
}

std::string key_weakness(const EVP_PKEY* key) {
    const std::string kind = describe_key(key);
    if (kind.starts_with("RSA ")) {
        return EVP_PKEY_get_bits(key) >= kLeastRsaBits ? "" : kind + " is too short; 2048 bits at least";
    }
    if (kind == "ECC P-256" || kind == "ECC P-384" || kind == "ECC P-521") return "";
    return kind + " is not one of RSA, P-256, P-384, P-521";
}

}  // namespace gatehouse::verifier

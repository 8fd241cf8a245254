#include "attestation/agent/endorsement_key.hpp"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>

#include "attestation/verifier/tpm_structures.hpp"

namespace gatehouse::agent {
namespace {

using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Number = std::unique_ptr<BIGNUM, decltype(&BN_free)>;

bool equals(const EVP_PKEY* key, const char* parameter, Bytes big_endian) {
    BIGNUM* found = nullptr;
    if (EVP_PKEY_get_bn_param(key, parameter, &found) != 1) return false;
    const Number owned(found, BN_free);
    const Number expected(BN_bin2bn(raw(big_endian), static_cast<int>(big_endian.size()), nullptr), BN_free);
    return expected && BN_cmp(owned.get(), expected.get()) == 0;
}

}  // namespace

bool certifies(Bytes certificate, Bytes public_area) {
    const auto area = verifier::parse_public_area(public_area);
    if (!area.ok()) return false;
    const unsigned char* at = raw(certificate);
    const Certificate parsed(d2i_X509(nullptr, &at, static_cast<long>(certificate.size())), X509_free);
    const EVP_PKEY* const key = parsed ? X509_get0_pubkey(parsed.get()) : nullptr;
    if (key == nullptr) return false;
    switch (area.value().type) {
        case verifier::Algorithm::kRsa:
            return EVP_PKEY_is_a(key, "RSA") == 1 && equals(key, OSSL_PKEY_PARAM_RSA_N, area.value().modulus);
        case verifier::Algorithm::kEcc:
            return EVP_PKEY_is_a(key, "EC") == 1 && equals(key, OSSL_PKEY_PARAM_EC_PUB_X, area.value().x) &&
                   equals(key, OSSL_PKEY_PARAM_EC_PUB_Y, area.value().y);
        default: return false;
    }
}

Bytes contents_of(Bytes bytes, const char* item) {
    const auto contents = verifier::parse_sized(bytes, item);
    if (!contents.ok()) throw host::ToolError("answer of the server: " + host::describe(contents.failure()));
    return contents.value();
}

}  // namespace gatehouse::agent

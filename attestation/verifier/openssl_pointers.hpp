// Owners of OpenSSL's objects.
#pragma once

#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>

namespace gatehouse::verifier::openssl {

template <auto Free>
struct Deleter {
    template <typename T>
    void operator()(T* object) const {
        Free(object);
    }
};
template <typename T, auto Free>
using Pointer = std::unique_ptr<T, Deleter<Free>>;

using BigNumber = Pointer<BIGNUM, BN_free>;
using KeyContext = Pointer<EVP_PKEY_CTX, EVP_PKEY_CTX_free>;
using CipherContext = Pointer<EVP_CIPHER_CTX, EVP_CIPHER_CTX_free>;
using ParameterBuilder = Pointer<OSSL_PARAM_BLD, OSSL_PARAM_BLD_free>;
using Parameters = Pointer<OSSL_PARAM, OSSL_PARAM_free>;
using Certificate = Pointer<X509, X509_free>;
using RevocationList = Pointer<X509_CRL, X509_CRL_free>;
using Store = Pointer<X509_STORE, X509_STORE_free>;
using StoreContext = Pointer<X509_STORE_CTX, X509_STORE_CTX_free>;
using Names = Pointer<GENERAL_NAMES, GENERAL_NAMES_free>;
using KeyIdentifier = Pointer<AUTHORITY_KEYID, AUTHORITY_KEYID_free>;
using DistributionPoints = Pointer<CRL_DIST_POINTS, CRL_DIST_POINTS_free>;
using DistributionPoint = Pointer<ISSUING_DIST_POINT, ISSUING_DIST_POINT_free>;
using Integer = Pointer<ASN1_INTEGER, ASN1_INTEGER_free>;
using KeyUsages = Pointer<EXTENDED_KEY_USAGE, EXTENDED_KEY_USAGE_free>;

struct StackDeleter {
    void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }
};
using CertificateStack = std::unique_ptr<STACK_OF(X509), StackDeleter>;  // does not own the certificates
struct RevocationStackDeleter {
    void operator()(STACK_OF(X509_CRL) * stack) const { sk_X509_CRL_free(stack); }
};
using RevocationStack = std::unique_ptr<STACK_OF(X509_CRL), RevocationStackDeleter>;  // does not own the CRLs

}  // namespace gatehouse::verifier::openssl

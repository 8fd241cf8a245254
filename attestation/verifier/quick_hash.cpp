#include "attestation/verifier/quick_hash.hpp"

#include <openssl/evp.h>

#include <memory>
#include <stdexcept>

namespace gatehouse::verifier {

const EVP_MD* openssl_digest(HashAlgorithm algorithm) {
    // EVP_sha256() and its like are looked up again with each use.
    static const EVP_MD* const kSha1 = EVP_MD_fetch(nullptr, "SHA1", nullptr);
    static const EVP_MD* const kSha256 = EVP_MD_fetch(nullptr, "SHA2-256", nullptr);
    static const EVP_MD* const kSha384 = EVP_MD_fetch(nullptr, "SHA2-384", nullptr);
    static const EVP_MD* const kSha512 = EVP_MD_fetch(nullptr, "SHA2-512", nullptr);
    switch (algorithm) {
        case HashAlgorithm::kSha1: return kSha1;
        case HashAlgorithm::kSha256: return kSha256;
        case HashAlgorithm::kSha384: return kSha384;
        case HashAlgorithm::kSha512: return kSha512;
        default: return nullptr;
    }
}

Digest quick_hash(HashAlgorithm algorithm, std::initializer_list<Bytes> parts) {
    thread_local const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                                       EVP_MD_CTX_free);
    Digest digest{.algorithm = algorithm};
    bool done = context && EVP_DigestInit_ex2(context.get(), openssl_digest(algorithm), nullptr) == 1;
    for (const Bytes part : parts) done = done && EVP_DigestUpdate(context.get(), part.data(), part.size()) == 1;
    done = done && EVP_DigestFinal_ex(context.get(), raw(MutableBytes(digest.storage)), nullptr) == 1;
    if (!done) throw std::runtime_error("OpenSSL cannot hash");
    return digest;
}

}  // namespace gatehouse::verifier

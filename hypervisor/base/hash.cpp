#include "hypervisor/base/hash.hpp"

#include <bearssl/bearssl_hmac.h>
#include <bearssl/bearssl_kdf.h>

namespace gatehouse {
namespace {

const br_hash_class* implementation(HashAlgorithm algorithm) {
    switch (algorithm) {
        case HashAlgorithm::kSha1: return &br_sha1_vtable;
        case HashAlgorithm::kSha256: return &br_sha256_vtable;
        case HashAlgorithm::kSha384: return &br_sha384_vtable;
        case HashAlgorithm::kSha512: return &br_sha512_vtable;
        default: return nullptr;
    }
}

}  // namespace

std::size_t digest_size(HashAlgorithm algorithm) {
    if (algorithm == HashAlgorithm::kSm3_256) return 32;
    const br_hash_class* const known = implementation(algorithm);
    return known == nullptr ? 0 : known->desc >> BR_HASHDESC_OUT_OFF & BR_HASHDESC_OUT_MASK;
}

bool can_hash(HashAlgorithm algorithm) { return implementation(algorithm) != nullptr; }

Hash::Hash(HashAlgorithm algorithm) : algorithm_(algorithm) { implementation(algorithm)->init(&context_.vtable); }

Hash& Hash::update(Bytes data) {
    br_sha256_context& sha256 = context_.sha256;
    if (algorithm_ == HashAlgorithm::kSha256 && sha256.count % kShaBlock == 0 && has_sha_extensions()) {
        const Bytes whole = data.first(data.size() / kShaBlock * kShaBlock);  // what is left of them is BearSSL's
        sha256_blocks(sha256.val, whole);
        sha256.count += whole.size();
        data = data.subspan(whole.size());
    }
    context_.vtable->update(&context_.vtable, data.data(), data.size());
    return *this;
}

Digest Hash::finish() const {
    Digest digest{.algorithm = algorithm_};
    context_.vtable->out(&context_.vtable, digest.storage.data());
    return digest;
}

Digest hash(HashAlgorithm algorithm, Bytes data) { return Hash(algorithm).update(data).finish(); }

Sha256Digest sha256(Bytes data) { return sha256({data}); }

Sha256Digest sha256(std::initializer_list<Bytes> parts) {
    Hash running(HashAlgorithm::kSha256);
    for (const Bytes part : parts) running.update(part);
    Sha256Digest digest;
    copy_bytes(digest, running.finish().bytes());
    return digest;
}

Sha256Digest hmac_sha256(Bytes key, std::initializer_list<Bytes> parts) {
    br_hmac_key_context key_context;
    br_hmac_key_init(&key_context, &br_sha256_vtable, key.data(), key.size());
    br_hmac_context context;
    br_hmac_init(&context, &key_context, 0);
    for (const Bytes part : parts) br_hmac_update(&context, part.data(), part.size());
    Sha256Digest digest;
    br_hmac_out(&context, digest.data());
    wipe(&key_context, sizeof(key_context));
    wipe(&context, sizeof(context));
    return digest;
}

void hkdf_sha256(Bytes salt, Bytes secret, Bytes info, MutableBytes out) {
    br_hkdf_context context;
    br_hkdf_init(&context, &br_sha256_vtable, salt.data(), salt.size());
    br_hkdf_inject(&context, secret.data(), secret.size());
    br_hkdf_flip(&context);
    br_hkdf_produce(&context, info.data(), info.size(), out.data(), out.size());
    wipe(&context, sizeof(context));
}

}  // namespace gatehouse

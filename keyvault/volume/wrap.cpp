#include "keyvault/volume/wrap.hpp"

#include <bearssl/bearssl_aead.h>

namespace gatehouse::volume {

WrappingKey derive_key(Bytes secret, Bytes label) {
    WrappingKey key;
    hkdf_sha256({}, secret, label, key.bytes());
    return key;
}

std::array<std::byte, 16> gcm(Direction direction, const WrappingKey& key, Bytes nonce,
                              std::initializer_list<Bytes> associated, MutableBytes data) {
    br_aes_ct64_ctr_keys cipher;
    br_aes_ct64_ctr_init(&cipher, key.bytes().data(), key.bytes().size());
    br_gcm_context context;
    br_gcm_init(&context, &cipher.vtable, br_ghash_ctmul64);
    br_gcm_reset(&context, nonce.data(), nonce.size());
    for (const Bytes part : associated) br_gcm_aad_inject(&context, part.data(), part.size());
    br_gcm_flip(&context);
    br_gcm_run(&context, static_cast<int>(direction), data.data(), data.size());
    std::array<std::byte, 16> tag{};
    br_gcm_get_tag(&context, tag.data());
    wipe(&cipher, sizeof(cipher));
    wipe(&context, sizeof(context));
    return tag;
}

}  // namespace gatehouse::volume

#include "keyvault/tpm/crypto.hpp"

#include <bearssl/bearssl_block.h>
#include <bearssl/bearssl_ec.h>

#include <algorithm>

namespace gatehouse::tpm {
namespace {

constexpr std::size_t kPointSize = 1 + 2 * kCoordinateSize;  // 0x04, x, y
constexpr std::array<std::byte, 4> kOne{std::byte{0}, std::byte{0}, std::byte{0}, std::byte{1}};
constexpr std::array<std::byte, 1> kLabelEnd{};

}  // namespace

Secret<kSha256Size> kdf_a(Bytes key, Bytes label, Bytes context_u, Bytes context_v) {
    constexpr std::array<std::byte, 4> kBits{std::byte{0}, std::byte{0}, std::byte{1}, std::byte{0}};
    Sha256Digest output = hmac_sha256(key, {kOne, label, kLabelEnd, context_u, context_v, kBits});
    Secret<kSha256Size> result(output);
    wipe(output);
    return result;
}

Result<Secret<kSha256Size>> agree_secret(const EccPoint& peer, RandomSource& random, EccPoint& ephemeral) {
    Secret<kCoordinateSize> scalar_secret;
    const MutableBytes scalar = scalar_secret.bytes();
    random.fill(scalar);
    // Below the group's order without a loop: 255 random bits.
    scalar[0] &= std::byte{0x7f};

    std::array<std::byte, kPointSize> point{};
    br_ec_p256_m31.mulgen(raw(MutableBytes(point)), raw(Bytes(scalar)), kCoordinateSize, BR_EC_secp256r1);
    copy_bytes(ephemeral.x, Bytes(point).subspan(1, kCoordinateSize));
    copy_bytes(ephemeral.y, Bytes(point).subspan(1 + kCoordinateSize));

    point[0] = std::byte{4};
    copy_bytes(MutableBytes(point).subspan(1), peer.x);
    copy_bytes(MutableBytes(point).subspan(1 + kCoordinateSize), peer.y);
    if (br_ec_p256_m31.mul(raw(MutableBytes(point)), kPointSize, raw(Bytes(scalar)), kCoordinateSize,
                           BR_EC_secp256r1) != 1) {
        return {Error::kBadValue, "ECC key: point is not on P-256"};
    }
    Sha256Digest output = sha256(
        {kOne, Bytes(point).subspan(1, kCoordinateSize), literal_bytes("SECRET"), kLabelEnd, ephemeral.x, peer.x});
    wipe(point);
    Secret<kSha256Size> result(output);
    wipe(output);
    return result;
}

void cfb_decrypt(std::span<const std::byte, 32> key_and_iv, Bytes in, MutableBytes out) {
    constexpr std::size_t kBlock = 16;
    br_aes_ct64_cbcenc_keys keys;
    br_aes_ct64_cbcenc_init(&keys, key_and_iv.data(), kBlock);
    std::array<std::byte, kBlock> previous{};
    copy_bytes(previous, key_and_iv.last<kBlock>());
    for (std::size_t at = 0; at < in.size(); at += kBlock) {
        // One block of CBC from a zero block is the block cipher itself, applied to the IV.
        std::array<std::byte, kBlock> stream{};
        br_aes_ct64_cbcenc_run(&keys, previous.data(), stream.data(), kBlock);
        const std::size_t size = std::min(kBlock, in.size() - at);
        copy_bytes(previous, in.subspan(at, size));
        for (std::size_t i = 0; i < size; ++i) out[at + i] = in[at + i] ^ stream[i];
        wipe(stream);
    }
    wipe(&keys, sizeof(keys));
}

}  // namespace gatehouse::tpm

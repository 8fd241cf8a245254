#include "hypervisor/base/hash.hpp"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>

#include <vector>

namespace gatehouse {
namespace {

std::vector<std::byte> pattern(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 3);
    return bytes;
}

TEST(Hash, AgreesWithOpenSslInEveryAlgorithmAndPadding) {
    const std::pair<HashAlgorithm, const EVP_MD*> algorithms[] = {{HashAlgorithm::kSha1, EVP_sha1()},
                                                                  {HashAlgorithm::kSha256, EVP_sha256()},
                                                                  {HashAlgorithm::kSha384, EVP_sha384()},
                                                                  {HashAlgorithm::kSha512, EVP_sha512()}};
    for (const auto& [algorithm, reference] : algorithms) {
        for (std::size_t size : {0, 1, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 1000}) {
            const auto input = pattern(size);
            std::array<unsigned char, EVP_MAX_MD_SIZE> expected{};
            unsigned expected_size = 0;
            ASSERT_EQ(EVP_Digest(input.data(), size, expected.data(), &expected_size, reference, nullptr), 1);
            const Digest found = hash(algorithm, input);
            ASSERT_EQ(found.bytes().size(), expected_size);
            EXPECT_EQ(std::memcmp(found.bytes().data(), expected.data(), expected_size), 0) << size;
        }
    }
}

TEST(Hash, PartsHashLikeTheWhole) {
    const auto input = pattern(300);
    EXPECT_EQ(sha256({Bytes(input).first(17), Bytes(input).subspan(17)}), sha256(input));
}

TEST(Hash, CannotComputeSm3ButKnowsItsSize) {
    EXPECT_FALSE(can_hash(HashAlgorithm::kSm3_256));
    EXPECT_EQ(digest_size(HashAlgorithm::kSm3_256), 32u);
    EXPECT_EQ(digest_size(static_cast<HashAlgorithm>(0x7777)), 0u);
}

TEST(Hmac, AgreesWithOpenSsl) {
    for (std::size_t key_size : {1, 32, 64, 65, 200}) {
        const auto key = pattern(key_size);
        const auto data = pattern(100);
        std::array<unsigned char, 32> expected{};
        HMAC(EVP_sha256(), key.data(), static_cast<int>(key_size), raw(data), data.size(), expected.data(), nullptr);
        const Sha256Digest found = hmac_sha256(key, {Bytes(data).first(40), Bytes(data).subspan(40)});
        EXPECT_EQ(std::memcmp(found.data(), expected.data(), 32), 0) << key_size;
    }
}

TEST(Hkdf, MatchesRfc5869TestCase1) {
    std::vector<std::byte> secret(22, std::byte{0x0b});
    std::vector<std::byte> salt;
    std::vector<std::byte> info;
    for (unsigned i = 0; i <= 0x0c; ++i) salt.push_back(static_cast<std::byte>(i));
    for (unsigned i = 0xf0; i <= 0xf9; ++i) info.push_back(static_cast<std::byte>(i));
    std::array<std::byte, 42> out{};
    hkdf_sha256(salt, secret, info, out);
    const unsigned char expected[42] = {0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f,
                                        0x64, 0xd0, 0x36, 0x2f, 0x2a, 0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a,
                                        0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56, 0xec, 0xc4, 0xc5, 0xbf, 0x34,
                                        0x00, 0x72, 0x08, 0xd5, 0xb8, 0x87, 0x18, 0x58, 0x65};
    EXPECT_EQ(std::memcmp(out.data(), expected, sizeof(expected)), 0);
}

}  // namespace
}  // namespace gatehouse

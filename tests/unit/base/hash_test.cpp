#include "hypervisor/base/hash.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>

#include <string>
#include <vector>

#include "hypervisor/base/log.hpp"

namespace gatehouse {
namespace {

std::vector<std::byte> pattern(std::size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i * 7 + 3);
    return bytes;
}

std::pair<HashAlgorithm, const EVP_MD*> const kAlgorithms[] = {{HashAlgorithm::kSha1, EVP_sha1()},
                                                               {HashAlgorithm::kSha256, EVP_sha256()},
                                                               {HashAlgorithm::kSha384, EVP_sha384()},
                                                               {HashAlgorithm::kSha512, EVP_sha512()}};

bool equals_openssl(const Digest& found, const EVP_MD* reference, Bytes input) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> expected{};
    unsigned size = 0;
    return EVP_Digest(input.data(), input.size(), expected.data(), &size, reference, nullptr) == 1 &&
           equal_bytes(found.bytes(), std::as_bytes(std::span(expected)).first(size));
}

TEST(Hash, AgreesWithOpenSslInEveryAlgorithmLengthAndPiece) {
    for (const auto& [algorithm, reference] : kAlgorithms) {
        for (std::size_t size = 0; size <= 300; ++size) {
            const auto input = pattern(size);
            EXPECT_TRUE(equals_openssl(hash(algorithm, input), reference, input)) << size;
            for (std::size_t piece : {1, 5, 63, 64, 65, 127, 128, 129, 192}) {
                Hash running(algorithm);
                for (std::size_t at = 0; at < size; at += piece) {
                    running.update(Bytes(input).subspan(at, std::min(piece, size - at)));
                }
                EXPECT_TRUE(equals_openssl(running.finish(), reference, input)) << size << " in pieces of " << piece;
            }
        }
    }
}

TEST(Hash, AgreesWithOpenSslForTwoPiecesOfAnyLength) {
    const auto input = pattern(300);
    for (const auto& [algorithm, reference] : kAlgorithms) {
        for (std::size_t first = 0; first <= input.size(); ++first) {
            Hash running(algorithm);
            running.update(Bytes(input).first(first)).update(Bytes(input).subspan(first));
            EXPECT_TRUE(equals_openssl(running.finish(), reference, input)) << first;
        }
    }
}

TEST(Hash, AgreesWithOpenSslForMegabytesAtAnyAddress) {
    const auto input = pattern(3'000'000);
    for (const auto& [algorithm, reference] : kAlgorithms) {
        for (std::size_t from : {0, 1, 8, 15}) {
            const Bytes part = Bytes(input).subspan(from);
            EXPECT_TRUE(equals_openssl(hash(algorithm, part), reference, part)) << from;
        }
    }
}

// FIPS 180-4's examples, by NIST: "abc", the message of two blocks, a million times "a".
TEST(Hash, HasTheStandardsAnswers) {
    const auto hex = [](HashAlgorithm algorithm, Bytes input) {
        LogLine line;
        line << HexBytes{hash(algorithm, input).bytes()};
        return std::string(line.text());
    };
    const Bytes two_blocks = literal_bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq");
    const std::vector<std::byte> million(1'000'000, std::byte{'a'});
    EXPECT_EQ(hex(HashAlgorithm::kSha1, literal_bytes("abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
    EXPECT_EQ(hex(HashAlgorithm::kSha1, two_blocks), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    EXPECT_EQ(hex(HashAlgorithm::kSha1, million), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
    EXPECT_EQ(hex(HashAlgorithm::kSha256, literal_bytes("abc")),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(hex(HashAlgorithm::kSha256, two_blocks),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(hex(HashAlgorithm::kSha256, million), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// So that the tests above are of the SHA extensions, where there are any.
TEST(Hash, ExtensionsTakeBlocksAsTheStandardSays) {
    if (!has_sha_extensions()) GTEST_SKIP() << "this processor has no SHA extensions";
    std::array<std::byte, kShaBlock> block{std::byte{'a'}, std::byte{'b'}, std::byte{'c'}, std::byte{0x80}};
    block.back() = std::byte{24};  // bits
    std::uint32_t state[] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    sha256_blocks(state, block);
    EXPECT_THAT(state, testing::ElementsAre(0xba7816bf, 0x8f01cfea, 0x414140de, 0x5dae2223, 0xb00361a3, 0x96177a9c,
                                            0xb410ff61, 0xf20015ad));
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

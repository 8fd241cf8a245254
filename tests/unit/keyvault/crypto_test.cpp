// Key derivations, the session cipher and the random generator, against OpenSSL.
#include "keyvault/tpm/crypto.hpp"

#include <gtest/gtest.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>

#include <memory>

#include "tests/unit/keyvault/provisioned_tpm.hpp"

namespace gatehouse::tpm {
namespace {

using test::Buffer;
using test::TestRandom;

// The argument has to outlive the parameter, and OpenSSL wants it mutable.
OSSL_PARAM octets(const char* name, Bytes value) {
    return OSSL_PARAM_construct_octet_string(name, const_cast<std::byte*>(value.data()), value.size());
}
OSSL_PARAM text(const char* name, const char* value) {
    return OSSL_PARAM_construct_utf8_string(name, const_cast<char*>(value), 0);
}

Buffer derive(const char* algorithm, std::vector<OSSL_PARAM> parameters, std::size_t size) {
    const std::unique_ptr<EVP_KDF, decltype(&EVP_KDF_free)> kdf(EVP_KDF_fetch(nullptr, algorithm, nullptr),
                                                                EVP_KDF_free);
    const std::unique_ptr<EVP_KDF_CTX, decltype(&EVP_KDF_CTX_free)> context(EVP_KDF_CTX_new(kdf.get()),
                                                                            EVP_KDF_CTX_free);
    parameters.push_back(OSSL_PARAM_construct_end());
    Buffer out(size);
    EXPECT_EQ(EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(out.data()), size, parameters.data()), 1);
    return out;
}

// TPM Part 1, 11.4.10.2: KDFa is SP 800-108 in counter mode with HMAC.
TEST(KdfA, IsSp800_108InCounterMode) {
    TestRandom random;
    for (const std::size_t size : {16u, 32u, 64u, 100u}) {
        Buffer key(size);
        Buffer nonces(64);
        random.fill(key);
        random.fill(nonces);
        const Buffer expected =
            derive("KBKDF",
                   {text(OSSL_KDF_PARAM_MODE, "counter"), text(OSSL_KDF_PARAM_MAC, "HMAC"),
                    text(OSSL_KDF_PARAM_DIGEST, "SHA256"), octets(OSSL_KDF_PARAM_KEY, key),
                    octets(OSSL_KDF_PARAM_SALT, literal_bytes("ATH")), octets(OSSL_KDF_PARAM_INFO, nonces)},
                   32);
        const auto found = kdf_a(key, literal_bytes("ATH"), Bytes(nonces).first(32), Bytes(nonces).subspan(32));
        EXPECT_TRUE(found.equals(expected)) << size;
    }
}

struct KeyPair {
    std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key{EVP_EC_gen("P-256"), EVP_PKEY_free};
    EccPoint point;
    KeyPair() {
        std::array<std::byte, 65> encoded{};
        std::size_t size = 0;
        EVP_PKEY_get_octet_string_param(key.get(), OSSL_PKEY_PARAM_ENCODED_PUBLIC_KEY,
                                        reinterpret_cast<unsigned char*>(encoded.data()), encoded.size(), &size);
        copy_bytes(point.x, Bytes(encoded).subspan(1, 32));
        copy_bytes(point.y, Bytes(encoded).subspan(33));
    }
};

// TPM Part 1, 11.4.10.3: KDFe is SP 800-56A's one-step KDF with a hash.
TEST(AgreeSecret, IsWhatThePeerComputes) {
    TestRandom random;
    for (int round = 0; round < 20; ++round) {
        const KeyPair peer;
        EccPoint ephemeral;
        const auto found = agree_secret(peer.point, random, ephemeral);
        ASSERT_TRUE(found.ok());

        Buffer encoded = test::Buffer{std::byte{4}};
        encoded.insert(encoded.end(), ephemeral.x.begin(), ephemeral.x.end());
        encoded.insert(encoded.end(), ephemeral.y.begin(), ephemeral.y.end());
        const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> other(EVP_PKEY_new(), EVP_PKEY_free);
        ASSERT_EQ(EVP_PKEY_copy_parameters(other.get(), peer.key.get()), 1);
        ASSERT_EQ(EVP_PKEY_set1_encoded_public_key(other.get(), raw(Bytes(encoded)), encoded.size()), 1)
            << "the ephemeral key is a point on the curve";
        const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
            EVP_PKEY_CTX_new(peer.key.get(), nullptr), EVP_PKEY_CTX_free);
        Buffer z(32);
        std::size_t size = z.size();
        ASSERT_EQ(EVP_PKEY_derive_init(context.get()), 1);
        ASSERT_EQ(EVP_PKEY_derive_set_peer(context.get(), other.get()), 1);
        ASSERT_EQ(EVP_PKEY_derive(context.get(), reinterpret_cast<unsigned char*>(z.data()), &size), 1);

        Buffer info(7);
        std::memcpy(info.data(), "SECRET", 7);
        info.insert(info.end(), ephemeral.x.begin(), ephemeral.x.end());
        info.insert(info.end(), peer.point.x.begin(), peer.point.x.end());
        const Buffer expected = derive(
            "SSKDF",
            {text(OSSL_KDF_PARAM_DIGEST, "SHA256"), octets(OSSL_KDF_PARAM_KEY, z), octets(OSSL_KDF_PARAM_INFO, info)},
            32);
        EXPECT_TRUE(found->equals(expected));
    }
}

TEST(AgreeSecret, RefusesAPointThatIsNotOnTheCurve) {
    TestRandom random;
    EccPoint ephemeral;
    KeyPair peer;
    peer.point.y[31] ^= std::byte{1};
    EXPECT_EQ(agree_secret(peer.point, random, ephemeral).error(), Error::kBadValue);
    EXPECT_EQ(agree_secret({}, random, ephemeral).error(), Error::kBadValue);
}

TEST(AgreeSecret, UsesAFreshKeyEachTime) {
    TestRandom random;
    const KeyPair peer;
    EccPoint first;
    EccPoint second;
    ASSERT_TRUE(agree_secret(peer.point, random, first).ok());
    ASSERT_TRUE(agree_secret(peer.point, random, second).ok());
    EXPECT_NE(first.x, second.x);
}

TEST(Cfb, DecryptsWhatOpenSslEncrypted) {
    TestRandom random;
    Secret<32> key_and_iv;
    random.fill(key_and_iv.bytes());
    for (std::size_t size = 0; size <= 100; ++size) {
        Buffer plain(size);
        Buffer encrypted(size + 16);
        random.fill(plain);
        const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                                      EVP_CIPHER_CTX_free);
        int written = 0;
        ASSERT_EQ(EVP_EncryptInit_ex(context.get(), EVP_aes_128_cfb128(), nullptr, raw(Bytes(key_and_iv.bytes())),
                                     raw(Bytes(key_and_iv.bytes().last<16>()))),
                  1);
        ASSERT_EQ(EVP_EncryptUpdate(context.get(), raw(MutableBytes(encrypted)), &written, raw(Bytes(plain)),
                                    static_cast<int>(size)),
                  1);
        encrypted.resize(size);
        Buffer found(size);
        cfb_decrypt(key_and_iv.bytes(), encrypted, found);
        EXPECT_EQ(found, plain) << size;
    }
}

// HMAC_DRBG of SP 800-90A, 10.1.2, written from the standard.
class ReferenceDrbg {
  public:
    void update(Bytes data) {
        rekey(0, data);
        if (!data.empty()) rekey(1, data);
    }
    Buffer generate(std::size_t size) {
        Buffer out;
        while (out.size() < size) {
            value_ = mac(value_);
            out.insert(out.end(), value_.begin(), value_.end());
        }
        out.resize(size);
        update({});
        return out;
    }

  private:
    Buffer mac(const Buffer& data) const {
        Buffer out(32);
        HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()), raw(Bytes(data)), data.size(),
             raw(MutableBytes(out)), nullptr);
        return out;
    }
    void rekey(unsigned char separator, Bytes data) {
        Buffer input = value_;
        input.push_back(std::byte{separator});
        input.insert(input.end(), data.begin(), data.end());
        key_ = mac(input);
        value_ = mac(value_);
    }
    Buffer key_ = Buffer(32, std::byte{0});
    Buffer value_ = Buffer(32, std::byte{1});
};

TEST(RandomGenerator, IsHmacDrbg) {
    ReferenceDrbg reference;
    Random random;
    reference.update({});
    const Buffer first(40, std::byte{0x11});
    const Buffer second(3, std::byte{0x22});
    for (const Buffer& seed : {first, second}) {
        reference.update(seed);
        random.seed(seed);
    }
    for (const std::size_t size : {1u, 32u, 33u, 1000u}) {
        Buffer found(size);
        random.fill(found);
        EXPECT_EQ(found, reference.generate(size)) << size;
    }
}

TEST(RandomGenerator, MixesEverySeed) {
    const auto with = [](std::initializer_list<unsigned> seeds) {
        Random random;
        random.seed(Buffer(32, std::byte{7}));
        for (const unsigned seed : seeds) random.seed(std::array<std::byte, 1>{static_cast<std::byte>(seed)});
        Buffer out(32);
        random.fill(out);
        return out;
    };
    EXPECT_EQ(with({1, 2}), with({1, 2}));
    EXPECT_NE(with({1, 2}), with({1, 3}));
    EXPECT_NE(with({1, 2}), with({2, 1}));
    EXPECT_NE(with({1}), with({}));
}

TEST(RandomGeneratorDeathTest, DiesWhenUsedBeforeItWasSeeded) {
    Buffer out(32);
    Random random;
    EXPECT_DEATH(random.fill(out), "seeded");
    random.seed(Buffer(31));
    EXPECT_DEATH(random.fill(out), "seeded");
    random.seed(Buffer(1));
    random.fill(out);
    random.clear();
    EXPECT_DEATH(random.fill(out), "seeded");
}

}  // namespace
}  // namespace gatehouse::tpm

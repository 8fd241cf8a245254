// AES-XTS by somebody else's code, and dm-crypt's tweaks.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include "keyvault/host_support/support.hpp"

namespace gatehouse::test {

// AES-256-XTS of one data unit by OpenSSL; the tweak is a 128-bit little-endian number, as plain64 has it.
inline host::Buffer openssl_decrypt(Bytes ciphertext, Bytes key, std::uint64_t tweak) {
    std::array<unsigned char, 16> iv{};
    for (std::size_t i = 0; i < 8; ++i) iv[i] = static_cast<unsigned char>(tweak >> (8 * i));
    EVP_CIPHER_CTX* const context = EVP_CIPHER_CTX_new();
    host::Buffer plain(ciphertext.size());
    int size = 0;
    EXPECT_EQ(EVP_DecryptInit_ex(context, EVP_aes_256_xts(), nullptr, raw(key), iv.data()), 1);
    EXPECT_EQ(EVP_DecryptUpdate(context, raw(MutableBytes(plain)), &size, raw(ciphertext),
                                static_cast<int>(ciphertext.size())),
              1);
    EVP_CIPHER_CTX_free(context);
    return plain;
}

}  // namespace gatehouse::test

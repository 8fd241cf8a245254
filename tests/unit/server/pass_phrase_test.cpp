// PEM of strangers that is encrypted: it is not read, and nobody is asked for its pass phrase, on a terminal or else.
#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <ctime>

#include "attestation/server/authority.hpp"
#include "attestation/verifier/crl.hpp"
#include "tests/unit/server/software_endpoint.hpp"
#include "tests/unit/verifier/certificates.hpp"

namespace gatehouse::test {
namespace {

constexpr std::string_view kPhrase = "secret";

std::string text_of(BIO* bio) {
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio, &text);
    return {text, static_cast<std::size_t>(size)};
}

std::string encrypted(const char* label, const Buffer& der) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), BIO_free);
    const auto copy = [](const void* from, unsigned char** to) {
        const Buffer& bytes = *static_cast<const Buffer*>(from);
        if (to != nullptr) std::memcpy(*to, bytes.data(), bytes.size());
        return static_cast<int>(bytes.size());
    };
    PEM_ASN1_write_bio(copy, label, bio.get(), &der, EVP_aes_128_cbc(),
                       reinterpret_cast<const unsigned char*>(kPhrase.data()), static_cast<int>(kPhrase.size()),
                       nullptr, nullptr);
    return text_of(bio.get());
}

Buffer der_of(const std::string& pem) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())),
                                                        BIO_free);
    char *name = nullptr, *header = nullptr;
    unsigned char* data = nullptr;
    long size = 0;
    if (PEM_read_bio(bio.get(), &name, &header, &data, &size) != 1) return {};
    const auto* const begin = reinterpret_cast<const std::byte*>(data);
    Buffer der(begin, begin + size);
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);
    return der;
}

// Whether `reads`, in a process without a terminal, to which somebody has typed the pass phrase.
template <typename Reads>
bool reads_if_typed(Reads reads) {
    int typed[2] = {-1, -1};
    EXPECT_EQ(::pipe(typed), 0);
    const std::string line = std::string(kPhrase) + "\n";
    EXPECT_EQ(::write(typed[1], line.data(), line.size()), static_cast<ssize_t>(line.size()));
    ::close(typed[1]);
    const pid_t child = ::fork();
    if (child == 0) {
        ::setsid();
        ::dup2(typed[0], STDIN_FILENO);
        bool read = false;
        try {
            read = reads();
        } catch (const std::exception&) {
            read = false;
        }
        ::_exit(read ? 1 : 0);
    }
    ::close(typed[0]);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    return WEXITSTATUS(status) == 1;
}

TEST(PassPhrase, IsAskedOfNobody) {
    const SoftwareEndpoint endpoint;
    const std::string request = endpoint.csr();
    EXPECT_TRUE(reads_if_typed([&] { return server::key_of_request(request) != nullptr; })) << "as it is";
    const std::string hidden_request = encrypted(PEM_STRING_X509_REQ, der_of(request));
    EXPECT_FALSE(reads_if_typed([&] { return server::key_of_request(hidden_request) != nullptr; }));

    const std::string key = server::public_pem(server::key_of_request(request).get());
    const std::string hidden_key = encrypted(PEM_STRING_PUBLIC, der_of(key));
    EXPECT_FALSE(reads_if_typed([&] { return server::public_key_from_pem(hidden_key) != nullptr; }));

    const std::time_t now = std::time(nullptr);
    const Issued root = issue(ca_spec("Vendor Root"), ecc_key());
    const std::string hidden_list = encrypted(PEM_STRING_X509_CRL, revoke(root, {}, now, now + 60));
    EXPECT_FALSE(reads_if_typed([&] { return !verifier::crl_of(host::text_bytes(hidden_list)).empty(); }));
}

}  // namespace
}  // namespace gatehouse::test

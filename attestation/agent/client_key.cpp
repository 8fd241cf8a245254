#include "attestation/agent/client_key.hpp"

#include <openssl/asn1.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <ctime>
#include <memory>

#include "keyvault/host_support/authority.hpp"

namespace gatehouse::agent {
namespace {

using host::ToolError;
using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

void check(bool ok, const char* what) {
    if (ok) return;
    ERR_clear_error();
    throw ToolError(std::string("client key: ") + what);
}

Bio source_of(const std::string& text) {
    return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free};
}

std::string text_of(const Bio& bio) {
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

Key read_key(const std::string& pem) {
    Key key(PEM_read_bio_PrivateKey(source_of(pem).get(), nullptr, host::no_pass_phrase, nullptr), EVP_PKEY_free);
    check(key != nullptr, "no PEM private key");
    return key;
}

Certificate read_certificate(const std::string& pem) {
    Certificate certificate(PEM_read_bio_X509(source_of(pem).get(), nullptr, host::no_pass_phrase, nullptr), X509_free);
    check(certificate != nullptr, "no PEM certificate");
    return certificate;
}

std::int64_t seconds_of(const ASN1_TIME* time) {
    std::tm parts{};
    check(ASN1_TIME_to_tm(time, &parts) == 1, "a certificate without a date");
    return timegm(&parts);
}

}  // namespace

std::string make_private_key() {
    const Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
    const Bio bio(BIO_new(BIO_s_secmem()), BIO_free);
    check(key && bio && PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1,
          "cannot be made");
    return text_of(bio);
}

std::string certification_request(const std::string& private_key) {
    const Key key = read_key(private_key);
    const std::unique_ptr<X509_REQ, decltype(&X509_REQ_free)> request(X509_REQ_new(), X509_REQ_free);
    const Bio bio(BIO_new(BIO_s_mem()), BIO_free);
    check(request && X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) == 1 &&
              X509_REQ_set_pubkey(request.get(), key.get()) == 1 &&
              X509_REQ_sign(request.get(), key.get(), EVP_sha256()) > 0 &&
              PEM_write_bio_X509_REQ(bio.get(), request.get()) == 1,
          "no certification request");
    return text_of(bio);
}

Validity validity_of(const std::string& pem) {
    const Certificate certificate = read_certificate(pem);
    return {seconds_of(X509_get0_notBefore(certificate.get())), seconds_of(X509_get0_notAfter(certificate.get()))};
}

bool belongs(const std::string& certificate, const std::string& private_key) {
    const bool same = X509_check_private_key(read_certificate(certificate).get(), read_key(private_key).get()) == 1;
    ERR_clear_error();
    return same;
}

}  // namespace gatehouse::agent

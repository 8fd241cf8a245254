#include "attestation/server/authority.hpp"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "attestation/server/secrets.hpp"
#include "attestation/server/service.hpp"
#include "keyvault/host_support/authority.hpp"

namespace gatehouse::server {
namespace {

constexpr Seconds kDay = 86'400;
constexpr Seconds kClockSkew = 300;  // a certificate is valid from a little before it is made
constexpr unsigned kAuthorityDays = 20 * 365;

void demand(bool ok, const char* what) {
    if (ok) return;
    std::string reason = what;
    if (const unsigned long code = ERR_get_error(); code != 0)
        reason += std::string(": ") + ERR_reason_error_string(code);
    ERR_clear_error();
    throw std::runtime_error(reason);
}

using Memory = std::unique_ptr<BIO, decltype(&BIO_free_all)>;
Memory memory() { return {BIO_new(BIO_s_mem()), BIO_free_all}; }
Memory reading(std::string_view text) {
    return {BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), BIO_free_all};
}
std::string contents(BIO* bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    return {data, static_cast<std::size_t>(size)};
}

bool is_p256(const EVP_PKEY* key) {
    std::array<char, 32> group{};
    std::size_t size = 0;
    return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
           EVP_PKEY_get_group_name(key, group.data(), group.size(), &size) == 1 &&
           std::string_view(group.data(), size) == SN_X9_62_prime256v1;
}

template <typename T>
Buffer to_der(const T* object, int (*encode)(const T*, unsigned char**)) {
    unsigned char* der = nullptr;
    const int size = encode(object, &der);
    demand(size > 0, "DER encoding");
    const auto* const bytes = reinterpret_cast<const std::byte*>(der);
    Buffer out(bytes, bytes + size);
    OPENSSL_clear_free(der, static_cast<std::size_t>(size));
    return out;
}

void add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
    demand(extension != nullptr, OBJ_nid2sn(kind));
    const int added = X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    demand(added == 1, OBJ_nid2sn(kind));
}

// Version 3, a random serial of 127 bits, the key, the dates.
Certificate blank(EVP_PKEY* key, const std::string& common_name, Seconds now, unsigned days) {
    Certificate made(X509_new());
    X509_set_version(made.get(), X509_VERSION_3);
    Buffer serial = random_bytes(16);
    serial[0] &= std::byte{0x7f};
    BIGNUM* const number = BN_bin2bn(raw(Bytes(serial)), static_cast<int>(serial.size()), nullptr);
    BN_to_ASN1_INTEGER(number, X509_get_serialNumber(made.get()));
    BN_free(number);
    ASN1_TIME_set(X509_getm_notBefore(made.get()), now - kClockSkew);
    ASN1_TIME_set(X509_getm_notAfter(made.get()), now + Seconds{days} * kDay);
    demand(X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>(common_name.data()),
                                      static_cast<int>(common_name.size()), -1, 0) == 1,
           "subject");
    demand(X509_set_pubkey(made.get(), key) == 1, "certificate's key");
    return made;
}

Issued finished(Certificate certificate, X509* issuer, EVP_PKEY* issuer_key) {
    demand(X509_set_issuer_name(certificate.get(), X509_get_subject_name(issuer)) == 1, "issuer");
    demand(X509_sign(certificate.get(), issuer_key, EVP_sha256()) > 0, "signing a certificate");
    const Memory bio = memory();
    demand(PEM_write_bio_X509(bio.get(), certificate.get()) == 1, "PEM");
    return {contents(bio.get()), sha256(to_der<X509>(certificate.get(), i2d_X509))};
}

void add_leaf_extensions(X509* certificate, X509* issuer, const char* usage) {
    add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(certificate, issuer, NID_key_usage, "critical,digitalSignature");
    add_extension(certificate, issuer, NID_ext_key_usage, usage);
    add_extension(certificate, issuer, NID_subject_key_identifier, "hash");
    add_extension(certificate, issuer, NID_authority_key_identifier, "keyid");
}

std::string alternative_name(const std::string& name) {
    if (ASN1_OCTET_STRING* const address = a2i_IPADDRESS(name.c_str()); address != nullptr) {
        ASN1_OCTET_STRING_free(address);
        return "IP:" + name;
    }
    const bool plain = !name.empty() && name.size() <= 253 && std::ranges::all_of(name, [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '.' || c == '*';
    });
    if (!plain) throw host::ToolError("server name \"" + name + "\": neither a host name nor an IP address");
    return "DNS:" + name;
}

}  // namespace

Key new_key() {
    Key key(EVP_EC_gen("P-256"));
    demand(key != nullptr, "making a key");
    return key;
}

Buffer key_to_der(const EVP_PKEY* key) { return to_der<EVP_PKEY>(key, i2d_PrivateKey); }

Key key_from_der(Bytes der) {
    const unsigned char* place = raw(der);
    Key key(d2i_AutoPrivateKey(nullptr, &place, static_cast<long>(der.size())));
    demand(key != nullptr, "reading a private key");
    return key;
}

std::string private_pem(const EVP_PKEY* key) {
    const Memory bio = memory();
    demand(PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr) == 1, "PEM");
    return contents(bio.get());
}

std::string public_pem(const EVP_PKEY* key) {
    const Memory bio = memory();
    demand(PEM_write_bio_PUBKEY(bio.get(), key) == 1, "PEM");
    return contents(bio.get());
}

Key public_key_from_pem(const std::string& pem) {
    Key key(PEM_read_bio_PUBKEY(reading(pem).get(), nullptr, host::no_pass_phrase, nullptr));
    ERR_clear_error();
    return key && is_p256(key.get()) ? std::move(key) : nullptr;
}

Key key_of_request(const std::string& pem) {
    const std::unique_ptr<X509_REQ, FreeOpenssl> request(
        PEM_read_bio_X509_REQ(reading(pem).get(), nullptr, host::no_pass_phrase, nullptr));
    ERR_clear_error();
    if (!request) throw ServiceError(400, "csr", "csr: is not a PKCS #10 request in PEM");
    Key key(X509_REQ_get_pubkey(request.get()));
    ERR_clear_error();
    if (!key || !is_p256(key.get())) throw ServiceError(400, "csr", "csr: its key must be on the curve P-256");
    if (X509_REQ_verify(request.get(), key.get()) != 1) {
        ERR_clear_error();
        throw ServiceError(400, "csr", "csr: is not signed by its own key");
    }
    return key;
}

CertificateAuthority::Made CertificateAuthority::make(const std::string& name, Seconds now) {
    const Key key = new_key();
    Certificate made = blank(key.get(), name, now, kAuthorityDays);
    add_extension(made.get(), made.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
    add_extension(made.get(), made.get(), NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(made.get(), made.get(), NID_subject_key_identifier, "hash");
    demand(X509_set_issuer_name(made.get(), X509_get_subject_name(made.get())) == 1, "issuer");
    demand(X509_sign(made.get(), key.get(), EVP_sha256()) > 0, "signing a certificate");
    return {key_to_der(key.get()), to_der<X509>(made.get(), i2d_X509)};
}

CertificateAuthority CertificateAuthority::load(Bytes key_der, Bytes certificate_der) {
    const unsigned char* place = raw(certificate_der);
    Certificate certificate(d2i_X509(nullptr, &place, static_cast<long>(certificate_der.size())));
    Key key = key_from_der(key_der);
    demand(certificate != nullptr && X509_check_private_key(certificate.get(), key.get()) == 1,
           "the CA's certificate and key do not belong together");
    return {std::move(key), std::move(certificate)};
}

std::string CertificateAuthority::pem() const {
    const Memory bio = memory();
    demand(PEM_write_bio_X509(bio.get(), certificate_.get()) == 1, "PEM");
    return contents(bio.get());
}

Issued CertificateAuthority::issue_client(EVP_PKEY* key, const std::string& endpoint, Seconds now,
                                          unsigned days) const {
    Certificate made = blank(key, endpoint, now, days);
    add_leaf_extensions(made.get(), certificate_.get(), "clientAuth");
    return finished(std::move(made), certificate_.get(), key_.get());
}

Issued CertificateAuthority::issue_server(EVP_PKEY* key, const std::vector<std::string>& names, Seconds now,
                                          unsigned days) const {
    if (names.empty()) throw host::ToolError("a server certificate needs a name");
    Certificate made = blank(key, "gatehouse server", now, days);
    add_leaf_extensions(made.get(), certificate_.get(), "serverAuth");
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : ",") + alternative_name(name);
    add_extension(made.get(), certificate_.get(), NID_subject_alt_name, all);
    return finished(std::move(made), certificate_.get(), key_.get());
}

}  // namespace gatehouse::server

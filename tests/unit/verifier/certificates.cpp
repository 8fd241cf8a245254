#include "tests/unit/verifier/certificates.hpp"

#include <openssl/bn.h>
#include <openssl/conf.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/rsa.h>

#include <stdexcept>

namespace gatehouse::test {
namespace {

void check(bool ok, const char* what) {
    if (!ok) throw std::runtime_error(std::string("making a certificate: ") + what);
}

template <typename T>
Buffer to_der(T* object, int (*encode)(const T*, unsigned char**)) {
    unsigned char* der = nullptr;
    const int size = encode(object, &der);
    check(size > 0, "encoding");
    const Bytes bytes = std::as_bytes(std::span(der, static_cast<std::size_t>(size)));
    Buffer out(bytes.begin(), bytes.end());
    OPENSSL_free(der);
    return out;
}

ASN1_INTEGER* new_integer(const std::string& text) {
    BIGNUM* number = nullptr;
    BN_hex2bn(&number, text.c_str());
    ASN1_INTEGER* const integer = BN_to_ASN1_INTEGER(number, nullptr);
    BN_free(number);
    return integer;
}

void set_serial(X509* certificate, const std::string& text) {
    ASN1_INTEGER* const serial = new_integer(text);
    X509_set_serialNumber(certificate, serial);
    ASN1_INTEGER_free(serial);
}

// `add` is given what the lines of text say.
template <typename Add>
void with_configuration(std::string text, X509V3_CTX& context, Add add) {
    BIO* const bio = BIO_new_mem_buf(text.data(), static_cast<int>(text.size()));
    CONF* const conf = NCONF_new(nullptr);
    check(NCONF_load_bio(conf, bio, nullptr) == 1, "configuration");
    X509V3_set_nconf(&context, conf);
    check(add(conf), "extensions");
    NCONF_free(conf);
    BIO_free(bio);
}

void add_entry(X509_CRL* list, const RevocationSpec::Entry& spec, const ASN1_TIME* time) {
    X509_REVOKED* const entry = X509_REVOKED_new();
    ASN1_INTEGER* const serial = new_integer(spec.serial);
    X509_REVOKED_set_serialNumber(entry, serial);
    ASN1_INTEGER_free(serial);
    X509_REVOKED_set_revocationDate(entry, const_cast<ASN1_TIME*>(time));
    if (spec.reason >= 0) {
        ASN1_ENUMERATED* const reason = ASN1_ENUMERATED_new();
        ASN1_ENUMERATED_set(reason, spec.reason);
        X509_REVOKED_add1_ext_i2d(entry, NID_crl_reason, reason, 0, 0);
        ASN1_ENUMERATED_free(reason);
    }
    if (spec.issuer != nullptr) {
        const verifier::openssl::Names names(GENERAL_NAMES_new());
        GENERAL_NAME* const name = GENERAL_NAME_new();
        GENERAL_NAME_set0_value(name, GEN_DIRNAME,
                                X509_NAME_dup(X509_get_subject_name(spec.issuer->certificate.get())));
        sk_GENERAL_NAME_push(names.get(), name);
        X509_REVOKED_add1_ext_i2d(entry, NID_certificate_issuer, names.get(), 1, 0);
    }
    if (!spec.extension.empty()) {
        const std::size_t middle = spec.extension.find('=');
        X509_EXTENSION* const extension = X509V3_EXT_conf(nullptr, nullptr, spec.extension.substr(0, middle).c_str(),
                                                          spec.extension.substr(middle + 1).c_str());
        check(extension != nullptr, "extension of an entry");
        X509_REVOKED_add_ext(entry, extension, -1);
        X509_EXTENSION_free(extension);
    }
    X509_CRL_add0_revoked(list, entry);
}

void add_extensions(X509* certificate, X509* issuer, const CertificateSpec& spec) {
    std::string text = "[extensions]\n";
    const auto line = [&](const char* name, const std::string& value) {
        if (!value.empty()) text += std::string(name) + "=" + value + "\n";
    };
    line("basicConstraints", spec.basic);
    line("keyUsage", spec.usage);
    line("extendedKeyUsage", spec.extended_usage);
    line("subjectAltName", spec.alternative_name);
    X509V3_CTX context{};
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    with_configuration(text + spec.extra + "\n" + spec.sections, context, [&](CONF* conf) {
        return X509V3_EXT_add_nconf(conf, &context, "extensions", certificate) == 1;
    });
}

void name_oaep(X509* certificate) {
    X509_PUBKEY* const key = X509_get_X509_PUBKEY(certificate);
    const unsigned char* encoded = nullptr;
    int size = 0;
    X509_PUBKEY_get0_param(nullptr, &encoded, &size, nullptr, key);
    auto* const copy = static_cast<unsigned char*>(OPENSSL_memdup(encoded, static_cast<std::size_t>(size)));
    X509_PUBKEY_set0_param(key, OBJ_nid2obj(NID_rsaesOaep), V_ASN1_NULL, nullptr, copy, size);
}

void append_u16(Buffer& out, std::size_t value) {
    out.push_back(static_cast<std::byte>(value >> 8));
    out.push_back(static_cast<std::byte>(value & 0xff));
}
void append_sized(Buffer& out, Bytes bytes) {
    append_u16(out, bytes.size());
    out.insert(out.end(), bytes.begin(), bytes.end());
}

Buffer number_of(EVP_PKEY* key, const char* name, int size) {
    BIGNUM* number = nullptr;
    check(EVP_PKEY_get_bn_param(key, name, &number) == 1, "key");
    Buffer out(static_cast<std::size_t>(size));
    BN_bn2binpad(number, raw(MutableBytes(out)), size);
    BN_free(number);
    return out;
}

}  // namespace

Key ecc_key(const char* curve) { return {EVP_EC_gen(curve), EVP_PKEY_free}; }
Key rsa_key(unsigned bits) { return {EVP_RSA_gen(bits), EVP_PKEY_free}; }

CertificateSpec ca_spec(const std::string& subject) {
    CertificateSpec spec;
    spec.subject = subject;
    spec.basic = "critical,CA:TRUE";
    spec.usage = "critical,keyCertSign,cRLSign";
    return spec;
}

CertificateSpec ek_spec() {
    CertificateSpec spec;
    spec.basic = "critical,CA:FALSE";
    spec.usage = "critical,keyAgreement";
    spec.extended_usage = "2.23.133.8.1";
    spec.alternative_name = "critical,dirName:tpm";
    spec.sections = "[tpm]\nx.2.23.133.2.1=id:4E544300\nx.2.23.133.2.2=NPCT75x\nx.2.23.133.2.3=id:00070002\n";
    return spec;
}

Buffer Issued::der() const { return to_der<X509>(certificate.get(), i2d_X509); }

Issued issue(const CertificateSpec& spec, Key key, const Issued* issuer) {
    Issued issued{Certificate(X509_new()), std::move(key)};
    X509* const certificate = issued.certificate.get();
    X509_set_version(certificate, spec.version);
    set_serial(certificate, spec.serial);
    if (!spec.subject.empty()) {
        X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(spec.subject.c_str()), -1, -1, 0);
    }
    X509* const above = issuer == nullptr ? certificate : issuer->certificate.get();
    X509_set_issuer_name(certificate, X509_get_subject_name(above));
    ASN1_TIME_set(X509_getm_notBefore(certificate), spec.from);
    ASN1_TIME_set(X509_getm_notAfter(certificate), spec.to);
    X509_set_pubkey(certificate, issued.key.get());
    if (spec.oaep_key) name_oaep(certificate);
    if (spec.version == 2) add_extensions(certificate, above, spec);
    EVP_PKEY* const signer = issuer == nullptr ? issued.key.get() : issuer->key.get();
    check(X509_sign(certificate, signer, EVP_get_digestbyname(spec.digest)) > 0, "signing");
    // Read back: what OpenSSL caches of an object that it made itself is not what it sees in one that it
    // reads.
    const Buffer der = issued.der();
    const unsigned char* at = raw(Bytes(der));
    issued.certificate.reset(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
    check(issued.certificate != nullptr, "reading back");
    return issued;
}

Buffer issue_list(const Issued& issuer, const RevocationSpec& spec) {
    const verifier::openssl::RevocationList list(X509_CRL_new());
    X509_CRL_set_version(list.get(), 1);
    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(issuer.certificate.get()));
    ASN1_TIME* const time = ASN1_TIME_set(nullptr, spec.from);
    X509_CRL_set1_lastUpdate(list.get(), time);
    for (const auto& entry : spec.entries) add_entry(list.get(), entry, time);  // their order says whose they are
    ASN1_TIME_set(time, spec.to);
    X509_CRL_set1_nextUpdate(list.get(), time);
    ASN1_TIME_free(time);
    if (!spec.extensions.empty()) {
        X509V3_CTX context{};
        X509V3_set_ctx(&context, issuer.certificate.get(), nullptr, nullptr, list.get(), 0);
        with_configuration("[extensions]\n" + spec.extensions + "\n" + spec.sections, context, [&](CONF* conf) {
            return X509V3_EXT_CRL_add_nconf(conf, &context, "extensions", list.get()) == 1;
        });
    }
    check(X509_CRL_sign(list.get(), issuer.key.get(), EVP_sha256()) > 0, "signing");
    return to_der<X509_CRL>(list.get(), i2d_X509_CRL);
}

Buffer revoke(const Issued& issuer, const std::vector<const Issued*>& revoked, std::time_t from, std::time_t to) {
    RevocationSpec spec{.entries = {}, .extensions = {}, .sections = {}, .from = from, .to = to};
    for (const Issued* one : revoked) {
        BIGNUM* const number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(one->certificate.get()), nullptr);
        char* const text = BN_bn2hex(number);
        spec.entries.push_back({.serial = text});
        OPENSSL_free(text);
        BN_free(number);
    }
    return issue_list(issuer, spec);
}

Buffer ek_public_area(EVP_PKEY* key) {
    const bool rsa = EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
    const int bits = EVP_PKEY_get_bits(key);
    const bool high = !rsa && bits == 384;
    Buffer area;
    append_u16(area, rsa ? 0x0001 : 0x0023);
    append_u16(area, high ? 0x000c : 0x000b);
    append_u16(area, 0x0003);
    append_u16(area, high ? 0x00f2 : 0x00b2);
    append_sized(area,
                 host::from_hex(high ? "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba096996"
                                       "46150f9fc000f3f80e12"
                                     : "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa",
                                "policy"));
    append_u16(area, 0x0006);  // AES, CFB
    append_u16(area, high ? 256 : 128);
    append_u16(area, 0x0043);
    append_u16(area, 0x0010);  // no scheme
    if (rsa) {
        append_u16(area, static_cast<std::size_t>(bits));
        append_u16(area, 0);
        append_u16(area, 0);
        append_sized(area, number_of(key, OSSL_PKEY_PARAM_RSA_N, bits / 8));
    } else {
        append_u16(area, high ? 0x0004 : 0x0003);
        append_u16(area, 0x0010);  // no KDF
        append_sized(area, number_of(key, OSSL_PKEY_PARAM_EC_PUB_X, bits / 8));
        append_sized(area, number_of(key, OSSL_PKEY_PARAM_EC_PUB_Y, bits / 8));
    }
    return area;
}

}  // namespace gatehouse::test

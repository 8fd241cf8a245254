// Certificates, good and bad, made with OpenSSL.
#pragma once

#include <ctime>
#include <string>

#include "attestation/verifier/ek_certificate.hpp"

namespace gatehouse::test {

using host::Buffer;
using host::Key;
using verifier::openssl::Certificate;

inline constexpr std::time_t kDay = 86400;
inline constexpr std::time_t kNow = 1'800'000'000;

[[nodiscard]] Key ecc_key(const char* curve = "P-256");
[[nodiscard]] Key rsa_key(unsigned bits);

// What goes into a certificate. Extensions are in the words of x509v3_config(5); an empty one is left out.
struct CertificateSpec {
    std::string subject;  // common name; empty: an empty subject
    std::time_t from = kNow - 10 * kDay;
    std::time_t to = kNow + 10 * kDay;
    const char* digest = "SHA256";
    long version = 2;             // as encoded: 2 is version 3
    std::string serial = "1234";  // hexadecimal, perhaps with a minus sign
    std::string basic, usage, extended_usage, alternative_name, extra;
    std::string sections;   // that the extensions name
    bool oaep_key = false;  // give the key's algorithm as RSAES-OAEP
};
[[nodiscard]] CertificateSpec ca_spec(const std::string& subject);
// As the TCG's profile wants it, for an ECC EK.
[[nodiscard]] CertificateSpec ek_spec();

// A certificate and the key that it is of.
struct Issued {
    Certificate certificate;
    Key key{nullptr, EVP_PKEY_free};
    [[nodiscard]] Buffer der() const;
};
// Signed by `issuer`, or by itself.
[[nodiscard]] Issued issue(const CertificateSpec& spec, Key key, const Issued* issuer = nullptr);

// What goes into a CRL. Extensions are lines in the words of x509v3_config(5).
struct RevocationSpec {
    struct Entry {
        std::string serial;                     // hexadecimal
        const Issued* issuer = nullptr;         // certificateIssuer of the entry; nullptr: none is said
        int reason = -1;                        // CRLReason; -1: none is said
        std::string extension = std::string();  // a line
    };
    std::vector<Entry> entries;
    std::string extensions;
    std::string sections;  // that the extensions name
    std::time_t from = kNow - kDay;
    std::time_t to = kNow + kDay;
};
[[nodiscard]] Buffer issue_list(const Issued& issuer, const RevocationSpec& spec);

// A CRL of `issuer`'s that revokes these.
[[nodiscard]] Buffer revoke(const Issued& issuer, const std::vector<const Issued*>& revoked,
                            std::time_t from = kNow - kDay, std::time_t to = kNow + kDay);

// TPMT_PUBLIC of an EK by template L-1 or L-2, or for P-384 H-3.
[[nodiscard]] Buffer ek_public_area(EVP_PKEY* key);

}  // namespace gatehouse::test

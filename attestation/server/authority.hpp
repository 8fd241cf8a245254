// The server's certificate authority: client certificates of endpoints, and the server's own. RFC 5280; ECDSA
// on P-256 with SHA-256 throughout.
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <memory>
#include <string>
#include <vector>

#include "attestation/server/database/records.hpp"

namespace gatehouse::server {

struct FreeOpenssl {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(X509_REQ* request) const { X509_REQ_free(request); }
};
using Key = std::unique_ptr<EVP_PKEY, FreeOpenssl>;
using Certificate = std::unique_ptr<X509, FreeOpenssl>;

[[nodiscard]] Key new_key();
[[nodiscard]] Buffer key_to_der(const EVP_PKEY* key);
[[nodiscard]] Key key_from_der(Bytes der);
[[nodiscard]] std::string private_pem(const EVP_PKEY* key);
[[nodiscard]] std::string public_pem(const EVP_PKEY* key);
// nullptr if it is not a public key on P-256 in PEM.
[[nodiscard]] Key public_key_from_pem(const std::string& pem);

struct Issued {
    std::string pem;
    Sha256Digest hash;  // of the DER
};

// The key of a PKCS #10 request in PEM; ServiceError (400) unless it is on P-256 and has signed the request.
[[nodiscard]] Key key_of_request(const std::string& pem);

class CertificateAuthority {
  public:
    CertificateAuthority(Key key, Certificate certificate)
        : key_(std::move(key)), certificate_(std::move(certificate)) {}
    // A new one, for 20 years: key and certificate, each in DER.
    struct Made {
        Buffer key, certificate;
    };
    [[nodiscard]] static Made make(const std::string& name, Seconds now);
    [[nodiscard]] static CertificateAuthority load(Bytes key_der, Bytes certificate_der);

    [[nodiscard]] std::string pem() const;
    // Subject CN = `endpoint`, extended key usage clientAuth.
    [[nodiscard]] Issued issue_client(EVP_PKEY* key, const std::string& endpoint, Seconds now, unsigned days) const;
    // subjectAltName = `names`, each an IP address or a host name; extended key usage serverAuth. ToolError
    // names one that is neither.
    [[nodiscard]] Issued issue_server(EVP_PKEY* key, const std::vector<std::string>& names, Seconds now,
                                      unsigned days) const;

  private:
    Key key_;
    Certificate certificate_;
};

}  // namespace gatehouse::server

// What is inside of a TrustStore.
#pragma once

#include "attestation/verifier/endorsement.hpp"
#include "attestation/verifier/openssl_pointers.hpp"

namespace gatehouse::verifier {

// A CRL, and the vendor's certificates whose keys it is signed by; none: it counts only where a path brings one.
struct TrustedRevocations {
    openssl::RevocationList list;
    std::vector<X509*> signers;  // of `roots` and `intermediates`
};

struct TrustedVendor {
    std::string name;
    openssl::Store anchors;  // roots
    std::vector<openssl::Certificate> roots;
    std::vector<openssl::Certificate> intermediates;  // and what signs CRLs only
    std::vector<TrustedRevocations> revocations;
    bool require_crl = false;
};

// Whether a CRL says that it was signed by the key of this certificate: by its name, and by the key's identifier
// where both have one.
[[nodiscard]] bool names_as_signer(X509_CRL* list, X509* certificate);

struct TrustStore::Contents {
    std::vector<TrustedVendor> vendors;
};

}  // namespace gatehouse::verifier

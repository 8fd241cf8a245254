// What is inside of a TrustStore.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>

#include "attestation/verifier/endorsement.hpp"
#include "attestation/verifier/openssl_pointers.hpp"

namespace gatehouse::verifier {

// A CRL, and the vendor's certificate whose key it is signed by; none: it counts only where a path brings one.
struct TrustedRevocations {
    openssl::RevocationList list;
    X509* signer = nullptr;      // of `roots` and `intermediates`
    openssl::KeyIdentifier key;  // the authority key identifier; null if it has none
    openssl::Integer number;     // null if it has none
    openssl::Integer base;       // of a delta: the number that it starts from; else null
    std::string scope;           // issuingDistributionPoint, encoded
    bool unknown_critical = false;
};

struct TrustedVendor {
    std::string name;
    openssl::Store anchors;  // roots
    std::vector<openssl::Certificate> roots;
    std::vector<openssl::Certificate> intermediates;  // and what signs CRLs only
    std::vector<TrustedRevocations> revocations;
    // Places in `revocations`: by the hash of the issuer's name, and those of indirect ones by what they list.
    std::unordered_multimap<unsigned long, std::size_t> by_issuer;
    std::unordered_multimap<std::string, std::size_t> listed;
    bool require_crl = false;
};

// What `listed` has an entry under: the certificate's issuer and its serial number.
[[nodiscard]] std::string listing_key(const X509_NAME* issuer, const ASN1_INTEGER* serial);

// What an indirect CRL lists of others' certificates: each entry is of the issuers that it or the last before it names.
// nullopt if that is too much: many names for each of many entries, of which a small list can say a great deal.
[[nodiscard]] std::optional<std::vector<std::string>> listed_keys(X509_CRL* list);

// Which CRLs OpenSSL is shown for a certificate of a path to these, and what it makes of each; of ek_revocation.cpp.
void set_crl_look_up(X509_STORE* anchors);

struct TrustStore::Contents {
    std::vector<TrustedVendor> vendors;
};

}  // namespace gatehouse::verifier

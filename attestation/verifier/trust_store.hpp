// What is inside of a TrustStore.
#pragma once

#include "attestation/verifier/endorsement.hpp"
#include "attestation/verifier/openssl_pointers.hpp"

namespace gatehouse::verifier {

struct TrustedVendor {
    std::string name;
    openssl::Store anchors;  // roots, CRLs
    std::vector<openssl::Certificate> roots;
    std::vector<openssl::Certificate> intermediates;
    std::vector<openssl::RevocationList> revocations;
    bool require_crl = false;
};

struct TrustStore::Contents {
    std::vector<TrustedVendor> vendors;
};

}  // namespace gatehouse::verifier

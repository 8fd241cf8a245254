// The path from an EK certificate to a root of a vendor that is trusted, and whether anything on it is
// revoked.
#pragma once

#include "attestation/verifier/ek_revocation.hpp"

namespace gatehouse::verifier {

struct ChainVerdict {
    const TrustedVendor* vendor = nullptr;  // the one whose root the path ends at; null if there is none
    Finding chain;
    Finding revocation;
};
// `others`: certificates that the endpoint sent; they may be part of a path, never its end.
[[nodiscard]] ChainVerdict verify_chain(X509* certificate, const std::vector<openssl::Certificate>& others,
                                        const TrustStore::Contents& store, std::time_t now);

// As endorsement_fault() of endorsement.hpp, of the path alone.
[[nodiscard]] std::string chain_fault(X509* certificate, const std::vector<openssl::Certificate>& others,
                                      const TrustStore::Contents& store, std::time_t accepted);

// A good path to a vendor, and what the CRLs say of it, whatever their dates are: what chain_fault() goes by.
struct VendorPath {
    const TrustedVendor* vendor = nullptr;
    std::vector<X509*> certificates;  // the EK's first: of the store, of `others`, or the caller's
    Revocations revocations;
};
// One for each vendor that has a path.
[[nodiscard]] std::vector<VendorPath> chain_paths(X509* certificate, const std::vector<openssl::Certificate>& others,
                                                  const TrustStore::Contents& store, std::time_t accepted);

}  // namespace gatehouse::verifier

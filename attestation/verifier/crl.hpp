// CRLs by themselves: what one says of itself and who signed it; which ones a path depends on, how old they are, and
// where newer ones are to be had.
//
// RFC 5280: CRL 5, its number 5.2.3, issuing distribution point 5.2.5; CRL distribution points of a certificate 4.2.1.13.
#pragma once

#include "attestation/verifier/endorsement.hpp"
#include "hypervisor/base/hash.hpp"

namespace gatehouse::verifier {

struct CrlFacts {
    std::string issuer;           // as name_text() has it
    Sha256Digest scope{};         // the same for two lists of which one takes the other's place: of issuer, its key's
                                  // identifier and issuing distribution point, and the key that signed it, if known
    std::string number;           // hexadecimal without leading zeros; empty: it has none
    std::time_t this_update = 0;  // since the epoch
    std::time_t next_update = 0;  // 0: it does not say
};
// ToolError saying why not: no CRL in DER, bytes after it, a delta CRL (which says what has changed, and is of no use
// alone), a signature by less than SHA-256, no dates.
[[nodiscard]] CrlFacts read_crl(Bytes der);
// The same, with the key of the first of the store's certificates that signed it, if one did: what it says of its key is
// the signer's to choose.
[[nodiscard]] CrlFacts read_crl(Bytes der, const TrustStore& trusted);
// Whether `one` is from before `other`, by its number or by its date; without a number it is before any that has one.
[[nodiscard]] bool is_older(const CrlFacts& one, const CrlFacts& other);

// The CRL in what a server sent or a file holds: DER, or one in PEM. ToolError.
[[nodiscard]] Buffer crl_of(Bytes content);

// Names of the vendors that have a certificate, root or not, with the name of the CRL's issuer and the key that signed it.
[[nodiscard]] std::vector<std::string> crl_vendors(Bytes der, const TrustStore& trusted);

// The URIs of the distribution points of a vendor's certificates; of them that are there twice one.
[[nodiscard]] std::vector<std::string> distribution_points(const TrustStore& trusted, const std::string& name);

// What the path from an EK certificate to a vendor depends on.
struct PathCrls {
    std::string vendor;               // that the path ends at; empty: there is none, and nothing else is said
    std::vector<std::string> points;  // URIs of the distribution points of the path's certificates
    std::time_t oldest = 0;           // this_update of the oldest CRL that counts for it; 0: there is none
    std::time_t end = 0;              // the first next_update of them; 0: none says one
    std::string gap;                  // the first certificate that no CRL is for; empty: each has one
    bool operator==(const PathCrls&) const = default;
};
// With the dates of certificates as they were at the time `accepted`, whatever the CRLs' are. The CRLs that count are those
// that endorsement_fault() asks: of several that are for one certificate the newest.
[[nodiscard]] PathCrls crls_of_path(const EndorsementEvidence& evidence, const TrustStore& trusted,
                                    std::time_t accepted);

}  // namespace gatehouse::verifier

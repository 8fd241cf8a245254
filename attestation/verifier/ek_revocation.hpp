// Whether anything on the path of an EK certificate is revoked: OpenSSL's answer, with indirect, partitioned and delta CRLs
// (RFC 5280, sections 5.2.4, 5.2.5, 5.3.3 and 6.3.3), and what it leaves open.
//
// A CRL is its CA's by the name, and by the key that signed it. CAs of one name with several keys are one CA whose key
// was changed (RFC 5280, 6.3.3, f), or several that chips made for themselves; a CRL without a key identifier does not say.
// So, of each certificate of the path:
//   - A CRL that OpenSSL would hold to the right key (the issuer's of the certificate; another's that it names) is asked.
//     OpenSSL takes the first CA of the name that it meets, and takes a signature by another key for a forgery: of such CRLs it
//     is not shown any, so that none hides the right one.
//   - If none of these answers for the certificate, or only such as have ended, one by another key of the name counts as far
//     as it lists it: by issuer and serial number it is revoked, though the key be another's. If it does not, it is not
//     checked: "by another key". So does one by a CA whose key usage lacks CRL signing (6.3.3, f): the key has said what it
//     lists, but that it lists nothing else proves nothing.
//   - What any full CRL by the right key, or by another CA that lists it under its issuer's name, says is revoked is so, whichever
//     of them OpenSSL prefers to look into, unless a later one of the same scope and key frees it.
//   - Deltas count whether or not a certificate or a CRL announces them (freshestCRL), for an operator has put them there.
//     What a delta lists is revoked unless a full CRL of the same scope and key has a number as high, or a later delta takes
//     it back. What one takes back (removeFromCRL) is free of the full CRLs from its base to its own number.
#pragma once

#include <ctime>
#include <optional>
#include <string>

#include "attestation/verifier/trust_store.hpp"

namespace gatehouse::verifier {

struct Revocations {
    std::string revoked;   // the first certificate that is
    std::string failure;   // the first reason why an answer cannot be had
    bool by_time = false;  // `failure` is about a date
    // Certificates that no CRL says anything of.
    struct Gap {
        int depth;
        std::string who;    // "EK certificate"
        std::string other;  // of CRLs by another key of the name, in words; empty if there is none
    };
    std::vector<Gap> gaps;
    // Of the path below its end, which is trusted by itself: the CRLs that answered, whatever their dates are. A delta does
    // not make its list younger.
    std::time_t oldest = 0;  // thisUpdate of the oldest; 0: none answered
    std::time_t end = 0;     // the first nextUpdate of them; 0: none says one
    std::string unanswered;  // the first certificate that has a gap, or only CRLs that are not to be believed
};

// Of a good path. `context` is set up to build that very path again, with time or NO_CHECK_TIME set; it serves for this only.
// At `now` the dates of deltas count; nullopt: they do not.
[[nodiscard]] Revocations find_revocations(X509_STORE_CTX* context, const TrustedVendor& vendor,
                                           std::optional<std::time_t> now);

// What ek_chain.cpp says as well.
[[nodiscard]] bool is_about_time(int error);
[[nodiscard]] std::string date_text(const ASN1_TIME* time);  // "2027-01-14 08:00:00 UTC"
[[nodiscard]] std::time_t time_of(const ASN1_TIME* time);    // 0: there is none, or it cannot be read
[[nodiscard]] std::string certificate_text(X509* certificate, int depth);

}  // namespace gatehouse::verifier

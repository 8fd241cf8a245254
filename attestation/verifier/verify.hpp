// The verifier: whether evidence shows that an endpoint runs what it should. Deny by default: every rule must
// hold.
//
// What each rule rests on: the TPM's signature over the quote; the quote over PCRs and claims; the event log
// only by its replay to the quoted PCRs; event names and data are never believed.
//
//   rule            holds if
//   ak              the evidence's key is the pinned one, restricted, and usable at locality 2 only
//   quote           TPMS_ATTEST, made by a TPM, of type quote
//   signature       the key's over the quote
//   signer          the quote names this key as a child of the SRK that the reference's bundle pins
//   nonce           qualifying data is SHA-256(nonce || claims): fresh, and the claims as they were made
//   selection       PCRs 17 and 18 of the SHA-256 bank and, in other banks, exactly these too; nothing else
//   log             the event log is well-formed and replays, in each quoted bank, to the quoted digest
//   events          PCR 17 and 18 were extended by exactly the reference's measurements, in order, then
//   capped claims          well-formed; a dynamic launch; capped; vault opened, every disk claimed encrypted
//   or absent policy          the claimed policy bundle is the reference's iommu           an IOMMU, or a
//   bundle that allows none counter         the approval's counter limit is at least the floor
#pragma once

#include <openssl/evp.h>

#include <optional>
#include <string>

#include "attestation/evidence/claims.hpp"
#include "attestation/verifier/tpm_structures.hpp"
#include "policies/policyctl/predict.hpp"

namespace gatehouse::verifier {

// As the guest program writes it. All hostile.
struct Evidence {
    Bytes quote;      // TPMS_ATTEST
    Bytes signature;  // TPMT_SIGNATURE
    Bytes key;        // TPM2B_PUBLIC
    Bytes claims;     // evidence/claims.hpp
    Bytes event_log;  // evidence/event_log.hpp
};

struct Expectations {
    Bytes nonce;                           // the one that was sent; 16 to 64 bytes
    const EVP_PKEY* pinned_key = nullptr;  // the endpoint's attestation key, from provisioning
    policies::Prediction reference;
    std::uint64_t counter_floor = 0;
};

struct Finding {
    std::string rule;
    bool ok = false;
    std::string detail;  // what failed and where; or what was found
};

struct Verdict {
    std::vector<Finding> findings;  // one for each rule, in the order above
    // What the evidence says, as far as it could be read; to be believed only if accepted().
    std::optional<evidence::Claims> claims;
    std::optional<Attestation> attestation;  // views into the evidence

    [[nodiscard]] bool accepted() const;
};

[[nodiscard]] Verdict verify(const Evidence& evidence, const Expectations& expectations);

}  // namespace gatehouse::verifier

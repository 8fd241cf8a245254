// The endorsement key: whether its certificate was made by a TPM vendor that is trusted, for a TPM.
//
// TCG EK Credential Profile for TPM Family 2.0, version 2.5 (certificate: 3.2 and 3.5; NV indices: 2.2.1.4
// and 2.2.1.5), RFC 5280 (CRLs: 5.2.5, 5.3.3 and 6.3). Certificates are DER; hostile.
#pragma once

#include <openssl/x509.h>

#include <ctime>
#include <memory>
#include <optional>

#include "attestation/verifier/finding.hpp"
#include "attestation/verifier/tpm_structures.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::verifier {

using host::Buffer;

// Room for a public collection of all makers' CAs as one vendor: of roots, intermediates and CRLs, each.
inline constexpr std::size_t kMaxVendorItems = 4096;

// The roots of one vendor, the intermediates that are known, and its CRLs, direct or indirect.
struct Vendor {
    std::string name;           // as the operator calls it: "Infineon"
    std::vector<Buffer> roots;  // DER
    std::vector<Buffer> intermediates;
    std::vector<Buffer> revocations;  // CRLs, DER; empty: revocation is not checked, and the finding says so
    // Whether a path is refused if the CRL of one of its CAs lacks: then nothing is passed over unchecked.
    bool require_crl = false;
};

class TrustStore {
  public:
    TrustStore();
    ~TrustStore();
    TrustStore(TrustStore&&) noexcept;
    TrustStore& operator=(TrustStore&&) noexcept;
    // What was passed over and why, one line for each: certificates that cannot be read, are no CA's (those that
    // sign CRLs aside) or are too weak, and CRLs that nobody of the vendor signed.
    // ToolError naming vendor and item if no root is left, if there are more than kMaxVendorItems of a kind, if a CRL
    // cannot be read or is not signed by the CA that it names.
    std::vector<std::string> add(const Vendor& vendor);
    [[nodiscard]] bool empty() const;

    struct Contents;
    [[nodiscard]] const Contents& contents() const { return *contents_; }

  private:
    std::unique_ptr<Contents> contents_;
};

struct EndorsementEvidence {
    Buffer certificate;         // from NV; may have padding after the DER (a known quirk, reported); empty: none
    std::vector<Buffer> chain;  // from NV 0x01c00100-0x01c001ff, in the order of their indices
    Buffer public_area;         // TPMT_PUBLIC of the EK
};

struct EndorsementVerdict {
    // Rules: "ek public" (a restricted decryption key of a known template), "ek certificate" (parsed; quirks
    // named), "ek key" (the certificate's key is the EK's), "ek chain" (path, dates, basic constraints,
    // signatures), "ek revocation", "ek usage" (key usage, EKU 2.23.133.8.1), "ek subject" (critical SAN with
    // manufacturer, model, version, where the subject is empty).
    std::vector<Finding> findings;
    std::vector<std::string> quirks;
    std::string vendor;        // of the trust store; empty if not trusted
    std::string manufacturer;  // of the SAN: "id:57454300"
    std::string model;
    std::string version;
    [[nodiscard]] bool accepted() const { return all_hold(findings); }
};

// SHA-256 of the EK's TPMT_PUBLIC: what operators register beforehand and endpoints are known by.
[[nodiscard]] Sha256Digest endorsement_hash(Bytes public_area);

// SHA-256 of the key alone, as SubjectPublicKeyInfo. Neither a certificate nor an activated credential
// vouches for the rest of the public area: an endpoint can show one key in several. ToolError if there is no
// key.
[[nodiscard]] Sha256Digest endorsement_key_hash(Bytes public_area);

[[nodiscard]] EndorsementVerdict verify_endorsement(const EndorsementEvidence& evidence, const TrustStore& store,
                                                    std::time_t now);

// Whether what was accepted at the time `accepted` has lost its vendor since: empty if not, else why, in
// words. A path to a vendor that is trusted now is looked for with the dates as they were then, and what the
// newest CRL of that vendor revokes is revoked, however old that is: an endpoint at work is not lost because a
// certificate or a list has grown old, nor does a list that was left to expire free a revoked one.
[[nodiscard]] std::string endorsement_fault(const EndorsementEvidence& evidence, const TrustStore& store,
                                            std::time_t accepted);

// What TPM2_MakeCredential does (Part 1, 24; Part 3, 12.6), for an RSA or ECC P-256/P-384/P-521 EK with
// AES-CFB: `secret` (16 to 32 bytes) comes out only of the TPM that has the EK, and only while an object
// named `object_name` is loaded there. ToolError if the EK is not of a known kind.
struct Credential {
    Buffer blob;    // TPM2B_ID_OBJECT, with its size field
    Buffer secret;  // TPM2B_ENCRYPTED_SECRET, with its size field
};
[[nodiscard]] Credential make_credential(Bytes ek_public_area, Bytes object_name, Bytes secret);

}  // namespace gatehouse::verifier

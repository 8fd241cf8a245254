// One X.509 certificate as TPM vendors make them: what is in it, and in which ways it is not as it should be.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/verifier/openssl_pointers.hpp"
#include "keyvault/host_support/authority.hpp"
#include "keyvault/host_support/support.hpp"

namespace gatehouse::verifier {

inline constexpr std::size_t kMaxCertificate = 16384;  // bytes

// The certificate at the front of `bytes`, and how many bytes it takes; nullptr if there is none, `why` then
// in words.
struct ParsedCertificate {
    openssl::Certificate certificate;
    std::size_t size = 0;
    std::string why;
};
[[nodiscard]] ParsedCertificate parse_certificate(Bytes bytes);

// An EK certificate as it is in NV: after a TCG header (stored certificate 0x1001, full certificate 0x1002),
// with padding after it. What was stepped over is named in `quirks`.
[[nodiscard]] ParsedCertificate parse_stored_certificate(Bytes bytes, std::vector<std::string>& quirks);

// The certificates in the NV indices of a chain: one or several in each, or continued from one index to the
// next. Whatever is before, between or after them is passed over, and named in `quirks` unless it is the empty rest
// of an index.
[[nodiscard]] std::vector<openssl::Certificate> parse_stored_chain(const std::vector<host::Buffer>& buffers,
                                                                   std::vector<std::string>& quirks);

// "CN=Infineon OPTIGA(TM) ECC Manufacturing CA 016,O=..."; "(empty)". Printable, at most 200 characters.
[[nodiscard]] std::string name_text(const X509_NAME* name);
// Printable ASCII, whatever an endpoint sent; at most `most` characters.
[[nodiscard]] std::string printable(std::string_view text, std::size_t most = 200);

// What is too weak about the certificate's key, and about its signature if that is relied on; empty if
// nothing is.
[[nodiscard]] std::string certificate_weakness(X509* certificate, bool signature_matters);

// The TPM that a certificate's subjectAltName names (TCG EK Credential Profile 2.5, section 3.1.2).
struct NamedTpm {
    std::string manufacturer, model, version;
};
// nullopt if one of the three is missing or there twice; `why` then in words.
[[nodiscard]] std::optional<NamedTpm> named_tpm(X509* certificate, std::string& why, std::vector<std::string>& quirks);

}  // namespace gatehouse::verifier

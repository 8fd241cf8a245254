#include "attestation/verifier/trust_store.hpp"

#include <openssl/err.h>

#include "attestation/verifier/ek_certificate.hpp"

namespace gatehouse::verifier {
namespace {

using host::ToolError;

[[noreturn]] void refuse(const Vendor& vendor, const char* item, std::size_t number, const std::string& why) {
    ERR_clear_error();
    throw ToolError("trust store: " + vendor.name + ": " + item + " " + std::to_string(number) + ": " + why);
}

openssl::Certificate read_ca(const Vendor& vendor, const char* item, std::size_t number, Bytes der, bool root) {
    auto parsed = parse_certificate(der);
    if (!parsed.certificate) refuse(vendor, item, number, "not a certificate in DER: " + parsed.why);
    if (parsed.size != der.size()) refuse(vendor, item, number, "bytes are left after the certificate");
    X509* const certificate = parsed.certificate.get();
    const std::string name = name_text(X509_get_subject_name(certificate));
    // 1: basic constraints say so. Version 1 and Netscape's ways of saying it are not taken.
    if (X509_check_ca(certificate) != 1) refuse(vendor, item, number, name + " is not a CA's certificate");
    const std::string weakness = certificate_weakness(certificate, !root);
    if (!weakness.empty()) refuse(vendor, item, number, name + ": " + weakness);
    return std::move(parsed.certificate);
}

openssl::RevocationList read_revocations(const Vendor& vendor, std::size_t number, const host::Buffer& der,
                                         const TrustedVendor& trusted) {
    const unsigned char* at = raw(Bytes(der));
    openssl::RevocationList list(d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
    if (!list || at != raw(Bytes(der)) + der.size()) refuse(vendor, "CRL", number, "not a CRL in DER");
    const X509_NAME* const issuer = X509_CRL_get_issuer(list.get());
    for (const auto* group : {&trusted.roots, &trusted.intermediates}) {
        for (const auto& ca : *group) {
            if (X509_NAME_cmp(X509_get_subject_name(ca.get()), issuer) == 0 &&
                X509_CRL_verify(list.get(), X509_get0_pubkey(ca.get())) == 1) {
                ERR_clear_error();
                return list;
            }
        }
    }
    refuse(vendor, "CRL", number,
           "no root or intermediate of this vendor signed it; its issuer is " + name_text(issuer));
}

}  // namespace

TrustStore::TrustStore() : contents_(std::make_unique<Contents>()) {}
TrustStore::~TrustStore() = default;
TrustStore::TrustStore(TrustStore&&) noexcept = default;
TrustStore& TrustStore::operator=(TrustStore&&) noexcept = default;

bool TrustStore::empty() const { return contents_->vendors.empty(); }

void TrustStore::add(const Vendor& vendor) {
    TrustedVendor trusted{.name = vendor.name,
                          .anchors = openssl::Store(X509_STORE_new()),
                          .roots = {},
                          .intermediates = {},
                          .revocations = {},
                          .require_crl = vendor.require_crl};
    if (vendor.name.empty()) throw ToolError("trust store: a vendor without a name");
    if (vendor.roots.empty()) throw ToolError("trust store: " + vendor.name + ": no root certificate");
    for (std::size_t i = 0; i < vendor.roots.size(); ++i) {
        trusted.roots.push_back(read_ca(vendor, "root", i + 1, vendor.roots[i], true));
        X509_STORE_add_cert(trusted.anchors.get(), trusted.roots.back().get());
    }
    for (std::size_t i = 0; i < vendor.intermediates.size(); ++i) {
        trusted.intermediates.push_back(read_ca(vendor, "intermediate", i + 1, vendor.intermediates[i], false));
    }
    for (std::size_t i = 0; i < vendor.revocations.size(); ++i) {
        trusted.revocations.push_back(read_revocations(vendor, i + 1, vendor.revocations[i], trusted));
        X509_STORE_add_crl(trusted.anchors.get(), trusted.revocations.back().get());
    }
    ERR_clear_error();
    std::erase_if(contents_->vendors, [&](const TrustedVendor& old) { return old.name == vendor.name; });
    contents_->vendors.push_back(std::move(trusted));
}

}  // namespace gatehouse::verifier

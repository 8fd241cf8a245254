#include "attestation/verifier/trust_store.hpp"

#include <openssl/err.h>

#include "attestation/verifier/ek_certificate.hpp"

namespace gatehouse::verifier {
namespace {

using host::ToolError;

std::string text_of(const Vendor& vendor, const char* item, std::size_t number, const std::string& why) {
    ERR_clear_error();
    return vendor.name + ": " + item + " " + std::to_string(number) + ": " + why;
}

[[noreturn]] void refuse(const Vendor& vendor, const char* item, std::size_t number, const std::string& why) {
    throw ToolError("trust store: " + text_of(vendor, item, number, why));
}

// Its key signs CRLs and it is no CA's: a CRL's issuer of its own (RFC 5280, section 6.3.3, f).
bool signs_crls_only(X509* certificate) {
    return (X509_get_extension_flags(certificate) & (EXFLAG_KUSAGE | EXFLAG_CA | EXFLAG_INVALID)) == EXFLAG_KUSAGE &&
           (X509_get_key_usage(certificate) & (KU_CRL_SIGN | KU_KEY_CERT_SIGN)) == KU_CRL_SIGN;
}

enum class Rank : std::uint8_t { kRoot, kIntermediate };

// nullptr, and the reason in `why`, if it is not one to rely on.
openssl::Certificate read_ca(Bytes der, Rank rank, std::string& why) {
    auto parsed = parse_certificate(der);
    if (!parsed.certificate) {
        why = "not a certificate in DER: " + parsed.why;
        return nullptr;
    }
    if (parsed.size != der.size()) {
        why = "bytes are left after the certificate";
        return nullptr;
    }
    X509* const certificate = parsed.certificate.get();
    const std::string name = name_text(X509_get_subject_name(certificate));
    // 1: basic constraints say so. Version 1 and Netscape's ways of saying it are not taken.
    if (X509_check_ca(certificate) != 1 && (rank == Rank::kRoot || !signs_crls_only(certificate))) {
        why = name + " is not a CA's certificate";
        return nullptr;
    }
    const std::string weakness = certificate_weakness(certificate, rank != Rank::kRoot);
    if (!weakness.empty()) {
        why = name + ": " + weakness;
        return nullptr;
    }
    return std::move(parsed.certificate);
}

std::vector<openssl::Certificate> read_cas(const Vendor& vendor, Rank rank, std::vector<std::string>& notes) {
    const bool root = rank == Rank::kRoot;
    const auto& all = root ? vendor.roots : vendor.intermediates;
    std::vector<openssl::Certificate> read;
    for (std::size_t i = 0; i < all.size(); ++i) {
        std::string why;
        openssl::Certificate one = read_ca(all[i], rank, why);
        if (one) {
            read.push_back(std::move(one));
        } else {
            notes.push_back(text_of(vendor, root ? "root" : "intermediate", i + 1, why));
        }
    }
    return read;
}

TrustedRevocations read_revocations(const Vendor& vendor, std::size_t number, const host::Buffer& der,
                                    const TrustedVendor& trusted, std::vector<std::string>& notes) {
    const unsigned char* at = raw(Bytes(der));
    TrustedRevocations read{openssl::RevocationList(d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size()))), {}};
    X509_CRL* const list = read.list.get();
    if (list == nullptr || at != raw(Bytes(der)) + der.size()) refuse(vendor, "CRL", number, "not a CRL in DER");
    const X509_NAME* const issuer = X509_CRL_get_issuer(list);
    bool named = false;  // whether a key that the CRL names is known
    for (const auto* group : {&trusted.roots, &trusted.intermediates}) {
        for (const auto& one : *group) {
            if (X509_NAME_cmp(X509_get_subject_name(one.get()), issuer) != 0) continue;
            if (X509_CRL_verify(list, X509_get0_pubkey(one.get())) == 1) {
                read.signers.push_back(one.get());
            } else {
                named = named || names_as_signer(list, one.get());
            }
        }
    }
    if (read.signers.empty()) {
        const std::string who = "its issuer is " + name_text(issuer);
        if (named) refuse(vendor, "CRL", number, "not signed by the CA of this vendor that it names; " + who);
        notes.push_back(text_of(vendor, "CRL", number, "no root or intermediate of this vendor signed it; " + who));
    }
    ERR_clear_error();
    return read;
}

void demand_room(const Vendor& vendor) {
    const std::pair<const char*, std::size_t> kinds[] = {{"roots", vendor.roots.size()},
                                                         {"intermediates", vendor.intermediates.size()},
                                                         {"CRLs", vendor.revocations.size()}};
    for (const auto& [name, size] : kinds) {
        if (size > kMaxVendorItems) {
            throw ToolError("trust store: " + vendor.name + ": " + std::to_string(size) + " " + name + "; at most " +
                            std::to_string(kMaxVendorItems) + " are read");
        }
    }
}

}  // namespace

TrustStore::TrustStore() : contents_(std::make_unique<Contents>()) {}
TrustStore::~TrustStore() = default;
TrustStore::TrustStore(TrustStore&&) noexcept = default;
TrustStore& TrustStore::operator=(TrustStore&&) noexcept = default;

bool TrustStore::empty() const { return contents_->vendors.empty(); }

std::vector<std::string> TrustStore::add(const Vendor& vendor) {
    TrustedVendor trusted{.name = vendor.name,
                          .anchors = openssl::Store(X509_STORE_new()),
                          .roots = {},
                          .intermediates = {},
                          .revocations = {},
                          .require_crl = vendor.require_crl};
    if (vendor.name.empty()) throw ToolError("trust store: a vendor without a name");
    if (vendor.roots.empty()) throw ToolError("trust store: " + vendor.name + ": no root certificate");
    demand_room(vendor);
    std::vector<std::string> notes;
    trusted.roots = read_cas(vendor, Rank::kRoot, notes);
    if (trusted.roots.empty()) throw ToolError("trust store: " + notes.front());
    for (const auto& root : trusted.roots) X509_STORE_add_cert(trusted.anchors.get(), root.get());
    trusted.intermediates = read_cas(vendor, Rank::kIntermediate, notes);
    for (std::size_t i = 0; i < vendor.revocations.size(); ++i) {
        trusted.revocations.push_back(read_revocations(vendor, i + 1, vendor.revocations[i], trusted, notes));
    }
    ERR_clear_error();
    std::erase_if(contents_->vendors, [&](const TrustedVendor& old) { return old.name == vendor.name; });
    contents_->vendors.push_back(std::move(trusted));
    return notes;
}

bool names_as_signer(X509_CRL* list, X509* certificate) {
    const openssl::KeyIdentifier key(
        static_cast<AUTHORITY_KEYID*>(X509_CRL_get_ext_d2i(list, NID_authority_key_identifier, nullptr, nullptr)));
    const bool named = X509_NAME_cmp(X509_get_subject_name(certificate), X509_CRL_get_issuer(list)) == 0 &&
                       X509_check_akid(certificate, key.get()) == X509_V_OK;
    ERR_clear_error();
    return named;
}

}  // namespace gatehouse::verifier

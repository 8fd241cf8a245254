#include "attestation/verifier/trust_store.hpp"

#include <openssl/err.h>

#include "attestation/verifier/ek_certificate.hpp"

namespace gatehouse::verifier {
namespace {

using host::ToolError;

// Signatures of CRLs that are checked for one vendor: each CRL with the right CA, and as many with wrong ones. Where hundreds
// of CAs have one name, and no CRL says by which key it is, there would be millions.
constexpr std::size_t kMaxListedBytes = 64 << 20;  // of one indirect CRL
constexpr std::size_t kMaxSignerTries = 2 * kMaxVendorItems;

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

// The vendor's CAs, by the hash of their names.
using Cas = std::unordered_multimap<unsigned long, X509*>;

unsigned long hash_of(const X509_NAME* name) { return X509_NAME_hash_ex(name, nullptr, nullptr, nullptr); }

bool has_unknown_critical(X509_CRL* list) {
    for (int i = 0; i < X509_CRL_get_ext_count(list); ++i) {
        X509_EXTENSION* const extension = X509_CRL_get_ext(list, i);
        const int kind = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
        if (X509_EXTENSION_get_critical(extension) == 1 && kind != NID_delta_crl &&
            kind != NID_issuing_distribution_point && kind != NID_authority_key_identifier)
            return true;
    }
    return false;
}

std::string encoded_extension(X509_CRL* list, int kind) {
    const int at = X509_CRL_get_ext_by_NID(list, kind, -1);
    if (at < 0) return "";
    const ASN1_OCTET_STRING* const data = X509_EXTENSION_get_data(X509_CRL_get_ext(list, at));
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(data)),
            static_cast<std::size_t>(ASN1_STRING_length(data))};
}

// Who signed a CRL, of the CAs of its issuer's name: those first whose key it names. `tries`: signatures that are yet
// checked for this vendor. `named`: a CA that it names did not.
X509* find_signer(const TrustedRevocations& read, const Cas& cas, std::size_t& tries, bool& named) {
    X509_CRL* const list = read.list.get();
    const X509_NAME* const issuer = X509_CRL_get_issuer(list);
    std::vector<X509*> first, then;
    const auto [begin, end] = cas.equal_range(hash_of(issuer));
    for (auto it = begin; it != end; ++it) {
        if (X509_NAME_cmp(X509_get_subject_name(it->second), issuer) != 0) continue;
        (X509_check_akid(it->second, read.key.get()) == X509_V_OK ? first : then).push_back(it->second);
    }
    for (const auto* group : {&first, &then}) {
        for (X509* const ca : *group) {
            if (tries == 0) return nullptr;
            --tries;
            if (X509_CRL_verify(list, X509_get0_pubkey(ca)) == 1) return ca;
        }
    }
    named = !first.empty();
    return nullptr;
}

TrustedRevocations read_revocations(const Vendor& vendor, std::size_t number, const host::Buffer& der, const Cas& cas,
                                    std::size_t& tries, std::vector<std::string>& notes) {
    const unsigned char* at = raw(Bytes(der));
    TrustedRevocations read;
    read.list.reset(d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
    X509_CRL* const list = read.list.get();
    if (list == nullptr || at != raw(Bytes(der)) + der.size()) refuse(vendor, "CRL", number, "not a CRL in DER");
    const auto integer = [list](int kind) {
        return openssl::Integer(static_cast<ASN1_INTEGER*>(X509_CRL_get_ext_d2i(list, kind, nullptr, nullptr)));
    };
    read.key.reset(
        static_cast<AUTHORITY_KEYID*>(X509_CRL_get_ext_d2i(list, NID_authority_key_identifier, nullptr, nullptr)));
    read.number = integer(NID_crl_number);
    read.base = integer(NID_delta_crl);
    read.scope = encoded_extension(list, NID_issuing_distribution_point);
    read.unknown_critical = has_unknown_critical(list);
    bool named = false;
    read.signer = find_signer(read, cas, tries, named);
    if (read.signer == nullptr) {
        const std::string who = "its issuer is " + name_text(X509_CRL_get_issuer(list));
        if (named) refuse(vendor, "CRL", number, "not signed by the CA of this vendor that it names; " + who);
        notes.push_back(text_of(vendor, "CRL", number,
                                tries == 0 ? "not looked for who signed it: there are too many CAs of one name; " + who
                                           : "no root or intermediate of this vendor signed it; " + who));
    }
    ERR_clear_error();
    return read;
}

void read_all_revocations(const Vendor& vendor, TrustedVendor& trusted, std::vector<std::string>& notes) {
    Cas cas;
    for (const auto* group : {&trusted.roots, &trusted.intermediates}) {
        for (const auto& one : *group) cas.emplace(hash_of(X509_get_subject_name(one.get())), one.get());
    }
    std::size_t tries = kMaxSignerTries;
    for (std::size_t i = 0; i < vendor.revocations.size(); ++i) {
        trusted.revocations.push_back(read_revocations(vendor, i + 1, vendor.revocations[i], cas, tries, notes));
        trusted.by_issuer.emplace(hash_of(X509_CRL_get_issuer(trusted.revocations.back().list.get())), i);
        auto keys = listed_keys(trusted.revocations.back().list.get());
        if (!keys) refuse(vendor, "CRL", i + 1, "lists too many issuers' certificates");
        for (std::string& key : *keys) trusted.listed.emplace(std::move(key), i);
    }
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

std::optional<std::vector<std::string>> listed_keys(X509_CRL* list) {
    std::vector<std::string> keys;
    const openssl::DistributionPoint point(
        static_cast<ISSUING_DIST_POINT*>(X509_CRL_get_ext_d2i(list, NID_issuing_distribution_point, nullptr, nullptr)));
    if (!point || point->indirectCRL == 0) return keys;
    const STACK_OF(X509_REVOKED)* const entries = X509_CRL_get_REVOKED(list);
    std::size_t room = kMaxListedBytes;
    openssl::Names issuers;
    for (int i = 0; i < sk_X509_REVOKED_num(entries); ++i) {
        const X509_REVOKED* const entry = sk_X509_REVOKED_value(entries, i);
        openssl::Names names(
            static_cast<GENERAL_NAMES*>(X509_REVOKED_get_ext_d2i(entry, NID_certificate_issuer, nullptr, nullptr)));
        if (names) issuers = std::move(names);
        for (int k = 0; k < sk_GENERAL_NAME_num(issuers.get()); ++k) {
            const GENERAL_NAME* const name = sk_GENERAL_NAME_value(issuers.get(), k);
            if (name->type != GEN_DIRNAME) continue;
            keys.push_back(listing_key(name->d.directoryName, X509_REVOKED_get0_serialNumber(entry)));
            if (keys.back().size() > room) return std::nullopt;
            room -= keys.back().size();
        }
    }
    return keys;
}

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
                          .by_issuer = {},
                          .listed = {},
                          .require_crl = vendor.require_crl};
    if (vendor.name.empty()) throw ToolError("trust store: a vendor without a name");
    if (vendor.roots.empty()) throw ToolError("trust store: " + vendor.name + ": no root certificate");
    demand_room(vendor);
    std::vector<std::string> notes;
    trusted.roots = read_cas(vendor, Rank::kRoot, notes);
    if (trusted.roots.empty()) throw ToolError("trust store: " + notes.front());
    for (const auto& root : trusted.roots) X509_STORE_add_cert(trusted.anchors.get(), root.get());
    trusted.intermediates = read_cas(vendor, Rank::kIntermediate, notes);
    set_crl_look_up(trusted.anchors.get());
    read_all_revocations(vendor, trusted, notes);
    ERR_clear_error();
    std::erase_if(contents_->vendors, [&](const TrustedVendor& old) { return old.name == vendor.name; });
    contents_->vendors.push_back(std::move(trusted));
    return notes;
}

std::string listing_key(const X509_NAME* issuer, const ASN1_INTEGER* serial) {
    return std::to_string(hash_of(issuer)) + (ASN1_STRING_type(serial) == V_ASN1_NEG_INTEGER ? "-" : "+") +
           std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(serial)),
                       static_cast<std::size_t>(ASN1_STRING_length(serial)));
}

}  // namespace gatehouse::verifier

#include "attestation/verifier/crl.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>

#include "attestation/verifier/ek_certificate.hpp"
#include "attestation/verifier/ek_chain.hpp"

namespace gatehouse::verifier {
namespace {

using host::ToolError;
using openssl::Pointer;

using DistributionPoints = Pointer<CRL_DIST_POINTS, CRL_DIST_POINTS_free>;
using Integer = Pointer<ASN1_INTEGER, ASN1_INTEGER_free>;

constexpr std::size_t kMostPoints = 64;  // of one certificate
constexpr std::size_t kMostPoint = 1024;

// The errors that OpenSSL has piled up meanwhile are nobody's.
struct ErrorsCleared {
    ~ErrorsCleared() { ERR_clear_error(); }
};

openssl::RevocationList parse(Bytes der) {
    const unsigned char* at = raw(der);
    openssl::RevocationList list(d2i_X509_CRL(nullptr, &at, static_cast<long>(der.size())));
    if (!list) throw ToolError("not a CRL in DER");
    if (at != raw(der) + der.size()) throw ToolError("bytes are left after the CRL");
    return list;
}

Bytes extension_bytes(X509_CRL* list, int kind) {
    const int at = X509_CRL_get_ext_by_NID(list, kind, -1);
    if (at < 0) return {};
    const ASN1_OCTET_STRING* const data = X509_EXTENSION_get_data(X509_CRL_get_ext(list, at));
    return std::as_bytes(std::span(ASN1_STRING_get0_data(data), static_cast<std::size_t>(ASN1_STRING_length(data))));
}

// Each with its length: what is one's end is not another's beginning.
Sha256Digest scope_of(X509_CRL* list) {
    Buffer all;
    const auto add = [&all](Bytes part) {
        std::array<std::byte, 4> size{};
        store(size.data(), static_cast<std::uint32_t>(part.size()), Endian::kBig);
        all.insert(all.end(), size.begin(), size.end());
        all.insert(all.end(), part.begin(), part.end());
    };
    unsigned char* name = nullptr;
    const int size = i2d_X509_NAME(X509_CRL_get_issuer(list), &name);
    if (size < 0) throw ToolError("its issuer cannot be read");
    add(std::as_bytes(std::span(name, static_cast<std::size_t>(size))));
    OPENSSL_free(name);
    add(extension_bytes(list, NID_authority_key_identifier));
    add(extension_bytes(list, NID_issuing_distribution_point));
    return sha256(all);
}

std::string number_of(X509_CRL* list) {
    const Integer number(static_cast<ASN1_INTEGER*>(X509_CRL_get_ext_d2i(list, NID_crl_number, nullptr, nullptr)));
    if (!number) return "";
    const auto* const value = ASN1_STRING_get0_data(number.get());
    const auto size = static_cast<std::size_t>(ASN1_STRING_length(number.get()));
    if (size > 32 || (ASN1_STRING_type(number.get()) & V_ASN1_NEG) != 0) throw ToolError("its number is not one");
    const std::string text = host::hex(std::as_bytes(std::span(value, size)));
    return text.substr(std::min(text.find_first_not_of('0'), text.size() - 1));
}

bool is_weak(X509_CRL* list) {
    int digest = NID_undef, key = NID_undef;
    if (OBJ_find_sigid_algs(X509_CRL_get_signature_nid(list), &digest, &key) != 1) return true;
    return digest == NID_md2 || digest == NID_md4 || digest == NID_md5 || digest == NID_sha1 ||
           digest == NID_md5_sha1 || digest == NID_ripemd160 || digest == NID_mdc2;
}

void add_point(std::vector<std::string>& points, const GENERAL_NAME* name) {
    if (name->type != GEN_URI) return;
    const std::string uri(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.uniformResourceIdentifier)),
                          static_cast<std::size_t>(ASN1_STRING_length(name->d.uniformResourceIdentifier)));
    if (uri.empty() || uri.size() > kMostPoint || printable(uri, kMostPoint) != uri) return;
    if (std::ranges::find(points, uri) == points.end()) points.push_back(uri);
}

void add_points(std::vector<std::string>& points, X509* certificate) {
    const DistributionPoints all(
        static_cast<CRL_DIST_POINTS*>(X509_get_ext_d2i(certificate, NID_crl_distribution_points, nullptr, nullptr)));
    const std::size_t most = points.size() + kMostPoints;
    for (int i = 0; all && i < sk_DIST_POINT_num(all.get()); ++i) {
        const DIST_POINT* const one = sk_DIST_POINT_value(all.get(), i);
        if (one->distpoint == nullptr || one->distpoint->type != 0) continue;  // relative to its issuer's name
        const GENERAL_NAMES* const names = one->distpoint->name.fullname;
        for (int j = 0; j < sk_GENERAL_NAME_num(names) && points.size() < most; ++j)
            add_point(points, sk_GENERAL_NAME_value(names, j));
    }
}

}  // namespace

CrlFacts read_crl(Bytes der) {
    const ErrorsCleared cleared;
    const openssl::RevocationList list = parse(der);
    if (X509_CRL_get_ext_by_NID(list.get(), NID_delta_crl, -1) >= 0)
        throw ToolError("a delta CRL, which is of no use alone");
    if (is_weak(list.get())) throw ToolError("its signature is too weak; SHA-256 at least");
    if (!listed_keys(list.get())) throw ToolError("it lists too many issuers' certificates");
    CrlFacts facts{.issuer = name_text(X509_CRL_get_issuer(list.get())),
                   .scope = scope_of(list.get()),
                   .number = number_of(list.get()),
                   .this_update = time_of(X509_CRL_get0_lastUpdate(list.get())),
                   .next_update = time_of(X509_CRL_get0_nextUpdate(list.get()))};
    if (facts.this_update == 0) throw ToolError("its date cannot be read");
    return facts;
}

bool is_older(const CrlFacts& one, const CrlFacts& other) {
    if (one.this_update < other.this_update) return true;
    if (one.number.size() != other.number.size()) return one.number.size() < other.number.size();
    return one.number < other.number;
}

Buffer crl_of(Bytes content) {
    const ErrorsCleared cleared;
    if (content.empty()) throw ToolError("empty");
    if (content.front() == std::byte{0x30}) return {content.begin(), content.end()};
    const Pointer<BIO, BIO_free_all> source(BIO_new_mem_buf(content.data(), static_cast<int>(content.size())));
    const openssl::RevocationList list(PEM_read_bio_X509_CRL(source.get(), nullptr, host::no_pass_phrase, nullptr));
    unsigned char* der = nullptr;
    const int size = list ? i2d_X509_CRL(list.get(), &der) : -1;
    if (size < 0) throw ToolError("neither a CRL in DER nor one in PEM");
    const Bytes bytes = std::as_bytes(std::span(der, static_cast<std::size_t>(size)));
    Buffer out(bytes.begin(), bytes.end());
    OPENSSL_free(der);
    return out;
}

namespace {

// Also one whose key usage lacks CRL signing: how far its list counts, ek_revocation.hpp says.
bool has_signed(X509_CRL* list, X509* certificate) {
    return X509_NAME_cmp(X509_get_subject_name(certificate), X509_CRL_get_issuer(list)) == 0 &&
           X509_CRL_verify(list, X509_get0_pubkey(certificate)) == 1;
}

X509* signer_of(X509_CRL* list, const TrustStore& trusted) {
    for (const TrustedVendor& vendor : trusted.contents().vendors) {
        for (const auto* group : {&vendor.roots, &vendor.intermediates}) {
            for (const auto& one : *group) {
                if (has_signed(list, one.get())) return one.get();
            }
        }
    }
    return nullptr;
}

}  // namespace

CrlFacts read_crl(Bytes der, const TrustStore& trusted) {
    CrlFacts facts = read_crl(der);
    const ErrorsCleared cleared;
    const openssl::RevocationList list = parse(der);
    const X509* const signer = signer_of(list.get(), trusted);
    if (signer == nullptr) return facts;
    unsigned char* encoded = nullptr;
    const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(signer), &encoded);
    if (size < 0) throw ToolError("the key of its issuer cannot be read");
    facts.scope = sha256({facts.scope, std::as_bytes(std::span(encoded, static_cast<std::size_t>(size)))});
    OPENSSL_free(encoded);
    return facts;
}

std::vector<std::string> crl_vendors(Bytes der, const TrustStore& trusted) {
    const ErrorsCleared cleared;
    const openssl::RevocationList list = parse(der);
    const auto signed_by = [&](const openssl::Certificate& one) { return has_signed(list.get(), one.get()); };
    std::vector<std::string> names;
    for (const TrustedVendor& vendor : trusted.contents().vendors) {
        if (std::ranges::any_of(vendor.roots, signed_by) || std::ranges::any_of(vendor.intermediates, signed_by))
            names.push_back(vendor.name);
    }
    return names;
}

std::vector<std::string> distribution_points(const TrustStore& trusted, const std::string& name) {
    const ErrorsCleared cleared;
    std::vector<std::string> points;
    for (const TrustedVendor& vendor : trusted.contents().vendors) {
        if (vendor.name != name) continue;
        for (const auto* group : {&vendor.roots, &vendor.intermediates})
            for (const auto& one : *group) add_points(points, one.get());
    }
    return points;
}

PathCrls crls_of_path(const EndorsementEvidence& evidence, const TrustStore& trusted, std::time_t accepted) {
    const ErrorsCleared cleared;
    std::vector<std::string> quirks;
    const ParsedCertificate parsed = parse_stored_certificate(evidence.certificate, quirks);
    if (!parsed.certificate) return {};
    const std::vector<openssl::Certificate> others = parse_stored_chain(evidence.chain, quirks);
    std::optional<PathCrls> best;
    for (VendorPath& path : chain_paths(parsed.certificate.get(), others, trusted.contents(), accepted)) {
        PathCrls found{.vendor = path.vendor->name,
                       .points = {},
                       .oldest = path.revocations.oldest,
                       .end = path.revocations.end,
                       .gap = std::move(path.revocations.unanswered)};
        for (X509* const one : path.certificates) add_points(found.points, one);
        // Vendors may share a root: the one whose CRLs say more is heard.
        const auto rank = [](const PathCrls& one) { return std::pair(one.gap.empty(), one.oldest); };
        if (!best || rank(found) > rank(*best)) best = std::move(found);
    }
    return best.value_or(PathCrls{});
}

}  // namespace gatehouse::verifier

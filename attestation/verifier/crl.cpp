#include "attestation/verifier/crl.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>

#include "attestation/verifier/ek_certificate.hpp"
#include "attestation/verifier/ek_revocation.hpp"
#include "attestation/verifier/trust_store.hpp"

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

std::time_t time_of(const ASN1_TIME* time) {
    std::tm parts{};
    if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return 0;
    return timegm(&parts);
}

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

// --- the CRLs of a path

// What OpenSSL's second pass over a path shows: it chooses the CRLs, as it does when they are judged.
struct Seen {
    PathCrls* path = nullptr;
    X509_STORE_CTX_cert_crl_fn look_up = nullptr;  // OpenSSL's own
    const X509_CRL* out_of_scope = nullptr;        // the last that is not for the certificate
    int out_of_scope_depth = -1;
};

Seen* seen_by(X509_STORE_CTX* context) { return static_cast<Seen*>(X509_STORE_CTX_get_app_data(context)); }

// What is trusted by itself, whoever issued it, needs no CRL.
bool is_anchor(X509_STORE_CTX* context) {
    return X509_STORE_CTX_get_error_depth(context) + 1 == sk_X509_num(X509_STORE_CTX_get0_chain(context));
}

void note_gap(Seen& seen, X509_STORE_CTX* context) {
    if (!seen.path->gap.empty() || is_anchor(context)) return;
    const int depth = X509_STORE_CTX_get_error_depth(context);
    seen.path->gap = certificate_text(X509_STORE_CTX_get_current_cert(context), depth);
}

// Whatever is wrong is judged elsewhere.
int go_on(int ok, X509_STORE_CTX* context) {
    if (ok == 1 || X509_STORE_CTX_get0_parent_ctx(context) != nullptr) return 1;
    Seen& seen = *seen_by(context);
    switch (X509_STORE_CTX_get_error(context)) {
        case X509_V_ERR_DIFFERENT_CRL_SCOPE:
            seen.out_of_scope = X509_STORE_CTX_get0_current_crl(context);
            seen.out_of_scope_depth = X509_STORE_CTX_get_error_depth(context);
            note_gap(seen, context);
            break;
        case X509_V_ERR_UNABLE_TO_GET_CRL:
        case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER: note_gap(seen, context); break;
        default: break;
    }
    return 1;
}

int note_crl(X509_STORE_CTX* context, X509_CRL* list, X509* certificate) {
    X509_STORE_CTX* const above = X509_STORE_CTX_get0_parent_ctx(context);
    Seen& seen = *seen_by(above == nullptr ? context : above);
    const bool counts =
        above == nullptr && !is_anchor(context) &&
        (seen.out_of_scope != list || seen.out_of_scope_depth != X509_STORE_CTX_get_error_depth(context));
    if (counts) {
        const std::time_t from = time_of(X509_CRL_get0_lastUpdate(list)), to = time_of(X509_CRL_get0_nextUpdate(list));
        PathCrls& path = *seen.path;
        if (path.oldest == 0 || from < path.oldest) path.oldest = from;
        if (to != 0 && (path.end == 0 || to < path.end)) path.end = to;
    }
    return seen.look_up(context, list, certificate);
}

// Those by a CA of the path, and by others of the vendor that none of the path's has the name of.
openssl::RevocationStack usable_lists(const STACK_OF(X509) * path, const TrustedVendor& vendor) {
    openssl::RevocationStack lists(sk_X509_CRL_new_null());
    for (const TrustedRevocations& one : vendor.revocations) {
        X509_CRL* const list = one.list.get();
        bool fits = one.signer != nullptr;
        for (int depth = 1; depth < sk_X509_num(path); ++depth) {
            X509* const certificate = sk_X509_value(path, depth);
            if (X509_NAME_cmp(X509_get_subject_name(certificate), X509_CRL_get_issuer(list)) != 0 ||
                X509_check_akid(certificate, one.key.get()) != X509_V_OK)
                continue;
            fits = X509_CRL_verify(list, X509_get0_pubkey(certificate)) == 1;
            if (fits) break;
        }
        if (fits) sk_X509_CRL_push(lists.get(), list);
    }
    return lists;
}

struct ContextOfPath {
    ContextOfPath(X509* certificate, X509_STORE* anchors, STACK_OF(X509) * others) : context(X509_STORE_CTX_new()) {
        if (!context || X509_STORE_CTX_init(context.get(), anchors, certificate, others) != 1)
            throw ToolError("EK certificate: OpenSSL cannot start to verify");
        X509_VERIFY_PARAM* const rules = X509_STORE_CTX_get0_param(context.get());
        X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_PARTIAL_CHAIN);
    }
    openssl::StoreContext context;
};

bool has_path(X509* certificate, const std::vector<openssl::Certificate>& others, const TrustedVendor& vendor,
              std::time_t accepted, openssl::CertificateStack& path) {
    openssl::CertificateStack all(sk_X509_new_null());
    for (const auto* group : {&vendor.intermediates, &others})
        for (const auto& one : *group) sk_X509_push(all.get(), one.get());
    const ContextOfPath search(certificate, vendor.anchors.get(), all.get());
    X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(search.context.get()), accepted);
    if (X509_verify_cert(search.context.get()) != 1) return false;
    const STACK_OF(X509)* const found = X509_STORE_CTX_get0_chain(search.context.get());
    for (int i = 0; i < sk_X509_num(found); ++i) {
        // Of `vendor`, `others` or the caller's: they outlive this.
        if (!certificate_weakness(sk_X509_value(found, i), i + 1 < sk_X509_num(found)).empty()) return false;
        sk_X509_push(path.get(), sk_X509_value(found, i));
    }
    return true;
}

void look_through(X509* certificate, const TrustedVendor& vendor, STACK_OF(X509) * path, PathCrls& out) {
    if (vendor.revocations.empty()) {
        out.gap = "EK certificate";
        return;
    }
    const openssl::Store anchors(X509_STORE_new());
    for (const auto& root : vendor.roots) X509_STORE_add_cert(anchors.get(), root.get());
    Seen seen{.path = &out};
    {
        const ContextOfPath plain(certificate, anchors.get(), path);
        seen.look_up = X509_STORE_CTX_get_cert_crl(plain.context.get());
    }
    X509_STORE_set_cert_crl(anchors.get(), note_crl);
    const ContextOfPath pass(certificate, anchors.get(), path);
    const openssl::RevocationStack lists = usable_lists(path, vendor);
    X509_STORE_CTX_set0_crls(pass.context.get(), lists.get());
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(pass.context.get()),
                                X509_V_FLAG_NO_CHECK_TIME | X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL |
                                    X509_V_FLAG_EXTENDED_CRL_SUPPORT);
    X509_STORE_CTX_set_app_data(pass.context.get(), &seen);
    X509_STORE_CTX_set_verify_cb(pass.context.get(), go_on);
    (void)X509_verify_cert(pass.context.get());
    X509_STORE_CTX_set0_crls(pass.context.get(), nullptr);
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
    const openssl::RevocationList list(PEM_read_bio_X509_CRL(source.get(), nullptr, nullptr, nullptr));
    unsigned char* der = nullptr;
    const int size = list ? i2d_X509_CRL(list.get(), &der) : -1;
    if (size < 0) throw ToolError("neither a CRL in DER nor one in PEM");
    const Bytes bytes = std::as_bytes(std::span(der, static_cast<std::size_t>(size)));
    Buffer out(bytes.begin(), bytes.end());
    OPENSSL_free(der);
    return out;
}

namespace {

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
    for (const TrustedVendor& vendor : trusted.contents().vendors) {
        PathCrls found{.vendor = vendor.name, .points = {}, .oldest = 0, .end = 0, .gap = {}};
        openssl::CertificateStack path(sk_X509_new_null());
        if (!has_path(parsed.certificate.get(), others, vendor, accepted, path)) continue;
        for (int i = 0; i < sk_X509_num(path.get()); ++i) add_points(found.points, sk_X509_value(path.get(), i));
        look_through(parsed.certificate.get(), vendor, path.get(), found);
        // Vendors may share a root: the one whose CRLs say more is heard.
        const auto rank = [](const PathCrls& one) { return std::pair(one.gap.empty(), one.oldest); };
        if (!best || rank(found) > rank(*best)) best = std::move(found);
    }
    return best.value_or(PathCrls{});
}

}  // namespace gatehouse::verifier

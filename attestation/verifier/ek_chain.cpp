#include "attestation/verifier/ek_chain.hpp"

#include <openssl/err.h>

#include <array>

#include "attestation/verifier/ek_certificate.hpp"

namespace gatehouse::verifier {
namespace {

constexpr int kMaxIntermediates = 6;

std::string date_text(const ASN1_TIME* time) {
    std::tm parts{};
    char text[32] = "an unreadable date";
    if (time != nullptr && ASN1_TIME_to_tm(time, &parts) == 1) {
        (void)std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &parts);
    }
    return text;
}

std::string certificate_text(X509* certificate, int depth) {
    if (depth == 0) return "EK certificate";
    return "CA " + std::to_string(depth) + " (" +
           (certificate == nullptr ? "unknown" : name_text(X509_get_subject_name(certificate))) + ")";
}

// The object identifier of the first critical extension that OpenSSL does not process.
std::string unknown_critical(X509* certificate) {
    for (int i = 0; i < X509_get_ext_count(certificate); ++i) {
        X509_EXTENSION* const extension = X509_get_ext(certificate, i);
        if (X509_EXTENSION_get_critical(extension) == 0 || X509_supported_extension(extension) != 0) continue;
        char text[80] = "";
        OBJ_obj2txt(text, sizeof(text), X509_EXTENSION_get_object(extension), 1);
        return text;
    }
    return "";
}

std::string chain_error(int error, X509* certificate) {
    switch (error) {
        case X509_V_ERR_CERT_HAS_EXPIRED: return "expired on " + date_text(X509_get0_notAfter(certificate));
        case X509_V_ERR_CERT_NOT_YET_VALID: return "not valid before " + date_text(X509_get0_notBefore(certificate));
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
            return "issued by " + name_text(X509_get_issuer_name(certificate)) +
                   ", of which there is no certificate in the trust store or the chain";
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT: return "signed by itself, not by a vendor";
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN: return "a root that is not in the trust store";
        case X509_V_ERR_CERT_SIGNATURE_FAILURE:
            return "its signature is not by the key of " + name_text(X509_get_issuer_name(certificate));
        case X509_V_ERR_INVALID_CA: return "issued a certificate, but is not a CA";
        case X509_V_ERR_KEYUSAGE_NO_CERTSIGN: return "issued a certificate, but its key usage does not allow it";
        case X509_V_ERR_PATH_LENGTH_EXCEEDED: return "its path length constraint is exceeded";
        case X509_V_ERR_CERT_CHAIN_TOO_LONG:
            return "the path is longer than " + std::to_string(kMaxIntermediates) + " intermediates";
        case X509_V_ERR_PERMITTED_VIOLATION:
        case X509_V_ERR_EXCLUDED_VIOLATION: return "its name is outside of the name constraints of a CA above it";
        case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
            return "has the critical extension " + unknown_critical(certificate) + ", which is not known";
        default: return X509_verify_cert_error_string(error);
    }
}

// --- revocation: OpenSSL's, with indirect, partitioned and delta CRLs (RFC 5280, section 6.3.3)

// One certificate of one path, and the CRL that it is looked for in.
struct CrlUse {
    const X509_STORE_CTX* path = nullptr;
    int depth = -1;
    const X509_CRL* list = nullptr;
    bool operator==(const CrlUse&) const = default;
};

bool is_about_time(int error) {
    return error == X509_V_ERR_CRL_HAS_EXPIRED || error == X509_V_ERR_CRL_NOT_YET_VALID ||
           error == X509_V_ERR_CERT_HAS_EXPIRED || error == X509_V_ERR_CERT_NOT_YET_VALID;
}

// For who sets the clock.
std::string clock_text(std::time_t now) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[64] = "";
    (void)std::strftime(text, sizeof(text), " (the clock here shows %Y-%m-%d %H:%M:%S UTC)", &parts);
    return text;
}

struct Revocations {
    std::string revoked;  // the first certificate that is
    std::vector<std::pair<CrlUse, std::string>> failures;
    std::vector<std::string> gaps;  // certificates that no CRL says anything of
    // The last that is not for the certificate: of it only an entry counts. Of the path, and of that of a CRL's issuer.
    std::array<CrlUse, 2> out_of_scope;
    CrlUse distrusted;     // the last that is not to be believed
    CrlUse last;           // of any of them
    bool by_time = false;  // the first failure is about a date
};

// What an error is about. OpenSSL forgets the CRL once it has said that its dates are wrong.
CrlUse use_of(const Revocations& found, X509_STORE_CTX* context) {
    CrlUse use{context, X509_STORE_CTX_get_error_depth(context), X509_STORE_CTX_get0_current_crl(context)};
    if (use.list == nullptr && use.path == found.last.path && use.depth == found.last.depth) return found.last;
    return use;
}

std::string revocation_error(int error, const CrlUse& use, X509* certificate) {
    const std::string who = certificate_text(certificate, use.depth);
    const X509_CRL* const list = use.list;
    const std::string issuer =
        name_text(list == nullptr ? X509_get_issuer_name(certificate) : X509_CRL_get_issuer(list));
    switch (error) {
        case X509_V_ERR_CERT_REVOKED: return who + ": revoked by " + issuer;
        case X509_V_ERR_CRL_HAS_EXPIRED:
            return who + ": the CRL of " + issuer + " expired on " +
                   date_text(list == nullptr ? nullptr : X509_CRL_get0_nextUpdate(list)) + "; a new one is needed";
        case X509_V_ERR_CRL_NOT_YET_VALID:
            return who + ": the CRL of " + issuer + " is not valid before " +
                   date_text(list == nullptr ? nullptr : X509_CRL_get0_lastUpdate(list));
        case X509_V_ERR_UNHANDLED_CRITICAL_CRL_EXTENSION:
            return who + ": the CRL of " + issuer + " has a critical extension that is not known";
        default: return who + ": CRL of " + issuer + ": " + X509_verify_cert_error_string(error);
    }
}

// OpenSSL's verify callback of the second pass: goes on past every error, and keeps what it was. That no CRL
// is for a certificate is no error; of a CRL that is not for it (of another distribution point, of another kind of
// certificate, of no authority that the certificate names) counts only that it lists the certificate.
int collect_revocations(int ok, X509_STORE_CTX* context) {
    if (ok == 1) return 1;
    // Of the path of a CRL's own issuer: if that fails, the CRL is not to be believed.
    const X509_STORE_CTX* const above = X509_STORE_CTX_get0_parent_ctx(context);
    auto& found = *static_cast<Revocations*>(X509_STORE_CTX_get_app_data(above == nullptr ? context : above));
    const int error = X509_STORE_CTX_get_error(context);
    X509* const certificate = X509_STORE_CTX_get_current_cert(context);
    CrlUse& out_of_scope = found.out_of_scope[above == nullptr ? 0 : 1];
    const CrlUse use = found.last = use_of(found, context);
    switch (error) {
        case X509_V_ERR_DIFFERENT_CRL_SCOPE:
        case X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
            out_of_scope = use;
            std::erase_if(found.failures, [&use](const auto& one) { return one.first == use; });
            [[fallthrough]];
        case X509_V_ERR_UNABLE_TO_GET_CRL: {
            std::string who = certificate_text(certificate, use.depth);
            if (above == nullptr && (found.gaps.empty() || found.gaps.back() != who)) found.gaps.push_back(who);
            return 1;
        }
        case X509_V_ERR_CERT_REVOKED:
            if (above != nullptr) return 0;
            if (found.revoked.empty() && found.distrusted != use)
                found.revoked = revocation_error(error, use, certificate);
            return 1;
        default: break;
    }
    if (above != nullptr) return out_of_scope == use ? 1 : 0;
    if (!is_about_time(error)) found.distrusted = use;
    if (out_of_scope == use) return 1;
    if (found.failures.empty()) found.by_time = is_about_time(error);
    found.failures.emplace_back(use, revocation_error(error, use, certificate));
    return 1;
}

// The CRLs that may be asked about a path. One that names a CA of the path, and is by another one of that name,
// would hide those that are by it.
openssl::RevocationStack lists_for(const STACK_OF(X509) * path, const TrustedVendor& vendor) {
    openssl::RevocationStack lists(sk_X509_CRL_new_null());
    for (const TrustedRevocations& one : vendor.revocations) {
        X509_CRL* const list = one.list.get();
        bool fits = !one.signers.empty();
        for (int depth = 1; depth < sk_X509_num(path); ++depth) {
            X509* const certificate = sk_X509_value(path, depth);
            if (!names_as_signer(list, certificate)) continue;
            fits = X509_CRL_verify(list, X509_get0_pubkey(certificate)) == 1;
            break;
        }
        if (fits) sk_X509_CRL_push(lists.get(), list);
    }
    ERR_clear_error();
    return lists;
}

class Verification {
  public:
    // Certificates of `path` come before all others.
    Verification(X509* certificate, const std::vector<openssl::Certificate>& others, const TrustedVendor& vendor,
                 const STACK_OF(X509) * path = nullptr)
        : vendor_(vendor), others_(sk_X509_new_null()), context_(X509_STORE_CTX_new()) {
        for (int depth = 1; path != nullptr && depth < sk_X509_num(path); ++depth)
            sk_X509_push(others_.get(), sk_X509_value(path, depth));
        for (const auto& one : vendor.intermediates) sk_X509_push(others_.get(), one.get());
        for (const auto& one : others) sk_X509_push(others_.get(), one.get());
        if (!context_ || X509_STORE_CTX_init(context_.get(), vendor.anchors.get(), certificate, others_.get()) != 1) {
            throw host::ToolError("EK certificate: OpenSSL cannot start to verify");
        }
        X509_VERIFY_PARAM_set_depth(rules(), kMaxIntermediates);
        // A vendor's trusted "root" may itself have been issued by somebody.
        X509_VERIFY_PARAM_set_flags(rules(), X509_V_FLAG_PARTIAL_CHAIN);
    }

    void at(std::time_t now) { X509_VERIFY_PARAM_set_time(rules(), now); }
    // Whatever the dates are, of certificates and CRLs: of several CRLs the newest counts.
    void at_any_time() { X509_VERIFY_PARAM_set_flags(rules(), X509_V_FLAG_NO_CHECK_TIME); }

    // Empty if there is a good path. The algorithms are judged here, not by OpenSSL's security level: that
    // would also refuse keys whose encoding is only odd.
    [[nodiscard]] std::string path_failure() {
        if (X509_verify_cert(context_.get()) != 1) {
            const int error = X509_STORE_CTX_get_error(context_.get());
            known_ = error != X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT &&
                     error != X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY &&
                     error != X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT && error != X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN &&
                     error != X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;
            X509* const certificate = X509_STORE_CTX_get_current_cert(context_.get());
            const int depth = X509_STORE_CTX_get_error_depth(context_.get());
            return certificate_text(certificate, depth) + ": " +
                   (certificate == nullptr ? X509_verify_cert_error_string(error) : chain_error(error, certificate));
        }
        known_ = true;
        const STACK_OF(X509)* const path = X509_STORE_CTX_get0_chain(context_.get());
        const int size = sk_X509_num(path);
        for (int depth = 0; depth < size; ++depth) {
            X509* const certificate = sk_X509_value(path, depth);
            // The root's is trusted without its signature.
            const std::string weakness = certificate_weakness(certificate, depth + 1 < size);
            if (!weakness.empty()) return certificate_text(certificate, depth) + ": " + weakness;
        }
        return "";
    }
    [[nodiscard]] bool failed_by_time() const { return is_about_time(X509_STORE_CTX_get_error(context_.get())); }
    // After path_failure(): whether the vendor is the one who issued it, faults aside.
    [[nodiscard]] bool known() const { return known_; }

    [[nodiscard]] const STACK_OF(X509) * path() const { return X509_STORE_CTX_get0_chain(context_.get()); }
    [[nodiscard]] std::string path_text() const {
        std::string text;
        for (int depth = 1; depth < sk_X509_num(path()); ++depth) {
            text += (depth == 1 ? "" : " <- ") + name_text(X509_get_subject_name(sk_X509_value(path(), depth)));
        }
        return vendor_.name + ": " + text;
    }

    // Of a good path, which was given to the constructor as well.
    [[nodiscard]] Revocations revocations(const STACK_OF(X509) * path) {
        Revocations found;
        const openssl::RevocationStack lists = lists_for(path, vendor_);
        X509_STORE_CTX_set0_crls(context_.get(), lists.get());
        X509_VERIFY_PARAM_set_flags(rules(), X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL |
                                                 X509_V_FLAG_EXTENDED_CRL_SUPPORT | X509_V_FLAG_USE_DELTAS);
        X509_STORE_CTX_set_app_data(context_.get(), &found);
        X509_STORE_CTX_set_verify_cb(context_.get(), collect_revocations);
        // 0: it did not come to an end, for a reason that is not the callback's.
        if (X509_verify_cert(context_.get()) != 1 && found.revoked.empty() && found.failures.empty()) {
            found.failures.emplace_back(CrlUse{},
                                        X509_verify_cert_error_string(X509_STORE_CTX_get_error(context_.get())));
        }
        X509_STORE_CTX_set0_crls(context_.get(), nullptr);
        return found;
    }

  private:
    [[nodiscard]] X509_VERIFY_PARAM* rules() const { return X509_STORE_CTX_get0_param(context_.get()); }

    const TrustedVendor& vendor_;
    openssl::CertificateStack others_;
    openssl::StoreContext context_;
    bool known_ = false;
};

Finding judge_revocation(X509* certificate, const std::vector<openssl::Certificate>& others,
                         const TrustedVendor& vendor, const STACK_OF(X509) * path, std::time_t now) {
    const auto finding = [](bool ok, std::string detail) { return Finding{"ek revocation", ok, std::move(detail)}; };
    if (vendor.revocations.empty()) {
        if (vendor.require_crl)
            return finding(false, "there is no CRL of " + vendor.name + ", and its settings require one");
        return finding(true, "not checked: there is no CRL of " + vendor.name + " in the trust store");
    }
    Verification verification(certificate, others, vendor, path);
    verification.at(now);
    const Revocations found = verification.revocations(path);
    if (!found.revoked.empty()) return finding(false, found.revoked);
    if (!found.failures.empty())
        return finding(false, found.failures.front().second + (found.by_time ? clock_text(now) : ""));
    if (vendor.require_crl && !found.gaps.empty())
        return finding(false, "no CRL for " + found.gaps.front() + ", and the vendor's settings require one");
    const bool checked = found.gaps.empty() || found.gaps.front() != certificate_text(certificate, 0);
    std::string text = checked ? "not revoked" : "";
    for (const auto& gap : found.gaps)
        text += (text.empty() ? "" : "; ") + std::string("not checked, for want of a CRL: ") + gap;
    return finding(true, text);
}

// The first of a good path that a CRL revokes; empty if none is. What else is wrong about a CRL is of no account.
std::string revoked_meanwhile(X509* certificate, const std::vector<openssl::Certificate>& others,
                              const TrustedVendor& vendor, const STACK_OF(X509) * path) {
    if (vendor.revocations.empty()) return "";
    Verification verification(certificate, others, vendor, path);
    verification.at_any_time();
    return verification.revocations(path).revoked;
}

}  // namespace

std::string chain_fault(X509* certificate, const std::vector<openssl::Certificate>& others,
                        const TrustStore::Contents& store, std::time_t accepted) {
    std::string fault = "EK certificate: no vendor is trusted any more";
    bool blamed = false, vouched = false;
    for (const TrustedVendor& vendor : store.vendors) {
        Verification verification(certificate, others, vendor);
        verification.at(accepted);
        const std::string failure = verification.path_failure();
        if (failure.empty()) {
            // Vendors may share a root: the one with the CRL is heard.
            const std::string revoked = revoked_meanwhile(certificate, others, vendor, verification.path());
            vouched = revoked.empty();
            if (vouched) continue;
            fault = vendor.name + ": " + revoked;
            break;
        }
        // Of several reasons, that of the vendor who did issue it is told; else the first.
        if (blamed || (!verification.known() && &vendor != &store.vendors.front())) continue;
        blamed = verification.known();
        fault = blamed ? vendor.name + ": " + failure : failure;
    }
    ERR_clear_error();
    return vouched ? "" : fault;
}

ChainVerdict verify_chain(X509* certificate, const std::vector<openssl::Certificate>& others,
                          const TrustStore::Contents& store, std::time_t now) {
    ChainVerdict verdict;
    verdict.chain = {"ek chain", false, "the trust store is empty: no vendor is trusted"};
    verdict.revocation = {"ek revocation", false, "there is no path to a trusted root"};
    bool blamed = false;
    for (const TrustedVendor& vendor : store.vendors) {
        Verification verification(certificate, others, vendor);
        verification.at(now);
        std::string failure = verification.path_failure();
        if (failure.empty()) {
            // A context serves for one verification only.
            Finding revocation = judge_revocation(certificate, others, vendor, verification.path(), now);
            // Vendors may share a root: the one with the CRL is heard.
            if (verdict.vendor != nullptr && revocation.ok) continue;
            verdict.chain = {"ek chain", true, verification.path_text()};
            verdict.revocation = std::move(revocation);
            verdict.vendor = &vendor;
            if (!verdict.revocation.ok) break;
            continue;
        }
        if (verdict.vendor != nullptr) continue;
        if (verification.failed_by_time()) failure += clock_text(now);
        // Of several reasons, that of the vendor who did issue it is told; else the first.
        if (!blamed) verdict.chain.detail = failure;
        if (!blamed && verification.known()) {
            verdict.chain.detail = vendor.name + ": " + failure;
            blamed = true;
        }
    }
    ERR_clear_error();
    return verdict;
}

}  // namespace gatehouse::verifier

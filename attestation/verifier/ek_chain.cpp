#include "attestation/verifier/ek_chain.hpp"

#include <openssl/err.h>

#include <algorithm>
#include <memory>

#include "attestation/verifier/ek_certificate.hpp"
#include "attestation/verifier/ek_revocation.hpp"

namespace gatehouse::verifier {
namespace {

constexpr int kMaxIntermediates = 6;
// Further attempts at a path.
constexpr std::size_t kMaxDetours = 16;

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

// For who sets the clock.
std::string clock_text(std::time_t now) {
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[64] = "";
    (void)std::strftime(text, sizeof(text), " (the clock here shows %Y-%m-%d %H:%M:%S UTC)", &parts);
    return text;
}

class Verification {
  public:
    // Certificates of `path` come before all others; those of `last`, in their order, after.
    Verification(X509* certificate, const std::vector<openssl::Certificate>& others, const TrustedVendor& vendor,
                 const STACK_OF(X509) * path = nullptr, const std::vector<X509*>& last = {})
        : vendor_(vendor), others_(sk_X509_new_null()), context_(X509_STORE_CTX_new()) {
        for (int depth = 1; path != nullptr && depth < sk_X509_num(path); ++depth)
            sk_X509_push(others_.get(), sk_X509_value(path, depth));
        for (const auto* group : {&vendor.intermediates, &others}) {
            for (const auto& one : *group) {
                if (std::ranges::find(last, one.get()) == last.end()) sk_X509_push(others_.get(), one.get());
            }
        }
        for (X509* const one : last) {
            if (!is_root(one)) sk_X509_push(others_.get(), one);
        }
        if (!context_ || X509_STORE_CTX_init(context_.get(), vendor.anchors.get(), certificate, others_.get()) != 1) {
            throw host::ToolError("EK certificate: OpenSSL cannot start to verify");
        }
        X509* const end = path == nullptr ? nullptr : sk_X509_value(path, sk_X509_num(path) - 1);
        if (has_root_twin(end) || std::ranges::any_of(last, [this](X509* one) { return is_root(one); }))
            order_roots(end, last);
        X509_VERIFY_PARAM_set_depth(rules(), kMaxIntermediates);
        // A vendor's trusted "root" may itself have been issued by somebody.
        X509_VERIFY_PARAM_set_flags(rules(), X509_V_FLAG_PARTIAL_CHAIN);
    }

    void at(std::time_t now) { X509_VERIFY_PARAM_set_time(rules(), now); }
    // CAs whose certificates begin later count as well, as those of CAs that were renewed since then do.
    void with_later_cas() {
        X509_STORE_CTX_set_verify_cb(context_.get(), [](int ok, X509_STORE_CTX* context) {
            const bool is_later_ca = X509_STORE_CTX_get_error(context) == X509_V_ERR_CERT_NOT_YET_VALID &&
                                     X509_STORE_CTX_get_error_depth(context) > 0;
            return ok == 1 || is_later_ca ? 1 : 0;
        });
    }
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

    // After a path_failure(): a CA of the path that need not have been taken, for there is another of its name. Of a
    // signature that does not hold the CA that did not make it, else the last. nullptr if there is none.
    [[nodiscard]] X509* detour() const {
        const int error = X509_STORE_CTX_get_error(context_.get());
        const int failed = X509_STORE_CTX_get_error_depth(context_.get());
        if (error == X509_V_ERR_CERT_SIGNATURE_FAILURE && has_twin(sk_X509_value(path(), failed + 1)))
            return sk_X509_value(path(), failed + 1);
        for (int depth = sk_X509_num(path()) - 1; depth > 0; --depth) {
            if (has_twin(sk_X509_value(path(), depth))) return sk_X509_value(path(), depth);
        }
        return nullptr;
    }

    // Of a good path, which was given to the constructor as well.
    [[nodiscard]] Revocations revocations(std::optional<std::time_t> now) {
        return find_revocations(context_.get(), vendor_, now);
    }

  private:
    [[nodiscard]] X509_VERIFY_PARAM* rules() const { return X509_STORE_CTX_get0_param(context_.get()); }
    [[nodiscard]] bool is_root(X509* certificate) const {
        return std::ranges::any_of(vendor_.roots, [certificate](const auto& one) { return one.get() == certificate; });
    }
    [[nodiscard]] bool has_root_twin(X509* certificate) const {
        return is_root(certificate) && std::ranges::any_of(vendor_.roots, [certificate](const auto& one) {
                   return one.get() != certificate &&
                          X509_NAME_cmp(X509_get_subject_name(one.get()), X509_get_subject_name(certificate)) == 0;
               });
    }
    // OpenSSL takes the first root of a name.
    void order_roots(X509* first, const std::vector<X509*>& last) {
        roots_.reset(sk_X509_new_null());
        if (is_root(first)) sk_X509_push(roots_.get(), first);
        for (const auto& one : vendor_.roots) {
            if (one.get() != first && std::ranges::find(last, one.get()) == last.end())
                sk_X509_push(roots_.get(), one.get());
        }
        for (X509* const one : last) {
            if (one != first && is_root(one)) sk_X509_push(roots_.get(), one);
        }
        X509_STORE_CTX_set0_trusted_stack(context_.get(), roots_.get());
    }
    // Whether it is one of the certificates that were given, or a root, and another of them has its name.
    [[nodiscard]] bool has_twin(X509* certificate) const {
        if (has_root_twin(certificate)) return true;
        bool given = false, other = false;
        for (int i = 0; certificate != nullptr && i < sk_X509_num(others_.get()); ++i) {
            X509* const one = sk_X509_value(others_.get(), i);
            if (one == certificate) {
                given = true;
            } else if (X509_cmp(one, certificate) != 0) {
                other = other || X509_NAME_cmp(X509_get_subject_name(one), X509_get_subject_name(certificate)) == 0;
            }
        }
        return given && other;
    }

    const TrustedVendor& vendor_;
    openssl::CertificateStack others_;
    openssl::CertificateStack roots_;  // in an order of their own; null: as the vendor has them
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
    const Revocations found = verification.revocations(now);
    if (!found.revoked.empty()) return finding(false, found.revoked);
    if (!found.failure.empty()) return finding(false, found.failure + (found.by_time ? clock_text(now) : ""));
    if (vendor.require_crl && !found.gaps.empty()) {
        const Revocations::Gap& gap = found.gaps.front();
        return finding(false, "no CRL for " + gap.who + (gap.other.empty() ? "" : " (" + gap.other + ")") +
                                  ", and the vendor's settings require one");
    }
    const bool checked = found.gaps.empty() || found.gaps.front().depth != 0;
    std::string text = checked ? "not revoked" : "";
    for (const auto& gap : found.gaps) {
        text += text.empty() ? "" : "; ";
        text += gap.other.empty() ? "not checked, for want of a CRL: " + gap.who
                                  : "not checked: " + gap.who + ": " + gap.other;
    }
    return finding(true, text);
}

// What CRLs say of a good path that was accepted once, whatever their dates are.
Revocations meanwhile(X509* certificate, const std::vector<openssl::Certificate>& others, const TrustedVendor& vendor,
                      const STACK_OF(X509) * path) {
    if (vendor.revocations.empty()) {
        Revocations nothing;
        nothing.unanswered = certificate_text(certificate, 0);
        return nothing;
    }
    Verification verification(certificate, others, vendor, path);
    verification.at_any_time();
    return verification.revocations(std::nullopt);
}

// The first path that is good; if none is, the first that was tried, which says why. OpenSSL tries one CA of each name: of
// cross-certificates that may be the one whose issuer nobody has, of CAs that changed their key the wrong one.
struct Search {
    std::unique_ptr<Verification> verification;
    std::string failure;
};
// So a CA that led nowhere comes last in the next attempt.
enum class Of : std::uint8_t { kNow, kBefore };  // kBefore: with_later_cas()
Search find_path(X509* certificate, const std::vector<openssl::Certificate>& others, const TrustedVendor& vendor,
                 std::time_t time, Of of) {
    Search first;
    std::vector<X509*> last;
    for (std::size_t detours = 0; detours <= kMaxDetours; ++detours) {
        auto verification = std::make_unique<Verification>(certificate, others, vendor, nullptr, last);
        verification->at(time);
        if (of == Of::kBefore) verification->with_later_cas();
        std::string failure = verification->path_failure();
        X509* const detour = failure.empty() ? nullptr : verification->detour();
        if (failure.empty() || !first.verification) first = {std::move(verification), std::move(failure)};
        if (detour == nullptr) break;
        std::erase(last, detour);
        last.push_back(detour);
    }
    return first;
}

}  // namespace

std::string chain_fault(X509* certificate, const std::vector<openssl::Certificate>& others,
                        const TrustStore::Contents& store, std::time_t accepted) {
    std::string fault = "EK certificate: no vendor is trusted any more";
    bool blamed = false, vouched = false;
    for (const TrustedVendor& vendor : store.vendors) {
        const auto [found, failure] = find_path(certificate, others, vendor, accepted, Of::kBefore);
        const Verification& verification = *found;
        if (failure.empty()) {
            // Vendors may share a root: the one with the CRL is heard. What else is wrong about a CRL is of no account.
            const std::string revoked = meanwhile(certificate, others, vendor, verification.path()).revoked;
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

std::vector<VendorPath> chain_paths(X509* certificate, const std::vector<openssl::Certificate>& others,
                                    const TrustStore::Contents& store, std::time_t accepted) {
    std::vector<VendorPath> all;
    for (const TrustedVendor& vendor : store.vendors) {
        const auto [found, failure] = find_path(certificate, others, vendor, accepted, Of::kBefore);
        if (!failure.empty()) continue;
        VendorPath& one = all.emplace_back();
        one.vendor = &vendor;
        for (int depth = 0; depth < sk_X509_num(found->path()); ++depth)
            one.certificates.push_back(sk_X509_value(found->path(), depth));
        one.revocations = meanwhile(certificate, others, vendor, found->path());
    }
    ERR_clear_error();
    return all;
}

ChainVerdict verify_chain(X509* certificate, const std::vector<openssl::Certificate>& others,
                          const TrustStore::Contents& store, std::time_t now) {
    ChainVerdict verdict;
    verdict.chain = {"ek chain", false, "the trust store is empty: no vendor is trusted"};
    verdict.revocation = {"ek revocation", false, "there is no path to a trusted root"};
    bool blamed = false;
    for (const TrustedVendor& vendor : store.vendors) {
        auto [found, failure] = find_path(certificate, others, vendor, now, Of::kNow);
        const Verification& verification = *found;
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

#include "attestation/verifier/ek_chain.hpp"

#include <openssl/err.h>

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

struct Revocations {
    std::string failure;            // of the first certificate that fails
    std::vector<std::string> gaps;  // CAs above without a CRL
};

std::string revocation_error(int error, X509_STORE_CTX* context, X509* certificate, int depth) {
    const std::string who = certificate_text(certificate, depth);
    const X509_CRL* const list = X509_STORE_CTX_get0_current_crl(context);
    const std::string issuer = name_text(X509_get_issuer_name(certificate));
    switch (error) {
        case X509_V_ERR_UNABLE_TO_GET_CRL:
            return who + ": there are CRLs of this vendor, but none of its issuer " + issuer;
        case X509_V_ERR_CERT_REVOKED: return who + ": revoked by " + issuer;
        case X509_V_ERR_CRL_HAS_EXPIRED:
            return who + ": the CRL of " + issuer + " expired on " +
                   date_text(list == nullptr ? nullptr : X509_CRL_get0_nextUpdate(list)) + "; a new one is needed";
        case X509_V_ERR_CRL_NOT_YET_VALID:
            return who + ": the CRL of " + issuer + " is not valid before " +
                   date_text(list == nullptr ? nullptr : X509_CRL_get0_lastUpdate(list));
        default: return who + ": CRL of " + issuer + ": " + X509_verify_cert_error_string(error);
    }
}

// OpenSSL's verify callback of the second pass: goes on past every error, and keeps what it was.
int collect_revocations(int ok, X509_STORE_CTX* context) {
    if (ok == 1) return 1;
    auto* const found = static_cast<Revocations*>(X509_STORE_CTX_get_app_data(context));
    const int error = X509_STORE_CTX_get_error(context);
    const int depth = X509_STORE_CTX_get_error_depth(context);
    X509* const certificate = X509_STORE_CTX_get_current_cert(context);
    if (error == X509_V_ERR_UNABLE_TO_GET_CRL && depth > 0) {
        found->gaps.push_back(certificate_text(certificate, depth));
    } else if (found->failure.empty()) {
        found->failure = revocation_error(error, context, certificate, depth);
    }
    return 1;
}

class Verification {
  public:
    Verification(X509* certificate, const std::vector<openssl::Certificate>& others, const TrustedVendor& vendor,
                 std::time_t now)
        : vendor_(vendor), others_(sk_X509_new_null()), context_(X509_STORE_CTX_new()) {
        for (const auto& one : vendor.intermediates) sk_X509_push(others_.get(), one.get());
        for (const auto& one : others) sk_X509_push(others_.get(), one.get());
        if (!context_ || X509_STORE_CTX_init(context_.get(), vendor.anchors.get(), certificate, others_.get()) != 1) {
            throw host::ToolError("EK certificate: OpenSSL cannot start to verify");
        }
        X509_VERIFY_PARAM* const rules = X509_STORE_CTX_get0_param(context_.get());
        X509_VERIFY_PARAM_set_time(rules, now);
        X509_VERIFY_PARAM_set_depth(rules, kMaxIntermediates);
        // A vendor's trusted "root" may itself have been issued by somebody.
        X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_PARTIAL_CHAIN);
    }

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
    // After path_failure(): whether the vendor is the one who issued it, faults aside.
    [[nodiscard]] bool known() const { return known_; }

    [[nodiscard]] std::string path_text() const {
        const STACK_OF(X509)* const path = X509_STORE_CTX_get0_chain(context_.get());
        std::string text;
        for (int depth = 1; depth < sk_X509_num(path); ++depth) {
            text += (depth == 1 ? "" : " <- ") + name_text(X509_get_subject_name(sk_X509_value(path, depth)));
        }
        return vendor_.name + ": " + text;
    }

    [[nodiscard]] Finding revocation() {
        if (vendor_.revocations.empty()) {
            if (vendor_.require_crl)
                return {"ek revocation", false,
                        "there is no CRL of " + vendor_.name + ", and its settings require one"};
            return {"ek revocation", true, "not checked: there is no CRL of " + vendor_.name + " in the trust store"};
        }
        Revocations found;
        X509_VERIFY_PARAM* const rules = X509_STORE_CTX_get0_param(context_.get());
        X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
        X509_STORE_CTX_set_app_data(context_.get(), &found);
        X509_STORE_CTX_set_verify_cb(context_.get(), collect_revocations);
        if (X509_verify_cert(context_.get()) != 1 && found.failure.empty()) {
            found.failure = X509_verify_cert_error_string(X509_STORE_CTX_get_error(context_.get()));
        }
        if (!found.failure.empty()) return {"ek revocation", false, found.failure};
        if (vendor_.require_crl && !found.gaps.empty())
            return {"ek revocation", false,
                    "no CRL for " + found.gaps.front() + ", and the vendor's settings require one"};
        std::string text = "not revoked";
        for (const auto& gap : found.gaps) text += "; not checked, for want of a CRL: " + gap;
        return {"ek revocation", true, text};
    }

    // After path_failure() found none: the first of the path that a CRL names, whatever the CRL's dates.
    // Empty if none is. That a CRL is by a CA of the vendor was checked when it came; here, that it is by
    // this one.
    [[nodiscard]] std::string revoked() const {
        const STACK_OF(X509)* const path = X509_STORE_CTX_get0_chain(context_.get());
        for (int depth = 0; depth + 1 < sk_X509_num(path); ++depth) {
            X509* const certificate = sk_X509_value(path, depth);
            EVP_PKEY* const issuer = X509_get0_pubkey(sk_X509_value(path, depth + 1));
            for (const openssl::RevocationList& list : vendor_.revocations) {
                X509_REVOKED* entry = nullptr;
                if (X509_NAME_cmp(X509_CRL_get_issuer(list.get()), X509_get_issuer_name(certificate)) == 0 &&
                    X509_CRL_get0_by_cert(list.get(), &entry, certificate) == 1 &&
                    X509_CRL_verify(list.get(), issuer) == 1) {
                    return certificate_text(certificate, depth) + ": revoked by " +
                           name_text(X509_get_issuer_name(certificate));
                }
            }
        }
        return "";
    }

  private:
    const TrustedVendor& vendor_;
    openssl::CertificateStack others_;
    openssl::StoreContext context_;
    bool known_ = false;
};

}  // namespace

std::string chain_fault(X509* certificate, const std::vector<openssl::Certificate>& others,
                        const TrustStore::Contents& store, std::time_t accepted) {
    std::string fault = "EK certificate: no vendor is trusted any more";
    bool blamed = false, vouched = false;
    for (const TrustedVendor& vendor : store.vendors) {
        Verification verification(certificate, others, vendor, accepted);
        const std::string failure = verification.path_failure();
        if (failure.empty()) {
            // Vendors may share a root: the one with the CRL is heard.
            const std::string revoked = verification.revoked();
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
        Verification verification(certificate, others, vendor, now);
        const std::string failure = verification.path_failure();
        if (failure.empty()) {
            // A context serves for one verification only.
            Finding revocation = Verification(certificate, others, vendor, now).revocation();
            // Vendors may share a root: the one with the CRL is heard.
            if (verdict.vendor != nullptr && revocation.ok) continue;
            verdict.chain = {"ek chain", true, verification.path_text()};
            verdict.revocation = std::move(revocation);
            verdict.vendor = &vendor;
            if (!verdict.revocation.ok) break;
            continue;
        }
        if (verdict.vendor != nullptr) continue;
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

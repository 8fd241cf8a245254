#include "attestation/verifier/ek_revocation.hpp"

#include <openssl/err.h>

#include <algorithm>
#include <array>

#include "attestation/verifier/ek_certificate.hpp"

namespace gatehouse::verifier {
namespace {

constexpr int kListed = 1;     // of X509_CRL_get0_by_cert()
constexpr int kTakenBack = 2;  // removeFromCRL

// One certificate of one path, and the CRL that it is looked for in.
struct CrlUse {
    const X509_STORE_CTX* path = nullptr;
    int depth = -1;
    const X509_CRL* list = nullptr;
    bool operator==(const CrlUse&) const = default;
};

bool says(const TrustedRevocations& one, X509* certificate, int what) {
    X509_REVOKED* entry = nullptr;
    return X509_CRL_get0_by_cert(one.list.get(), &entry, certificate) == what;
}

// Whether two CRLs are of the same list: by the same key, for the same certificates.
bool are_of_one_list(const TrustedRevocations& one, X509* signer, const TrustedRevocations& other, X509* other_signer) {
    return EVP_PKEY_eq(X509_get0_pubkey(signer), X509_get0_pubkey(other_signer)) == 1 && one.scope == other.scope &&
           X509_NAME_cmp(X509_CRL_get_issuer(one.list.get()), X509_CRL_get_issuer(other.list.get())) == 0;
}

// A CRL that may speak of a certificate, and the key that it is known to be signed by.
struct Candidate {
    int depth;
    const TrustedRevocations* one;
    X509* signer;
    bool asked;            // OpenSSL was shown it
    bool may_sign = true;  // by the key usage of the CA

    [[nodiscard]] bool says(X509* certificate, int what) const { return verifier::says(*one, certificate, what); }
    [[nodiscard]] bool is_of(const Candidate& other) const {
        return depth == other.depth && are_of_one_list(*one, signer, *other.one, other.signer);
    }
};

// A CRL that a certificate was looked for in, and that is for it and good but for its dates.
struct Answer {
    int depth;
    std::time_t from, to;
};

struct Collected {
    const TrustedVendor* vendor = nullptr;
    std::optional<std::time_t> now;
    std::vector<Candidate> candidates;
    std::string revoked;
    std::vector<std::pair<CrlUse, std::string>> failures;
    std::vector<Revocations::Gap> gaps;
    std::vector<Answer> answers;
    // The last that is not for the certificate: of it only an entry counts. Of the path, and of that of a CRL's issuer.
    std::array<CrlUse, 2> out_of_scope;
    CrlUse distrusted;     // the last that is not to be believed
    CrlUse last;           // of any of them
    bool by_time = false;  // the first failure is about a date

    [[nodiscard]] const Candidate* candidate(int depth, const X509_CRL* list) const {
        const auto found = std::ranges::find_if(
            candidates, [&](const Candidate& one) { return one.depth == depth && one.one->list.get() == list; });
        return found == candidates.end() ? nullptr : &*found;
    }
};

// --- which CRLs OpenSSL is shown

// The CA whose key OpenSSL will hold a CRL to, once it looks for a certificate in it; nullptr if it finds none.
X509* taken_for_signer(const X509_STORE_CTX* context, X509* certificate, const TrustedRevocations& one) {
    const X509_NAME* const issuer = X509_CRL_get_issuer(one.list.get());
    const auto fits = [&](X509* ca) {
        return X509_NAME_cmp(X509_get_subject_name(ca), issuer) == 0 && X509_check_akid(ca, one.key.get()) == X509_V_OK;
    };
    const STACK_OF(X509)* const path = X509_STORE_CTX_get0_chain(context);
    const int size = sk_X509_num(path);
    int depth = std::min(X509_STORE_CTX_get_error_depth(context) + 1, size - 1);
    X509* const above = sk_X509_value(path, depth);
    if (X509_NAME_cmp(X509_get_issuer_name(certificate), issuer) == 0 && fits(above)) return above;
    for (++depth; depth < size; ++depth) {
        if (fits(sk_X509_value(path, depth))) return sk_X509_value(path, depth);
    }
    const STACK_OF(X509)* const others = X509_STORE_CTX_get0_untrusted(context);
    for (int i = 0; i < sk_X509_num(others); ++i) {
        if (fits(sk_X509_value(others, i))) return sk_X509_value(others, i);
    }
    return nullptr;
}

bool is_signed_by(const TrustedRevocations& one, X509* ca) {
    if (one.signer != nullptr) return EVP_PKEY_eq(X509_get0_pubkey(one.signer), X509_get0_pubkey(ca)) == 1;
    return X509_CRL_verify(one.list.get(), X509_get0_pubkey(ca)) == 1;
}

// RFC 5280, 6.3.3 (f). UINT32_MAX: it has no key usage.
bool may_sign_lists(X509* ca) { return (X509_get_key_usage(ca) & KU_CRL_SIGN) != 0; }

using Lists = std::vector<const TrustedRevocations*>;

void add_of_issuer(Lists& lists, const TrustedVendor& vendor, const X509_NAME* issuer) {
    const auto [first, last] = vendor.by_issuer.equal_range(X509_NAME_hash_ex(issuer, nullptr, nullptr, nullptr));
    for (auto it = first; it != last; ++it) {
        const TrustedRevocations* const one = &vendor.revocations[it->second];
        if (X509_NAME_cmp(X509_CRL_get_issuer(one->list.get()), issuer) != 0) continue;
        if (std::ranges::find(lists, one) == lists.end()) lists.push_back(one);
    }
}

// By its issuer's name, by the CRL issuers that it names, and indirect ones that list it.
Lists lists_about(X509* certificate, const TrustedVendor& vendor) {
    Lists lists;
    add_of_issuer(lists, vendor, X509_get_issuer_name(certificate));
    const openssl::DistributionPoints points(
        static_cast<CRL_DIST_POINTS*>(X509_get_ext_d2i(certificate, NID_crl_distribution_points, nullptr, nullptr)));
    for (int i = 0; i < sk_DIST_POINT_num(points.get()); ++i) {
        const GENERAL_NAMES* const names = sk_DIST_POINT_value(points.get(), i)->CRLissuer;
        for (int k = 0; k < sk_GENERAL_NAME_num(names); ++k) {
            const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names, k);
            if (name->type == GEN_DIRNAME) add_of_issuer(lists, vendor, name->d.directoryName);
        }
    }
    const auto [first, last] =
        vendor.listed.equal_range(listing_key(X509_get_issuer_name(certificate), X509_get0_serialNumber(certificate)));
    for (auto it = first; it != last; ++it) {
        const TrustedRevocations* const one = &vendor.revocations[it->second];
        if (std::ranges::find(lists, one) == lists.end()) lists.push_back(one);
    }
    return lists;
}

// --- what OpenSSL says

// What an error is about. OpenSSL forgets the CRL once it has said that its dates are wrong.
CrlUse use_of(const Collected& found, X509_STORE_CTX* context) {
    CrlUse use{context, X509_STORE_CTX_get_error_depth(context), X509_STORE_CTX_get0_current_crl(context)};
    if (use.list == nullptr && use.path == found.last.path && use.depth == found.last.depth) return found.last;
    return use;
}

std::string issuer_text(const X509_CRL* list) { return name_text(X509_CRL_get_issuer(list)); }

std::string revocation_error(int error, const CrlUse& use, X509* certificate) {
    const std::string who = certificate_text(certificate, use.depth);
    const X509_CRL* const list = use.list;
    const std::string issuer = list == nullptr ? name_text(X509_get_issuer_name(certificate)) : issuer_text(list);
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

bool is_newer(const TrustedRevocations& one, const TrustedRevocations& other) {
    return one.number && other.number && ASN1_INTEGER_cmp(one.number.get(), other.number.get()) > 0;
}

bool is_current(const TrustedRevocations& one, std::optional<std::time_t> now) {
    if (!now) return true;
    std::time_t time = *now;
    return X509_cmp_time(X509_CRL_get0_lastUpdate(one.list.get()), &time) < 0 &&
           X509_cmp_time(X509_CRL_get0_nextUpdate(one.list.get()), &time) > 0;
}

// Whether a delta that goes with a list, and is newer, takes its entry back: the last word of all that speak of it.
bool is_taken_back(const Collected& found, const Candidate& from, X509* certificate) {
    const Candidate* last = nullptr;
    for (const Candidate& delta : found.candidates) {
        if (!delta.one->base || !delta.is_of(from) || !is_newer(*delta.one, *from.one)) continue;
        // One that starts from a later list does not say what was in this.
        if (!from.one->base && ASN1_INTEGER_cmp(delta.one->base.get(), from.one->number.get()) > 0) continue;
        if (!delta.says(certificate, kListed) && !delta.says(certificate, kTakenBack)) continue;
        if (last == nullptr || is_newer(*delta.one, *last->one)) last = &delta;
    }
    return last != nullptr && last->says(certificate, kTakenBack) && !last->one->unknown_critical &&
           is_current(*last->one, found.now);
}

// OpenSSL's verify callback: goes on past every error, and keeps what it was. That no CRL is for a certificate is no error;
// of a CRL that is not for it (of another distribution point, of another kind of certificate, of no authority that the
// certificate names) counts only that it lists the certificate.
int collect_revocations(int ok, X509_STORE_CTX* context) {
    if (ok == 1) return 1;
    // Of the path of a CRL's own issuer: if that fails, the CRL is not to be believed.
    const X509_STORE_CTX* const above = X509_STORE_CTX_get0_parent_ctx(context);
    auto& found = *static_cast<Collected*>(X509_STORE_CTX_get_app_data(above == nullptr ? context : above));
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
        case X509_V_ERR_UNABLE_TO_GET_CRL:
            if (above == nullptr && (found.gaps.empty() || found.gaps.back().depth != use.depth))
                found.gaps.push_back({use.depth, certificate_text(certificate, use.depth), {}});
            return 1;
        case X509_V_ERR_CERT_REVOKED: {
            if (above != nullptr) return 0;
            const Candidate* const list = found.candidate(use.depth, use.list);
            if (list != nullptr && list->says(certificate, kListed) && is_taken_back(found, *list, certificate))
                return 1;
            if (found.revoked.empty() && found.distrusted != use)
                found.revoked = revocation_error(error, use, certificate);
            return 1;
        }
        default: break;
    }
    if (above != nullptr) return out_of_scope == use ? 1 : 0;
    if (!is_about_time(error)) found.distrusted = use;
    if (out_of_scope == use) return 1;
    if (found.failures.empty()) found.by_time = is_about_time(error);
    found.failures.emplace_back(use, revocation_error(error, use, certificate));
    return 1;
}

// --- what OpenSSL leaves open

// That a delta lists a certificate of the path, and nothing newer frees it.
std::string revoked_by_delta(const Collected& found, X509* certificate, int depth) {
    for (const Candidate& delta : found.candidates) {
        if (delta.depth != depth || !delta.asked || !delta.one->base || !delta.says(certificate, kListed)) continue;
        const bool superseded = std::ranges::any_of(found.candidates, [&](const Candidate& full) {
            return !full.one->base && full.asked && full.is_of(delta) && full.one->number &&
                   !is_newer(*delta.one, *full.one) && is_current(*full.one, found.now) &&
                   !full.one->unknown_critical && !full.says(certificate, kListed);
        });
        if (superseded || is_taken_back(found, delta, certificate)) continue;
        return certificate_text(certificate, depth) + ": revoked by " + issuer_text(delta.one->list.get());
    }
    return "";
}

bool has_begun(const TrustedRevocations& one, std::optional<std::time_t> now) {
    if (!now) return true;
    std::time_t time = *now;
    return X509_cmp_time(X509_CRL_get0_lastUpdate(one.list.get()), &time) < 0;
}

// By its number, or, where one has none, by its date.
bool supersedes(const TrustedRevocations& later, const TrustedRevocations& earlier) {
    if (later.number && earlier.number) return is_newer(later, earlier);
    return ASN1_TIME_compare(X509_CRL_get0_lastUpdate(later.list.get()), X509_CRL_get0_lastUpdate(earlier.list.get())) >
           0;
}

// Whether a CRL, if it is of the same list as one before it, frees what that one lists.
bool frees(const TrustedRevocations& later, const TrustedRevocations& earlier, X509* certificate,
           std::optional<std::time_t> now) {
    return !later.base && !later.unknown_critical && supersedes(later, earlier) && has_begun(later, now) &&
           !says(later, certificate, kListed);
}

bool is_freed(const Collected& found, const Candidate& one, X509* certificate) {
    return std::ranges::any_of(found.candidates, [&](const Candidate& later) {
        return later.is_of(one) && frees(*later.one, *one.one, certificate, found.now);
    });
}

// Whether a CA of the vendor's is listed itself, by its issuer's key or by another CA that speaks of others' certificates: then
// its word counts for nothing. In doubt it is heard, and a root always: what a root says of itself nobody can judge.
bool is_listed(X509* ca, const Collected& found) {
    const X509_NAME* const issuer = X509_get_issuer_name(ca);
    if (X509_NAME_cmp(X509_get_subject_name(ca), issuer) == 0) return false;
    const Lists about = lists_about(ca, *found.vendor);
    return std::ranges::any_of(about, [&](const TrustedRevocations* one) {
        if (one->signer == nullptr || one->unknown_critical || !has_begun(*one, found.now) || !says(*one, ca, kListed))
            return false;
        const bool is_its_issuers = X509_NAME_cmp(X509_CRL_get_issuer(one->list.get()), issuer) == 0;
        if (is_its_issuers && X509_verify(ca, X509_get0_pubkey(one->signer)) != 1)
            return false;  // another CA's of that name
        return std::ranges::none_of(about, [&](const TrustedRevocations* later) {
            return later->signer != nullptr && are_of_one_list(*later, later->signer, *one, one->signer) &&
                   frees(*later, *one, ca, found.now);
        });
    });
}

// That a full CRL lists a certificate of the path, and no later one of the same list frees it. OpenSSL looks into one of those
// that fit, the best by its own measure, and what the others say it does not see.
std::string revoked_by_full(const Collected& found, X509* certificate, int depth) {
    for (const Candidate& one : found.candidates) {
        if (one.depth != depth || one.one->base || one.one->unknown_critical || !one.says(certificate, kListed))
            continue;
        const bool is_by_another_key =
            !one.asked && one.may_sign &&
            X509_NAME_cmp(X509_CRL_get_issuer(one.one->list.get()), X509_get_issuer_name(certificate)) == 0;
        if (is_by_another_key) continue;  // ask_other_keys()
        if (!has_begun(*one.one, found.now) || is_listed(one.signer, found)) continue;
        if (is_freed(found, one, certificate) || is_taken_back(found, one, certificate)) continue;
        return certificate_text(certificate, depth) + ": revoked by " + issuer_text(one.one->list.get()) +
               (one.may_sign ? "" : ", whose key usage lacks CRL signing");
    }
    return "";
}

// Of a certificate that no CRL by the right key answers for, or none that has not ended: what those by another key of the name
// say, and those by one that may sign none.
void ask_other_keys(Collected& found, X509* certificate, Revocations::Gap& gap) {
    for (const Candidate& other : found.candidates) {
        if (other.depth != gap.depth || other.asked) continue;
        const std::string issuer = issuer_text(other.one->list.get());
        if (found.revoked.empty() && other.says(certificate, kListed) && !is_freed(found, other, certificate))
            found.revoked =
                gap.who + ": revoked by " + issuer +
                (other.may_sign ? ", under another key of that name" : ", whose key usage lacks CRL signing");
        if (gap.other.empty())
            gap.other =
                "the CRL of " + issuer +
                (other.may_sign ? " is by another key of that name" : " is by a key whose usage lacks CRL signing");
    }
}

// Whether all that answer for a certificate of the path have ended: a CA that goes on with another key makes no more.
bool has_ended_answers_alone(const Collected& found, int depth) {
    const std::time_t now = found.now.value_or(std::time(nullptr));
    const auto is_here = [depth](const auto& one) { return one.depth == depth; };
    return std::ranges::any_of(found.answers, is_here) && std::ranges::none_of(found.answers, [&](const Answer& one) {
               return is_here(one) && (one.to == 0 || one.to >= now);
           });
}

// Where dates do not count OpenSSL prefers a list by the key that issued the certificate to one by the CA's next key,
// however long ago it has ended. One that has, and says nothing of the certificate, stands back for one that has not.
bool is_behind(const TrustedRevocations& one, const Lists& asked, X509* certificate) {
    const auto has_ended = [](const TrustedRevocations& list) {
        const ASN1_TIME* const end = X509_CRL_get0_nextUpdate(list.list.get());
        return end != nullptr && X509_cmp_current_time(end) < 0;
    };
    if (one.base || !has_ended(one) || says(one, certificate, kListed)) return false;
    return std::ranges::any_of(asked, [&](const TrustedRevocations* other) {
        return !other->base && !other->unknown_critical && other->scope == one.scope &&
               has_begun(*other, std::time(nullptr)) && !has_ended(*other) &&
               X509_NAME_cmp(X509_CRL_get_issuer(other->list.get()), X509_CRL_get_issuer(one.list.get())) == 0;
    });
}

}  // namespace

bool is_about_time(int error) {
    return error == X509_V_ERR_CRL_HAS_EXPIRED || error == X509_V_ERR_CRL_NOT_YET_VALID ||
           error == X509_V_ERR_CERT_HAS_EXPIRED || error == X509_V_ERR_CERT_NOT_YET_VALID;
}

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

std::time_t time_of(const ASN1_TIME* time) {
    std::tm parts{};
    if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return 0;
    return timegm(&parts);
}

namespace {

// X509_STORE_set_lookup_crls().
STACK_OF(X509_CRL) * crls_of_certificate(const X509_STORE_CTX* context, const X509_NAME*) {
    const X509_STORE_CTX* const above = X509_STORE_CTX_get0_parent_ctx(context);
    auto* const found = static_cast<Collected*>(X509_STORE_CTX_get_app_data(above == nullptr ? context : above));
    openssl::RevocationStack lists(sk_X509_CRL_new_null());
    if (found == nullptr) return lists.release();
    X509* const certificate = X509_STORE_CTX_get_current_cert(context);
    const int depth = X509_STORE_CTX_get_error_depth(context);
    Lists asked;
    for (const TrustedRevocations* const one : lists_about(certificate, *found->vendor)) {
        X509* const signer = taken_for_signer(context, certificate, *one);
        const bool is_its_own = signer != nullptr && is_signed_by(*one, signer);
        const bool is_asked = is_its_own && may_sign_lists(signer);
        if (is_asked) asked.push_back(one);
        X509* const known = is_its_own ? signer : one->signer;
        if (above == nullptr && known != nullptr && found->candidate(depth, one->list.get()) == nullptr)
            found->candidates.push_back({depth, one, known, is_asked, !is_its_own || is_asked});
    }
    for (const TrustedRevocations* const one : asked) {
        if (!found->now && is_behind(*one, asked, certificate)) continue;
        X509_CRL_up_ref(one->list.get());
        sk_X509_CRL_push(lists.get(), one->list.get());
    }
    ERR_clear_error();
    return lists.release();
}

// OpenSSL's own way to look for a certificate in a CRL.
X509_STORE_CTX_cert_crl_fn openssl_look_up() {
    const openssl::StoreContext plain(X509_STORE_CTX_new());
    if (!plain || X509_STORE_CTX_init(plain.get(), nullptr, nullptr, nullptr) != 1) return nullptr;
    return X509_STORE_CTX_get_cert_crl(plain.get());
}

// X509_STORE_set_cert_crl(): OpenSSL has chosen the CRL, and checked it.
int look_into_crl(X509_STORE_CTX* context, X509_CRL* list, X509* certificate) {
    static const X509_STORE_CTX_cert_crl_fn look_up = openssl_look_up();
    if (look_up == nullptr) return 0;
    const int result = look_up(context, list, certificate);
    auto* const found = static_cast<Collected*>(X509_STORE_CTX_get_app_data(context));
    if (found == nullptr || X509_STORE_CTX_get0_parent_ctx(context) != nullptr) return result;
    const CrlUse use{context, X509_STORE_CTX_get_error_depth(context), list};
    if (found->out_of_scope[0] == use || found->distrusted == use) return result;
    // 2: a delta that takes the certificate back; the full CRL is not asked then.
    if (X509_CRL_get_ext_by_NID(list, NID_delta_crl, -1) >= 0 && result != 2) return result;
    found->answers.push_back(
        {use.depth, time_of(X509_CRL_get0_lastUpdate(list)), time_of(X509_CRL_get0_nextUpdate(list))});
    return result;
}

// How old the answers are, and for which certificate one is wanting.
void sum_up(const Collected& found, const STACK_OF(X509) * path, Revocations& out) {
    for (int depth = 0; depth + 1 < sk_X509_num(path); ++depth) {
        const auto is_here = [depth](const auto& one) { return one.depth == depth; };
        for (const Answer& one : found.answers) {
            if (!is_here(one)) continue;
            if (out.oldest == 0 || one.from < out.oldest) out.oldest = one.from;
            if (one.to != 0 && (out.end == 0 || one.to < out.end)) out.end = one.to;
        }
        const bool answered = std::ranges::any_of(found.answers, is_here) && std::ranges::none_of(found.gaps, is_here);
        if (!answered && out.unanswered.empty()) out.unanswered = certificate_text(sk_X509_value(path, depth), depth);
    }
}

}  // namespace

void set_crl_look_up(X509_STORE* anchors) {
    X509_STORE_set_lookup_crls(anchors, crls_of_certificate);
    X509_STORE_set_cert_crl(anchors, look_into_crl);
}

Revocations find_revocations(X509_STORE_CTX* context, const TrustedVendor& vendor, std::optional<std::time_t> now) {
    Collected found;
    found.vendor = &vendor;
    found.now = now;
    X509_VERIFY_PARAM_set_flags(X509_STORE_CTX_get0_param(context), X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL |
                                                                        X509_V_FLAG_EXTENDED_CRL_SUPPORT |
                                                                        X509_V_FLAG_USE_DELTAS);
    X509_STORE_CTX_set_app_data(context, &found);
    X509_STORE_CTX_set_verify_cb(context, collect_revocations);
    // 0: it did not come to an end, for a reason that is not the callback's.
    if (X509_verify_cert(context) != 1 && found.revoked.empty() && found.failures.empty())
        found.failures.emplace_back(CrlUse{}, X509_verify_cert_error_string(X509_STORE_CTX_get_error(context)));
    const STACK_OF(X509)* const path = X509_STORE_CTX_get0_chain(context);
    for (int depth = 0; depth < sk_X509_num(path) && found.revoked.empty(); ++depth)
        found.revoked = revoked_by_delta(found, sk_X509_value(path, depth), depth);
    // Below the end of the path, which is trusted by itself.
    for (int depth = 0; depth + 1 < sk_X509_num(path) && found.revoked.empty(); ++depth)
        found.revoked = revoked_by_full(found, sk_X509_value(path, depth), depth);
    for (Revocations::Gap& gap : found.gaps) ask_other_keys(found, sk_X509_value(path, gap.depth), gap);
    for (int depth = 0; depth + 1 < sk_X509_num(path); ++depth) {
        if (!has_ended_answers_alone(found, depth)) continue;
        Revocations::Gap ended{depth, certificate_text(sk_X509_value(path, depth), depth), {}};
        ask_other_keys(found, sk_X509_value(path, depth), ended);
    }
    X509_STORE_CTX_set_app_data(context, nullptr);
    ERR_clear_error();
    Revocations out;
    sum_up(found, path, out);
    out.revoked = std::move(found.revoked);
    if (!found.failures.empty()) out.failure = found.failures.front().second;
    out.by_time = found.by_time;
    out.gaps = std::move(found.gaps);
    return out;
}

}  // namespace gatehouse::verifier

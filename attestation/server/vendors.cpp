// The TPM vendors that are trusted, in the database, and the trust store that they make in each server
// process; and what becomes of endpoints when they change.
#include <chrono>
#include <nlohmann/json.hpp>

#include "attestation/server/database/administration.hpp"
#include "attestation/server/inside.hpp"
#include "attestation/verifier/ek_certificate.hpp"
#include "attestation/verifier/ek_revocation.hpp"
#include "attestation/verifier/token.hpp"
#include "attestation/verifier/trust_store.hpp"

namespace gatehouse::server {
namespace {

constexpr unsigned kCheckedAtOnce = 256;
constexpr std::chrono::milliseconds kCheckRound{500};  // of each second: the rest is for house-keeping

nlohmann::json base64_list(const std::vector<Buffer>& all) {
    nlohmann::json out = nlohmann::json::array();
    for (const Buffer& one : all) out.push_back(verifier::base64(one));
    return out;
}

std::vector<Buffer> buffers_of(const nlohmann::json& list) {
    std::vector<Buffer> all;
    for (const std::string one : list) all.push_back(verifier::from_base64(one).value());
    return all;
}

// What a check of an endpoint's endorsement has come to.
struct Checked {
    std::string fault;  // empty: none
    CrlAge crls;
    std::vector<std::pair<std::string, std::string>> points;  // URL, vendor
};

Checked check(const Unchecked& one, const verifier::TrustStore& store) {
    if (one.content.empty()) {
        const bool known = std::ranges::any_of(store.contents().vendors,
                                               [&one](const auto& vendor) { return vendor.name == one.vendor; });
        if (!known)
            return {one.vendor + " is not trusted any more, and the EK certificate was not kept: enroll again", {}, {}};
        return {{}, {.gap = "EK certificate, which was not kept"}, {}};
    }
    const nlohmann::json content = nlohmann::json::parse(one.content);
    const verifier::EndorsementEvidence evidence{
        verifier::from_base64(content.at("certificate").get<std::string>()).value(),
        buffers_of(content.at("chain")),
        {}};
    Checked checked{clean_text(verifier::endorsement_fault(evidence, store, one.accepted), 1024), {}, {}};
    if (!checked.fault.empty()) return checked;
    const verifier::PathCrls path = verifier::crls_of_path(evidence, store, one.accepted);
    checked.crls = {path.oldest, path.end, clean_text(path.gap, 256)};
    for (const std::string& url : path.points) checked.points.emplace_back(url, path.vendor);
    return checked;
}

KnownCrl known_crl(Bytes der, const verifier::TrustStore& store, std::vector<std::string> vendors) {
    KnownCrl known;
    known.shown.vendors = std::move(vendors);
    try {
        known.facts = verifier::read_crl(der, store);
        known.shown.issuer = known.facts->issuer;
        known.shown.number = known.facts->number;
        known.shown.this_update = known.facts->this_update;
        known.shown.next_update = known.facts->next_update;
    } catch (const host::ToolError& error) {
        known.shown.fault = error.what();
    }
    return known;
}

// In place of older ones that the vendor was given with, and beside the others; as many as there is room for.
void add_fetched(verifier::Vendor& vendor, const std::vector<const CrlRow*>& fetched,
                 const verifier::TrustStore& store) {
    CrlsOfVendor lists(std::move(vendor.revocations), store);
    for (const CrlRow* const row : fetched) {
        const verifier::CrlFacts facts = verifier::read_crl(row->content, store);
        lists.drop_older(facts);
        if (lists.size() < verifier::kMaxVendorItems) lists.add(row->content, facts);
    }
    vendor.revocations = std::move(lists).all();
}

// Without those that it does not take, which came when the vendor was another.
void add_one_by_one(verifier::TrustStore& store, verifier::Vendor vendor, const std::vector<const CrlRow*>& fetched) {
    for (const CrlRow* const row : fetched) {
        verifier::Vendor next = vendor;
        add_fetched(next, {row}, store);
        try {
            store.add(next);
            vendor = std::move(next);
        } catch (const host::ToolError&) {
            // The list of CRLs goes on showing it.
        }
    }
    store.add(vendor);
}

// What is trusted, as it is in the database.
struct Store {
    std::shared_ptr<const verifier::TrustStore> store;
    std::shared_ptr<const std::vector<KnownCrl>> crls;
};
Store store_of(const std::vector<VendorRow>& rows, const std::vector<CrlRow>& fetched) {
    const auto store = std::make_shared<verifier::TrustStore>();
    const auto crls = std::make_shared<std::vector<KnownCrl>>();
    std::map<std::string, verifier::Vendor> vendors;
    for (const VendorRow& row : rows) {
        const verifier::Vendor vendor = vendor_of(row.name, row.content);
        try {
            store->add(vendor);
        } catch (const host::ToolError& error) {
            // An older program took it. It is not trusted, which the list of CRLs says; the others are.
            KnownCrl& refused = crls->emplace_back();
            refused.shown.vendors = {row.name};
            refused.shown.fault = error.what();
            continue;
        }
        vendors[row.name] = vendor;
        for (const Buffer& list : vendor.revocations) crls->push_back(known_crl(list, *store, {row.name}));
    }
    std::map<std::string, std::vector<const CrlRow*>> by_vendor;
    for (const CrlRow& row : fetched) {
        const std::vector<std::string> names = verifier::crl_vendors(row.content, *store);
        for (const std::string& name : names) by_vendor[name].push_back(&row);
        KnownCrl& known = crls->emplace_back(known_crl(row.content, *store, names));
        known.shown.fetched = row.fetched;
        known.shown.url = row.url;
    }
    for (const auto& [name, all] : by_vendor) {
        verifier::Vendor with_fetched = vendors.at(name);
        add_fetched(with_fetched, all, *store);
        try {
            store->add(with_fetched);
        } catch (const host::ToolError&) {
            add_one_by_one(*store, vendors.at(name), all);
        }
    }
    return {store, crls};
}

}  // namespace

CrlsOfVendor::CrlsOfVendor(std::vector<Buffer> all, const verifier::TrustStore& store) : all_(std::move(all)) {
    facts_.reserve(all_.size());
    for (const Buffer& der : all_) {
        try {
            facts_.emplace_back(verifier::read_crl(der, store));
        } catch (const host::ToolError&) {
            facts_.emplace_back();  // not one to compare with: it stays
        }
    }
}

bool CrlsOfVendor::has(const Buffer& der) const { return std::ranges::find(all_, der) != all_.end(); }

bool CrlsOfVendor::has_newer(const verifier::CrlFacts& facts) const {
    return std::ranges::any_of(
        facts_, [&](const auto& its) { return its && its->scope == facts.scope && verifier::is_older(facts, *its); });
}

void CrlsOfVendor::drop_older(const verifier::CrlFacts& facts) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < all_.size(); ++i) {
        if (facts_[i] && facts_[i]->scope == facts.scope && !verifier::is_older(facts, *facts_[i])) continue;
        if (kept != i) {
            all_[kept] = std::move(all_[i]);
            facts_[kept] = std::move(facts_[i]);
        }
        ++kept;
    }
    all_.resize(kept);
    facts_.resize(kept);
}

void CrlsOfVendor::add(const Buffer& der, const verifier::CrlFacts& facts) {
    all_.push_back(der);
    facts_.emplace_back(facts);
}

std::string vendor_json(const verifier::Vendor& vendor) {
    return nlohmann::json{{"roots", base64_list(vendor.roots)},
                          {"intermediates", base64_list(vendor.intermediates)},
                          {"revocations", base64_list(vendor.revocations)},
                          {"require_crl", vendor.require_crl}}
        .dump();
}

verifier::Vendor vendor_of(const std::string& name, const std::string& json) {
    const nlohmann::json content = nlohmann::json::parse(json);
    return {name, buffers_of(content.at("roots")), buffers_of(content.at("intermediates")),
            buffers_of(content.at("revocations")), content.value("require_crl", false)};
}

std::string endorsement_json(Bytes certificate, const std::vector<Buffer>& chain) {
    return nlohmann::json{{"certificate", verifier::base64(certificate)}, {"chain", base64_list(chain)}}.dump();
}

Service::Inside::Trust Service::Inside::trust() {
    const std::int64_t generation = read([](Session& session) { return counter(session, Counter::kVendors); });
    const std::lock_guard lock(trust_mutex);
    if (generation != trust_generation) {
        const auto rows = read([](Session& session) { return list_vendors(session); });
        const auto fetched = read([](Session& session) { return list_crls(session); });
        Store fresh = store_of(rows, fetched);
        trust_store = std::move(fresh.store);
        trust_crls = std::move(fresh.crls);
        trust_points.clear();
        trust_generation = generation;
    }
    return {trust_generation, trust_store, trust_crls};
}

void Service::Inside::check_endorsements() {
    const auto end = std::chrono::steady_clock::now() + kCheckRound;
    while (check_some_endorsements() && std::chrono::steady_clock::now() < end) {}
}

// False if all are checked. Several servers may check the same ones: each result is written once.
bool Service::Inside::check_some_endorsements() {
    const Trust by = trust();
    const std::vector<Unchecked> found =
        read([&](Session& session) { return list_unchecked(session, by.generation, kCheckedAtOnce); });
    if (found.empty()) return false;
    std::vector<Checked> checks;
    std::vector<std::pair<std::string, std::string>> points;
    checks.reserve(found.size());
    for (const Unchecked& one : found) {
        checks.push_back(check(one, *by.store));
        points.insert(points.end(), checks.back().points.begin(), checks.back().points.end());
    }
    database->write([&](Session& session) {
        std::vector<AuditNote> notes;
        std::vector<StateChange> changes;
        for (std::size_t i = 0; i < found.size(); ++i) {
            const Unchecked& one = found[i];
            const std::string& fault = checks[i].fault;
            if (!set_checked(session, one, by.generation, fault, checks[i].crls, now()) || fault == one.fault) continue;
            const nlohmann::json detail{{"fault", fault}};
            notes.push_back({"system", "endpoint.endorsement", one.id, detail.dump()});
            if (fault.empty()) continue;
            const EndpointSummary endpoint = find_summary(session, one.id).value();
            if (endpoint.state != State::kTrusted && endpoint.state != State::kUnmeasured) continue;
            const std::string reason = std::string(kEndorsementRule) + ": " + fault;
            leave_state(session, one.id, State::kUntrusted, now(), reason);
            changes.push_back({one.id, endpoint.hostname, endpoint.group, endpoint.state, State::kUntrusted, reason,
                               endpoint.policy});
        }
        // After all rows are locked: the audit log's lock comes last (see append_audit()).
        for (const AuditNote& note : notes) append_audit(session, now(), note);
        for (const StateChange& change : changes) record_change(session, change, "system");
    });
    keep_points(by, points);
    return true;
}

std::vector<std::string> Service::add_vendor(const Principal& by, const verifier::Vendor& vendor) {
    demand_role(by, Role::kAdmin);
    if (vendor.name.empty() || clean_text(vendor.name, 128) != vendor.name ||
        vendor.name.find('/') != std::string::npos)
        throw ServiceError(400, "name", "vendor name: must be 1 to 128 bytes of UTF-8, without a slash");
    std::vector<std::string> passed_over;
    try {
        verifier::TrustStore trial;
        passed_over = trial.add(vendor);
    } catch (const host::ToolError& error) {
        throw ServiceError(422, "vendor", error.what());
    }
    const nlohmann::json detail{{"roots", vendor.roots.size()},
                                {"intermediates", vendor.intermediates.size()},
                                {"revocations", vendor.revocations.size()},
                                {"passed_over", passed_over.size()}};
    inside_->write({by.name, "vendor.add", vendor.name, detail.dump()}, [&](Session& session) {
        put_vendor(session, {vendor.name, vendor_json(vendor)});
        count_up(session, Counter::kVendors);
        drop_crl_sources_of(session, vendor.name);  // what it still vouches for names them again
    });
    return passed_over;
}

void Service::remove_vendor(const Principal& by, const std::string& name) {
    demand_role(by, Role::kAdmin);
    inside_->write({by.name, "vendor.remove", clean_text(name, 128)}, [&](Session& session) {
        if (!server::remove_vendor(session, name)) not_found("vendor \"" + clean_text(name, 128) + "\"");
        count_up(session, Counter::kVendors);
        drop_crl_sources_of(session, name);
    });
}

Service::TrustedVendor Service::vendor(const Principal& by, const std::string& name) {
    demand_role(by, Role::kReadOnly);
    const auto trust = inside_->trust();
    const auto& all = trust.store->contents().vendors;
    const auto found = std::ranges::find(all, name, &verifier::TrustedVendor::name);
    if (found == all.end()) not_found("vendor \"" + clean_text(name, 128) + "\"");
    TrustedVendor shown{.name = name, .require_crl = found->require_crl, .cas = {}};
    for (const bool root : {true, false}) {
        for (const auto& one : root ? found->roots : found->intermediates) {
            std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
            unsigned int size = 0;
            if (X509_digest(one.get(), EVP_sha256(), digest.data(), &size) != 1) size = 0;
            shown.cas.push_back({.root = root,
                                 .subject = verifier::name_text(X509_get_subject_name(one.get())),
                                 .sha256 = host::hex(std::as_bytes(std::span(digest.data(), size))),
                                 .from = verifier::time_of(X509_get0_notBefore(one.get())),
                                 .to = verifier::time_of(X509_get0_notAfter(one.get()))});
        }
    }
    return shown;
}

std::vector<std::string> Service::vendors(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    return inside_->read([](Session& session) { return list_vendor_names(session); });
}

}  // namespace gatehouse::server

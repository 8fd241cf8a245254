// CRLs that the server fetches: from where, when, what is taken; and how old all are.
//
// Where a CRL is to be had is said by the settings, by the certificates of trusted CAs, and by EK certificates, and
// certificates between, that have a path to one: never by what an endpoint has merely sent. A list that was taken is kept
// until a newer one of the same scope takes its place: nothing that comes from outside removes one.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "attestation/server/database/administration.hpp"
#include "attestation/server/fetch.hpp"
#include "attestation/server/inside.hpp"

namespace gatehouse::server {
namespace {

constexpr Seconds kHour = 3600, kDay = 86'400;
constexpr Seconds kFirstPause = 900, kLongestPause = kDay;
constexpr Seconds kRefreshEvery = 6 * kHour;  // of the sources, if the trust store does not change
constexpr Seconds kForgetAfter = 7 * kDay;    // URLs of the settings that no server has any more
constexpr Seconds kMostAhead = kDay;          // that a CRL's date may be in the future
constexpr std::int64_t kMostSources = 4096;
constexpr std::int64_t kMostCrls = 2048;
constexpr unsigned kMostAtOnce = 64;

using Points = std::vector<std::pair<std::string, std::string>>;  // URL, vendor

void put_sources(Session& session, const Points& points, CrlOrigin origin, Seconds now) {
    std::int64_t room = kMostSources - count_crl_sources(session);
    for (const auto& [url, vendor] : points) {
        if (room <= 0) return;
        put_crl_source(session, url, origin, vendor, now);
        --room;  // or less
    }
}

// A CRL that came, and is by a trusted vendor.
struct Candidate {
    Buffer der;
    verifier::CrlFacts facts;
    std::vector<std::string> vendors;
};

// ToolError saying why it is not to be believed.
Candidate candidate_of(Bytes content, const verifier::TrustStore& store, const std::vector<KnownCrl>& given,
                       Seconds now) {
    Candidate one{.der = verifier::crl_of(content), .facts = {}, .vendors = {}};
    one.facts = verifier::read_crl(one.der, store);
    one.vendors = verifier::crl_vendors(one.der, store);
    if (one.vendors.empty())
        throw host::ToolError("no CA of a trusted vendor has signed the CRL; its issuer is " + one.facts.issuer);
    if (one.facts.this_update > now + kMostAhead)
        throw host::ToolError("the CRL is of " + date_text(one.facts.this_update) + ", which is yet to come");
    for (const KnownCrl& known : given) {
        const bool same = known.facts && known.shown.fetched == 0 && known.facts->scope == one.facts.scope;
        if (same && !known.shown.vendors.empty() && verifier::is_older(one.facts, *known.facts))
            throw host::ToolError("the CRL is older than the one that " + known.shown.vendors.front() +
                                  " was given with, of " + date_text(known.facts->this_update));
    }
    return one;
}

// Within a write job, with the counter locked. Whether it was taken, or is there already; ToolError if it is older.
bool take(Session& session, const Candidate& one, const std::string& url, Seconds now) {
    const std::string scope = host::hex(one.facts.scope);
    if (const auto kept = lock_crl(session, scope)) {
        if (kept->content == one.der) return false;
        const verifier::CrlFacts facts{.issuer = kept->issuer,
                                       .scope = one.facts.scope,
                                       .number = kept->number,
                                       .this_update = kept->this_update,
                                       .next_update = kept->next_update};
        if (verifier::is_older(one.facts, facts))
            throw host::ToolError("the CRL is older than the one that is kept, of " + date_text(kept->this_update));
    } else if (count_crls(session) >= kMostCrls) {
        throw host::ToolError("there is no room for another CRL: " + std::to_string(kMostCrls) + " are kept");
    }
    put_crl(session, {.scope = scope,
                      .url = url,
                      .issuer = one.facts.issuer,
                      .number = one.facts.number,
                      .this_update = one.facts.this_update,
                      .next_update = one.facts.next_update,
                      .fetched = now,
                      .content = one.der});
    count_up(session, Counter::kVendors);
    return true;
}

AuditNote note_of(const Candidate& one, const std::string& url) {
    const nlohmann::json detail{{"url", url},
                                {"number", one.facts.number},
                                {"this_update", one.facts.this_update},
                                {"next_update", one.facts.next_update},
                                {"sha256", host::hex(sha256(one.der))},
                                {"vendors", one.vendors.size()}};
    return {"system", "crl.take", clean_text(one.facts.issuer, 256), detail.dump()};
}

Seconds pause_after(std::int64_t failures) {
    return std::min(kFirstPause << std::clamp<std::int64_t>(failures - 1, 0, 10), kLongestPause);
}

// An hour before the list ends, if that is sooner.
Seconds next_time(Seconds now, unsigned hours, Seconds end) {
    const Seconds regular = now + hours * kHour;
    return end == 0 ? regular : std::min(regular, std::max(end - kHour, now + kHour));
}

std::string fetch_fault(const std::string& url) {
    try {
        demand_fetchable(url);
    } catch (const std::invalid_argument& error) {
        return url.starts_with("ldap") ? "only http:// is fetched, not LDAP" : error.what();
    }
    return "";
}

}  // namespace

void Service::Inside::keep_points(const Trust& by, const Points& points) {
    Points fresh;
    {
        const std::lock_guard lock(trust_mutex);
        if (by.generation != trust_generation) return;  // looked at again by what is trusted now
        for (const auto& one : points) {
            if (trust_points.size() < kMostSources && trust_points.insert(one.first).second) fresh.push_back(one);
        }
    }
    if (fresh.empty()) return;
    database->write([&](Session& session) {
        // Vendors that changed meanwhile have taken back what their EK certificates named.
        if (lock_counter(session, Counter::kVendors) == by.generation)
            put_sources(session, fresh, CrlOrigin::kEndorsement, now());
    });
}

void Service::Inside::refresh_crl_sources(const Trust& by) {
    const std::lock_guard lock(sources_mutex);
    const Seconds at = now();
    if (sources_generation == by.generation && at - sources_time < kRefreshEvery) return;
    Points named, set;
    std::set<std::string> of_cas;
    for (const auto& vendor : read([](Session& session) { return list_vendor_names(session); })) {
        for (const std::string& url : verifier::distribution_points(*by.store, vendor)) {
            if (of_cas.insert(url).second) named.emplace_back(url, vendor);
        }
    }
    for (const std::string& url : options.crl.urls) set.emplace_back(url, "");
    database->write([&](Session& session) {
        for (const CrlSourceRow& row : list_crl_sources(session)) {
            const bool gone = row.origin == CrlOrigin::kCa         ? !of_cas.contains(row.url)
                              : row.origin == CrlOrigin::kSettings ? row.seen < at - kForgetAfter
                                                                   : false;
            if (gone) drop_crl_source(session, row.url);
        }
        put_sources(session, set, CrlOrigin::kSettings, at);
        put_sources(session, named, CrlOrigin::kCa, at);
    });
    sources_generation = by.generation;
    sources_time = at;
}

std::vector<Service::CrlFetch> Service::fetch_crls(const std::stop_token& stop) {
    const CrlOptions& crl = inside_->options.crl;
    if (!crl.fetch) return {};
    inside_->refresh_crl_sources(inside_->trust());
    const Seconds at = inside_->now();
    const std::vector<CrlSourceRow> due =
        inside_->read([&](Session& session) { return list_crl_sources_due(session, at, kMostSources); });
    std::vector<CrlFetch> all;
    for (const CrlSourceRow& source : due) {
        if (stop.stop_requested() || all.size() == kMostAtOnce) break;
        // Another server's settings may have it.
        const bool ours = source.origin != CrlOrigin::kSettings || std::ranges::count(crl.urls, source.url) != 0;
        if (!ours) continue;
        const std::string claim = host::hex(random_bytes(16));
        const Seconds until = inside_->now() + crl.patience_s + 60;
        bool claimed = false;
        inside_->database->write(
            [&](Session& session) { claimed = claim_crl_source(session, source.url, claim, inside_->now(), until); });
        if (claimed) all.push_back(inside_->fetch_crl(source, claim, stop));
    }
    return all;
}

Service::CrlFetch Service::Inside::fetch_crl(CrlSourceRow source, const std::string& claim,
                                             const std::stop_token& stop) {
    CrlFetch done{.url = source.url, .issuer = {}, .fault = {}, .was_good = source.fault.empty()};
    source.tried = now();
    if (std::string fault = fetch_fault(source.url); !fault.empty()) {
        // No failure: nothing is to be mended, and the certificate may name another place.
        source.fault = done.fault = fault;
        source.due = now() + kForgetAfter;
        database->write([&](Session& session) { (void)settle_crl_source(session, source, claim); });
        return done;
    }
    const FetchRules rules{.proxy = options.crl.proxy,
                           .private_addresses = options.crl.private_addresses,
                           .most_bytes = options.crl.most_bytes,
                           .patience = std::chrono::seconds(options.crl.patience_s)};
    // Of a list that is not here any more, that it has not changed says nothing.
    const bool here = !source.scope.empty() && read([&](Session& session) { return has_crl(session, source.scope); });
    const Fetched got = fetch(source.url, here ? Validators{source.tag, source.modified} : Validators{}, rules, stop);
    std::string fault = got.fault;
    std::optional<Candidate> one;
    if (fault.empty() && got.changed) {
        try {
            const Trust by = trust();
            one = candidate_of(got.body, *by.store, *by.crls, now());
        } catch (const host::ToolError& error) {
            fault = error.what();
        }
    }
    const CrlSourceRow before = source;
    bool taken = false;
    database->write([&](Session& session) {
        taken = false;
        source = before;
        std::string why = fault;
        (void)lock_counter(session, Counter::kVendors);  // takes are one after the other, of all servers
        Seconds end = 0;
        try {
            if (one) taken = take(session, *one, source.url, now());
        } catch (const host::ToolError& error) {
            why = error.what();
        }
        if (why.empty()) {
            source.tag = got.validators.tag;
            source.modified = got.validators.modified;
            if (one) source.scope = host::hex(one->facts.scope);
            const auto kept = lock_crl(session, source.scope);
            end = kept ? kept->next_update : 0;
            source.fetched = now();
            // Taken all the same: what it revokes is revoked.
            if (end != 0 && end < now()) why = "the newest CRL there has ended on " + date_text(end);
        }
        source.fault = clean_text(why, 1024);
        source.failures = why.empty() ? 0 : before.failures + 1;
        source.due = why.empty() ? next_time(now(), options.crl.hours, end) : now() + pause_after(source.failures);
        if (stop.stop_requested() && !got.fault.empty()) {
            source = before;  // nobody's failure
            source.due = now();
        }
        // False: somebody else is at it, or it has gone. What was taken is good nevertheless.
        (void)settle_crl_source(session, source, claim);
        if (taken) append_audit(session, now(), note_of(*one, source.url));
    });
    ++(!source.fault.empty() && !taken ? totals.crls_failed : taken ? totals.crls_taken : totals.crls_unchanged);
    done.fault = source.fault;
    if (taken) done.issuer = one->facts.issuer;
    return done;
}

Service::Crls Service::crls(const Principal& by) {
    demand_role(by, Role::kReadOnly);
    Crls all{.fetching = inside_->options.crl.fetch, .lists = {}, .sources = {}};
    const auto trust = inside_->trust();
    for (const KnownCrl& one : *trust.crls) all.lists.push_back(one.shown);
    for (CrlSourceRow& row : inside_->read([](Session& session) { return list_crl_sources(session); })) {
        all.sources.push_back({.url = std::move(row.url),
                               .origin = row.origin,
                               .vendor = std::move(row.vendor),
                               .due = row.due,
                               .tried = row.tried,
                               .fetched = row.fetched,
                               .failures = row.failures,
                               .fault = std::move(row.fault)});
    }
    return all;
}

Service::CrlHealth Service::crl_health() {
    const auto trust = inside_->trust();
    CrlHealth health;
    const Seconds now = inside_->now();
    for (const KnownCrl& one : *trust.crls) {
        if (one.shown.vendors.empty()) continue;
        ++health.lists;
        if (one.shown.next_update != 0 && one.shown.next_update < now) ++health.ended;
    }
    health.failing = inside_->read([](Session& session) { return count_crl_sources_failing(session); });
    return health;
}

}  // namespace gatehouse::server
